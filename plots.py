"""The pictures: of a training, of many seeds, of digits, of what a network does; README's are in pictures.py.

Each function draws one matplotlib figure, which `show`, in the line after it, shows with a text for those who
cannot see it. Looking changes nothing: a network is asked in a copy, and the random stream goes on as if
nothing had been drawn; only `range_test` trains. Where a network lacks the layer that is to be shown,
ValueError says so. Colours are those of Okabe and Ito; no meaning rests on colour alone.
"""

import copy
from itertools import zip_longest

import matplotlib.pyplot as plt
import numpy as np
import pandas
import torch
from IPython.display import display
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox
from torch import nn

from lab.record import often_misread, over_seeds, trainings
from lab.results import DOUBTFUL, binomial, target
from utils import BLACK, CLASSES, MEAN, STD, Split, batches, evaluate, predict, train_epoch

BLUE, ORANGE, GREEN, PURPLE, GREY, *_ = COLOURS = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666", "#56B4E9", "#E69F00", "black", "#8C564B"]
LINES = plt.cycler(color=COLOURS, linestyle=["-", "--", "-."] * 3)
INK = {"cmap": "gray_r", "vmin": BLACK, "vmax": (1 - MEAN) / STD}   # of a normalised image

plt.rcParams |= {"figure.dpi": 100, "figure.constrained_layout.use": True, "axes.prop_cycle": LINES,
                 "axes.spines.top": False, "axes.spines.right": False, "grid.alpha": 0.3, "font.size": 13}


def show(alt):
    """Show the figure that was drawn last; `alt` describes it to those who cannot see it."""
    display(plt.gcf(), metadata={"image/png": {"alt": alt}})
    plt.close()


def chart(title, xlabel, ylabel, size=(9, 4.8), **settings):
    """Return axes with labels and a grid."""
    axis = plt.figure(figsize=size).add_subplot(title=title, xlabel=xlabel, ylabel=ylabel, **settings)
    axis.grid()
    return axis


def _gallery(pictures, columns, heading=""):
    """Draw pictures in rows of `columns`: (title, tensor (H, W), settings of imshow); None leaves a gap."""
    rows = max(1, -(-len(pictures) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(10, 12.2 / columns * rows + 0.5), squeeze=False)
    for axis, picture in zip_longest(axes.flat, pictures):
        axis.axis("off")
        if picture:
            title, pixels, settings = picture
            axis.imshow(pixels.cpu().numpy(), **settings)
            axis.set_title(title, fontsize=10)
    figure.suptitle(heading)


def name_points(axis, points):
    """Write (name, x, y, colour) of each point at the first free place; the axes must have their limits."""
    axis.figure.draw_without_rendering()   # so that places on the page are known
    at = [axis.transData.transform((x, y)) for _, x, y, _ in points]
    taken, frame = [Bbox([place - 8, place + 8]) for place in at], axis.get_window_extent()
    places = [(right, up) for up in (0, 10, -10, 25, -25, 40, -40, 60, -60)
              for right in ((8, -8) if abs(up) < 25 else (20, -20))]
    for name, x, y, colour in points:
        text = axis.annotate(name, (x, y), (0, 0), textcoords="offset points", va="center", color=colour,
                             fontsize=10)
        for place in places:
            text.set(position=place, horizontalalignment="left" if place[0] > 0 else "right")
            box = text.get_window_extent().padded(1)
            inside = frame.contains(*box.min) and frame.contains(*box.max)
            if inside and not any(box.overlaps(other) for other in taken):
                break   # if no place is free, the last one has to do
        taken.append(box)
        if abs(place[0]) > 8:
            axis.annotate("", (x, y), place, textcoords="offset points", va="center",
                          arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.5})


def _each(histories, field):
    """Name what the entries of {label: History} have in `field`: "MNIST", or "validation" for scored_on."""
    return " and ".join(dict.fromkeys(filter(None, (getattr(entry, field) for entry in histories.values()))))


def _by_epoch(histories, field):
    """Return a field of the epochs as a DataFrame, a row for each epoch, a column per {label: History}."""
    return pandas.DataFrame({label: pandas.Series([getattr(epoch, field) for epoch in history],
                                                  range(1, history.last.epoch + 1), float)
                             for label, history in histories.items()})


