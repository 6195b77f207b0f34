"""Questions to networks written in other ways than ours; the receptive field against the gradient."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model import GapNet, check, count_parameters, receptive_field, summary

LARGE = (1, 120, 120)   # the middle of the last map sees no border


class Network(nn.Module):
    """Layers by name, and a forward pass that is a function of the network and its input."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


# ---------------------------------------------------------------- receptive field

def seen_by_gradient(net, size=LARGE):
    """Return the side of the square of pixels that move the middle of the last map, weights made positive."""
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1)
    x = torch.rand(1, *size, dtype=torch.double, requires_grad=True)
    out = net.double()(x)
    middle = out.shape[-1] // 2
    out[0, :, middle, middle].sum().backward()
    sides = [x.grad[0, 0].sum(axis).nonzero().flatten() for axis in (0, 1)]
    assert all(0 < pixels[0] and pixels[-1] < size[-1] - 1 for pixels in sides)
    across, down = (pixels[-1] - pixels[0] + 1 for pixels in sides)
    assert across == down
    return across.item()


def random_layers(draw):
    """Return up to five random layers, and the same with sums in place of maxima: they see the same."""
    layers, smooth, channels, jump, field = [], [], 1, 1, 1
    for _ in range(draw.randint(1, 5)):
        kind, kernel, stride = draw.choice("cccma"), draw.randint(1, 7), draw.choice([1, 1, 1, 2, 3])
        dilation = draw.choice([1, 1, 2, 3]) if kind != "a" else 1
        padding, ceil = draw.randint(0, kernel // 2), draw.random() < 0.3
        if jump * stride > 6 or field + dilation * (kernel - 1) * jump > 60:
            continue
        field, jump = field + dilation * (kernel - 1) * jump, jump * stride
        if kind == "c":
            padding = "same" if stride == 1 and draw.random() < 0.3 else padding
            outputs = draw.randint(1, 3)
            layers.append(nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, bias=False))
            smooth.append(layers[-1])
            channels = outputs
        elif kind == "a" or dilation == 1:
            pool = nn.AvgPool2d(kernel, stride, padding, ceil)
            layers.append(pool if kind == "a" else nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil))
            smooth.append(pool)
        else:
            layers.append(nn.MaxPool2d(kernel, stride, padding, dilation))
            smooth.append(nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels))
    return layers or [nn.Conv2d(1, 1, 1)], smooth or [nn.Conv2d(1, 1, 1)]


@pytest.mark.parametrize("seed", range(10))
def test_random_networks_see_what_the_gradient_says(seed):
    draw = random.Random(seed)
    for _ in range(25):
        layers, smooth = random_layers(draw)
        found = receptive_field(nn.Sequential(*layers), LARGE)[-1].receptive_field
        assert found == seen_by_gradient(nn.Sequential(*smooth)), layers


def conv(kernel, **options):
    return nn.Conv2d(1, 1, kernel, bias=False, **options)


@pytest.mark.parametrize("net", [
    Network(lambda n, x: n.b(F.max_pool2d(n.a(x), 2)), a=conv(5), b=conv(5)),
    Network(lambda n, x: F.conv2d(F.avg_pool2d(x, 3, stride=2), n.a.weight, padding=1), a=conv(3)),
    Network(lambda n, x: n.a(x) + n.b(x), a=conv(3, padding=1), b=conv(5, padding=2)),
    Network(lambda n, x: n.b(x + n.a(F.relu(n.a(x)))), a=conv(3, padding="same"), b=conv(3, stride=2)),
    Network(lambda n, x: n.b(torch.cat([n.a(x), x], 1)[:, :1]), a=conv(7, padding=3), b=conv(3)),
    Network(lambda n, x: n.a(F.pad(n.a(x), (2, 2, 2, 2))), a=conv(5)),
    Network(lambda n, x: n.a(n.a(n.a(x))), a=conv(3)),
    Network(lambda n, x: n.a(x).mul_(2).clamp(min=0).abs() * 3, a=conv(4, dilation=2)),
    Network(lambda n, x: n.a(n.b(x).mean(1, keepdim=True)), a=conv(3), b=nn.Conv2d(1, 4, 3, bias=False)),
    nn.AdaptiveAvgPool2d(12)], ids=range(10))
