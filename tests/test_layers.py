"""Batch norm and dropout against PyTorch's own."""

import pytest
import torch
from torch import nn

from layers import BatchNorm2d, Dropout


def maps(channels=12, dtype=torch.float32, count=32):
    """Return random maps, off zero, in channels_last."""
    return (3 + 2 * torch.randn(count, channels, 9, 7)).to(dtype).contiguous(memory_format=torch.channels_last)


def trained_once(layer, x):
    """Return output, gradients of input, weight and bias, and the statistics after one batch."""
    x = x.clone().requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, len(layer.weight)))
        layer.bias.copy_(torch.linspace(-1, 1, len(layer.bias)))
    y = layer(x)
    torch.manual_seed(1)
    y.backward(torch.randn(y.shape).to(y.dtype))
    return y, x.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var


@pytest.mark.parametrize("channels", [1, 4, 12, 16])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_batch_norm_is_pytorchs(channels, dtype, tolerance):
    x = maps(channels, dtype)
    ours, theirs = BatchNorm2d(channels), nn.BatchNorm2d(channels)
    for a, b in zip(trained_once(ours, x), trained_once(theirs, x)):
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()
    assert ours.num_batches_tracked == 1
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_batch_norm_keeps_the_layout():
    assert BatchNorm2d(12)(maps()).is_contiguous(memory_format=torch.channels_last)


def test_batch_norm_in_eval_mode_and_other_layouts_is_pytorchs():
    layer, x = BatchNorm2d(12), maps().contiguous()
    assert torch.equal(layer(x), nn.BatchNorm2d(12)(x))
    x = maps()
    assert torch.equal(layer.eval()(x), nn.functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias))


@pytest.mark.parametrize("p", [0.05, 0.25, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(p, dtype):
    x = torch.ones(512, 8, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
    y = Dropout(p)(x)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert y[y != 0].unique().item() == pytest.approx(1 / (1 - p), rel=4e-3)


@pytest.mark.parametrize("p", [0.05, 0.25, 0.5])
def test_dropout_is_independent_from_value_to_value(p):
    """Between any two images, and any two places, what is dropped correlates as in independent draws."""
    layer = Dropout(p)
    first, second = ((layer(torch.ones(500, 500)) == 0).double() - p for _ in range(2))
    for pairs in (first @ first.T, first.T @ first, first @ second.T):
        correlations = pairs.fill_diagonal_(0) / (500 * p * (1 - p))
        assert correlations.std().item() == pytest.approx(500 ** -0.5, rel=0.03)
        assert correlations.abs().max().item() < 10 * 500 ** -0.5


def test_dropout_passes_its_mask_back():
    x = torch.ones(64, 8, 4, 4, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)


def test_dropout_in_eval_mode_and_at_its_ends():
    x = torch.randn(8, 3)
    assert torch.equal(Dropout(0.3).eval()(x), x)
    assert torch.equal(Dropout(0)(x), x) and torch.equal(Dropout(1)(x), torch.zeros(8, 3))
