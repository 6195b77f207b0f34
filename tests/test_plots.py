"""Pictures: right numbers, right labels, the data set in titles, and no change to the run."""

import copy
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas
import pytest
import torch
from torch.nn import functional as F

matplotlib.use("Agg")

import model
import plots
from lab import pictures
from lab.history import Epoch, History
from utils import Augment, Results, evaluate, predict


@pytest.fixture
def history():
    return History([Epoch(i, 1 / i, 90 + i, 1 / i, 91 + i, 0.1, 1.0) for i in range(1, 5)],
                   dataset="digits sample", planned=4, scored_on="test")


@pytest.fixture(autouse=True)
def closed():
    """Close the figures of a test after it."""
    yield
    matplotlib.pyplot.close("all")


def texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


# ---------------------------------------------------------------- of the notebooks

def test_training_curves(history):
    history.how = "epochs 2 to 3 from the record"   # in the title, for what it shows was not all trained
    figure = plots.training_curves({"this step": history, "step before": history}, target=94)
    assert {"digits sample, epochs 2 to 3 from the record", "error on training images, %",
            "error on test images, %", "target 94 %", "this step", "step before"} <= set(texts(figure))
    axis = figure.axes[1]
    assert list(axis.lines[0].get_ydata()) == [8, 7, 6, 5] and list(axis.lines[2].get_ydata()) == [6, 6]
    bottom, top = axis.get_ylim()
    assert axis.get_yscale() == "log" and bottom < 5 and top > 9   # nothing is off the edge


@pytest.mark.parametrize("show", [plots.training_curves, plots.rate_and_error,
                                  lambda histories: repr(Results("1_baseline", histories))])
def test_a_training_without_an_epoch_is_said(show):
    with pytest.raises(ValueError, match="Net was interrupted in its first epoch, so it has no figures"):
        show({"run": History(network="Net")})


def test_rate_and_error_marks_each_fall(history):
    history[3] = history[3]._replace(lr=0.05)
    above, below = plots.rate_and_error({"run": history}).axes
    assert list(above.lines[0].get_ydata()) == [0.1, 0.1, 0.1, 0.05]
    assert [list(line.get_xdata()) for line in below.lines[1:]] == [[3.5, 3.5]]


def test_show_has_a_text_for_those_who_cannot_see(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda figure, metadata: shown.append(metadata))
    matplotlib.pyplot.figure()
    plots.show("a blank")
    assert shown == [{"image/png": {"alt": "a blank"}}] and not matplotlib.pyplot.get_fignums()


def test_against_draws_every_seed_of_a_study(monkeypatch):
    rows = pandas.DataFrame([("study", "low", 97.0), ("study", "low", 98.0), ("study", "high", 99.0),
                             ("other", "low", 1.0)], columns=["notebook", "run", "last"])
    monkeypatch.setattr(plots, "read_rows", lambda path: rows)
    axis = plots.against("study", "rate", {"line": {0.1: "low", 1: "high"}}).axes[0]
    assert [list(line.get_ydata()) for line in axis.lines] == [[97, 98], [99], [97.5, 99]]


# ---------------------------------------------------------------- of what a network does

def test_outputs_are_those_of_the_layers(net, sample):
    images, weights = sample.test.images[:4], [p.clone() for p in net.state_dict().values()]
    layers = plots.outputs(net, images)
    assert [type(layer).__name__ for layer, _ in layers][:2] == ["Conv2d", "BatchNorm2d"]
    assert torch.equal(layers[-1][1].log_softmax(1), net.eval()(images))
    plots.outputs(net, images, training=True)   # batch norm acts, on a copy
    assert all(torch.equal(a, b) for a, b in zip(weights, net.state_dict().values()))


def test_activations_are_larger_where_weights_are(net, sample):
    large = copy.deepcopy(net)
    large.layers[1].weight.data *= 10
    small, more = plots.activations({"net": net, "large": large}, sample.test.images[:100]).axes[0].lines
    assert more.get_ydata()[0] == pytest.approx(10 * small.get_ydata()[0], rel=1e-3)


