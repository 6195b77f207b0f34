"""What makes a training fast, how it gets into a network and out of it, and what the optimizers do."""

import copy

import pytest
import torch
from torch import nn

from lab.fast import FastBatchNorm2d, FastDropout, half_type, training
from lab.optimizers import MuonWithAdamW, one_cycle, orthogonal
from model import StridedNet

# ---------------------------------------------------------------- a training

@pytest.mark.parametrize("layer", [
    nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False),
    nn.BatchNorm2d(4, momentum=None), type("Own", (nn.BatchNorm2d,), {})(4), nn.Dropout(0.2, inplace=True)])
def test_a_layer_that_does_something_else_is_left(layer):
    before = type(layer)
    with training(layer):
        assert type(layer) is before


def convolutions():
    """Return layers inside layers, the last of them in channels_last."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6))
    return nn.Sequential(inner, nn.Dropout(0.1), nn.Conv2d(6, 4, 3).to(memory_format=torch.channels_last))


def test_a_training_that_is_stopped_leaves_nothing_behind():
    def state():
        return [[type(layer) for layer in net.modules()], [id(weight) for weight in net.parameters()],
                [(tensor.stride(), tensor.tolist()) for tensor in net.state_dict().values()]]
    net = convolutions()
    before = state()
    with pytest.raises(KeyboardInterrupt), training(net):
        assert isinstance(net[0][2], FastBatchNorm2d) and isinstance(net[1], FastDropout)
        assert net[0][1].weight.is_contiguous(memory_format=torch.channels_last)
        raise KeyboardInterrupt
    assert state() == before


@pytest.mark.parametrize("kind", [
    lambda net: torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, fused=True),
    lambda net: one_cycle(net, 320, 2, 32, muon_lr=0.1)[0]], ids=["SGD", "Muon"])
def test_an_optimizer_goes_on_after_a_training_and_in_the_next(kind):
    """Its averages and the last gradients follow the layout of the weights, or their values are mixed up."""
    net, plain, x = convolutions().eval(), convolutions().eval(), torch.randn(16, 1, 9, 9)
    ours, theirs = kind(net), kind(plain)

    def step(net, optimizer):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    for _ in range(2):
        step(net, ours), step(plain, theirs)
        with training(net, ours):
            step(net, ours), step(plain, theirs)
        ours.step(), theirs.step()   # once more with the same gradients
    for a, b in zip(net.parameters(), plain.parameters()):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind, native, found", [
    ("cuda", True, torch.bfloat16), ("cuda", False, None), ("mps", False, None)])
def test_16_bits_only_where_the_device_computes_in_them(monkeypatch, kind, native, found):
    emulated = lambda including_emulation=True: native or including_emulation
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulated)
    assert half_type(torch.device(kind)) == found


# ---------------------------------------------------------------- layers

def trained_once(layer, x):
    """Return output, gradients of input, weight and bias, and the statistics after one batch."""
    x = x.clone().requires_grad_()
    nn.init.uniform_(layer.weight, 0.5, 2, generator=torch.Generator().manual_seed(1))
    nn.init.uniform_(layer.bias, -1, 1, generator=torch.Generator().manual_seed(2))
    y = layer(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y.dtype))
    return y, x.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()


@pytest.mark.parametrize("channels, layout, dtype, tolerance", [
    (1, torch.channels_last, torch.float32, 1e-5), (12, torch.channels_last, torch.float32, 1e-5),
    (12, torch.channels_last, torch.bfloat16, 1e-2), (16, torch.channels_last, torch.float32, 0),
    (12, torch.contiguous_format, torch.float32, 0), (12, torch.channels_last, torch.float64, 0)])
@pytest.mark.parametrize("options", [{}, {"eps": 0.1, "momentum": 0.3}], ids=str)
def test_batch_norm_is_pytorchs(channels, layout, dtype, tolerance, options):
    """Where the tolerance is 0, torch.nn's own code runs."""
    x = (3 + 2 * torch.randn(32, channels, 9, 7)).to(dtype).contiguous(memory_format=layout)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    ours, theirs = (nn.BatchNorm2d(channels, dtype=kind, **options) for _ in range(2))
    with training(ours):
        trained = trained_once(ours, x)
        assert trained[0].is_contiguous(memory_format=layout)
        for a, b in zip(trained, trained_once(theirs, x), strict=True):
            assert a.dtype == b.dtype and (a - b).abs().max() <= tolerance * b.abs().max()
        theirs.load_state_dict(ours.state_dict())
        assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("p", [0.05, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_scales_the_rest_and_passes_its_mask_back(p, dtype):
    x = torch.ones(512, 8, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = FastDropout(p)(x)
    y.sum().backward()
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert y[y != 0].unique().item() == pytest.approx(1 / (1 - p), rel=4e-3)
    assert torch.equal(x.grad, y)


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_dropout_is_independent_from_value_to_value(p):
    """Between any two images, and any two places, what is dropped correlates as in independent draws."""
    layer = FastDropout(p)
    first, second = ((layer(torch.ones(500, 500)) == 0).double() - p for _ in range(2))
    for pairs in (first @ first.T, first.T @ first, first @ second.T):
        correlations = pairs.fill_diagonal_(0) / (500 * p * (1 - p))
        assert correlations.std().item() == pytest.approx(500 ** -0.5, rel=0.03)
        assert correlations.abs().max().item() < 10 * 500 ** -0.5


def test_dropout_in_eval_mode_and_at_its_ends():
    x = torch.randn(8, 3)
    assert torch.equal(FastDropout(0.3).eval()(x), x)
    assert torch.equal(FastDropout(0)(x), x) and torch.equal(FastDropout(1)(x), torch.zeros(8, 3))


# ---------------------------------------------------------------- optimizers

def test_one_cycle_rises_and_ends_at_nothing_and_muon_is_for_the_hidden_layers():
    optimizer, scheduler = one_cycle(StridedNet(), 320, 2, 32, 0.05, (0.9, 0.99), 0.01, muon_lr=0.1)
    adamw, muon = optimizer.param_groups
    assert (adamw["betas"], adamw["weight_decay"], muon["weight_decay"]) == ((0.9, 0.99), 0.01, 0.01)
    assert [tuple(weight.shape) for weight in muon["params"]] == [(32, 16, 3, 3), (128, 512)]
    for batch in range(20):
        if batch in (0, 3, 19):   # at the start, after a fifth, at the end
            share = {0: 0.2, 3: 1, 19: 0}[batch]
            assert (adamw["lr"], muon["lr"]) == pytest.approx((0.05 * share, 0.1 * share), abs=5e-4)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("hidden, said", [
    (nn.ReLU(), "muon_lr is for hidden layers, and there is none"),
    (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "weight_norm, is none: leave out muon_lr")])
def test_muon_without_matrices_of_its_own_is_refused(hidden, said):
    with pytest.raises(ValueError, match=said):
        one_cycle(nn.Sequential(nn.Linear(4, 4), hidden, nn.Linear(4, 4)), 320, 2, muon_lr=0.1)


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_the_direction_is_nearly_orthogonal(shape):
    """The singular vectors stay, and the singular values, here from 0.1 to 1, come between 0.6 and 1.3."""
    torch.manual_seed(3)
    left, _, right = torch.linalg.svd(torch.randn(*shape), full_matrices=False)
    for size in (1e-3, 1, 1e3):
        found = left.T @ orthogonal(size * left @ torch.linspace(0.1, 1, min(shape)).diag() @ right) @ right.T
        assert ((found.diag() > 0.6) & (found.diag() < 1.3)).all()
        assert (found - found.diag().diag()).abs().max() < 1e-4


def muon(shape=(6, 4)):
    """Return a matrix and another parameter, with gradients, and an optimizer."""
    torch.manual_seed(3)
    matrix, other = nn.Parameter(torch.randn(*shape)), nn.Parameter(torch.randn(7))
    matrix.grad, other.grad = torch.randn(*shape), torch.randn(7)
    return matrix, other, MuonWithAdamW([matrix, other], [matrix], 0.02, 0.1, weight_decay=0.05)


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (8, 4, 3, 3)])
def test_steps_are_pytorchs(shape):
    """Of a matrix as torch.optim.Muon takes them, in its 16 bits, and of all else as AdamW does."""
    matrix, other, ours = muon(shape)
    start = matrix.detach().flatten(1).clone()
    theirs = nn.Parameter(start.clone()), nn.Parameter(other.detach().clone())
    pytorchs = torch.optim.Muon([theirs[0]], 0.1, weight_decay=0.05, momentum=0.9, ns_steps=3)
    adamw = torch.optim.AdamW([theirs[1]], 0.02, weight_decay=0.05)
    for _ in range(5):
        matrix.grad, other.grad = torch.randn(*shape), torch.randn(7)
        theirs[0].grad, theirs[1].grad = matrix.grad.flatten(1).clone(), other.grad.clone()
        for optimizer in (ours, pytorchs, adamw):
            optimizer.step()
    assert (matrix.flatten(1) - theirs[0]).norm() < 0.05 * (matrix.flatten(1) - start).norm()
    assert torch.equal(other, theirs[1])


def test_a_matrix_without_a_gradient_stays():
    matrix, _, optimizer = muon()
    matrix.grad, before = None, matrix.detach().clone()
    optimizer.step()
    assert torch.equal(matrix, before)


def test_hooks_run_once_a_step():
    """Though an AdamW was made before, whose step PyTorch has wrapped in hooks ever since."""
    torch.optim.AdamW([nn.Parameter(torch.ones(1))])
    called, (*_, optimizer) = [], muon()
    optimizer.register_step_pre_hook(lambda *arguments: called.append("before"))
    optimizer.register_step_post_hook(lambda *arguments: called.append("after"))
    optimizer.step(), optimizer.step()
    assert called == ["before", "after"] * 2


def test_a_step_takes_a_closure_and_leaves_the_gradients():
    (matrix, other, optimizer), (twin, _, theirs) = muon(), muon()
    matrix.grad = other.grad = None

    def closure():
        loss = (matrix * twin.grad).sum()
        loss.backward()
        return loss
    assert optimizer.step(closure).requires_grad and theirs.step() is None
    assert torch.equal(matrix, twin) and torch.equal(matrix.grad, twin.grad)


def test_muon_continues_from_its_state():
    matrix, other, optimizer = muon()
    optimizer.step()
    twins = copy.deepcopy([matrix, other])
    resumed = MuonWithAdamW(twins, twins[:1], 1, 1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    twins[0].grad, twins[1].grad = matrix.grad, other.grad
    optimizer.step(), resumed.step()
    assert torch.equal(matrix, twins[0]) and torch.equal(other, twins[1])
