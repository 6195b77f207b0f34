"""Pictures: right numbers, right labels, the data set in titles, and nothing changed by looking."""

import copy
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
import torch

import model
import pictures
import plots
from lab.claims import Difference
from utils import Augment, Epoch, History, Results, Split, evaluate, predict

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def history():
    return History([Epoch(i, 1 / i, 90 + i, 1 / i, 91 + i, 0.1 if i < 4 else 0.05, 1.0) for i in range(1, 5)],
                   dataset="digits sample", planned=4, scored_on="test", network="Net")


def axes():
    return plt.gcf().axes


def texts():
    return [text.get_text() for text in plt.gcf().findobj(matplotlib.text.Text)]


def lines(axis):
    return [list(line.get_ydata()) for line in axis.lines]


def images():
    return [axis.images[0].get_array() for axis in axes() if axis.images]


@pytest.mark.parametrize("make, draw", [
    (model.DropoutNet, lambda net, data: plots.filters_and_maps(net, data.test.images[0])),
    (model.DropoutNet, lambda net, data: plots.dropped(net, data.test.images[0])),
    (model.DropoutNet, lambda net, data: plots.activations({"net": net}, data.test.images)),
    (model.DropoutNet, lambda net, data: plots.augmented_sheet(data, Augment(rotation=20))),
    (model.DropoutNet, lambda net, data: plots.confusion(net, data)),
    (model.DropoutNet, lambda net, data: plots.mistakes(net, data)),
    (model.DropoutNet, lambda net, data: plots.shifts({"net": net}, data.test, reach=2)),
    (model.DropoutNet, lambda net, data: plots.against_angle({"net": net}, data, reach=20, step=20)),
    (model.GapNet, lambda net, data: plots.class_maps(net, data.test.images[0])),
    (model.FullyConnectedNet, lambda net, data: plots.weight_maps(net))])
@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_nothing(make, draw, training, tiny):
    net = make().train(training)
    before, stream = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    draw(net, tiny)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(module.training == training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_show_has_a_text_for_those_who_cannot_see(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda figure, metadata: shown.append(metadata))
    plt.figure()
    plots.show("a blank")
    assert shown == [{"image/png": {"alt": "a blank"}}] and not plt.get_fignums()


# ---------------------------------------------------------------- of trainings

def test_training_curves_and_rate_and_error(history):
    history.trained = 1   # the title says what was not trained here
    plots.training_curves({"this step": history, "step before": history}, target=94)
    assert {"digits sample, epochs 2 to 4 from the record", "error on training images, %",
            "error on test images, %", "target 94 %", "this step", "step before"} <= set(texts())
    assert lines(axes()[0])[0] == [9, 8, 7, 6] and lines(axes()[1])[::2] == [[8, 7, 6, 5], [6, 6]]
    plots.rate_and_error({"run": history})
    assert lines(axes()[0]) == [[0.1, 0.1, 0.1, 0.05]] and lines(axes()[1])[0] == [8, 7, 6, 5]
    assert [list(line.get_xdata()) for line in axes()[1].lines[1:]] == [[3.5, 3.5]]


def test_a_training_without_scores_has_what_there_is(history):
    unscored = History([Epoch(1, 1.0, 90.0, None, None, 0.2, 1.0)], planned=1, scored_on=None)
    plots.training_curves({"run": history, "other": unscored})
    assert lines(axes()[0])[1][:1] == [10] and np.isnan(lines(axes()[1])[1]).all()
    for draw, number in ((plots.training_curves, 10), (plots.rate_and_error, 0.2)):
        draw({"run": unscored})
        assert len(axes()) == 1 and lines(axes()[0]) == [[number]]


@pytest.mark.parametrize("see", [plots.training_curves, plots.rate_and_error,
                                 lambda histories: repr(Results("1_baseline", histories))])
def test_a_training_without_an_epoch_is_said(see):
    with pytest.raises(ValueError, match="Net was interrupted in its first epoch, so it has no figures"):
        see({"run": History(network="Net")})


def test_rate_by_batch_and_range_test(net, tiny):
    def make(parameters):
        sgd = torch.optim.SGD(parameters, lr=1, momentum=0.9)
        return sgd, torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.5, total_steps=10)
    plots.rate_by_batch(make, 10)
    (rates,), (momenta,) = map(lines, axes())
    assert max(rates) == 0.5 and rates[-1] < 1e-4 and min(momenta) == 0.85 and len(rates) == 10
    plots.range_test(net, tiny, torch.optim.SGD(net.parameters()), 0.1, 10, 5, 32)
    line, = axes()[0].lines
    assert list(line.get_xdata()) == pytest.approx([0.1, 0.316228, 1, 3.16228, 10])
    assert min(line.get_ydata()) > 0


