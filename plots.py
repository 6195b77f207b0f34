"""Pictures: training curves, augmented digits, confusion matrix, mistakes; the ladder, best against last epoch, the frontier, the spread over seeds.

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

from references import DOUBTFUL
from utils import CLASSES, MEAN, STD, binomial, often_misread, predict

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
STYLES = [(BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":")]

plt.rcParams.update({"figure.dpi": 100, "font.size": 13, "axes.spines.top": False, "axes.spines.right": False})


def training_curves(histories, target=None):
    """Draw losses over accuracies, of training and of what scored it, a line per entry of {label: History}.

    The first entry is the run in question, the others are drawn to compare with; `target` is
    an accuracy in percent. The panels of accuracy begin at the lowest one after the first
    quarter of the epochs, so that the end can be seen.
    """
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained", sharex=True)
    scored_on = next(iter(histories.values())).scored_on
    names = [("train_loss", "training loss"), ("test_loss", f"{scored_on} loss"),
             ("train_accuracy", "training accuracy, %"), ("test_accuracy", f"{scored_on} accuracy, %")]
    for axis, (field, title) in zip(axes.flat, names):
        for (label, history), (colour, style) in zip(histories.items(), cycle(STYLES)):
            axis.plot([e.epoch for e in history], [getattr(e, field) for e in history], style,
                      color=colour, marker="o", markersize=4, label=label)
        axis.set_title(title, fontsize=14)
        axis.grid(alpha=0.3)
    for axis, field in zip(axes[1], ("train_accuracy", "test_accuracy")):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        shown = [getattr(e, field) for history in histories.values() for e in history[len(history) // 4:]]
        top = max(*shown, target or 0)
        axis.set_ylim(min(shown) - 0.1 * (top - min(shown)) - 0.05, top + 0.1 * (top - min(shown)) + 0.05)
    if target:
        axes[1, 1].axhline(target, color=GREY, linestyle=":", linewidth=2, label=f"target {target:g} %")
    figure.legend(*axes[1, 1].get_legend_handles_labels(), loc="outside lower center", ncols=len(histories) + 1, fontsize=12, frameon=False)
    datasets = dict.fromkeys(history.dataset for history in histories.values())
    figure.suptitle(", ".join(datasets), fontsize=15)
    return figure


def ladder(histories):
    """Draw the error on the test set by epoch, a labelled line per entry of {label: History}, on a log scale."""
    figure, axis = plt.subplots(figsize=(10, 6), layout="constrained")
    palette = [GREY, BLUE, "#56B4E9", PURPLE, ORANGE, GREEN, "#E69F00", "#000000", "#8C564B"]
    for (label, history), colour, marker in zip(histories.items(), cycle(palette), cycle("os^vDPX")):
        axis.plot([e.epoch for e in history], [100 - e.test_accuracy for e in history],
                  color=colour, marker=marker, label=f"{label}: {history.last.test_accuracy:.2f} %")
    axis.set_yscale("log")
    axis.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axis.minorticks_off()
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="epoch", ylabel="test error, %", title=f"{history.dataset}: the ladder, accuracy at the last epoch in the legend")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def best_minus_last(gains):
    """Draw what choosing the best epoch adds, in points: an entry of {label: (gains of the seeds, binomial sd)} a row."""
    figure, axis = plt.subplots(figsize=(10, 0.5 * len(gains) + 1.8), layout="constrained")
    for place, (seeds, noise) in enumerate(gains.values()):
        band = axis.barh(place, noise, height=0.7, color=GREY, alpha=0.25)
        dots, = axis.plot(seeds, [place] * len(seeds), "o", color=BLUE, alpha=0.7)
        mean, = axis.plot(np.mean(seeds), place, "|", color=ORANGE, markersize=18, markeredgewidth=3)
    axis.set_yticks(range(len(gains)), gains)
    axis.invert_yaxis()
    axis.set(xlabel="accuracy of the best epoch minus that of the last, points", title="MNIST: what choosing the best epoch adds")
    axis.set_xlim(left=-0.02)   # most dots are at 0
    figure.legend([dots, mean, band], ["a seed", "mean", "one binomial sd of 10,000 images"], loc="outside lower center", ncols=3, frameon=False)
    axis.grid(axis="x", alpha=0.3)
    return figure


def frontier(networks, published):
    """Draw test error over parameters, both on log scales, a number beside every point that the legend explains.

    networks: {label: (parameters, accuracies of the seeds)}, drawn as mean and standard
    deviation; published: (label, parameters, accuracy) of single runs. Accuracies in percent.
    """
    figure, axis = plt.subplots(figsize=(11, 7), layout="constrained")
    for number, (label, (parameters, accuracies)) in enumerate(networks.items(), 1):
        error = 100 - np.mean(accuracies)
        axis.errorbar(parameters, error, yerr=np.std(accuracies, ddof=1) if len(accuracies) > 1 else None, fmt="o", color=BLUE, capsize=3,
                      label=f"{number}  {label}: {parameters:,}, {100 - error:.2f} % ({len(accuracies)} seeds)")
        side, place = ("right", -7) if number % 2 else ("left", 7)   # neighbours on either side
        axis.annotate(str(number), (parameters, error), xytext=(place, 0), textcoords="offset points", color=BLUE, ha=side, va="center")
    for letter, (label, parameters, accuracy) in zip("abcdefgh", published):
        axis.plot(parameters, 100 - accuracy, "s", color=ORANGE, label=f"{letter}  {label}: {parameters:,}, {accuracy:.2f} %")
        axis.annotate(letter, (parameters, 100 - accuracy), xytext=(0, 7), textcoords="offset points", color=ORANGE, ha="center")
    axis.set(xscale="log", yscale="log", xlabel="parameters", ylabel="test error, %",
             title="MNIST: error against size; dots: ours, last epoch; squares: published, one run")
    axis.set_yticks([0.4, 0.5, 0.6, 0.8, 1, 2, 5, 10], ["0.4", "0.5", "0.6", "0.8", "1", "2", "5", "10"])
    axis.set_xticks([1_000, 10_000, 100_000], ["1,000", "10,000", "100,000"])
    axis.yaxis.minorticks_off()
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False, handlelength=1)
    return figure


def spread(sweeps):
    """Draw the seeds of sweeps, {label: a record's sweep with a target}, a row each, beside the binomial noise of 10,000 images.

    The band is one standard deviation, to either side of the mean, with which a network of that accuracy scores on 10,000 images.
    """
    figure, axis = plt.subplots(figsize=(10, 1.1 * len(sweeps) + 1.9), layout="constrained")
    for place, row in enumerate(sweeps.values()):
        noise = binomial(row["mean"])
        band = axis.barh(place, 2 * noise, left=row["mean"] - noise, height=0.7, color=GREY, alpha=0.25)
        offsets = np.linspace(-0.2, 0.2, len(row["accuracies"]))   # seeds of the same accuracy stay apart
        dots, = axis.plot(list(row["accuracies"].values()), place + offsets, "o", color=BLUE, alpha=0.7)
        mean, = axis.plot([row["mean"]] * 2, [place - 0.4, place + 0.4], color=ORANGE, linewidth=3)
        target, = axis.plot([row["target"]] * 2, [place - 0.4, place + 0.4], color="black", linestyle=":", linewidth=2)
    axis.set_yticks(range(len(sweeps)), [f"{label}\n{row['parameters']:,} parameters" for label, row in sweeps.items()])
    axis.invert_yaxis()
    axis.set(xlabel="test accuracy, %", title="MNIST: every seed, scored once, at its last epoch")
    axis.grid(axis="x", alpha=0.3)
    figure.legend([dots, mean, target, band], ["a seed", "mean", "bar", "binomial sd of 10,000 images"], loc="outside lower center", ncols=4, frameon=False)
    return figure


def _sheet(images, titles, rows, columns, heading):
    """Draw normalised images (N, 1, 28, 28) in `rows` of `columns`, a title over each; places left over stay empty."""
    figure, axes = plt.subplots(rows, columns, figsize=(10, 10 / columns * rows * 1.22 + 0.5), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow((image[0].cpu() * STD + MEAN).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=12)
    figure.suptitle(heading, fontsize=15)
    return figure


def augmented_sheet(data, augment, digits=8, draws=3):
    """Show the first training images as they are, and under each what `augment` makes of it in `draws` draws."""
    images = data.train.images[:digits].cpu()
    with torch.random.fork_rng(devices=[]):   # looking must not change the training that follows
        rows = [images] + [augment(images) for _ in range(draws)]
    titles = [str(label.item()) for label in data.train.labels[:digits]] + [""] * digits * draws
    return _sheet(torch.cat(rows), titles, 1 + draws, digits, f"{data.name}: first row as it is, below it augmented")


def confusion(net, data):
    """Draw the confusion matrix of `net` on the test set, the correct answers left out so that mistakes show."""
    labels, predicted = data.test.labels.cpu(), predict(net, data.test.images).argmax(1).cpu()
    matrix = confusion_matrix(labels.numpy(), predicted.numpy(), labels=range(CLASSES))
    np.fill_diagonal(matrix, 0)
    figure, axis = plt.subplots(figsize=(8, 7), layout="constrained")
    ConfusionMatrixDisplay(matrix, display_labels=range(CLASSES)).plot(cmap="Blues", colorbar=False, ax=axis)
    axis.set(title=f"{data.name}: {(labels != predicted).sum():,} mistakes of {type(net).__name__} in {len(labels):,}",
             xlabel="predicted", ylabel="true")
    return figure


def mistakes(net, data):
    """Show the 16 test images that `net` gets wrong with the greatest confidence: true label, prediction, probability."""
    confidence, predicted = predict(net, data.test.images).exp().max(1)
    wrong = (predicted != data.test.labels).nonzero().flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)][:16]
    titles = [f"{data.test.labels[i]}, not {predicted[i]} ({100 * confidence[i]:.0f} %)" for i in wrong]
    return _sheet(data.test.images[wrong], titles, 4, 4, f"{data.name}: the most confident mistakes of {type(net).__name__}")


def misread_sheet(data, swept, columns=10):
    """Show the test images that at least half of a recorded sweep's seeds misread, the most often misread first.

    Over each its label and by how many of the seeds it is misread; a star marks a label that is known to be doubtful.
    """
    often = often_misread(swept)
    seeds = len(swept["wrong"])
    titles = [f"{data.test.labels[i]}{'*' if i in DOUBTFUL else ''} ({count}/{seeds})" for i, count in often.items()]
    return _sheet(data.test.images[list(often)], titles, max(1, -(-len(often) // columns)), columns,
                  f"{data.name}: {len(often)} images that at least half of {seeds} seeds misread; *: doubtful label")
