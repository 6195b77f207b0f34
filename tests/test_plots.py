"""Pictures: right numbers, right labels, the data set in every title, and no change to the run."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas
import pytest
import torch
from torch.nn import functional as F

matplotlib.use("Agg")

import plots
from lab import pictures
from lab.history import Epoch, History
from utils import Augment


@pytest.fixture
def history():
    return History([Epoch(i, 1 / i, 90 + i, 1 / i, 91 + i, 0.1, 1.0) for i in range(1, 5)],
                   dataset="digits sample", planned=4)


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
    assert {"digits sample, epochs 2 to 3 from the record", "training loss", "test loss", "target 94 %",
            "training accuracy, %", "test accuracy, %", "this step", "step before"} <= set(texts(figure))
    assert list(figure.axes[3].lines[0].get_ydata()) == [92, 93, 94, 95]
    bottom, top = figure.axes[3].get_ylim()
    assert 92 < bottom < 93 and 95 < top < 96   # the first quarter may lie below


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
    title = f"{sample.test.labels[worst]}, not {predicted[worst]} ({100 * confidence[worst]:.0f} %)"
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
    assert "8: 95.00 %" in texts(figure)


def test_frontier_has_the_best_run_of_each_network():
    trainings = pandas.DataFrame(
        [("A", 5_000, "A", 99.0), ("A", 5_000, "A", 99.2), ("A", 5_000, "worse", 98.0),
         ("B", 8_000, "B", 99.5), ("B", 8_000, "not tested", None)],
        columns=["network", "parameters", "run", "test"])
    published = pandas.DataFrame([("someone", 697, 99.03)], columns=["who", "parameters", "accuracy"])
    legend, = pictures.frontier(trainings, published).legends
    assert sorted(text.get_text() for text in legend.get_texts()) == [
        "1  A: 5,000, 99.10 % (2 seeds)", "2  B: 8,000, 99.50 % (1 seeds)", "a  someone: 697, 99.03 %"]
