"""The pictures of the notebooks: of a training, of digits, of what a network does.

Each function draws one matplotlib figure of fixed size and returns it; `show`, in the line after it,
shows it with a text for those who cannot see it. What is measured on images names the data set. Colours are
Okabe and Ito's, which colour-blind readers can tell apart, and no meaning rests on colour alone.
"""

import copy
import re
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import nn

from lab import classify
from lab.claims import DOUBTFUL, target
from lab.labels import name_points
from lab.optimizers import orthogonal
from lab.records import STUDIES, often_misread, read_rows
from lab.results import binomial
from model import PICTURE_READERS
from utils import BLACK, CLASSES, MEAN, STD, Split, batches, evaluate, predict, train_epoch

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
STYLES = [(BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":")]

plt.rcParams |= {"figure.dpi": 100, "font.size": 13, "axes.spines.top": False, "axes.spines.right": False}


def show(alt):
    """Show the figure that was drawn last; `alt` describes it to those who cannot see it."""
    figure = plt.gcf()
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)


# ---------------------------------------------------------------- of a training

def training_curves(histories, target=None):
    """Draw the error on training and held-out images by epoch, a line per entry of {label: History}.

    The first entry is the run in question, the others are drawn to compare with; `target` is
    an accuracy in percent. The axis of the error is logarithmic.
    """
    first = next(iter(histories.values()))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained", sharex=True, sharey=True)
    fields = {"training": "train_accuracy", **({first.scored_on: "accuracy"} if first.scored_on else {})}
    for axis, (split, field) in zip(axes, fields.items()):
        for (label, history), (colour, style) in zip(histories.items(), cycle(STYLES)):
            error = [100 - getattr(epoch, field) for epoch in history]
            axis.plot(_epochs(history), error, style, color=colour, marker="o", markersize=4,
                      label=label)
        _error_by_epoch(axis, f"error on {split} images, %")
    if target:
        axis.axhline(100 - target, color=GREY, linestyle=":", linewidth=2, label=f"target {target:g} %")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(histories) + 1,
                  fontsize=12, frameon=False)
    datasets = dict.fromkeys(history.dataset for history in histories.values())
    figure.suptitle(", ".join([*datasets, *([first.how] if first.how else [])]), fontsize=15)
    return figure


def _epochs(history):
    """Return the numbers of the epochs; raises ValueError where a training was stopped in the first one."""
    return range(1, history.last.epoch + 1)


def _error_by_epoch(axis, what):
    """Label the axes of an error by epoch: the error on a log scale."""
    axis.set(xlabel="epoch", ylabel=what, yscale="log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.grid(alpha=0.3)


def rate_and_error(histories):
    """Draw the learning rate of each epoch over the held-out error, a line per entry of {label: History}."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 6), layout="constrained", sharex=True)
    for (label, history), (colour, style) in zip(histories.items(), cycle(STYLES)):
        epochs = _epochs(history)
        above.step(epochs, [epoch.lr for epoch in history], style, where="mid", color=colour, label=label)
        below.plot(epochs, [100 - epoch.accuracy for epoch in history], style, color=colour, marker="o")
        for before, after in zip(history, history[1:]):
            if after.lr < before.lr:
                below.axvline(before.epoch + 0.5, color=GREY, linestyle=":")
    above.set(ylabel="learning rate", title=f"{history.dataset}: rate and error by epoch")
    above.set_ylim(bottom=0)
    _error_by_epoch(below, f"error on {history.scored_on} images, %")
    above.legend(frameon=False)
    return figure


def spread(results, labels, column="test"):
    """Draw the accuracy after the last epoch of every recorded seed of some runs, a row each.

    labels: a run, or one of another notebook with that one's name before it: "3_batch_norm/BatchNormNet".
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
    names = (re.sub(r"^(\d+)_\w+/(.*)", r"step \1: \2", label) for label in labels)
    axis.set_yticks(range(len(labels)), names)
    axis.invert_yaxis()
    scored_on = "test" if column == "test" else next(iter(results.runs.values())).scored_on
    axis.set(xlabel=f"{scored_on} accuracy, %", title="MNIST: every seed, after its last epoch")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=4, frameon=False)
    return figure


