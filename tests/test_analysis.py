"""Questions to networks, ours and those written in other ways; the receptive field against the gradient."""

import importlib
import linecache
import random
import textwrap
from functools import partial
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import model
from lab.analysis import IMAGE, check, count_parameters, receptive_field, show_source, summary

LARGE = (1, 120, 120)   # the middle of the last map sees no border
MAP = nn.Conv2d(1, 10, 3)
conv = partial(nn.Conv2d, 1, 1, bias=False)
GAP, GMP, LINEAR = "global average pooling", "global max pooling", "fully connected"
QUESTIONS = pytest.mark.parametrize("question", [summary, receptive_field, check])


class Network(nn.Module):
    """Layers by name, and a forward pass that is a function of the network and its input."""
    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.run(self, x)


def summed(x, kernel, stride=None, padding=0, dilation=1, **_):
    """Return sums in place of the maxima of F.max_pool2d: they see the same, and all have a gradient."""
    ones = x.new_ones(x.shape[1], x.shape[1], kernel, kernel)
    return F.conv2d(x, ones, None, stride or kernel, padding, dilation)


def seen_by_gradient(net):
    """Return the side of the square of pixels that move the middle of the last map, weights made positive."""
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1)
    x = torch.rand(1, *LARGE, dtype=torch.double, requires_grad=True)
    with mock.patch.object(F, "max_pool2d", summed):
        out = net.double()(x)
    out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    pixels = x.grad[0, 0].nonzero()
    across, down = (pixels.amax(0) - pixels.amin(0) + 1).tolist()
    assert across == down and 0 < pixels.min() and pixels.max() < 119
    return across


def random_layers(draw):
    """Return up to five random layers."""
    layers, jump, field = [nn.Conv2d(1, 2, 1)], 1, 1
    for _ in range(draw.randint(1, 5)):
        kernel, stride, dilation = draw.randint(1, 7), draw.choice([1, 1, 1, 2, 3]), draw.choice([1, 1, 2, 3])
        padding = draw.randint(0, kernel // 2)
        field, jump = field + dilation * (kernel - 1) * jump, jump * stride
        if field > 60 or jump > 6:
            break
        layers.append(draw.choice([
            nn.Conv2d(2, 2, kernel, stride, "same" if stride == 1 and kernel % 2 else padding, dilation),
            nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw.random() < 0.3),
            nn.AvgPool2d(kernel, stride, padding, ceil_mode=draw.random() < 0.3)]))
    return nn.Sequential(*layers)


@pytest.mark.parametrize("seed", range(100))
def test_random_networks_see_what_the_gradient_says(seed):
    net = random_layers(random.Random(seed))
    assert receptive_field(net, LARGE)[-1].receptive_field == seen_by_gradient(net), net


@pytest.mark.parametrize("net", [
    Network(lambda n, x: n.b(F.max_pool2d(n.a(x), 2)), a=conv(5), b=conv(5)),
    Network(lambda n, x: n.b(F.conv2d(F.avg_pool2d(x, 3, stride=2), n.a.weight)), a=conv(3), b=conv(3)),
    Network(lambda n, x: n.a(x) + n.b(x), a=conv(3, padding=1), b=conv(5, padding=2)),
    Network(lambda n, x: n.b(torch.cat([n.a(x), x], 1)[:, :1]), a=conv(7, padding=3), b=conv(3)),
    Network(lambda n, x: n.a(F.pad(n.a(x), (2, 0, 2, 0))), a=conv(5)),
    Network(lambda n, x: n.a(x).mul_(2).clamp(min=0).abs() * 3, a=conv(4, dilation=2)),
    Network(lambda n, x: n.a(n.b(x).mean(axis=(1,), keepdim=True)), a=conv(3), b=nn.Conv2d(1, 4, 3)),
    nn.AdaptiveAvgPool2d(12)], ids=range(8))
def test_other_ways_to_write_a_network_are_counted(net):
    assert receptive_field(net, LARGE)[-1].receptive_field == seen_by_gradient(net)


