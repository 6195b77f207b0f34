"""The networks and the questions to any network."""

import copy
import inspect
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import model
from model import (
    AccurateNet,
    Baseline,
    BatchNormNet,
    DeepStridedNet,
    DropoutEverywhereNet,
    DropoutNet,
    FullyConnectedNet,
    GapNet,
    LightNet,
    MostAccurateNet,
    OneCycleNet,
    PooledHeadNet,
    RotationNet,
    SchedulerNet,
    SharedNet,
    SmallNet,
    StridedNet,
    TinyNet,
    block,
    check,
    count_parameters,
    light_layers,
    receptive_field,
    separable_block,
    summary,
)

COUNTS = {Baseline: 194_884, LightNet: 5_784, BatchNormNet: 5_936, DropoutNet: 5_936, GapNet: 5_936,
          SchedulerNet: 5_920, OneCycleNet: 8_440, RotationNet: 8_932, DropoutEverywhereNet: 19_452,
          FullyConnectedNet: 11_874, PooledHeadNet: 9_074, StridedNet: 72_330, DeepStridedNet: 156_458,
          SmallNet: 2_988, TinyNet: 1_180, SharedNet: 900, AccurateNet: 7_898, MostAccurateNet: 15_834}
TORCHSUMMARY = {SharedNet: 900 + 4 * 90}   # it counts the shared filters in each of the five blocks
OUTPUTS = {LightNet: 192, BatchNormNet: 192, DropoutNet: 192, GapNet: 12, SchedulerNet: 12}   # all others: 10
every_network = pytest.mark.parametrize("network", COUNTS, ids=lambda n: n.__name__)


def table(text):
    """Read torchsummary's table: (layer, output shape, parameters) a row."""
    return re.findall(r"^\s*(\w+)-\d+\s+\[-1, ([\d, ]+)\]\s+([\d,]+)\s*$", text, re.M)


@every_network
def test_parameters(network):
    assert count_parameters(network()) == COUNTS[network]


full_block = partial(block, norm=True)


@pytest.mark.parametrize("make, count", [
    (lambda: SmallNet(first=6, second=8, width=10, make=full_block), 3_204),
    (lambda: SmallNet(activation=nn.ReLU), COUNTS[SmallNet]),
    (lambda: TinyNet(first=6, width=9, blocks=6), 1_192),
    (lambda: AccurateNet(first=9, width=12, make=full_block), 7_825),
    (lambda: AccurateNet(activation=nn.ReLU), COUNTS[AccurateNet]),
    (lambda: StridedNet(hidden=64), 38_794), (lambda: StridedNet(crop=False), 109_194)])
