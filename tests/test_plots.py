"""Pictures: right numbers, right labels, the data set in titles, and nothing changed by looking."""

import copy
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
import torch

import model
import pictures
import plots
from lab.claims import Difference
from utils import Augment, Epoch, History, Split, evaluate, predict


@pytest.fixture
def history():
    plt.close("all")
    return History([Epoch(i, 1 / i, 90 + i, 1 / i, 91 + i, 0.1 if i < 4 else 0.05, 1.0) for i in range(1, 5)],
                   dataset="digits sample", planned=4, scored_on="test", network="Net")


def lines(place):
    return [list(line.get_ydata()) for line in plt.gcf().axes[place].lines]


def images():
    return [axis.images[0].get_array() for axis in plt.gcf().axes if axis.images]


@pytest.mark.parametrize("draw", [
    lambda net, data: plots.dropped(net, data.test.images[0]),
    lambda net, data: plots.activations({"net": net}, data.test.images),
    lambda net, data: plots.augmented_sheet(data, Augment(rotation=20)),
    lambda net, data: plots.moved(net, data.test, 1, 1), plots.confusion, plots.mistakes])
def test_looking_changes_nothing(draw, tiny):
    net = model.DropoutNet().train()
    before, stream = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    draw(net, tiny)
    assert torch.equal(torch.get_rng_state(), stream) and all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_training_curves_and_rate_and_error(history):
    plots.training_curves({"run": history, "before": history}, target=94)
    assert [text.get_text() for text in plt.gcf().legends[0].texts] == ["run", "before", "target 94 %"]
    assert plt.gcf().get_suptitle() == "digits sample" and "on test" in plt.gcf().axes[1].get_ylabel()
    assert lines(0)[0] == [9, 8, 7, 6] and lines(1)[::2] == [[8, 7, 6, 5], [6, 6]]
    plots.rate_and_error({"run": history})
    assert lines(0) == [[0.1, 0.1, 0.1, 0.05]] and lines(1)[0] == [8, 7, 6, 5]
    assert [list(line.get_xdata()) for line in plt.gcf().axes[1].lines[1:]] == [[3.5, 3.5]]


def test_rate_by_batch_and_range_test(net, tiny):
    def make(parameters):
        sgd = torch.optim.SGD(parameters, lr=1, momentum=0.9)
        return sgd, torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.5, total_steps=10)
    plots.rate_by_batch(make, 10)
    (rates,), (momenta,) = lines(0), lines(1)
    assert max(rates) == 0.5 and rates[-1] < 1e-4 and min(momenta) == 0.85 and len(rates) == 10
    plots.range_test(net, tiny, torch.optim.SGD(net.parameters()), 0.1, 10, 3, 32)
    assert list(plt.gca().lines[0].get_xdata()) == pytest.approx([0.1, 1, 10])


def test_seeds_their_means_and_targets(monkeypatch, history):
    table = pandas.DataFrame([("s", "A", 0, 99.0, 2.0), ("s", "A", 1, 99.2, 4.0), ("s", "B", 0, 98.0, 9.0),
                              ("other", "A", 0, 1.0, 1.0)], columns="notebook run seed last seconds".split())
    monkeypatch.setattr(plots, "trainings", lambda: table.assign(scored_on="validation"))
    plots.against("s", "rate", {"line": {0.1: "A", 1: "B"}})
    assert lines(0)[0] == [99.1, 98] and plt.gca().get_ylabel() == "validation accuracy, %"
    results = SimpleNamespace(runs={"A": history}, notebook="s",
                              over_seeds=lambda *of: plots.over_seeds("s", *of, table))
    plots.accuracy_against_seconds(results, ["A", "B"])
    assert {text.get_text(): text.xy for text in plt.gca().texts} == {"A": (3, 99.1), "B": (9, 98)}
    monkeypatch.setattr(plots, "target", lambda notebook, run, what: {"A": 99.3}.get(run))
    plots.spread(results, ["A", "B"], "last")
    drawn = [part.get_segments()[0][:, 0].tolist() for part in plt.gca().collections if part.get_segments()]
    assert list(plt.gca().lines[0].get_xdata()) == [99, 99.2] and "test" in plt.gca().get_xlabel()
    assert drawn[0] == pytest.approx([99.0056, 99.1944], abs=1e-4) and drawn[1] == [99.3, 99.3]


def test_sheets_show_mistakes_and_nothing_else(tiny, monkeypatch):
    labels, net = torch.arange(100) % 12, torch.nn.Module()
    read = torch.where(labels % 5 == 0, 11, labels)
    sure = torch.where(torch.arange(100) == 5, 5.0, 3.0)[:, None] * torch.nn.functional.one_hot(read, 12)
    net.forward = lambda images: sure.log_softmax(1)
    data = tiny._replace(name="MNIST", test=Split(tiny.test.images, labels))
    plots.confusion(net, data)
    assert images()[0][[0, 5, 10], 11].tolist() == [9, 8, 8] and images()[0].sum() == 25
    plots.mistakes(net, data)
    assert len(images()) == 16 and plt.gcf().axes[0].get_title() == "true 5, read as 11 (93 %)"
    monkeypatch.setattr(plots, "DOUBTFUL", {3})
    plots.misread_sheet(data, {"0": [2, 3], "1": [3], "2": [2, 3, 5]})   # the last is misread by one of three
    assert [axis.get_title() for axis in plt.gcf().axes[:3]] == ["3* (3/3)", "2 (2/3)", ""]
    plots.misread_sheet(tiny, {"0": [9_999]})   # recorded places are not those of the digits sample
    assert "digits sample: 0 images" in plt.gcf().get_suptitle()


