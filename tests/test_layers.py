"""The faster batch norm and dropout against PyTorch's own, and how they get into a network and out of it."""

import pytest
import torch
from torch import nn

from lab.layers import FastBatchNorm2d, FastDropout, faster


class Own(nn.BatchNorm2d):
    """A batch norm that does something else."""


def replaced(layer):
    """Return the layer that trains in place of `layer`."""
    with faster(layer):
        return type(layer)


@pytest.mark.parametrize("layer, fast", [
    (nn.BatchNorm2d(4), FastBatchNorm2d), (nn.BatchNorm2d(4, eps=1e-3, momentum=0.3), FastBatchNorm2d),
    (nn.BatchNorm2d(4, affine=False), None), (nn.BatchNorm2d(4, track_running_stats=False), None),
    (nn.BatchNorm2d(4, momentum=None), None), (nn.BatchNorm1d(4), None), (Own(4), None),
    (nn.Dropout(0.2), FastDropout), (nn.Dropout(0.2, inplace=True), None), (nn.Dropout2d(0.2), None),
    (nn.Conv2d(1, 4, 3), None)], ids=str)
def test_what_is_replaced_and_what_is_left(layer, fast):
    before = type(layer)
    assert replaced(layer) is (fast or before)
    assert type(layer) is before


def nested():
    """Return a network with layers inside layers."""
    return nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), nn.Dropout(0.1))


def test_parameters_and_buffers_stay_where_they_are():
    net = nested()
    before = {key: value.data_ptr() for key, value in net.state_dict().items()}
    with faster(net):
        assert {key: value.data_ptr() for key, value in net.state_dict().items()} == before
        assert isinstance(net[0][1], FastBatchNorm2d) and isinstance(net[1], FastDropout)
    assert {key: value.data_ptr() for key, value in net.state_dict().items()} == before


def test_pytorchs_layers_are_back_after_an_exception():
    net = nested()
    with pytest.raises(KeyboardInterrupt), faster(net):
        raise KeyboardInterrupt
    assert type(net[0][1]) is nn.BatchNorm2d and type(net[1]) is nn.Dropout


def maps(channels=12, dtype=torch.float32, count=32):
    """Return random maps, off zero, in channels_last."""
    x = 3 + 2 * torch.randn(count, channels, 9, 7, generator=torch.Generator().manual_seed(0))
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


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
@pytest.mark.parametrize("options", [{}, {"eps": 0.1, "momentum": 0.3}], ids=str)
def test_batch_norm_is_pytorchs(channels, dtype, tolerance, options):
    x = maps(channels, dtype)
    ours, theirs = nn.BatchNorm2d(channels, **options), nn.BatchNorm2d(channels, **options)
    with faster(ours):
        trained = trained_once(ours, x)
    for a, b in zip(trained, trained_once(theirs, x), strict=True):
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()
    assert ours.num_batches_tracked == 1


def test_batch_norm_keeps_the_layout():
    layer = nn.BatchNorm2d(12)
    with faster(layer):
        assert layer(maps()).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout, dtype, training", [
    (torch.contiguous_format, torch.float32, True), (torch.channels_last, torch.float64, True),
    (torch.channels_last, torch.float32, False)])
def test_elsewhere_batch_norm_is_pytorchs_to_the_last_bit(layout, dtype, training):
    x = maps(dtype=dtype).contiguous(memory_format=layout)
    layer, theirs = (nn.BatchNorm2d(12, dtype=dtype).train(training) for _ in range(2))
    with faster(layer):
        assert torch.equal(layer(x), theirs(x))


@pytest.mark.parametrize("channels", [12, 16])
def test_batch_norm_refuses_a_single_value_in_pytorchs_words(channels):
    layer, x = nn.BatchNorm2d(channels), torch.ones(1, channels, 1, 1)
    refused = pytest.raises(ValueError, match="Expected more than 1 value per channel when training")
    with faster(layer), refused:
        layer(x.contiguous(memory_format=torch.channels_last))
    assert layer.running_var.isfinite().all() and layer.running_mean.eq(0).all()


@pytest.mark.parametrize("p", [0.05, 0.25, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(p, dtype):
    x = torch.ones(512, 8, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
    y = FastDropout(p)(x)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert y[y != 0].unique().item() == pytest.approx(1 / (1 - p), rel=4e-3)


@pytest.mark.parametrize("p", [0.05, 0.25, 0.5])
def test_dropout_is_independent_from_value_to_value(p):
    """Between any two images, and any two places, what is dropped correlates as in independent draws."""
    layer = FastDropout(p)
    first, second = ((layer(torch.ones(500, 500)) == 0).double() - p for _ in range(2))
    for pairs in (first @ first.T, first.T @ first, first @ second.T):
        correlations = pairs.fill_diagonal_(0) / (500 * p * (1 - p))
        assert correlations.std().item() == pytest.approx(500 ** -0.5, rel=0.03)
        assert correlations.abs().max().item() < 10 * 500 ** -0.5


def test_dropout_passes_its_mask_back():
    x = torch.ones(64, 8, 4, 4, requires_grad=True)
    y = FastDropout(0.3)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)


def test_dropout_in_eval_mode_and_at_its_ends():
    x = torch.randn(8, 3)
    assert torch.equal(FastDropout(0.3).eval()(x), x)
    assert torch.equal(FastDropout(0)(x), x) and torch.equal(FastDropout(1)(x), torch.zeros(8, 3))