def test_other_ways_to_write_a_network_are_counted(net, monkeypatch):
    found = receptive_field(net, LARGE)[-1].receptive_field
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)   # it sees the same pixels, and all have a gradient
    assert found == seen_by_gradient(net)


@pytest.mark.parametrize("net, message", [
    (nn.AdaptiveAvgPool2d(10), "AdaptiveAvgPool2d of 28 to 10 positions has kernels of several sizes"),
    (nn.Sequential(nn.Conv2d(1, 2, (3, 5))), "expected a square kernel"),
    (nn.Sequential(nn.Conv2d(1, 2, 3, stride=(1, 2))), "expected a square kernel, stride"),
    (Network(lambda n, x: n.a(x[:, :, 3:-3, 3:-3]), a=conv(3)), "__getitem__ makes"),
    (Network(lambda n, x: n.a(F.interpolate(x, scale_factor=2)), a=conv(3)), "interpolate makes"),
    (nn.Sequential(nn.ConvTranspose2d(1, 1, 2, 2)), "conv_transpose2d makes"),
    (Network(lambda n, x: n.a(x) + n.b(x).mean((2, 3), keepdim=True), a=conv(3), b=conv(3)),
     "add joins maps"),
    (Network(lambda n, x: torch.roll(n.a(x), 5, 3), a=conv(3)),
     "by the gradient an output depends on pixels"),
    (Network(lambda n, x: n.a(x) * torch.softmax(n.a(x), -1), a=conv(3)),
     "by the gradient an output depends"),
    (nn.Sequential(nn.ReLU()), "no layer with a kernel over a map"),
    (nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 2, 3)), "conv1d makes")])
def test_what_cannot_be_counted_is_refused(net, message):
    with pytest.raises(ValueError, match=message):
        receptive_field(net)


