"""The pictures of the notebooks: curves, augmented digits, confusion matrix, mistakes, the spread over seeds.

Each function draws one matplotlib figure of fixed size and returns it; end a notebook cell
with `plt.show()`. Every title names the data set. Colours are Okabe and Ito's, which
colour-blind readers can tell apart, and no meaning rests on colour alone.
"""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from lab.claims import DOUBTFUL, target
from lab.records import often_misread
from lab.results import binomial
from utils import CLASSES, MEAN, STD, predict

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
STYLES = [(BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":")]

plt.rcParams |= {"figure.dpi": 100, "font.size": 13, "axes.spines.top": False, "axes.spines.right": False}


def training_curves(histories, target=None):
    """Draw losses over accuracies, of training and of what scored it, a line per entry of {label: History}.

    The first entry is the run in question, the others are drawn to compare with; `target` is
    an accuracy in percent. The panels of accuracy begin at the lowest one after the first
    quarter of the epochs, so that the end can be seen.
    """
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained", sharex=True)
    first = next(iter(histories.values()))
    names = [("train_loss", "training loss"), ("loss", f"{first.scored_on} loss"),
             ("train_accuracy", "training accuracy, %"), ("accuracy", f"{first.scored_on} accuracy, %")]
    for axis, (field, title) in zip(axes.flat, names):
        for (label, history), (colour, style) in zip(histories.items(), cycle(STYLES)):
            axis.plot([epoch.epoch for epoch in history], [getattr(epoch, field) for epoch in history], style,
                      color=colour, marker="o", markersize=4, label=label)
        axis.set_title(title, fontsize=14)
        axis.grid(alpha=0.3)
    for axis, field in zip(axes[1], ("train_accuracy", "accuracy")):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        later = [epoch for history in histories.values() for epoch in history[len(history) // 4:]]
        shown = [getattr(epoch, field) for epoch in later]
        top = max(*shown, target or 0)
        axis.set_ylim(min(shown) - 0.1 * (top - min(shown)) - 0.05, top + 0.1 * (top - min(shown)) + 0.05)
    if target:
        axes[1, 1].axhline(target, color=GREY, linestyle=":", linewidth=2, label=f"target {target:g} %")
    figure.legend(*axes[1, 1].get_legend_handles_labels(), loc="outside lower center",
                  ncols=len(histories) + 1, fontsize=12, frameon=False)
    datasets = dict.fromkeys(history.dataset for history in histories.values())
    figure.suptitle(", ".join([*datasets, *([first.how] if first.how else [])]), fontsize=15)
    return figure


def spread(results, labels, column="test"):
    """Draw the accuracy after the last epoch of every recorded seed of some runs, a row each.

    column: "test", scored once, or "last", on what the epochs are scored on. The band is how far a score on
    10,000 images may lie from the mean, one standard deviation to either side.
    """
    figure, axis = plt.subplots(figsize=(10, 1.1 * len(labels) + 1.9), layout="constrained")
    for place, label in enumerate(labels):
        accuracies = results.over_seeds(label, column)
        mean, noise = accuracies.mean(), binomial(accuracies.mean())
        band = axis.barh(place, 2 * noise, left=mean - noise, height=0.7, color=GREY, alpha=0.25)
        offsets = np.linspace(-0.2, 0.2, len(accuracies))   # seeds of the same accuracy stay apart
        dots, = axis.plot(accuracies, place + offsets, "o", color=BLUE, alpha=0.7)
        line, = axis.plot([mean, mean], [place - 0.4, place + 0.4], color=ORANGE, linewidth=3)
        legend = {"one seed": dots, "mean": line, "binomial sd of 10,000 images": band}
        bar = target(results.notebook, label, column)
        if bar:
            legend["target"], = axis.plot([bar, bar], [place - 0.4, place + 0.4], "k:", linewidth=2)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    scored_on = "test" if column == "test" else next(iter(results.runs.values())).scored_on
    axis.set(xlabel=f"{scored_on} accuracy, %", title="MNIST: every seed, after its last epoch")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _sheet(images, titles, rows, columns, heading):
    """Draw normalised images (N, 1, 28, 28) in `rows` of `columns`, a title over each."""
    size = 10, 10 / columns * rows * 1.22 + 0.5
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow((image[0].cpu() * STD + MEAN).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=12)
    figure.suptitle(heading, fontsize=15)
    return figure


def augmented_sheet(data, augment, digits=8, draws=3):
    """Show the first training images and under each what `augment` makes of it, `draws` times."""
    images = data.train.images[:digits].cpu()
    with torch.random.fork_rng(devices=[]):   # looking must not change the training that follows
        rows = [images] + [augment(images) for _ in range(draws)]
    titles = [str(label.item()) for label in data.train.labels[:digits]] + [""] * digits * draws
    heading = f"{data.name}: first row as it is, below it augmented"
    return _sheet(torch.cat(rows), titles, 1 + draws, digits, heading)


def confusion(net, data):
    """Draw the confusion matrix of `net` on the test set, without the correct answers."""
    labels, predicted = data.test.labels.cpu(), predict(net, data.test.images).argmax(1).cpu()
    matrix = confusion_matrix(labels.numpy(), predicted.numpy(), labels=range(CLASSES))
    np.fill_diagonal(matrix, 0)
    figure, axis = plt.subplots(figsize=(8, 7), layout="constrained")
    ConfusionMatrixDisplay(matrix, display_labels=range(CLASSES)).plot(cmap="Blues", colorbar=False, ax=axis)
    wrong = (labels != predicted).sum()
    axis.set(title=f"{data.name}: {wrong:,} mistakes of {type(net).__name__} in {len(labels):,}",
             xlabel="predicted", ylabel="true")
    return figure


def mistakes(net, data):
    """Show the 16 test images that `net` misreads with the greatest confidence."""
    confidence, predicted = predict(net, data.test.images).exp().max(1)
    wrong = (predicted != data.test.labels).nonzero().flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)][:16]
    titles = [f"{data.test.labels[i]}, not {predicted[i]} ({100 * confidence[i]:.0f} %)" for i in wrong]
    heading = f"{data.name}: the most confident mistakes of {type(net).__name__}"
    return _sheet(data.test.images[wrong], titles, 4, 4, heading)


def misread_sheet(data, misread, columns=10):
    """Show the test images that at least half of a run's seeds misread, the most often misread first.

    misread: {seed: places in the test set}, as a Record has them. Over each image its label and by how many
    of the seeds it is misread; a star marks a label that is known to be doubtful.
    """
    if data.name != "MNIST":
        misread = {}   # the recorded places are MNIST's
    often, seeds = often_misread(misread), len(misread)
    titles = [f"{data.test.labels[place]}{'*' if place in DOUBTFUL else ''} ({count}/{seeds})"
              for place, count in often.items()]
    heading = f"{data.name}: {len(often)} images that half of {seeds} seeds misread; *: doubtful label"
    return _sheet(data.test.images[list(often)], titles, max(1, -(-len(often) // columns)), columns, heading)