def plot_error(axis, histories, split):
    """Draw the error by epoch on images of a split, on a log scale; of a training without scores nothing."""
    error = 100 - _by_epoch(histories, "train_accuracy" if split == "training" else "accuracy")
    axis.plot(error, marker="o", markersize=4, label=list(error))
    axis.set(xlabel="epoch", ylabel=f"error on {split} images, %", yscale="log")
    axis.grid()
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.yaxis.set(major_locator=LogLocator(subs=(1, 1.5, 2, 3, 5, 7)), major_formatter="{x:g}",
                   minor_locator=NullLocator())


def training_curves(histories, target=None):
    """Draw the error on training and held-out images by epoch, a line per entry of {label: History}.

    `target` is an accuracy in percent. Raises ValueError where a training was stopped in its first epoch.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), sharex=True, sharey=True)
    for axis, split in zip(axes, ("training", _each(histories, "scored_on"))):
        plot_error(axis, histories, split)
    if target:
        axis.axhline(100 - target, color=GREY, linestyle=":", linewidth=2, label=f"target {target:g} %")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    first = next(iter(histories.values()))
    taken = f", epochs {first.trained + 1} to {len(first)} from the record" * (first.trained < len(first))
    figure.suptitle(_each(histories, "dataset") + taken)


def rate_and_error(histories):
    """Draw the rates of {label: History} over the held-out error; a dotted line marks each fall of a rate."""
    rates, (_, (above, below)) = _by_epoch(histories, "lr"), plt.subplots(2, 1, figsize=(9, 6), sharex=True)
    rates.plot(ax=above, drawstyle="steps-mid", ylabel="learning rate", title=_each(histories, "dataset"))
    plot_error(below, histories, _each(histories, "scored_on"))
    for epoch in rates.index[(rates.diff() < 0).any(axis=1)]:
        below.axvline(epoch - 0.5, color=GREY, linestyle=":")


def rate_by_batch(make, steps):
    """Draw rate and momentum of `steps` batches; `make` returns optimizer and scheduler of parameters."""
    optimizer, scheduler = make([nn.Parameter(torch.zeros(1))])
    group, rows = optimizer.param_groups[0], []
    for _ in range(steps):
        rows.append((group["lr"], group["momentum"] if "momentum" in group else group["betas"][0]))
        optimizer.step()
        scheduler.step()
    table = pandas.DataFrame(rows, columns=["learning rate", "momentum"])
    table.plot(subplots=True, figsize=(9, 5), xlabel="batch", grid=True)


def range_test(net, data, optimizer, low=1e-5, high=1.0, steps=150, batch_size=128):
    """Train `net` for `steps` batches while the rate rises from `low` to `high`, and draw the loss over it.

    Smith, Cyclical learning rates for training neural networks, 2017, section 3.3. The network is used up.
    """
    losses = {}
    for rate, batch in zip(np.geomspace(low, high, steps), batches(data.train, batch_size)):
        optimizer.param_groups[0]["lr"] = rate
        losses[rate] = train_epoch(net, [batch], optimizer).loss
    axis = chart(f"{data.name}: a rising rate", "learning rate", "loss of the batch", xscale="log")
    axis.plot(list(losses), list(losses.values()))


def spread(results, labels, column="test"):
    """Draw the accuracy after the last epoch of every recorded seed of some runs, a row each.

    labels: a run, or one of another notebook with that one's name before it: "3_batch_norm/BatchNormNet".
    column: "test", scored once, or "last", on what the epochs are scored on. The bar is how far a score on
    10,000 images may lie from the mean, one standard deviation to either side.
    """
    scored_on = column if column == "test" else _each(results.runs, "scored_on")
    axis = chart("seeds (dots), mean ± binomial deviation (diamond), target (stroke)",
                 f"MNIST, {scored_on} accuracy, %", "", (10, 1.1 * len(labels) + 1.5))
    for row, label in enumerate(labels):
        accuracies, goal = results.over_seeds(label, column), target(results.notebook, label, column)
        mean, beside = accuracies.mean(), row + np.linspace(-0.2, 0.2, len(accuracies))
        axis.plot(accuracies, beside, "o", color=BLUE, alpha=0.7)
        axis.errorbar(mean, row, xerr=binomial(mean), fmt="d", color=ORANGE, capsize=8, markersize=9)
        axis.vlines(goal or [], row - 0.3, row + 0.3, color="black")
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()


def against(study, xlabel, runs, column="last"):
    """Draw every recorded seed of a study of studies.py, and the means, against a number.

    runs: {line: {number: run}}, the runs of a line by the number that they are drawn at.
    """
    table = trainings()
    scored_on = column if column == "test" else table.loc[table["notebook"] == study, "scored_on"].iloc[0]
    axis = chart("MNIST: every seed and the mean", xlabel, f"{scored_on} accuracy, %", xscale="log")
    for line, of in runs.items():
        seeds = pandas.DataFrame({number: over_seeds(study, of[number], column, table) for number in of})
        mean, = axis.plot(seeds.mean(), label=line)
        axis.plot(seeds.T, "o", color=mean.get_color(), alpha=0.5)
    axis.set_xticks(list(of), [f"{number:,}" for number in of])
    axis.legend()


def accuracy_against_seconds(results, labels):
    """Draw the mean accuracy of recorded runs against the median seconds of their training."""
    axis = chart("MNIST: mean and standard deviation over seeds", "seconds of training, median over seeds",
                  f"{_each(results.runs, 'scored_on')} accuracy, %", (10, 6.5), xscale="log", xmargin=0.3)
    points = []
    for label in labels:
        accuracies, seconds = (results.over_seeds(label, name) for name in ("last", "seconds"))
        axis.errorbar(seconds.median(), accuracies.mean(), accuracies.std(), fmt="o", color=BLUE, capsize=3)
        points.append((label, seconds.median(), accuracies.mean(), BLUE))
    axis.xaxis.set(major_locator=LogLocator(subs=(1, 2, 3, 5)), major_formatter="{x:g}",
                   minor_locator=NullLocator())
    name_points(axis, points)


def augmented_sheet(data, augment):
    """Show eight training images and under each what `augment` makes of it, three times."""
    images, labels = (part[:8].cpu() for part in data.train)
    with torch.random.fork_rng(devices=[]):
        rows = torch.cat([images, *(augment(images) for _ in range(3))])
    _gallery([(title, image[0], INK) for title, image in zip_longest(labels.tolist(), rows)], 8, data.name)


def confusion(net, data):
    """Draw how often `net` reads which digit as which on the test set, without the correct answers."""
    from sklearn.metrics import ConfusionMatrixDisplay  # here, for it takes a second
    labels, read = data.test.labels.cpu(), predict(copy.deepcopy(net), data.test.images).argmax(1).cpu()
    classes, wrong = torch.cat([data.train.labels.cpu(), labels, read]).unique().tolist(), labels != read
    _, axis = plt.subplots(figsize=(8, 8))
    ConfusionMatrixDisplay.from_predictions(labels, read, labels=classes, sample_weight=wrong, ax=axis,
                                            cmap="Blues", colorbar=False)
    axis.set_title(f"{data.name}: {wrong.sum():,} mistakes of {type(net).__name__} in {len(labels):,}")


def mistakes(net, data):
    """Show the 16 test images that `net` misreads with the greatest confidence."""
    confidence, read = predict(copy.deepcopy(net), data.test.images).exp().max(1)
    wrong = [place for place in confidence.argsort(descending=True) if read[place] != data.test.labels[place]]
    _gallery([(f"true {data.test.labels[place]}, read as {read[place]} ({100 * confidence[place]:.0f} %)",
               data.test.images[place, 0], INK) for place in wrong[:16]], 4, f"{data.name}: worst mistakes")


def misread_sheet(data, misread):
    """Show the test images that at least half of a run's seeds misread, the most often misread first.

    misread: {seed: places in the test set}, as a Record has them. Over each image its label and by how many
    of the seeds it is misread; a star marks a label that is known to be doubtful.
    """
    often = often_misread(misread) if data.name == "MNIST" else {}   # the recorded places are MNIST's
    _gallery([(f"{data.test.labels[place]}{'*' if place in DOUBTFUL else ''} ({count}/{len(misread)})",
               data.test.images[place, 0], INK) for place, count in often.items()], 10,
             f"{data.name}: {len(often)} images that half of {len(misread)} seeds misread; *: doubtful label")


@torch.no_grad()
def outputs(net, images, training=False, first=nn.Module):
    """Return [(layer, its output for `images` (N, 1, 28, 28))] for the layers in `net.layers`, on the CPU.

    training: as in training, where batch norm and dropout act. The layers are copies, `net` stays as it is.
    They begin with the first one of the kind `first` that gives maps; ValueError where there is none.
    """
    layers, x, found = copy.deepcopy(net.layers).cpu().train(training), images.cpu(), []
    with torch.random.fork_rng(devices=[]):
        for _, layer in layers.named_modules(remove_duplicate=False):   # SharedNet runs one layer five times
            if not list(layer.children()):
                x = layer(x)
                if found or isinstance(layer, first) and x.ndim == 4:
                    found.append((layer, x))
    if not found:
        raise ValueError(f"this picture needs a network with a {first.__name__} that gives maps: choose one")
    return found


def filters_and_maps(net, image):
    """Draw eight filters of the first convolution over maps of `image` (1, 28, 28) after the next layer."""
    layers = outputs(net, image[None], first=nn.Conv2d)
    filters, (after, (maps,)) = layers[0][0].weight.detach()[:8, 0], layers[:2][-1]
    signs = {"cmap": "RdBu_r", "vmin": -filters.abs().max(), "vmax": filters.abs().max()}
    _gallery([None, *(("", weights, signs) for weights in filters), ("input", image[0], INK),
              *(("", one, {"cmap": "gray_r", "vmin": 0}) for one in maps[:8])], len(filters) + 1,
             f"filters (red: positive, blue: negative), and maps after {type(after).__name__}")


def logit_windows(image):
    """Draw the last 4 x 4 map of LightNet, and on `image` (1, 28, 28) what its first two cells see."""
    _gallery([("channel 0 of the last map", torch.zeros(4, 4), {"cmap": "gray_r"}),
              ("windows of 22 x 22 pixels", image[0], INK)], 2)
    left, right = plt.gcf().axes
    for cell, (row, column) in enumerate(np.ndindex(4, 4)):
        left.text(column, row, f"logit {cell}" if cell < CLASSES else "no class", ha="center", va="center")
    for cell, colour in enumerate((BLUE, ORANGE)):   # what neighbours see lies two pixels apart
        for axis, start, side in ((left, cell, 1), (right, 2 * cell, 22)):
            axis.add_patch(plt.Rectangle((start - 0.5, -0.5), side, side, fill=False, ec=colour, linewidth=3))


def activations(nets, images):
    """Draw how large the numbers are that go into each ReLU or SiLU, a line per entry of {label: network}.

    images: (N, 1, 28, 28), a batch as in training. The size is the standard deviation over the batch, all
    channels and positions.
    """
    axis = chart("What goes into each ReLU or SiLU", "block", "standard deviation", yscale="log")
    for label, net in nets.items():
        layers = outputs(net, images, training=True)
        sizes = [x.std().item() for (_, x), (after, _) in zip(layers, layers[1:])
                 if isinstance(after, (nn.ReLU, nn.SiLU))]
        axis.plot(range(1, len(sizes) + 1), sizes, marker="o", label=label)
    axis.legend()


def dropped(net, image):
    """Draw a map of `image` (1, 28, 28) before dropout, what four random masks leave, and what is used."""
    dropout, (maps,) = outputs(net, image[None], first=nn.Dropout)[0]
    whole = maps[maps.sum((1, 2)).argmax()]   # the strongest of them
    with torch.random.fork_rng(devices=[]):
        masked = [("in training", nn.functional.dropout(whole, dropout.p)) for _ in range(4)]
    shades = {"cmap": "gray_r", "vmin": 0, "vmax": whole.max() / (1 - dropout.p)}
    _gallery([(*part, shades) for part in [("before", whole), *masked, ("in use", whole)]], 6)


def class_maps(net, image):
    """Draw the ten maps that are averaged into the ten scores of `image` (1, 28, 28), each with its mean."""
    *_, (_, maps), (pool, means) = outputs(net, image[None])
    if net.head or not isinstance(pool, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)) or maps.shape[1] < CLASSES:
        raise ValueError("class_maps needs a network whose last layer averages a map for each digit")
    shades = {"cmap": "Reds", "vmin": 0, "vmax": maps[0, :CLASSES].max()}
    titles = [f"{digit}: mean {mean.mean():.1f}" for digit, mean in enumerate(means[0, :CLASSES])]
    _gallery([("input", image[0], INK), *((title, one, shades) for title, one in zip(titles, maps[0]))], 6)


def weight_maps(net):
    """Draw the weights of a linear head over a last map (C, H, W): a column for each digit, C maps in it."""
    if not isinstance(net.head, nn.Linear):
        raise ValueError("weight_maps needs a network with a linear head, like FullyConnectedNet")
    size = outputs(net, torch.zeros(1, 1, 28, 28))[-1][1].shape[1:]
    weights = net.head.weight.detach().cpu().view(-1, *size)
    signs = {"cmap": "RdBu_r", "vmin": -weights.abs().max(), "vmax": weights.abs().max()}
    _gallery([("" if channel else digit, weights[digit, channel], signs)
              for channel, digit in np.ndindex(size[0], len(weights))], len(weights), "weights of the head")


def moved(net, split, rows, columns):
    """Return the accuracy in percent on images moved `rows` pixels down and `columns` pixels right."""
    images = torch.roll(split.images, (rows, columns), (2, 3))
    return evaluate(copy.deepcopy(net), split._replace(images=images)).accuracy


def shifts(nets, split):
    """Draw the accuracy on moved images as a map over (dx, dy), one for each entry of {label: network}."""
    few, places = Split(*(part[:2_000] for part in split)), range(-6, 7, 2)
    figure, axes = plt.subplots(1, len(nets), figsize=(5.2 * len(nets), 5.2), squeeze=False)
    for axis, (label, net) in zip(axes.flat, nets.items()):
        table = np.array([[moved(net, few, dy, dx) for dx in places] for dy in places])
        axis.imshow(table, "Blues", vmin=0, vmax=150, extent=(-7, 7, 7, -7))   # black can be read on all
        for (row, column), value in np.ndenumerate(table):
            axis.text(places[column], places[row], f"{value:.0f}", ha="center", va="center")
        axis.set(title=label, xlabel="pixels to the right", ylabel="pixels down")
    figure.suptitle(f"accuracy, %, on {len(few.labels):,} moved test images")


def against_angle(nets, data):
    """Draw the accuracy on test images that are all turned by one angle, a line per {label: network}."""
    from torchvision.transforms.functional import InterpolationMode, rotate  # here, for it takes seconds
    few, table = Split(*(part[:2_000] for part in data.test)), {}
    for angle in range(-60, 61, 10):
        turned = few._replace(images=rotate(few.images, angle, InterpolationMode.BILINEAR, fill=BLACK))
        table[angle] = [moved(net, turned, 0, 0) for net in nets.values()]
    axis = chart(f"{data.name}: {len(few.labels):,} turned images", "angle, degrees", "test accuracy, %")
    pandas.DataFrame(table, list(nets)).T.plot(ax=axis, marker="o")


def reliability(probabilities, data):
    """Draw how often the first N test images are read right, by their largest of `probabilities` (N, 10)."""
    confidence, read = probabilities.cpu().max(1)
    right = read == data.test.labels[:len(read)].cpu()
    table = pandas.DataFrame({"right": 100.0 * right, "confidence": 100 * confidence.clamp(max=1)})
    edges = 0, 50, 70, 90, 97, 99, 99.9, 100
    names = [f"{low} to {high}" for low, high in zip(edges, edges[1:])]
    groups = table.groupby(pandas.cut(table["confidence"], edges, labels=names), observed=False)
    axis = chart(f"{data.name}: read right (bars), mean confidence (diamonds)", "confidence, %", "%")
    bars = axis.bar(names, groups["right"].mean(), color=BLUE, alpha=0.6)
    axis.bar_label(bars, [f"{count:,}" for count in groups.size()], label_type="center")
    axis.plot(names, groups["confidence"].mean(), "D", color=ORANGE)


def parameters_by_layer(nets):
    """Draw the parameters of each convolution and linear layer, and of all else, of {label: network}."""
    figure, axes = plt.subplots(1, len(nets), figsize=(10, 4.5), sharex=True, squeeze=False)
    for axis, (label, net) in zip(axes.flat, nets.items()):
        weights = [weight for weight in net.parameters() if weight.ndim > 1]
        counts = [weight.numel() for weight in weights]
        total = sum(weight.numel() for weight in net.parameters())
        names = [*(" x ".join(map(str, weight.shape)) for weight in weights), "biases, batch norm"]
        bars = pandas.Series([*counts, total - sum(counts)], names)[::-1].plot.barh(ax=axis, color=BLUE)
        bars.bar_label(bars.containers[0], fmt=" {:,.0f}")
        bars.set(title=f"{label}: {total:,}", xmargin=0.2)
    figure.supxlabel("parameters")