def test_families(make, count):
    net = make().eval()
    assert count_parameters(net) == count
    assert net(torch.randn(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("family", [SmallNet, AccurateNet])
def test_a_family_with_another_activation_has_no_other(family):
    kinds = {type(layer) for layer in family(activation=nn.ReLU).modules()}
    assert nn.ReLU in kinds and nn.SiLU not in kinds


@every_network
def test_what_is_new_is_one_sentence(network):
    """README's table shows it."""
    assert re.fullmatch(r"[A-Z][^\n]+\.", network.__doc__.split("\n")[0])


def test_source_marks_the_lines_that_use_a_name(capsys):
    model.show_source(model.light_layers, model.GapNet, mark=["pool"])
    lines = capsys.readouterr().out.splitlines()
    marked = [line for line in lines if line.startswith(">")]
    assert any("nn.AvgPool2d(4) if pool" in line for line in marked)
    assert any("dropout=0.25, pool=True" in line for line in marked)
    assert not any("MaxPool2d" in line for line in marked) and "  class GapNet(DigitNet):" in lines


def test_reference_names():
    named = [getattr(model, name) for name in ("Model1", "Model2", "Model2b", "Model2c", "Model3")]
    assert named == [Baseline, LightNet, DropoutNet, GapNet, SchedulerNet]


@every_network
def test_returns_log_probabilities(network):
    out = network().eval()(torch.randn(3, 1, 28, 28))
    assert out.shape == (3, OUTPUTS.get(network, 10))
    assert torch.allclose(out.exp().sum(1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (2, 3, 28, 28), (2, 1, 32, 32), (784,)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=re.escape(f"expected images of shape (N, 1, 28, 28), got {shape}")):
        LightNet()(torch.zeros(shape))


def test_wrong_dtype():
    with pytest.raises(TypeError, match="floating-point images, got torch.uint8"):
        LightNet()(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


# The ladder's layers, written out once more by hand from reference B: type, output shape, parameters.
LIGHT = [("Conv2d", "8, 26, 26", 72), ("Conv2d", "12, 24, 24", 864), ("Conv2d", "8, 24, 24", 96),
         ("MaxPool2d", "8, 12, 12", 0), ("Conv2d", "12, 10, 10", 864), ("Conv2d", "12, 8, 8", 1296),
         ("Conv2d", "12, 6, 6", 1296), ("Conv2d", "12, 4, 4", 1296)]
SKELETON = [("Conv2d", "32, 26, 26", 288), ("Conv2d", "64, 24, 24", 18_432),
            ("Conv2d", "128, 22, 22", 73_728), ("MaxPool2d", "128, 11, 11", 0),
            ("Conv2d", "32, 11, 11", 4_096), ("Conv2d", "64, 9, 9", 18_432), ("Conv2d", "128, 7, 7", 73_728),
            ("Conv2d", "10, 7, 7", 1_280), ("Conv2d", "10, 1, 1", 4_900)]


def after(convolutions, *layers, but_last=()):
    """Put `layers` after every convolution, those in `but_last` not after the last one."""
    rows = []
    for i, (kind, shape, count) in enumerate(convolutions):
        rows.append((kind, shape, f"{count:,}"))
        for layer in layers if kind == "Conv2d" else ():
            if not (layer in but_last and i == len(convolutions) - 1):
                channels = int(shape.split(",")[0])
                rows.append((layer, shape, str(2 * channels if layer == "BatchNorm2d" else 0)))
    return rows


def dropped(rows):
    """Put dropout after the max-pool."""
    return [row for r in rows for row in ([r, ("Dropout", r[1], "0")] if r[0] == "MaxPool2d" else [r])]


def read_table(text):
    """Read `layer channels side parameters`, one a line, as torchsummary's rows."""
    return [(layer, f"{channels}, {side}, {side}", count)
            for layer, channels, side, count in map(str.split, text.strip().splitlines())]


def separated(convolution, *blocks, bias=10):
    """Write out a convolution, then blocks (`channels side`) and pools (`pool side`), and the head."""
    rows, (before, side) = [], map(int, convolution.split())

    def add(layer, channels, count):
        rows.append((layer, f"{channels}, {side}, {side}", f"{count:,}"))

    def add_block(inputs, outputs, weights):
        for layer, count in (("Conv2d", weights), ("BatchNorm2d", 2 * outputs), ("SiLU", 0)):
            add(layer, outputs, count)

    add_block(1, before, 9 * before)
    for one in blocks:
        kind, side = one.split()[0], int(one.split()[1])
        if kind == "pool":
            add("MaxPool2d", before, 0)
            continue
        add("Conv2d", before, 9 * before)
        add_block(before, int(kind), before * int(kind))
        before = int(kind)
    add("Conv2d", 10, 10 * before + bias)
    return rows + [("AvgPool2d", "10, 1, 1", "0")]


GAP = [("AvgPool2d", "12, 1, 1", "0")]
NORMED = after(LIGHT, "BatchNorm2d", "ReLU")
TABLES = {
    Baseline: after(SKELETON, "ReLU", but_last=("ReLU",)),
    LightNet: after(LIGHT, "ReLU"),
    BatchNormNet: NORMED,
    DropoutNet: dropped(NORMED),
    GapNet: dropped(NORMED) + GAP,
    SchedulerNet: [row for row in dropped(NORMED) + GAP if row != ("BatchNorm2d", "8, 24, 24", "16")],
    # as references C and D print them
    OneCycleNet: read_table("""
        Conv2d 8 28 72\n BatchNorm2d 8 28 16\n ReLU 8 28 0
        Conv2d 16 28 1,152\n BatchNorm2d 16 28 32\n ReLU 16 28 0\n MaxPool2d 16 14 0
        Conv2d 16 14 2,304\n BatchNorm2d 16 14 32\n ReLU 16 14 0
        Conv2d 16 14 2,304\n BatchNorm2d 16 14 32\n ReLU 16 14 0\n MaxPool2d 16 7 0
        Conv2d 16 7 2,304\n BatchNorm2d 16 7 32\n ReLU 16 7 0\n Dropout 16 7 0
        Conv2d 10 7 160\n AdaptiveAvgPool2d 10 1 0"""),
    RotationNet: read_table("""
        Conv2d 4 26 36\n BatchNorm2d 4 26 8\n ReLU 4 26 0\n Dropout 4 26 0
        Conv2d 4 24 144\n BatchNorm2d 4 24 8\n ReLU 4 24 0\n Dropout 4 24 0
        Conv2d 8 22 288\n BatchNorm2d 8 22 16\n ReLU 8 22 0\n Dropout 8 22 0\n MaxPool2d 8 11 0
        Conv2d 8 11 64\n BatchNorm2d 8 11 16\n ReLU 8 11 0\n Dropout 8 11 0
        Conv2d 16 9 1,152\n BatchNorm2d 16 9 32\n ReLU 16 9 0\n Dropout 16 9 0
        Conv2d 16 7 2,304\n BatchNorm2d 16 7 32\n ReLU 16 7 0\n Dropout 16 7 0
        Conv2d 16 7 2,304\n BatchNorm2d 16 7 32\n ReLU 16 7 0\n Dropout 16 7 0
        Conv2d 16 7 2,304\n BatchNorm2d 16 7 32\n ReLU 16 7 0\n Dropout 16 7 0
        Conv2d 10 7 160\n AvgPool2d 10 1 0"""),
    # as reference E prints it, and as A's list of layers implies, for A prints none
    FullyConnectedNet: read_table("""
        Conv2d 8 26 72\n ReLU 8 26 0\n BatchNorm2d 8 26 16
        Conv2d 16 24 1,152\n ReLU 16 24 0\n BatchNorm2d 16 24 32\n MaxPool2d 16 12 0\n Dropout 16 12 0
        Conv2d 32 12 512\n ReLU 32 12 0\n BatchNorm2d 32 12 64
        Conv2d 16 10 4,608\n ReLU 16 10 0\n BatchNorm2d 16 10 32
        Conv2d 8 8 1,152\n ReLU 8 8 0\n BatchNorm2d 8 8 16\n Dropout 8 8 0
        Conv2d 16 8 128\n ReLU 16 8 0\n BatchNorm2d 16 8 32\n Dropout 16 8 0
        Conv2d 8 6 1,152\n ReLU 8 6 0\n BatchNorm2d 8 6 16\n Dropout 8 6 0""") + [("Linear", "10", "2,890")],
    DropoutEverywhereNet: read_table("""
        Conv2d 8 28 72\n ReLU 8 28 0\n BatchNorm2d 8 28 16\n Dropout 8 28 0
        Conv2d 16 26 1,152\n ReLU 16 26 0\n BatchNorm2d 16 26 32\n Dropout 16 26 0\n MaxPool2d 16 13 0
        Conv2d 8 15 128\n ReLU 8 15 0\n BatchNorm2d 8 15 16\n Dropout 8 15 0
        Conv2d 16 13 1,152\n ReLU 16 13 0\n BatchNorm2d 16 13 32\n Dropout 16 13 0
        Conv2d 32 11 4,608\n ReLU 32 11 0\n BatchNorm2d 32 11 64\n Dropout 32 11 0
        Conv2d 32 9 9,216\n ReLU 32 9 0\n BatchNorm2d 32 9 64\n Dropout 32 9 0
        Conv2d 10 7 2,880\n ReLU 10 7 0\n BatchNorm2d 10 7 20\n Dropout 10 7 0\n AvgPool2d 10 1 0"""),
    SmallNet: separated("10 26", "18 24", "pool 12", "24 10", "24 8", "pool 4", "24 4"),
    TinyNet: separated("7 26", "10 24", "10 22", "pool 11", "10 9", "10 7", "10 5"),
    SharedNet: separated("10 26", "10 24", "10 22", "pool 11", "10 9", "10 7", "10 5", bias=0),
    AccurateNet: separated("12 26", "32 24", "pool 12", "32 10", "32 8", "32 6", "32 4", "32 2"),
    MostAccurateNet: separated("16 26", "48 24", "pool 12", "48 10", "48 8", "48 6", "48 4", "48 2"),
}


@pytest.mark.parametrize("network", TABLES, ids=lambda n: n.__name__)
def test_layer_table(network, capsys):
    summary(network())
    printed = capsys.readouterr().out
    assert table(printed) == TABLES[network]
    assert f"Total params: {TORCHSUMMARY.get(network, COUNTS[network]):,}" in printed
    assert ("there are 900 parameters" in printed) == (network is SharedNet)


@pytest.mark.parametrize("question", [summary, receptive_field, check])
def test_a_question_leaves_weights_and_random_stream_alone(question):
    net = BatchNormNet().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    stream = torch.get_rng_state()
    question(net)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training and not any(m._forward_hooks for m in net.modules())


def test_receptive_field_of_the_reference_table():
    """Reference B's table of Model3, row for row; its last, kernel 6, output 4, field 22, cannot be."""
    rows = receptive_field(SchedulerNet())
    assert [(r.kernel, r.stride, r.output, r.receptive_field) for r in rows[:-1]] == [
        (3, 1, 26, 3), (3, 1, 24, 5), (1, 1, 24, 5), (2, 2, 12, 6),
        (3, 1, 10, 10), (3, 1, 8, 14), (3, 1, 6, 18), (3, 1, 4, 22)]
    last = rows[-1]
    assert (last.layer, last.kernel, last.output, last.receptive_field) == ("AvgPool2d", 4, 1, 28)


def test_receptive_field_of_reference_c():
    """As its list of blocks gives it; the global pool's is ours."""
    assert [(r.layer, r.receptive_field) for r in receptive_field(OneCycleNet())] == [
        ("Conv2d", 3), ("Conv2d", 5), ("MaxPool2d", 6), ("Conv2d", 10), ("Conv2d", 14), ("MaxPool2d", 16),
        ("Conv2d", 24), ("Conv2d", 24), ("AdaptiveAvgPool2d", 48)]


def test_receptive_field_of_reference_e():
    """As its table of layers gives it, the head left out; ours looks at the whole of the last map."""
    rows = receptive_field(FullyConnectedNet())
    assert [(r.layer, r.receptive_field) for r in rows[:-1]] == [
        ("Conv2d", 3), ("Conv2d", 5), ("MaxPool2d", 6), ("Conv2d", 6),
        ("Conv2d", 10), ("Conv2d", 14), ("Conv2d", 14), ("Conv2d", 18)]
    assert (rows[-1].layer, rows[-1].receptive_field) == ("Linear", 28)


def test_the_padded_1x1_of_reference_a_makes_the_map_larger():
    rows = receptive_field(DropoutEverywhereNet())
    assert [(r.kernel, r.padding, r.output) for r in rows][2:5] == [(2, 0, 13), (1, 1, 15), (3, 0, 13)]


def test_receptive_field_of_every_kind_of_layer():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(),
                        nn.Conv2d(2, 2, 3, stride=2, padding=2, dilation=2),
                        nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10))
    assert [tuple(r)[1:] for r in receptive_field(net)] == [
        (3, 1, 1, 28, 1, 3), (5, 2, 2, 14, 2, 7), (2, 2, 0, 7, 4, 9),
        (7, 7, 0, 1, 28, 33), (1, 1, 0, 1, 28, 33)]


def test_receptive_field_is_what_a_gradient_sees():
    """The input pixels that move the middle of the last map form a square of the computed side."""
    net = GapNet().layers[:9].eval()
    for layer in net.modules():   # a smooth network, so that no gradient vanishes by chance
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.01)
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    net = nn.Sequential(*[nn.AvgPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer for layer in net])
    net(x)[0, 0, 0, 0].backward()
    seen = x.grad[0, 0] != 0
    assert (seen.any(0).sum().item(), seen.any(1).sum().item()) == (22, 22)
    assert receptive_field(net)[-1].receptive_field == 22


@pytest.mark.parametrize("padding, expected", [("same", 1), ("valid", 0)])
def test_receptive_field_of_padding_by_name(padding, expected):
    assert receptive_field(nn.Conv2d(1, 2, 3, padding=padding))[0].padding == expected


def test_receptive_field_wants_squares():
    with pytest.raises(ValueError, match="square"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 2, (3, 5))))