@pytest.mark.parametrize("draw", [
    lambda image: plots.filters_and_maps(model.LightNet(), image), lambda image: plots.logit_windows(image),
    lambda image: plots.dropped(model.DropoutNet(), image),
    lambda image: plots.class_maps(model.GapNet(), image),
    lambda image: plots.weight_maps(model.FullyConnectedNet()),
    lambda image: plots.parameters_by_layer({"SmallNet": model.SmallNet(), "TinyNet": model.TinyNet()})])
def test_pictures_of_a_network_leave_the_random_stream_alone(draw, sample):
    draw(sample.test.images[0])   # the networks that it makes draw their weights
    torch.manual_seed(1)
    nets = model.DropoutNet(), model.GapNet()
    stream = torch.get_rng_state()
    plots.dropped(nets[0], sample.test.images[0]), plots.class_maps(nets[1], sample.test.images[0])
    assert torch.equal(torch.get_rng_state(), stream)


def test_muons_step_has_directions_that_are_more_alike(sample):
    net = model.StridedNet(hidden=16)
    weights = [value.clone() for value in net.state_dict().values()]
    gradient, step = (line.get_ydata() for line in plots.directions(net, sample).axes[0].lines)
    assert len(gradient) == 16 and gradient[0] == step[0] == 1 and (step[1:] > gradient[1:]).all()
    assert all(torch.equal(a, b) for a, b in zip(weights, net.state_dict().values()))


def test_parameters_by_layer_add_up():
    axis = plots.parameters_by_layer({"SmallNet": model.SmallNet()}).axes[0]
    assert axis.get_title() == "SmallNet: 2,988" and sum(bar.get_width() for bar in axis.patches) == 2988


def test_moved_images_and_their_table(net, sample):
    split = sample.test._replace(images=torch.roll(sample.test.images, (2, -4), (2, 3)))
    assert plots.moved(net, sample.test, 2, -4) == evaluate(net, split).accuracy
    numbers = [text.get_text() for text in plots.shifts({"net": net}, sample.test, reach=2).axes[0].texts]
    assert len(numbers) == 9 and numbers[4] == f"{evaluate(net, sample.test).accuracy:.0f}"


def test_turned_by_nothing_is_as_tested(net, sample):
    line, = plots.against_angle({"net": net}, sample, reach=20, step=20).axes[0].lines
    assert list(line.get_xdata()) == [-20, 0, 20]
    assert line.get_ydata()[1] == pytest.approx(evaluate(net, sample.test).accuracy)


def test_reliability_counts_every_image(net, sample):
    axis, = plots.reliability(predict(net, sample.test.images).exp(), sample).axes
    assert sum(int(text.get_text().replace(",", "")) for text in axis.texts) == len(sample.test.labels)


def test_images_are_read_as_pictures_are(sample):
    probabilities = plots.as_pictures(sample.test.images[:40])
    assert probabilities.sum(1).tolist() == pytest.approx([1] * 40)
    assert (probabilities.argmax(1) == sample.test.labels[:40]).sum() > 15   # of other digits than MNIST's


def test_rate_by_batch_is_the_schedulers(net):
    def make(parameters):
        sgd = torch.optim.SGD(parameters, lr=1, momentum=0.9)
        return sgd, torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.5, total_steps=10)
    above, below = plots.rate_by_batch(make, 10).axes
    rates, momenta = above.lines[0].get_ydata(), below.lines[0].get_ydata()
    assert max(rates) == 0.5 and rates[-1] < 1e-4 and min(momenta) == 0.85 and len(rates) == 10


def test_range_test_raises_the_rate(net, tiny):
    line, = plots.range_test(net, tiny, torch.optim.SGD(net.parameters()), 0.1, 10, 5, 32).axes[0].lines
    assert list(line.get_xdata()) == pytest.approx([0.1, 0.316228, 1, 3.16228, 10])
    assert all(loss > 0 for loss in line.get_ydata())


def test_accuracy_against_seconds():
    columns = {"last": [99.0, 99.2], "seconds": [2.0, 4.0]}
    results = SimpleNamespace(over_seeds=lambda label, column: pandas.Series(columns[column]))
    axis = plots.accuracy_against_seconds(results, ["run"]).axes[0]
    assert axis.texts[0].get_text() == "run" and axis.texts[0].xy == (3, 99.1)