def test_a_linear_network_sees_the_whole_image():
    row, = receptive_field(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    assert (row.layer, row.kernel, row.receptive_field) == ("Linear", 28, 28)


# ---------------------------------------------------------------- check

class Functional(nn.Module):
    """Uses functional batch norm and dropout, and builds a linear layer that it never calls."""

    def __init__(self, on=None):
        super().__init__()
        self.conv, self.unused, self.norm = nn.Conv2d(1, 10, 3), nn.Linear(10, 10), nn.BatchNorm2d(10)
        self.on = on

    def forward(self, x):
        x = F.batch_norm(self.conv(x), self.norm.running_mean, self.norm.running_var, training=self.training)
        return F.dropout(x, 0.3, self.training if self.on is None else self.on).mean((2, 3))


MAP = nn.Conv2d(1, 10, 3)


def end(run, **layers):
    """Return a network with a map (10, 26, 26), `n.a(x)`, and an end of its own."""
    return Network(run, a=MAP, **layers)


GAP, LINEAR = "global average pooling", "fully connected"


@pytest.mark.parametrize("net, norms, rates, head", [
    (Functional(), 1, (0.3,), GAP), (Functional(on=True), 1, (0.3,), GAP),
    (end(lambda n, x: n.a(x).mean((2, 3))), 0, (), GAP),
    (end(lambda n, x: n.a(x).mean(dim=[-1, -2])), 0, (), GAP),
    (end(lambda n, x: n.a(x).mean(3).mean(2)), 0, (), GAP),
    (end(lambda n, x: n.a(x).flatten(2).mean(-1)), 0, (), GAP),
    (end(lambda n, x: n.a(x).view(len(x), 10, -1).mean(2)), 0, (), GAP),
    (end(lambda n, x: n.a(x).reshape(len(x), 10, 26 * 26).mean(dim=2)), 0, (), GAP),
    (end(lambda n, x: torch.mean(n.a(x), (2, 3))), 0, (), GAP),
    (end(lambda n, x: F.avg_pool2d(n.a(x), 26).flatten(1)), 0, (), GAP),
    (end(lambda n, x: F.avg_pool2d(n.a(x), kernel_size=26)[:, :, 0, 0]), 0, (), GAP),
    (end(lambda n, x: F.adaptive_avg_pool2d(n.a(x), 1).squeeze()), 0, (), GAP),
    (end(lambda n, x: F.adaptive_avg_pool2d(n.a(x), (1, 1)).flatten(1)), 0, (), GAP),
    (nn.Sequential(MAP, nn.AdaptiveMaxPool2d(1), nn.Flatten()), 0, (), "global max pooling"),
    (end(lambda n, x: n.a(x).amax((2, 3))), 0, (), "global max pooling"),
    (end(lambda n, x: F.max_pool2d(n.a(x), 26).flatten(1)), 0, (), "global max pooling"),
    (nn.Sequential(MAP, nn.AvgPool2d(20), nn.Flatten()), 0, (),
     "average pooling of 20 x 20 of 26 x 26 positions"),
    (nn.Sequential(MAP, nn.Flatten(), nn.Linear(6760, 10)), 0, (), LINEAR),
    (end(lambda n, x: F.linear(n.a(x).flatten(1), n.w), w=nn.Parameter(torch.zeros(10, 6760))),
     0, (), LINEAR),
    (end(lambda n, x: n.a(x).flatten(1) @ n.w, w=nn.Parameter(torch.zeros(6760, 10))), 0, (), LINEAR),
    (nn.Sequential(MAP, nn.Conv2d(10, 10, 26), nn.Flatten()), 0, (), LINEAR),
    (nn.Sequential(MAP, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10)), 0, (), LINEAR),
    (nn.Sequential(MAP, nn.Dropout2d(0.2), nn.BatchNorm2d(10), nn.Flatten()), 1, (0.2,), "none"),
    (nn.Sequential(nn.LazyConv2d(10, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10)),
     1, (), LINEAR),
    (nn.Sequential(MAP, nn.GroupNorm(2, 10), nn.Dropout(0), nn.Flatten()), 0, (), "none")])
def test_check_of_networks_written_in_other_ways(net, norms, rates, head):
    assert check(net)[2:] == (norms, rates, head)


def test_dropout_that_stays_on_in_evaluation_is_named():
    assert "1 of them STAY ON in evaluation" in repr(check(Functional(on=True)))
    assert "STAY ON" not in repr(check(Functional())) and "STAY ON" not in repr(check(GapNet()))


# ---------------------------------------------------------------- parameters and the table

def test_lazy_layers_are_counted():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(10))
    assert count_parameters(net) == 4 * 10 + 4 * 26 * 26 * 10 + 10
    assert type(net[0]) is nn.LazyConv2d   # it was a copy that ran


@pytest.mark.parametrize("net, counted", [
    (Network(lambda n, x: n.a(n.a(x)), a=nn.Conv2d(1, 1, 3)), 10),
    (Network(lambda n, x: n.a(x) * n.scale, a=nn.Conv2d(1, 10, 3), scale=nn.Parameter(torch.ones(1))), 101)])
def test_where_torchsummary_counts_otherwise_the_true_number_is_said(net, counted, capsys):
    summary(net)
    assert f"there are {counted} parameters" in capsys.readouterr().out and count_parameters(net) == counted


def test_what_torchsummary_cannot_show_is_said():
    inner = Network(lambda n, x: {"map": n.a(x)}, a=nn.Conv2d(1, 1, 3))
    with pytest.raises(TypeError, match="torchsummary cannot show a module that returns something else than"):
        summary(Network(lambda n, x: n.inner(x)["map"], inner=inner))


def test_a_network_that_keeps_an_activation_can_be_asked():
    def keep(net, x):
        net.kept = net.a(x)
        return net.kept.mean((2, 3))
    net = Network(keep, a=MAP)
    net(torch.zeros(1, 1, 28, 28))
    assert check(net).head == GAP and count_parameters(net) == 100
    assert receptive_field(net)[-1].receptive_field == 28
    summary(net)