# Where the shapes of a network's layers stand, and the network with all of them.
COMMENTED = {light_layers: SchedulerNet, FullyConnectedNet: PooledHeadNet,
             **{network: network for network in (Baseline, OneCycleNet, RotationNet, DropoutEverywhereNet,
                                                 StridedNet, DeepStridedNet, SmallNet, TinyNet,
                                                 SharedNet, AccurateNet)}}
KERNELS = nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d


@pytest.mark.parametrize("place", COMMENTED, ids=lambda place: place.__name__)
def test_comments_beside_the_layers(place):
    """The shapes and receptive fields in model.py's comments are the computed ones."""
    commented = re.findall(r"^ +(\*?).*# +(\d+) x +(\d+) x +(\d+) +(\d+)$", inspect.getsource(place), re.M)
    network = COMMENTED[place]
    rows, x, computed = iter(receptive_field(network())), torch.zeros(1, 1, 28, 28), []
    for layer in network().eval().layers:
        x = layer(x)
        kernels = [part for part in layer.modules() if isinstance(part, KERNELS)]
        if kernels:
            *_, row = [next(rows) for _ in kernels]   # a block's field is that of its last convolution
            computed.append((*x.shape[1:], row.receptive_field))
    for line, (star, *_) in enumerate(commented):
        if star:   # it stands for several layers, with the comment of the last
            del computed[line:line + len(computed) - len(commented)]
    assert [tuple(map(int, numbers)) for _, *numbers in commented] == computed