def test_spread(monkeypatch, history):
    seeds = {"A": [99.0, 99.2], "1_b/B": [99.4]}
    monkeypatch.setattr(plots, "target", lambda notebook, run, what: {"A": 99.3}.get(run))
    plots.spread(SimpleNamespace(notebook="2_a", runs={"A": history},
                                 over_seeds=lambda label, _: pandas.Series(seeds[label])), [*seeds], "last")
    found = [list(line.get_xdata()) for line in axes()[0].lines if line.get_label() in ("one seed", "target")]
    assert found == [[99.0, 99.2], [99.3], [99.4]]
    bars = [container[2][0].get_segments()[0][:, 0] for container in axes()[0].containers]
    assert np.ravel(bars) == pytest.approx([99.0056, 99.1944, 99.3228, 99.4772], abs=1e-4)
    assert {"A", "step 1: B", "test accuracy, %"} <= set(texts())


def test_against_and_accuracy_against_seconds(monkeypatch):
    table = pandas.DataFrame(
        [("study", "low", 0, 97.0), ("study", "low", 1, 98.0), ("study", "high", 0, 99.0),
         ("other", "low", 0, 1.0)], columns=["notebook", "run", "seed", "last"])
    monkeypatch.setattr(plots, "trainings", lambda: table.assign(scored_on="validation"))
    plots.against("study", "rate", {"line": {0.1: "low", 1: "high"}})
    assert lines(axes()[0]) == [[97.5, 99], [97, 98], [99]] and "validation accuracy, %" in texts()
    seeds = {"A": {"test": [99.0, 99.2], "seconds": [2.0, 4.0]}, "B": {"test": [98.0], "seconds": [9.0]}}
    results = SimpleNamespace(runs={}, over_seeds=lambda label, column: pandas.Series(seeds[label][column]))
    plots.accuracy_against_seconds(results, ["A", "B"], "test")
    assert [(text.get_text(), *text.xy) for text in axes()[0].texts] == [("A", 3, 99.1), ("B", 9, 98)]


# ---------------------------------------------------------------- of digits

def test_augmented_sheet(tiny):
    plots.augmented_sheet(tiny, lambda images: -images)
    assert len(images()) == 32 and (images()[8] == -images()[0]).all()
    assert [axis.get_title() for axis in axes()[:8]] == [str(label.item()) for label in tiny.train.labels[:8]]


def saying(answers):
    """Return a network that reads the images as `answers`, whatever they show."""
    net = torch.nn.Module()
    net.forward = lambda images: torch.nn.functional.one_hot(answers, 12).float().log()
    return net


def test_confusion_counts_the_mistakes_of_every_class(tiny):
    labels = torch.arange(100) % 12
    read, counts = torch.where(labels % 5 == 0, 11, labels), np.zeros((12, 12))
    np.add.at(counts, (labels[read != labels], 11), 1)
    plots.confusion(saying(read), tiny._replace(test=Split(tiny.test.images, labels)))
    assert (images()[0] == counts).all()
    assert f"digits sample: {counts.sum():.0f} mistakes of Module in 100" in texts()


def test_mistakes_show_truth_and_prediction(net, sample):
    confidence, predicted = net.eval()(sample.test.images).exp().max(1)
    wrong = (predicted != sample.test.labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argmax()]
    plots.mistakes(net, sample)
    assert axes()[0].get_title() == (f"true {sample.test.labels[worst]}, read as {predicted[worst]}"
                                     f" ({100 * confidence[worst]:.0f} %)")
    plots.mistakes(saying(sample.test.labels), sample)   # has nothing to show, and does not fail
    assert not images()