@pytest.mark.parametrize("net, message", [
    (nn.AdaptiveAvgPool2d(10), r"adapt.*\{2, 3\}"), (nn.AdaptiveAvgPool2d((28, 14)), r"adapt.*\{1, 2\}"),
    (nn.Conv2d(1, 2, (3, 5)), r"conv2d should have squares .*\(3, 5\)"),
    (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 3)), r"conv2d .* a map of 28, but .*\(14, 14\)"),
    (Network(lambda n, x: n.a(x[:, :, 3:-3, 3:-3]), a=MAP), "__getitem__ makes"),
    (Network(lambda n, x: x + F.pad(n.a(x), [7] * 4), a=conv(2, stride=2)), "add joins maps of different"),
    (Network(lambda n, x: (y := n.a(x) + n.a(x).roll(5, 3)) - y.mean(1, keepdim=True), a=MAP),
     "by the gradient an output depends on 8 x 8 pixels, by kernels 3"),
    (Network(lambda n, x: n.a(x).softmax(-1).max(1, keepdim=True)[0], a=MAP), "by the gradient an output"),
    (Network(lambda n, x: n.a(x).mean(-3), a=MAP), "mean makes"), (nn.ReLU(), "no call has a kernel over")])
def test_what_cannot_be_counted_is_refused(net, message):
    with torch.no_grad(), pytest.raises(ValueError, match=f"receptive field cannot be counted: {message}"):
        receptive_field(net)


def test_every_call_with_a_kernel_has_its_row():
    net = Network(lambda n, x: n.b(F.adaptive_avg_pool2d(n.a(x.detach()), 1) * n.a(x.detach())),   # a gate
                  a=conv(3, padding="same"), b=conv(3, stride=2, padding=2, dilation=2))
    assert str(receptive_field(net)) == """\
layer              kernel  stride  padding  output  jump  receptive field
Conv2d                  3       1        1      28     1                3
AdaptiveAvgPool2d      28      28        0       1    28               30
Conv2d                  3       1        1      28     1                3
Conv2d                  5       2        2      14     2               34"""
    assert receptive_field(model.LightNet())[-1].receptive_field == 22   # its outputs are positions


def functional():
    """Return a network with batch norm and dropout that stays on, and a linear layer that it never calls."""
    def forward(n, x):
        x = F.batch_norm(n.a(x), n.norm.running_mean, n.norm.running_var, training=n.training)
        return torch.dropout(x, 0.3, train=True).mean((2, 3)).detach()
    return Network(forward, a=MAP, norm=nn.BatchNorm2d(10), linear=nn.Linear(10, 10))


@pytest.mark.parametrize("net, norms, dropout, head", [
    (model.SchedulerNet(), "6 layers", "1 layers, p = 0.1", GAP),
    (model.DropoutEverywhereNet(), "7 layers", "7 layers, p = 0.05",
     "average pooling of 5 x 5 of 7 x 7 positions"),
    (functional(), "1 layers", "1 layers, p = 0.3; 1 of them STAY ON in evaluation", GAP),
    (nn.Sequential(nn.ReLU(inplace=True), nn.GroupNorm(1, 1), nn.Dropout2d(0.5), nn.Dropout(0), nn.Dropout()),
     "none", "2 layers, p = 0.5", "none")])
def test_check(net, norms, dropout, head):
    assert check(net)[1:] == (norms, dropout, head)


@pytest.mark.parametrize("end, head", [
    (lambda x: x.mean(3).mean(2), GAP), (lambda x: x.mean(), GAP),
    (lambda x: x.view(len(x), 10, -1).sum(dim=-1), GAP), (lambda x: x.amax((2, 3)), GMP),
    (lambda x: F.avg_pool2d(x, kernel_size=26)[:, :, 0, 0], GAP), (lambda x: x.flatten(2).max(-1)[0], GMP),
    (lambda x: (x.permute(0, 2, 3, 1) @ torch.ones(10, 10)).mean((1, 2)), GAP),
    (nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Conv2d(10, 10, 1)), GMP),
    (nn.Sequential(nn.Conv2d(10, 10, 26), nn.AvgPool2d(1)), LINEAR),
    (lambda x: torch.addmm(torch.ones(10), x.flatten(1), torch.ones(6760, 10)), LINEAR),
    (lambda x: torch.einsum("nchw,kc->nk", x, torch.ones(10, 10)), LINEAR)])