@every_network
def test_every_network_has_such_comments(network):
    assert {network, network.__base__} & set(COMMENTED) or "light_layers(" in inspect.getsource(network)


def test_a_separable_block_mixes_channels_only_in_its_1x1_convolution():
    depthwise, pointwise, *rest = separable_block(6, 9, padding=1)
    assert (depthwise.groups, depthwise.padding, pointwise.kernel_size) == (6, (1, 1), (1, 1))
    assert [type(layer) for layer in rest] == [nn.BatchNorm2d, nn.SiLU]
    assert count_parameters(separable_block(6, 9)) == 9 * 6 + 6 * 9 + 2 * 9


def test_shared_filters_are_one_layer_and_learn_from_every_block():
    net = SharedNet().eval()
    blocks = [layer for layer in net.layers[1:] if isinstance(layer, nn.Sequential)]
    assert len(blocks) == 5 and len({id(layer[0]) for layer in blocks}) == 1
    assert len({id(layer[1]) for layer in blocks}) == 5
    image = torch.randn(2, 1, 28, 28)
    net(image)[:, 0].sum().backward()
    shared, own = blocks[0][0], copy.deepcopy(net)
    for layer in own.layers[1:]:
        if isinstance(layer, nn.Sequential):
            layer[0] = copy.deepcopy(shared)
    own.zero_grad()
    own(image)[:, 0].sum().backward()
    parts = [layer[0].weight.grad for layer in own.layers[1:] if isinstance(layer, nn.Sequential)]
    assert torch.allclose(shared.weight.grad, sum(parts), atol=1e-5)