def test_misread_sheet_marks_doubtful_labels(sample, monkeypatch):
    monkeypatch.setattr(plots, "DOUBTFUL", {3})
    data, labels = sample._replace(name="MNIST"), sample.test.labels
    plots.misread_sheet(data, {"0": [2, 3], "1": [3], "2": [2, 3, 5]})   # the last is misread by one of three
    assert [axis.get_title() for axis in axes()[:3]] == [f"{labels[3]}* (3/3)", f"{labels[2]} (2/3)", ""]
    plots.misread_sheet(sample, {"0": [9_999]})   # recorded places are not those of the digits sample
    assert "digits sample: 0 images" in texts()[-1]


# ---------------------------------------------------------------- of what a network does

@pytest.mark.parametrize("make", [model.BatchNormNet, model.SharedNet, model.StridedNet])
def test_outputs_are_those_of_the_layers(make, tiny):
    net = make().eval()
    layers = plots.outputs(net, tiny.test.images[:4])
    assert torch.allclose(layers[-1][1].flatten(1).log_softmax(1), net(tiny.test.images[:4]), atol=1e-6)


def test_activations_are_larger_where_weights_are(net, tiny):
    large = copy.deepcopy(net)
    large.layers[1].weight.data *= 10
    plots.activations({"net": net, "large": large, "SiLU": model.TinyNet()}, tiny.test.images)
    small, more, silu = lines(axes()[0])
    assert more[0] == pytest.approx(10 * small[0], rel=1e-3) and len(silu) == 6


@pytest.mark.parametrize("make, size", [(model.Baseline, 3), (model.RotationNet, 3), (model.StridedNet, 6)])
def test_filters_and_maps_of_any_network(make, size, tiny):
    net = make()
    convolution = next(layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d))
    count = min(8, convolution.out_channels)
    plots.filters_and_maps(net, tiny.test.images[0])
    assert len(images()) == 2 * count + 1
    assert (images()[count - 1] == convolution.weight[count - 1, 0].detach().numpy()).all()
    assert (images()[-1] >= 0).all() and f"filters of {size} x {size}" in texts()[-1]


def test_dropped_and_class_maps_and_weight_maps(tiny):
    plots.dropped(model.DropoutNet(), tiny.test.images[0])
    whole, *masked, used = images()
    assert (whole == used).all() and len(masked) == 4
    for part in masked:
        assert ((part == 0) | np.isclose(part, whole / 0.75)).all() and (part != used).any()
    net = model.GapNet().eval()
    plots.class_maps(net, tiny.test.images[0])
    scores = plots.outputs(net, tiny.test.images[:1])[-1][1].flatten()[:10]
    assert [axis.get_title() for axis in axes()[1:11]] == [
        f"{digit}: mean {score:.1f}" for digit, score in enumerate(scores)]
    assert images()[4].mean() == pytest.approx(scores[3].item(), rel=1e-5)
    net = model.FullyConnectedNet()
    plots.weight_maps(net)   # a row has ten digits: 12 is digit 2 of channel 1
    assert (images()[12].flatten() == net.head.weight[2, 36:72].detach().numpy()).all()
    assert len(images()) == 80


@pytest.mark.parametrize("draw, needed", [
    (lambda image: plots.filters_and_maps(model.DigitNet(torch.nn.Flatten()), image), "with a Conv2d"),
    (lambda image: plots.dropped(model.LightNet(), image), "with a Dropout"),
    (lambda image: plots.class_maps(model.PooledHeadNet(), image), "whose last layer averages a map"),
    (lambda image: plots.weight_maps(model.GapNet()), "with a linear head")])
def test_what_a_network_lacks_is_said(draw, needed, tiny):
    with pytest.raises(ValueError, match=f"needs a network {needed}"):
        draw(tiny.test.images[0])


