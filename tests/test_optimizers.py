"""The one-cycle recipe, and Muon's update against PyTorch's own and against a decomposition."""

import pytest
import torch
from torch import nn

from lab.optimizers import MuonWithAdamW, one_cycle, orthogonal
from model import DigitNet, StridedNet
from utils import fit, set_seed


def test_one_cycle_rises_and_ends_at_nothing(net):
    optimizer, scheduler = one_cycle(net, 320, 2, 32, lr=0.05, betas=(0.9, 0.99), weight_decay=0.01)
    found = []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert (found[0], max(found), found[-1]) == pytest.approx((0.01, 0.05, 0), abs=5e-4)
    assert found.index(max(found)) == 3   # after a fifth
    assert (optimizer.defaults["betas"], optimizer.defaults["weight_decay"]) == ((0.9, 0.99), 0.01)


def test_muon_is_for_the_hidden_layers():
    net = StridedNet()
    optimizer, _ = one_cycle(net, 320, 2, 32, lr=0.05, muon_lr=0.1)
    adamw, muon = optimizer.param_groups
    assert [tuple(weight.shape) for weight in muon["params"]] == [(32, 16, 3, 3), (128, 512)]
    assert len(adamw["params"]) + 2 == len(list(net.parameters()))
    assert (adamw["max_lr"], muon["max_lr"]) == (0.05, 0.1)


def test_muon_without_hidden_layers_is_refused():
    net = DigitNet(nn.Flatten(), nn.Sequential(nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10)))
    with pytest.raises(ValueError, match="muon_lr is for hidden layers, and there is none"):
        one_cycle(net, 320, 2, muon_lr=0.1)


def test_a_matrix_without_a_gradient_stays():
    matrix, other = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(3))
    optimizer = MuonWithAdamW([matrix, other], [matrix], 0.02, 0.1)
    other.sum().backward()
    optimizer.step()
    assert torch.equal(matrix, torch.ones(4, 4)) and (other < 1).all()


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_the_direction_is_nearly_orthogonal(shape):
    """The singular vectors stay, and the singular values, here from 0.1 to 1, come between 0.6 and 1.3."""
    torch.manual_seed(3)
    left, _, right = torch.linalg.svd(torch.randn(*shape), full_matrices=False)
    for size in (1e-3, 1, 1e3):
        found = left.T @ orthogonal(size * left @ torch.linspace(0.1, 1, min(shape)).diag() @ right) @ right.T
        assert ((found.diag() > 0.6) & (found.diag() < 1.3)).all()
        assert (found - found.diag().diag()).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (8, 4, 3, 3)])
def test_a_step_is_pytorchs(shape):
    """Of a matrix as torch.optim.Muon takes it, in its 16 bits, and of all else as AdamW does."""
    torch.manual_seed(3)
    matrix, other = nn.Parameter(torch.randn(*shape)), nn.Parameter(torch.randn(7))
    theirs = nn.Parameter(matrix.detach().flatten(1).clone()), nn.Parameter(other.detach().clone())
    ours = MuonWithAdamW([matrix, other], [matrix], 0.02, 0.1, weight_decay=0.05)
    muon = torch.optim.Muon([theirs[0]], 0.1, weight_decay=0.05, momentum=0.9, ns_steps=3)
    adamw = torch.optim.AdamW([theirs[1]], 0.02, weight_decay=0.05)
    for _ in range(5):
        before = matrix.detach().flatten(1).clone()
        matrix.grad, other.grad = torch.randn(*shape), torch.randn(7)
        theirs[0].grad, theirs[1].grad = matrix.grad.flatten(1).clone(), other.grad.clone()
        for optimizer in (ours, muon, adamw):
            optimizer.step()
        step = (matrix.detach().flatten(1) - before).norm()
        assert (matrix.flatten(1) - theirs[0]).norm() < 0.05 * step
        assert torch.equal(other, theirs[1])
        theirs[0].data = matrix.detach().flatten(1).clone()


def test_it_continues_from_its_state(tiny, tmp_path):
    """A training interrupted after an epoch and resumed ends as the whole one does."""
    def run(epochs, **keeping):
        set_seed(0)
        net = StridedNet(16)
        optimizer, scheduler = one_cycle(net, 320, 2, 32, muon_lr=0.05)
        history = fit(net, tiny, optimizer, scheduler, epochs, 32, label_smoothing=0.1, **keeping)
        return net, [epoch[:-1] for epoch in history]
    whole, epochs = run(2)
    run(1, checkpoint_file=tmp_path / "state")
    resumed, same = run(2, checkpoint_file=tmp_path / "state", resume=True)
    assert epochs == same
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
