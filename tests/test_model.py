"""Networks, each class of model.py that there is: parameters, outputs, comments; what write-ups print."""

import csv
import inspect
import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import model
from lab.analysis import IMAGE, count_parameters, receptive_field, summary

RESULTS = Path(model.__file__).parent / "results"
RUNS = {path.stem: json.loads(path.read_text(encoding="utf-8"))["runs"] for path in RESULTS.glob("*.json")}
NETWORKS = list(dict.fromkeys(   # without their other names
    value for value in vars(model).values()
    if inspect.isclass(value) and issubclass(value, model.DigitNet) and value is not model.DigitNet))
every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.__name__)


def recorded(network):
    """Return all counts of parameters that records have for a network."""
    return {run["parameters"] for runs in RUNS.values() for run in runs.values()
            if run["network"] == network.__name__}


@every_network
def test_parameters_are_those_of_the_records(network):
    counted = count_parameters(network())
    assert counted in recorded(network), (
        f"results/*.json have {recorded(network) or 'no run'} for {network.__name__}, which has {counted}"
        " parameters: record its notebook again, or make the class what it was")


@pytest.mark.parametrize("make", [
    lambda: model.SmallNet(first=6, second=8, width=10, make=partial(model.block, norm=True)),
    lambda: model.AccurateNet(first=9, width=12, make=partial(model.block, norm=True)),
    lambda: model.StridedNet(hidden=64), lambda: model.StridedNet(crop=False)])
def test_variants_that_notebooks_train(make):
    net = make().eval()
    assert count_parameters(net) in recorded(type(net)) - {count_parameters(type(net)())}
    assert net(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_a_family_with_another_activation_has_no_other():
    for family in (model.SmallNet, model.AccurateNet):
        kinds = {type(layer) for layer in family(activation=nn.ReLU).modules()}
        assert nn.ReLU in kinds and nn.SiLU not in kinds


@every_network
def test_returns_log_probabilities(network):
    out = network().eval()(torch.randn(3, 1, 28, 28))
    assert len(out) == 3 and out.shape[1] >= 10
    assert torch.allclose(out.exp().sum(1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 28, 28), (2, 1, 32, 32)])