# ---------------------------------------------------------------- of seeds and digits

def test_spread():
    accuracies = {"A": [99.0, 99.2], "B": [99.4]}
    over_seeds = lambda label, _: pandas.Series(accuracies[label])
    axis = plots.spread(SimpleNamespace(notebook="1_baseline", over_seeds=over_seeds), ["A", "B"]).axes[0]
    assert [bar.get_width() / 2 for bar in axis.patches] == pytest.approx([0.0944, 0.0772], abs=1e-4)
    assert [list(line.get_xdata()) for line in axis.lines[:2]] == [[99.0, 99.2], [99.1, 99.1]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", "B"]


def test_augmented_sheet_leaves_the_random_stream_alone(sample):
    stream = torch.get_rng_state()
    figure = plots.augmented_sheet(sample, Augment(rotation=20))
    assert torch.equal(torch.get_rng_state(), stream)
    assert len(figure.axes) == 32 and texts(figure)[-1].startswith("digits sample")


def test_confusion_counts_the_mistakes(net, sample):
    predicted = net.eval()(sample.test.images).argmax(1)
    wrong = predicted != sample.test.labels
    figure = plots.confusion(net, sample)
    assert f"digits sample: {wrong.sum()} mistakes of DigitNet in 360" in texts(figure)
    counted = np.zeros((10, 10))
    np.add.at(counted, (sample.test.labels[wrong], predicted[wrong]), 1)
    assert (figure.axes[0].images[0].get_array() == counted).all()


def test_mistakes_show_truth_and_prediction(net, sample):
    confidence, predicted = net.eval()(sample.test.images).exp().max(1)
    wrong = (predicted != sample.test.labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argmax()]
    title = f"true {sample.test.labels[worst]}, read as {predicted[worst]} ({100 * confidence[worst]:.0f} %)"
    assert title in texts(plots.mistakes(net, sample))
    perfect = torch.nn.Module()
    perfect.forward = lambda x: F.one_hot(sample.test.labels, 10).float().log()[:len(x)]
    figure = plots.mistakes(perfect, sample)   # has nothing to show, and does not fail
    assert not any(axis.images for axis in figure.axes)


def test_misread_sheet_marks_doubtful_labels(sample, monkeypatch):
    monkeypatch.setattr(plots, "DOUBTFUL", {3})
    data, labels = sample._replace(name="MNIST"), sample.test.labels
    figure = plots.misread_sheet(data, {"0": [2, 3], "1": [3], "2": [2, 3, 5]})
    assert {f"{labels[3]}* (3/3)", f"{labels[2]} (2/3)"} <= set(texts(figure))
    assert texts(figure)[-1].startswith("MNIST: 2 images")   # the third is misread by one of three


def test_recorded_places_are_not_looked_for_in_the_digits_sample(sample):
    assert "digits sample: 0 images" in texts(plots.misread_sheet(sample, {"0": [9_999]}))[-1]


# ---------------------------------------------------------------- of README

def test_ladder_has_every_run(history):
    figure = pictures.ladder({str(number): history for number in range(9)})
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == 9 * [[8, 7, 6, 5]]
    assert {str(number) for number in range(9)} <= set(texts(figure))


def test_frontier_has_the_best_run_of_each_network():
    trainings = pandas.DataFrame(
        [("A", 5_000, "A", 99.0), ("A", 5_000, "A", 99.2), ("A", 5_000, "worse", 98.0),
         ("B", 8_000, "B", 99.5), ("B", 8_000, "not tested", None)],
        columns=["network", "parameters", "run", "test"])
    published = pandas.DataFrame([("someone", 697, 99.03)], columns=["who", "parameters", "accuracy"])
    axis = pictures.frontier(trainings, published).axes[0]
    assert [text.get_text() for text in axis.texts] == ["A", "B", "someone"]
    assert axis.texts[0].xy == pytest.approx((5_000, 0.9)) and axis.texts[1].xy == pytest.approx((8_000, 0.5))