def against(study, xlabel, runs, column="last"):
    """Draw every recorded seed of a study of studies.py, and the means, against a number.

    runs: {line: {number: run}}, the runs of a line by the number that they are drawn at.
    """
    rows = read_rows(STUDIES)
    rows = rows[rows["notebook"] == study]
    figure, axis = plt.subplots(figsize=(9, 4.8), layout="constrained")
    for (line, of), (colour, style) in zip(runs.items(), STYLES):
        seeds = {number: rows[rows["run"] == run][column].dropna() for number, run in of.items()}
        for number, values in seeds.items():
            axis.plot([number] * len(values), values, "o", color=colour, alpha=0.5)
        axis.plot(list(seeds), [values.mean() for values in seeds.values()], style, color=colour, label=line)
    axis.set(xlabel=xlabel, ylabel=f"{'test' if column == 'test' else 'validation'} accuracy, %",
             title="MNIST: every seed (dots) and the mean (line)")
    axis.set_xscale("log")
    axis.set_xticks(list(of), [f"{number:,}" for number in of])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


# ---------------------------------------------------------------- of digits

def _sheet(images, titles, rows, columns, heading):
    """Draw normalised images (N, 1, 28, 28) in `rows` of `columns`, a title over each."""
    size = 10, 10 / columns * rows * 1.22 + 0.5
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow((image[0].cpu() * STD + MEAN).numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=12 if len(title) < 12 else 10)
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
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix  # here, for it takes seconds

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
    titles = [f"true {data.test.labels[i]}, read as {predicted[i]} ({100 * confidence[i]:.0f} %)"
              for i in wrong]
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


# ---------------------------------------------------------------- of what a network does

@torch.no_grad()
def outputs(net, images, training=False):
    """Return [(layer, its output for `images` (N, 1, 28, 28))] for the layers in `net.layers`.

    training: as in training, where batch norm and dropout act. `net` itself is left as it is.
    """
    x, found = images, []
    for layer in copy.deepcopy(net.layers).train(training).modules():
        if not list(layer.children()):
            x = layer(x)
            found.append((layer, x.cpu()))
    return found


def _pixels(image):
    """Return a normalised image (1, 28, 28) as an array of 28 x 28 between 0 and 1."""
    return (image[0].cpu() * STD + MEAN).numpy()