@pytest.mark.parametrize("network, norms, rates, head", [
    (Baseline, 0, (), "fully connected"), (LightNet, 0, (), "none"), (BatchNormNet, 7, (), "none"),
    (DropoutNet, 7, (0.25,), "none"), (GapNet, 7, (0.25,), "global average pooling"),
    (SchedulerNet, 6, (0.1,), "global average pooling"), (OneCycleNet, 5, (0.1,), "global average pooling"),
    (RotationNet, 8, (0.05,) * 8, "global average pooling"),
    (DropoutEverywhereNet, 7, (0.05,) * 7, "average pooling of 5 x 5 of 7 x 7 positions"),
    (FullyConnectedNet, 7, (0.25,) * 4, "fully connected"),
    (PooledHeadNet, 7, (0.25,) * 4, "fully connected"), (StridedNet, 2, (), "fully connected"),
    (DeepStridedNet, 4, (), "fully connected"),
    (SmallNet, 5, (), "global average pooling"), (TinyNet, 6, (), "global average pooling"),
    (SharedNet, 6, (), "global average pooling")])
def test_check(network, norms, rates, head):
    answers = check(network(), max_parameters=5_935)
    assert answers == (COUNTS[network], 5_935, norms, rates, head)
    limit = "within" if network in (LightNet, SchedulerNet, SmallNet, TinyNet, SharedNet) else "OVER"
    assert head in repr(answers) and f"{COUNTS[network]:,} ({limit} 5,935)" in repr(answers)


class Functional(nn.Module):
    """Uses no layer objects but convolutions, and builds two that it never calls."""

    def __init__(self):
        super().__init__()
        self.conv, self.unused, self.norm = nn.Conv2d(1, 10, 3), nn.Linear(10, 10), nn.BatchNorm2d(10)

    def forward(self, x):
        return F.dropout(self.conv(x), 0.3, self.training).mean((2, 3))


def test_check_looks_at_what_is_called():
    assert check(Functional())[2:] == (0, (0.3,), "global average pooling")