def test_heads(end, head):
    assert check(Network(lambda n, x: end(n.a(x)), a=MAP)).head == head


def test_frozen_parameters_are_counted_and_named():
    net = model.Baseline()
    assert repr(check(net, 194_884)).splitlines()[:2] == ["parameters           194,884 (within 194,884)",
                                                          "batch normalisation  none"]
    net.layers[0].requires_grad_(False)
    assert check(net).parameters == "194,884 (OVER 20,000); 288 of them FROZEN"


@pytest.mark.parametrize("net, total, counted", [
    (model.SharedNet(), "1,260", "900"),
    (Network(lambda n, x: n.a(x) * n.scale, a=MAP, scale=nn.Parameter(torch.ones(1))), "100", "101")])
def test_where_torchsummary_counts_otherwise_the_true_number_is_said(net, total, counted, capsys):
    summary(net)
    printed = capsys.readouterr().out
    assert f"Total params: {total}\n" in printed and f"there are {counted} parameters" in printed


def test_what_torchsummary_cannot_show_is_said():
    inner = Network(lambda n, x: {"map": n.a(x)}, a=MAP)
    with pytest.raises(TypeError, match="torchsummary cannot show a module that returns something else"):
        summary(Network(lambda n, x: n.inner(x)["map"], inner=inner))


@QUESTIONS
def test_a_question_leaves_the_network_and_the_random_stream_alone(question):
    net = functional()   # its dropout draws
    net.kept = net(torch.zeros(1, *IMAGE))   # an activation
    before, stream = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()
    question(net)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training and not any(module._forward_hooks for module in net.modules())


@QUESTIONS
def test_lazy_layers_under_another_default_dtype(question, request):
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    torch.set_default_dtype(torch.float64)
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(10))
    question(net)
    assert count_parameters(net) == 4 * 10 + 4 * 2 + 4 * 26 * 26 * 10 + 10 and type(net[0]) is nn.LazyConv2d


@QUESTIONS
def test_a_network_with_two_inputs_is_told_what_it_is_given(question):
    with pytest.raises(TypeError, match="Bilinear is given one argument, images: missing .* 'input2'"):
        question(nn.Bilinear(28, 28, 10))


def test_source_marks_the_lines_that_use_a_name(capsys):
    show_source(model.light_layers, model.GapNet, model.StridedNet, mark=["pool"])
    lines = capsys.readouterr().out.splitlines()
    marked = " ".join(line for line in lines if line.startswith(">"))
    assert "nn.AvgPool2d(4) if pool" in marked and "dropout=0.25, pool=True" in marked
    assert "nn.BatchNorm2d(32)" not in marked and "  class GapNet(DigitNet):" in lines   # after max-pool


SOURCE = "class Net:\n    size = 3\n    width = torch.no_grad()(lambda net: 10)\n"
SHOWN = textwrap.indent(SOURCE, "  ")


def test_source_that_does_not_run_is_not_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    text = f"import dataclasses\nimport torch\n\n@dataclasses.dataclass\n{SOURCE}"
    (tmp_path / "edited.py").write_text(text)
    edited = importlib.import_module("edited")
    show_source(edited.Net)
    assert capsys.readouterr().out == f"  @dataclasses.dataclass\n{SHOWN}"
    (tmp_path / "edited.py").write_text(text.replace("10", "120"))
    with pytest.raises(RuntimeError, match="edited.py was edited after its import: restart the kernel"):
        show_source(edited.Net)


def test_source_of_a_class_of_a_cell_is_shown(monkeypatch, capsys):
    lines = f"import torch\n\n{SOURCE}\ny = 2\n".splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, "<cell>", (0, None, lines, "<cell>"))   # as IPython keeps a cell
    exec(compile("".join(lines), "<cell>", "exec"), names := {"__name__": "__main__"})
    show_source(names["Net"])
    assert capsys.readouterr().out == SHOWN