def test_images_of_another_kind_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape(f"expected images of shape (N, 1, 28, 28), got {shape}")):
        model.LightNet()(torch.zeros(shape))
    with pytest.raises(TypeError, match="floating-point images, got torch.uint8"):
        model.LightNet()(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


def test_model_stands_alone():
    imports = re.findall(r"^(?:from|import) (\w+)", inspect.getsource(model), re.M)
    assert {*imports} == {"functools", "torch"} and model.IMAGE == IMAGE


COMMENT = re.compile(r"^ +(\*?).*# +(\d+) x +(\d+) x +(\d+) +(\d+)$", re.M)


def place_of_comments(network):
    """Return what has the comments of a network: it, a function that it calls, a class that it extends."""
    called = re.findall(r"\b([a-z_]\w+)\(", inspect.getsource(network))
    functions = [vars(model)[name] for name in called if inspect.isfunction(vars(model).get(name))]
    for place in (network, *functions, *network.__mro__[1:-2]):
        if COMMENT.search(inspect.getsource(place)):
            return place
    return network


def right_comments(network):
    """Return channels, height, width and receptive field after each of the layers that have a kernel."""
    layers, rows, kernels = network().eval().layers, [], 1
    for end in range(1, len(layers) + 1):
        fields = receptive_field(nn.Sequential(nn.Conv2d(1, 1, 1), *layers[:end]))   # it has at least a row
        out = layers[:end](torch.zeros(1, 1, 28, 28))
        if len(fields) > kernels and out.ndim == 4:
            rows.append((*out.shape[1:], fields[-1].receptive_field))
        kernels = len(fields)
    return rows


PLACES = {network: place_of_comments(network) for network in NETWORKS}


@pytest.mark.parametrize("place", dict.fromkeys(PLACES.values()), ids=lambda place: place.__name__)
def test_comments_beside_the_layers(place):
    """They are those of its network with the most layers; one with a star stands for several layers."""
    right = max((right_comments(network) for network in PLACES if PLACES[network] is place), key=len)
    written, expected = COMMENT.findall(inspect.getsource(place)), right.copy()
    for line, (star, *_) in enumerate(written):
        if star:
            del expected[line:line + len(expected) - len(written)]
    table = "\n".join("# {:>3} x {:>2} x {:>2}  {:>3}".format(*row) for row in right)
    assert [tuple(map(int, numbers)) for _, *numbers in written] == expected, (
        f"correct the comments beside the layers of {place.__name__} in model.py; right is, layer by layer"
        f" (channels x height x width, receptive field):\n{table}")


def test_claimed_parameters():
    with open(RESULTS / "claims.csv", encoding="utf-8", newline="") as file:
        claims = [row for row in csv.DictReader(file) if row["what"] == "parameters" and row["value"]]
    wrong = [row for row in claims if int(row["value"]) != RUNS[row["notebook"]][row["run"]]["parameters"]]
    assert len(claims) > 5 and wrong == [row for row in claims if row["kind"] == "contradictory"]


def test_names_of_reference_b():
    assert (model.Model1, model.Model2, model.Model2b, model.Model2c, model.Model3) == (
        model.Baseline, model.LightNet, model.DropoutNet, model.GapNet, model.SchedulerNet)


# The tables that references C, D and E print, row for row: a letter for each layer, channels, side, and the
# weights of the first. Neighbours with the same shape stand together.
LAYERS = {"C": "Conv2d", "B": "BatchNorm2d", "R": "ReLU", "D": "Dropout", "M": "MaxPool2d", "A": "AvgPool2d",
          "G": "AdaptiveAvgPool2d", "L": "Linear"}
TABLES = {
    model.OneCycleNet: "CBR 8 28 72, CBR 16 28 1152, M 16 14, CBR 16 14 2304, CBR 16 14 2304, M 16 7,"
                       "CBRD 16 7 2304, C 10 7 160, G 10 1",
    model.RotationNet: "CBRD 4 26 36, CBRD 4 24 144, CBRD 8 22 288, M 8 11, CBRD 8 11 64, CBRD 16 9 1152,"
                       "CBRD 16 7 2304, CBRD 16 7 2304, CBRD 16 7 2304, C 10 7 160, A 10 1",
    model.FullyConnectedNet: "CRB 8 26 72, CRB 16 24 1152, MD 16 12, CRB 32 12 512, CRB 16 10 4608,"
                             "CRBD 8 8 1152, CRBD 16 8 128, CRBD 8 6 1152, L 10 1 2890"}


def rows_of(table):
    """Return layer, channels, side and parameters of each row."""
    for line in table.split(","):
        letters, channels, side, *weights = line.split()
        for layer in map(LAYERS.get, letters):
            count = weights.pop() if weights else 2 * int(channels) if layer == "BatchNorm2d" else 0
            yield layer, channels, side, str(count)


@pytest.mark.parametrize("network", TABLES, ids=lambda n: n.__name__)
def test_layer_table(network, capsys):
    summary(network())
    printed = capsys.readouterr().out.replace(",", "").replace("[-1 10]", "[-1 10 1 1]")   # after Linear
    rows = re.findall(r"^ *(\w+)-\d+ +\[-1 (\d+) (\d+) \3\] +(\d+) *$", printed, re.M)
    assert rows == [*rows_of(TABLES[network])]


@pytest.mark.parametrize("network, table", [
    (model.SchedulerNet, [(26, 3), (24, 5), (24, 5), (12, 6), (10, 10), (8, 14), (6, 18), (4, 22)]),
    (model.OneCycleNet, [(28, 3), (28, 5), (14, 6), (14, 10), (14, 14), (7, 16), (7, 24), (7, 24)]),
    (model.FullyConnectedNet, [(26, 3), (24, 5), (12, 6), (12, 6), (10, 10), (8, 14), (8, 14), (6, 18)])])
def test_outputs_and_receptive_fields_of_write_ups(network, table):
    """References B, C and E print them; the last row, over the whole map, is ours."""
    *rows, last = [(row.output, row.receptive_field) for row in receptive_field(network())]
    assert rows == table and last[0] == 1