def filters_and_maps(net, image, count=8):
    """Draw the first `count` filters of the first convolution over what they make of `image` (1, 28, 28)."""
    (convolution, _), (_, maps) = outputs(net, image[None])[:2]
    filters = convolution.weight.detach().cpu()[:count, 0]
    figure, axes = plt.subplots(2, count + 1, figsize=(11, 2.9), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    axes[1, 0].imshow(_pixels(image), cmap="gray_r")
    axes[1, 0].set_title("input", fontsize=12)
    reach = filters.abs().max()
    for column in range(count):
        axes[0, column + 1].imshow(filters[column], cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes[1, column + 1].imshow(maps[0, column], cmap="gray_r", vmin=0)
    figure.suptitle("3x3 filters (red: positive, blue: negative), and the maps after ReLU", fontsize=14)
    return figure


def logit_windows(image, classes=(0, 1), side=22, step=2):
    """Draw the last 4 x 4 map of a network without a head, and on `image` the windows of two of its cells."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
    left.imshow(np.ones((4, 4)), cmap="gray", vmin=0, vmax=1)
    right.imshow(_pixels(image), cmap="gray_r")
    colours = dict(zip(classes, (BLUE, ORANGE)))
    for cell in range(16):
        row, column = divmod(cell, 4)
        face, ink = (colours[cell], "white") if cell in colours else ("white", "black")
        left.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor=GREY))
        left.text(column, row, f"logit {cell}" if cell < CLASSES else "no class", ha="center", va="center",
                  color=ink, fontsize=11)
        if cell in colours:
            right.add_patch(Rectangle((column * step - 0.5, row * step - 0.5), side, side, fill=False,
                                      edgecolor=face, linewidth=3, label=f"what logit {cell} sees"))
    left.set_title("channel 0 of the last map")
    right.set_title(f"windows of {side} x {side} pixels", pad=12)
    left.axis("off"), right.axis("off")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def activations(nets, images):
    """Draw how large the numbers are that go into each ReLU, a line per entry of {label: network}.

    images: (N, 1, 28, 28), a batch as in training. The size is the standard deviation over the batch, all
    channels and positions.
    """
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for (label, net), (colour, style) in zip(nets.items(), cycle(STYLES)):
        layers = outputs(net, images, training=True)
        sizes = [x.std() for (_, x), (after, _) in zip(layers, layers[1:]) if isinstance(after, nn.ReLU)]
        axis.plot(range(1, len(sizes) + 1), sizes, style, marker="o", color=colour, label=label)
    axis.set(xlabel="block", ylabel="standard deviation", yscale="log",
             title="How large the numbers are that go into each ReLU")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def dropped(net, image, draws=4):
    """Draw a map before dropout, what some random masks leave of it in training, and what is used later."""
    layers = outputs(net, image[None])
    place = next(number for number, (layer, _) in enumerate(layers) if isinstance(layer, nn.Dropout))
    rate, whole = layers[place][0].p, layers[place][1][0]
    strongest = whole.sum((1, 2)).argmax()
    with torch.random.fork_rng(devices=[]):   # looking must not change the training that follows
        masked = [nn.functional.dropout(whole, rate)[strongest] for _ in range(draws)]
    figure, axes = plt.subplots(1, draws + 2, figsize=(11, 2.4), layout="constrained")
    titles = ["before dropout", *["in training"] * draws, "in use"]
    for axis, part, title in zip(axes, [whole[strongest], *masked, whole[strongest]], titles):
        axis.imshow(part, cmap="gray_r", vmin=0, vmax=whole[strongest].max() / (1 - rate))
        axis.set_title(title, fontsize=12)
        axis.axis("off")
    return figure


def class_maps(net, image):
    """Draw the ten maps that are averaged into the ten scores of `image` (1, 28, 28), each with its mean."""
    maps = outputs(net, image[None])[-2][1][0, :CLASSES]
    figure, axes = plt.subplots(2, 6, figsize=(11, 4.2), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    axes[0, 0].imshow(_pixels(image), cmap="gray_r")
    axes[0, 0].set_title("input", fontsize=12)
    for digit, axis in enumerate([*axes[0, 1:], *axes[1, 1:]]):
        axis.imshow(maps[digit], cmap="Reds", vmin=0, vmax=maps.max())
        axis.set_title(f"{digit}: mean {maps[digit].mean():.1f}", fontsize=12)
    return figure


def moved(net, split, rows, columns):
    """Return the accuracy in percent on images moved `rows` pixels down and `columns` pixels right."""
    return evaluate(net, split._replace(images=torch.roll(split.images, (rows, columns), (2, 3)))).accuracy


def shifts(nets, split, reach=6, step=2, images=2_000):
    """Draw the accuracy on moved images as a map over (dx, dy), one for each entry of {label: network}."""
    few, places = Split(*(part[:images] for part in split)), range(-reach, reach + 1, step)
    figure, axes = plt.subplots(1, len(nets), figsize=(5.2 * len(nets), 5.2), layout="constrained")
    for axis, (label, net) in zip(np.atleast_1d(axes), nets.items()):
        table = np.array([[moved(net, few, dy, dx) for dx in places] for dy in places])
        axis.imshow(table, cmap="viridis", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(table):
            axis.text(column, row, f"{value:.0f}", ha="center", va="center",
                      color="black" if value > 60 else "white", fontsize=11)
        axis.set_xticks(range(len(places)), places)
        axis.set_yticks(range(len(places)), places)
        axis.set(title=label, xlabel="pixels to the right", ylabel="pixels down")
    figure.suptitle(f"accuracy, %, on {images:,} moved test images", fontsize=14)
    return figure


def rate_by_batch(make, steps):
    """Draw the learning rate and the momentum of each of `steps` batches.

    make: a function of parameters that returns the optimizer and its scheduler.
    """
    optimizer, scheduler = make([nn.Parameter(torch.zeros(1))])
    rates, momenta = [], []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        rates.append(group["lr"])
        momenta.append(group["momentum"] if "momentum" in group else group["betas"][0])
        optimizer.step()
        if len(rates) < steps:
            scheduler.step()
    figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5), layout="constrained", sharex=True)
    above.plot(rates, color=BLUE)
    above.set(ylabel="learning rate", ylim=(0, None))
    below.plot(momenta, color=ORANGE)
    below.set(xlabel="batch", ylabel="momentum")
    return figure


def range_test(net, data, optimizer, low=1e-5, high=1.0, steps=150, batch_size=128):
    """Train `net` for `steps` batches while the rate rises from `low` to `high`, and draw the loss over it.

    Smith, Cyclical learning rates for training neural networks, 2017, section 3.3. The network is used up.
    """
    rates, losses = np.geomspace(low, high, steps), []
    for rate, batch in zip(rates, batches(data.train, batch_size)):
        optimizer.param_groups[0]["lr"] = rate
        losses.append(train_epoch(net, [batch], optimizer).loss)
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    axis.plot(rates[:len(losses)], losses, color=BLUE)
    axis.set(xscale="log", xlabel="learning rate", ylabel="loss of the batch",
             title=f"{data.name}: a rate that rises from batch to batch")
    axis.grid(alpha=0.3)
    return figure


def against_angle(nets, data, reach=60, step=10, images=2_000):
    """Draw the accuracy on test images that are all turned by one angle, a line per {label: network}."""
    from torchvision.transforms.functional import InterpolationMode, rotate  # here, for it takes seconds

    few, angles = Split(*(part[:images] for part in data.test)), range(-reach, reach + 1, step)
    figure, axis = plt.subplots(figsize=(9, 4.8), layout="constrained")
    for (label, net), (colour, style) in zip(nets.items(), cycle(STYLES)):
        turned = (few._replace(images=rotate(few.images, angle, InterpolationMode.BILINEAR, fill=BLACK))
                  for angle in angles)
        axis.plot(angles, [evaluate(net, split).accuracy for split in turned], style, marker="o",
                  color=colour, label=label)
    axis.set(xlabel="angle, degrees", ylabel="test accuracy, %",
             title=f"{data.name}: {len(few.labels):,} test images, all turned by one angle")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def as_pictures(images):
    """Return the probabilities (N, 10) that `run.py --predict` gives: of four networks and many views."""
    nets = [classify.load_weights(make()).to(images.device) for make in PICTURE_READERS]
    with torch.no_grad():
        return torch.cat([classify.over_views(nets, few) for few in images.split(50)])   # fits into the cache


def reliability(probabilities, data, edges=(0, 0.5, 0.7, 0.9, 0.97, 0.99, 0.999, 1)):
    """Draw how often the first N test images are read right against how sure the `probabilities` (N, 10) are.

    The images are grouped by confidence, the largest of their probabilities.
    """
    confidence, answers = probabilities.max(1)
    right = (answers == data.test.labels[:len(answers)]).float()
    figure, axis = plt.subplots(figsize=(9, 4.8), layout="constrained")
    names = [f"{100 * low:g} to {100 * high:g}" for low, high in zip(edges, edges[1:])]
    for place, (low, high) in enumerate(zip(edges, edges[1:])):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            axis.bar(place, 100 * right[inside].mean().item(), color=BLUE, alpha=0.6)
            axis.plot(place, 100 * confidence[inside].mean().item(), "D", color=ORANGE)
            axis.text(place, 3, f"{inside.sum():,}", ha="center", fontsize=11)
    axis.set_xticks(range(len(names)), names, fontsize=11)
    axis.set(xlabel="confidence, %", ylabel="%", ylim=(0, 105),
             title=f"{data.name}: bars: share read right; diamonds: mean confidence; numbers: images")
    return figure


def weight_maps(net):
    """Draw the weights of a linear head over a last map (C, H, W): a row for each digit, C maps in it."""
    blank = torch.zeros(1, 1, 28, 28, device=net.head.weight.device)
    channels, side = outputs(net, blank)[-1][1].shape[1:3]
    weights = net.head.weight.detach().cpu().view(CLASSES, channels, side, side)
    reach = weights.abs().max()
    figure, axes = plt.subplots(CLASSES, channels, figsize=(channels, CLASSES), layout="constrained")
    for (digit, channel), axis in np.ndenumerate(axes):
        axis.imshow(weights[digit, channel], cmap="RdBu_r", vmin=-reach, vmax=reach)
        axis.set_xticks([]), axis.set_yticks([])
        if channel == 0:
            axis.set_ylabel(digit, rotation=0, labelpad=12)
    figure.suptitle(f"weights of the head: {CLASSES} digits x {channels} x {side} x {side}", fontsize=14)
    return figure


def directions(net, data, batch_size=512):
    """Draw the singular values of the gradient of the first linear layer, and of Muon's step, as shares."""
    images, labels = (part[:batch_size] for part in data.train)
    net = copy.deepcopy(net).to(images.device).train()
    layer = next(layer for layer in net.modules() if isinstance(layer, nn.Linear))
    F.nll_loss(net(images), labels).backward()
    size = layer.weight.shape
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    for label, matrix, colour in (("gradient", layer.weight.grad, BLUE),
                                  ("Muon's step", orthogonal(layer.weight.grad), ORANGE)):
        values = torch.linalg.svdvals(matrix.cpu())
        axis.plot(range(1, len(values) + 1), values / values[0], color=colour, label=label)
    axis.set(yscale="log", xlabel="direction, strongest first", ylabel="share of the strongest",
             title=f"{data.name}: what a step changes in each direction of {size[0]} x {size[1]} weights")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def accuracy_against_seconds(results, labels, column="last"):
    """Draw the mean accuracy of recorded runs against the median seconds of their training."""
    figure, axis = plt.subplots(figsize=(10, 6.5), layout="constrained")
    points = []
    for label in labels:
        accuracies, seconds = (results.over_seeds(label, name) for name in (column, "seconds"))
        axis.errorbar(seconds.median(), accuracies.mean(), accuracies.std(), fmt="o", color=BLUE, capsize=3)
        points.append((label, seconds.median(), accuracies.mean(), BLUE))
    axis.set(xscale="log", xlabel="seconds of training, median over seeds",
             ylabel=f"{'test' if column == 'test' else 'validation'} accuracy, %",
             title="MNIST: mean and standard deviation over seeds")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(x=0.3)
    axis.grid(alpha=0.3)
    name_points(axis, points)
    return figure


def parameters_by_layer(nets):
    """Draw the parameters of every convolution with its batch norm, a panel per entry of {label: network}."""
    figure, axes = plt.subplots(1, len(nets), figsize=(10, 4.5), layout="constrained", sharex=True)
    for axis, (label, net) in zip(np.atleast_1d(axes), nets.items()):
        names, counts = [], []
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                kind = "each channel" if layer.groups > 1 else f"{layer.in_channels} to {layer.out_channels}"
                names.append(f"{layer.kernel_size[0]}x{layer.kernel_size[1]}, {kind}")
                counts.append(0)
            if counts:   # a batch norm goes with the convolution before it
                counts[-1] += sum(p.numel() for p in layer.parameters(recurse=False))
        bars = axis.barh(range(len(names)), counts, color=BLUE)
        axis.bar_label(bars, [f" {count:,}" for count in counts], fontsize=11)
        axis.set_yticks(range(len(names)), names, fontsize=11)
        axis.invert_yaxis()
        axis.set_title(f"{label}: {sum(counts):,}", fontsize=13)
        axis.margins(x=0.2)
    figure.supxlabel("parameters", fontsize=13)
    return figure
