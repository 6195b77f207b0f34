"""Pictures: right size, right labels, the data set in every title, and no change to the run."""

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

import plots
from utils import Augment, Epoch, History


@pytest.fixture
def history():
    return History("digits sample", [Epoch(i, 1 / i, 90 + i, 1 / i, 91 + i, 0.1, 1.0) for i in range(1, 5)])


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text)]


def pixels(figure):
    return tuple(int(side) for side in figure.get_size_inches() * figure.dpi)


def test_training_curves(history):
    figure = plots.training_curves({"this step": history, "the step before": history}, target=94)
    assert pixels(figure) == (1000, 800)
    assert {"digits sample", "training loss", "test loss", "training accuracy, %", "test accuracy, %",
            "this step", "the step before", "target 94 %"} <= set(texts(figure))
    line = figure.axes[3].lines[0]
    assert list(line.get_ydata()) == [92, 93, 94, 95]
    bottom, top = figure.axes[3].get_ylim()
    assert 92 < bottom < 93 and 95 < top < 96   # the first quarter may lie below


def test_ladder(history):
    figure = plots.ladder({"A": history, "B": history})
    assert pixels(figure) == (1000, 600) and "A: 95.00 %" in texts(figure)
    assert list(figure.axes[0].lines[0].get_ydata()) == [8, 7, 6, 5]


def test_no_line_is_lost(history):
    many = {str(i): history for i in range(9)}
    assert len(plots.ladder(many).axes[0].lines) == 9 and len(plots.training_curves(many).axes[0].lines) == 9


def test_best_minus_last():
    figure = plots.best_minus_last({"A": ([0.0, 0.1, 0.2], 0.08), "B": ([0.3], 0.5)})
    axis = figure.axes[0]
    assert [bar.get_width() for bar in axis.patches] == [0.08, 0.5] and {"A", "B", "mean"} <= set(texts(figure))
    assert list(axis.lines[0].get_xdata()) == [0.0, 0.1, 0.2] and axis.lines[1].get_xdata() == pytest.approx([0.1])


def test_frontier():
    figure = plots.frontier({"A": (5_000, [99.0, 99.2]), "B": (8_000, [99.5])}, [("someone", 697, 99.03)])
    assert {"1  A: 5,000, 99.10 % (2 seeds)", "2  B: 8,000, 99.50 % (1 seeds)", "a  someone: 697, 99.03 %", "1", "2", "a"} <= set(texts(figure))
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"


def test_augmented_sheet_leaves_the_random_stream_alone(sample):
    stream = torch.get_rng_state()
    figure = plots.augmented_sheet(sample, Augment(rotation=20))
    assert torch.equal(torch.get_rng_state(), stream)
    assert len(figure.axes) == 32 and texts(figure)[-1].startswith("digits sample")


def test_confusion_counts_the_mistakes(net, sample):
    wrong = (net.eval()(sample.test.images).argmax(1) != sample.test.labels).sum().item()
    figure = plots.confusion(net, sample)
    assert f"digits sample: {wrong} mistakes of DigitNet in 360" in texts(figure)
    assert figure.axes[0].images[0].get_array().sum() == wrong


def test_mistakes_show_truth_and_prediction(net, sample):
    confidence, predicted = net.eval()(sample.test.images).exp().max(1)
    wrong = (predicted != sample.test.labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argmax()]
    figure = plots.mistakes(net, sample)
    assert f"{sample.test.labels[worst]}, not {predicted[worst]} ({100 * confidence[worst]:.0f} %)" in texts(figure)


def test_mistakes_of_a_perfect_network(sample):
    class Perfect(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(sample.test.labels, 10).float().log()[:len(x)]
    assert any("Perfect" in t for t in texts(plots.mistakes(Perfect(), sample)))


def row(**changed):
    return {"accuracies": {"0": 99.0, "1": 99.2}, "mean": 99.1, "target": 99.0, "parameters": 1192, "wrong": {"0": [2, 3], "1": [3]}} | changed


def test_spread():
    figure = plots.spread({"A": row(), "B": row(mean=99.4, accuracies={"0": 99.4})})
    axis = figure.axes[0]
    assert {"A\n1,192 parameters", "a seed", "mean", "bar", "binomial sd of 10,000 images"} <= set(texts(figure))
    assert [2 * band for band in (0.0944, 0.0772)] == pytest.approx([bar.get_width() for bar in axis.patches], abs=1e-3)
    assert list(axis.lines[0].get_xdata()) == [99.0, 99.2]


def test_misread_sheet_marks_doubtful_labels(sample, monkeypatch):
    monkeypatch.setattr(plots, "DOUBTFUL", {3})
    figure = plots.misread_sheet(sample, row())
    labels = sample.test.labels
    assert f"{labels[3]}* (2/2)" in texts(figure) and f"{labels[2]} (1/2)" in texts(figure)
    assert "digits sample: 2 images that at least half of 2 seeds misread; *: doubtful label" in texts(figure)


def test_misread_sheet_of_nothing(sample):
    assert "digits sample: 0 images" in texts(plots.misread_sheet(sample, row(wrong={"0": [], "1": []})))[-1]