def test_what_networks_compute_is_what_is_drawn(net, tiny):
    image, few, shared = tiny.test.images[0], tiny.test.images[:4], model.SharedNet().eval()
    assert plots.outputs(shared, few)[-1][1].flatten(1).log_softmax(1).allclose(shared(few), atol=1e-6)
    plots.activations({"net": net}, few)
    assert lines(0)[0] == [plots.outputs(net, few, training=True)[1][1].std().item()]
    plots.filters_and_maps(net := model.Baseline(), image)
    assert (images()[7] == net.layers[0][0].weight[7, 0].detach().numpy()).all() and len(images()) == 17
    assert (images()[16] == plots.outputs(net, image[None])[1][1][0, 7].numpy()).all()
    plots.dropped(model.DropoutNet(), image)
    whole, *masked, used = images()
    assert (whole == used).all() and len(masked) == 4 and all((part != used).any() for part in masked)
    plots.class_maps(model.GapNet(), image)
    assert plt.gcf().axes[4].get_title() == f"3: mean {images()[4].mean():.1f}"
    plots.weight_maps(net := model.FullyConnectedNet())   # a row has ten digits: 12 is digit 2 of channel 1
    assert (images()[12].flatten() == net.head.weight[2, 36:72].detach().numpy()).all()
    plots.parameters_by_layer({"net": model.StridedNet()})
    assert [bar.get_width() for bar in plt.gca().patches[:0:-1]] == [576, 4608, 65_536, 1280]


@pytest.mark.parametrize("draw, said", [
    (lambda image: plots.dropped(model.LightNet(), image), "with a Dropout"),
    (lambda image: plots.class_maps(model.PooledHeadNet(), image), "whose last layer averages a map"),
    (lambda image: plots.weight_maps(model.GapNet()), "with a linear head"),
    (lambda image: plots.training_curves({"run": History(network="Net")}), "Net was interrupted in its")])
def test_what_is_lacking_is_said(draw, said, tiny):
    with pytest.raises(ValueError, match=said):
        draw(tiny.test.images[0])


def test_accuracies_on_moved_and_turned_images_and_by_confidence(net, tiny):
    down = tiny.test._replace(images=torch.roll(tiny.test.images, (2, -4), (2, 3)))
    plots.shifts({"net": net}, tiny.test)   # places from -6 to 6, by two
    assert plt.gca().texts[7 * 4 + 1].get_text() == f"{evaluate(net, down).accuracy:.0f}"
    plots.against_angle({"net": net}, tiny)
    assert plt.gca().lines[0].get_ydata()[6] == pytest.approx(evaluate(net, tiny.test).accuracy)
    plots.reliability(predict(net, tiny.test.images).exp(), tiny)
    counts = [int(text.get_text() or 0) for text in plt.gca().texts]
    right = [count * bar.get_height() for count, bar in zip(counts, plt.gca().patches)]
    assert sum(counts) == 100 and np.nansum(right) == pytest.approx(100 * evaluate(net, tiny.test).accuracy)


def test_frontier_has_each_network_at_its_own_run():
    table = pandas.DataFrame(
        [("A", 5_000, "1_a", "A", 99.0), ("A", 5_000, "1_a", "A", 99.2), ("A", 5_000, "1_a", "no turn", 99.4),
         ("B", 8_000, "2_b", "B", None), ("B", 8_000, "2_b", "B, 1 epoch", 98.0),
         ("B", 8_000, "2_b", "B, 2 epochs", 99.5), ("B", 8_000, "study", "B, longer", 99.9)],
        columns=["network", "parameters", "notebook", "run", "test"])
    published = pandas.DataFrame({"who": ["X", "Y"], "parameters": [697, 6_000], "accuracy": [99.03, 99]})
    axis, = pictures.frontier(table, published).axes
    assert {text.get_text(): round(text.xy[1], 3) for text in axis.texts} == dict(A=0.9, B=0.5, X=0.97, Y=1)
    assert lines(0)[0] == pytest.approx([0.97, 0.9, 0.5])   # the best for their size


def test_ideas_are_sorted_and_marked():
    nan = float("nan")
    axis, = pictures.ideas({
        "good": Difference(1, 0.5, 1.5, 5), "bad": Difference(-9, -10, -8, 5),
        "unclear": Difference(0.1, -0.1, 0.3, 5), "failing": Difference(nan, nan, nan, 5, 1, 0.4),
        "idle": Difference(0, 0, 0, 5, same=True), "measured once": Difference(nan, nan, nan, 1)}).axes
    assert " ".join(label.get_text() for label in axis.get_yticklabels()) == "bad idle unclear failing good"
    assert {mark.get_label(): (*mark.get_xdata(), *mark.get_ydata()) for mark in axis.lines[1:]} == {
        "worth": (1, 4), "costs": (-9, 0), "not told apart": (0.1, 2), "never acted": (0, 1),
        "a seed failed to learn: median": (0.4, 3)}
    assert axis.collections[0].get_segments()[0].tolist() == [[0.5, 4], [1.5, 4]]