def test_moved_and_turned_images(net, tiny):
    split = tiny.test._replace(images=torch.roll(tiny.test.images, (2, -4), (2, 3)))
    assert plots.moved(net, tiny.test, 2, -4) == evaluate(net, split).accuracy
    plots.shifts({"net": net}, tiny.test, reach=2)   # 100 images, fewer than asked for
    numbers = [text.get_text() for text in axes()[0].texts]
    assert numbers == [f"{plots.moved(net, tiny.test, dy, dx):.0f}" for dy in (-2, 0, 2) for dx in (-2, 0, 2)]
    assert "accuracy, %, on 100 moved test images" in texts()
    plots.against_angle({"net": net}, tiny, reach=20, step=20)
    line, = axes()[0].lines
    assert list(line.get_xdata()) == [-20, 0, 20]
    assert line.get_ydata()[1] == pytest.approx(evaluate(net, tiny.test).accuracy)


def test_reliability_counts_every_image(net, sample):
    plots.reliability(predict(net, sample.test.images).exp(), sample)
    counts = [int(text.get_text() or 0) for text in axes()[0].texts]
    right = sum(count * bar.get_height() for count, bar in zip(counts, axes()[0].patches) if count)
    assert sum(counts) == 360 and right / 360 == pytest.approx(evaluate(net, sample.test).accuracy)


def test_parameters_by_layer_add_up():
    plots.parameters_by_layer({"SmallNet": model.SmallNet(), "StridedNet": model.StridedNet()})
    assert [axis.get_title() for axis in axes()] == ["SmallNet: 2,988", "StridedNet: 72,330"]
    assert [bar.get_width() for bar in axes()[1].patches] == [576, 4672, 65_792, 1290]


# ---------------------------------------------------------------- of README

def test_ladder_has_the_networks_that_are_scored_on_the_test_set(history):
    other = History(history, planned=4, network="B", scored_on="validation")
    runs = SimpleNamespace(runs={"Net": history, "without": history, "B": other})
    axis, = pictures.ladder({"7_a": runs}).axes
    assert lines(axis) == [[8, 7, 6, 5]] and axis.lines[0].get_label() == "7  Net"


def test_frontier_has_each_network_at_its_own_run():
    table = pandas.DataFrame(
        [("A", 5_000, "1_a", "A", 99.0), ("A", 5_000, "1_a", "A", 99.2), ("A", 5_000, "1_a", "no turn", 99.4),
         ("B", 8_000, "2_b", "B, 1 epoch", 98.0), ("B", 8_000, "2_b", "B, 2 epochs", 99.5),
         ("B", 8_000, "2_b", "B", None), ("B", 8_000, "study", "B, longer", 99.9)],
        columns=["network", "parameters", "notebook", "run", "test"])
    published = pandas.DataFrame({"who": ["X", "Y"], "parameters": [697, 6_000], "accuracy": [99.03, 99]})
    axis, = pictures.frontier(table, published).axes
    assert {text.get_text(): text.xy for text in axis.texts if text.get_text()} == {
        "A": pytest.approx((5_000, 0.9)), "B": pytest.approx((8_000, 0.5)),
        "X": pytest.approx((697, 0.97)), "Y": pytest.approx((6_000, 1))}
    assert lines(axis)[0] == pytest.approx([0.97, 0.9, 0.5])   # the best for their size


def test_ideas_are_sorted_and_marked():
    nan = float("nan")
    axis, = pictures.ideas({
        "good": Difference(1, 0.5, 1.5, 5), "bad": Difference(-9, -10, -8, 5),
        "unclear": Difference(0.1, -0.1, 0.3, 5), "failing": Difference(nan, nan, nan, 5, 1, 0.4),
        "idle": Difference(0, 0, 0, 5, same=True), "measured once": Difference(nan, nan, nan, 1)}).axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["bad", "idle", "unclear", "failing", "good"]
    marks = {mark.get_label(): (list(mark.get_xdata()), list(mark.get_ydata()), mark.get_marker(),
                                mark.get_markerfacecolor() == "none") for mark in axis.lines[1:]}
    assert marks == {"worth": ([1], [4], "^", False), "costs": ([-9], [0], "v", False),
                     "not told apart": ([0.1], [2], "o", False), "never acted": ([0], [1], "x", False),
                     "a seed failed to learn: median": ([0.4], [3], "o", True)}
    assert axis.collections[0].get_segments()[0].tolist() == [[0.5, 4], [1.5, 4]]
