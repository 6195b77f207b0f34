"""What checks the reader's own lines, in the sections "By hand" of the notebooks.

`import exercises` gives a notebook its numbers (PATCH, FILTER, ...) and a check for each exercise, whose task
is its docstring. A check takes an answer, one number, several or a function, and prints "right" or a sentence
about what is wrong. It raises nothing and leaves the random stream as it was. None is no answer yet.
"""

import copy
import math

import torch
import torch.nn.functional as F

NOT_YET = "not answered yet; nobody has to, the notebook goes on"


class Wrong(Exception):
    """Why an answer cannot be compared with the right one, in one sentence."""


def numbers(value):
    """Return `value`, numbers in any form, as a tensor of float64. Raises Wrong for anything else."""
    if value is None or value is ...:
        raise Wrong(NOT_YET)
    try:
        if isinstance(value, (list, tuple)):
            return torch.stack([numbers(part).squeeze() for part in value])
        return torch.as_tensor(value if hasattr(value, "shape") else float(value)).detach().cpu().double()
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        raise Wrong(f"this {type(value).__name__} is not made of numbers in rows of one length") from None


def on(*inputs):
    """Return a reader of functions: it returns, as a tensor, what one makes of `inputs`, or raises Wrong."""
    def call(function):
        if not callable(function):
            numbers(function)   # raises where there is no answer
            raise Wrong(f"a function is wanted, and this is of the type {type(function).__name__}")
        copies = copy.deepcopy(inputs)
        try:
            result = function(*copies)
        except Exception as error:
            raise Wrong(f"the function raises {type(error).__name__}: {error}".partition("\n")[0]) from None
        if result is None:
            raise Wrong(f"the function returns None: {NOT_YET}")
        if not all(torch.equal(numbers(old), numbers(new)) for old, new in zip(inputs, copies)):
            raise Wrong("the function changes what it is given, and its caller may still need that")
        return numbers(result)
    return call


def exercise(task, read, right, mistakes, rtol=1e-4, atol=1e-4, names=None):
    """Return a check, a function of an answer that prints what it finds; `task` is its docstring.

    read: makes a tensor of an answer: `values` of numbers, `on(...)` of a function. right: the right answer.
    mistakes: {sentence: the answer that this mistake gives}. rtol, atol: as in torch.isclose. names: what the
    numbers of the tensor are, where their places do not say it.
    """
    def judge(given):
        near = lambda other: torch.isclose(given, other, rtol, atol, equal_nan=True)
        for sentence, other in {"right": right, **mistakes}.items():
            other = read(other)
            if given.shape == other.shape and near(other).all():
                return sentence
        wanted = read(right)
        if given.shape != wanted.shape:
            return f"the result has the shape {tuple(given.shape)}, and {tuple(wanted.shape)} is wanted"
        place = tuple((~near(wanted)).nonzero()[0].tolist())
        got, due = given[place].item(), wanted[place].item()
        if read is values:   # to name the right number would be to answer
            return f"{got:,.6g} is {'too large' if got > due else 'too small' if got < due else 'no number'}"
        name = names[place[0]] if names else "the number" + f" at {list(place)}" * bool(place)
        return f"{name} is {got:.4g}, and {due:.4g} is right"

    def check(*answer):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            try:
                print(judge(read(answer[0] if len(answer) == 1 else answer or None)))
            except Wrong as reason:
                print(reason)
    check.__doc__, check.right, check.mistakes = task, right, mistakes
    return check


# The exercises; each task begins with its notebook's number. `draw` returns the same numbers at every call.
values = lambda answer: numbers(answer).flatten()   # reads one number or several
draw = lambda *shape: 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 1
PATCH = torch.tensor([[0.8, 0.8, 0.8, 0.7, 0.2],   # a corner of MNIST's first test image, a seven, in tenths
                      [1.0, 0.9, 1.0, 1.0, 0.5],
                      [0.2, 0.1, 0.9, 1.0, 0.4],
                      [0.0, 0.3, 1.0, 0.8, 0.1],
                      [0.1, 0.9, 1.0, 0.3, 0.0]])
FILTER = torch.tensor([[1., 1, 1], [0, 0, 0], [-1, -1, -1]])   # answers to the lower edge of a stroke
slide = lambda x, w, padding=0: F.conv2d(x[None, None], w[None, None], padding=padding)[0, 0]
one_output = exercise("1: the output of FILTER at the centre of PATCH, without bias and ReLU.", values, 0.8, {
    "the filter is turned by 180 degrees, and should lie as it is": -0.8,
    "rows and columns of the filter are exchanged": -1.5,
    "a convolution is the sum of nine products, not their mean": 0.8 / 9}, rtol=0.015)
convolution = exercise(
    """1: a function of a patch (5, 5) and a filter (3, 3) that returns the map (3, 3), as nn.Conv2d makes it:
    without padding, and with the filter as it is.""", on(draw(5, 5), draw(3, 3)), slide, {
        "the filter is turned by 180 degrees, and should lie as it is": lambda x, w: slide(x, w.flip(0, 1)),
        "a convolution is the sum of nine products, not their mean": lambda x, w: slide(x, w) / 9,
        "the patch is padded, and here the filter has to lie on it entirely": lambda x, w: slide(x, w, 1)})
guess_loss = exercise("1: the loss, -log(probability), of a guess among ten.", values, math.log(10), {
    "the logarithm of a probability is negative, and the loss is minus that": -math.log(10),
    "the loss is a natural logarithm, not one to base 10": 1,
    "the loss is a natural logarithm, not one to base 2": math.log2(10)}, rtol=0.015)
empty_paper = exercise("1: a pixel of 0, normalised: mean 0.1307, std 0.3081.", values, -0.1307 / 0.3081, {
    "the mean is subtracted from the pixel, not the pixel from the mean": 0.1307 / 0.3081,
    "the division by the standard deviation is missing": -0.1307,
    "this is full ink, a pixel of 1, and paper is 0": (1 - 0.1307) / 0.3081}, rtol=0.015)

guess_among = exercise("2: a guess among how many classes has a loss of 5.26?", values, 192, {
    "a guess among ten has a loss of 2.30": 10,
    "the loss is a natural logarithm, not one to base 2": 2 ** 5.26,
    "the loss is a natural logarithm, not one to base 10": 10 ** 5.26}, atol=1)
light_parameters = exercise("2: the parameters of LightNet, whose convolutions have no bias.", values, 5784, {
    "the biases are too many, for these convolutions have none": 5784 + 76,
    "the 1x1 convolution has one weight for each pair of channels, not nine": 5784 + 8 * 96,
    "a 3x3 convolution has nine weights for each pair of channels, not one": 8 + 3 * 96 + 3 * 144})

norm = lambda axes=(0, 2, 3), correction=0, root=lambda variance: (variance + 1e-5).sqrt(): (
    lambda x: (x - x.mean(axes, True)) / root(x.var(axes, correction=correction, keepdim=True)))
batch_norm = exercise(
    """3: a function of x (N, C, H, W) that normalises it as nn.BatchNorm2d(C, affine=False), whose epsilon is
    1e-5, does in training. Ioffe and Szegedy, Batch normalization, 2015, algorithm 1.""",
    on(draw(4, 3, 4, 5) * torch.tensor([2, 0.003, 0]).view(3, 1, 1) + 0.5), norm(), {   # one is constant
        "each image is normalised by itself, and the batch shares mean and variance": norm((2, 3)),
        "mean and variance are taken over the channels, and each channel has its own": norm(1),
        "this is the unbiased variance, divided by n - 1, and batch norm divides by n": norm(correction=1),
        "epsilon belongs under the root, beside the variance": norm(root=lambda v: v.sqrt() + 1e-5),
        "epsilon is missing": norm(root=torch.sqrt),
        "the root of the variance is missing": norm(root=lambda v: v + 1e-5)})


def dropped(function):
    """Return what a dropout of 0.25 does to ones and to varied numbers, as eight numbers. Raises Wrong."""
    x = torch.cat([torch.ones(32, 32, 8, 8), draw(32, 32, 8, 8)])
    first, second = on(x, 0.25)(function), on(x, 0.25)(function)
    if not first.shape == second.shape == x.shape:
        raise Wrong(f"the function gets the shape {tuple(x.shape)} and returns {tuple(first.shape)}")
    kept = first != 0
    scale = (first / x).sum() / kept.sum()
    pairs = second != 0, *(kept.roll(1, axis) for axis in range(4))
    return torch.stack([1 - kept.double().mean(), scale, (first - scale * kept * x).abs().max(),
                        *((kept == other).double().mean() for other in pairs)])


dropout = exercise(
    """4: a function of x (N, C, H, W) and p that drops each number with probability p, others at each call,
    and scales the rest so that the mean stays. Srivastava et al., Dropout, 2014, section 10.""",
    dropped, F.dropout, {
        "the numbers that are kept are not scaled, so the mean falls": lambda x, p: F.dropout(x, p) * (1 - p),
        "the scale is 1 / p, and p is the share that is dropped": lambda x, p: F.dropout(x, p) * (1 - p) / p,
        "it keeps with probability p, and p is to drop": lambda x, p: F.dropout(x, 1 - p) * p / (1 - p),
        "all images of the batch get the same mask": lambda x, p: x * F.dropout(torch.ones_like(x[0]), p),
        "it drops whole channels, not single numbers": F.dropout2d,
        "the mask is the same at each call": lambda x, p: x * (draw(*x.shape) > 2 * p - 1) / (1 - p)},
    atol=0.05, names=["the share of zeros", "the scale", "the error", *["the share treated alike"] * 5])

global_average = exercise(
    """5: a function of maps (N, C, H, W) that returns the mean of each map, (N, C). Lin et al., Network in
    network, 2013, section 3.2.""", on(draw(2, 3, 4, 5)), lambda maps: maps.mean((2, 3)), {
        "these are sums, not means": lambda maps: maps.sum((2, 3)),
        "these are maxima, not means": lambda maps: maps.amax((2, 3)),
        "the mean is over the channels, not over height and width": lambda maps: maps.mean(1),
        "the mean is over the batch, not over height and width": lambda maps: maps.mean(0),
        "height and width are still there, as axes of 1": lambda maps: maps.mean((2, 3), keepdim=True)})
linear_head = exercise("5: the parameters of a linear layer with bias, 192 to ten.", values, 192 * 10 + 10, {
    "the biases are missing": 192 * 10,
    "there is one bias for each output, not for each input": 192 * 10 + 192,
    "the layer gets all the positions of a map, not their mean": 12 * 10 + 10})

ACCURACIES = [96.1, 97.4, 97.2, 97.9, 97.5, 97.7, 98.3, 98.2, 98.1, 98.2, 98.1, 98.0, 97.9, 97.8, 98.4]
plateau = exercise(
    """6: after which of the epochs, 1 to 15, with these ACCURACIES does ReduceLROnPlateau (mode "max") halve
    the rate for the first time, with patience 3, and with patience 1? Two numbers.""", values, (11, 6), {
        "the patience has to be exceeded, not only reached": (10, 3),
        "an epoch is compared with the best one so far, not with the one before": (14, 9),
        "a new best accuracy sets the count of the others to 0": (8, 5)})

FIVE = torch.tensor([99.0, 99.6, 98.8, 99.4, 99.2])
interval = lambda x, t=2.776: x.mean() + t * x.std() / len(x) ** 0.5 * torch.tensor([-1, 1])
mean_interval = exercise(
    "7: the 95 % interval, low and high, of FIVE's mean; Student's t is 2.776.", values, interval(FIVE), {
        "1.96 is for many numbers, and five have 2.776": interval(FIVE, 1.96),
        "the variance is divided by n here, and should be by n - 1": interval(FIVE, 2.776 * 0.8 ** 0.5),
        "the root of n is missing": interval(FIVE, 2.776 * 5 ** 0.5),
        "this is one standard error to each side, without Student's t": interval(FIVE, 1)}, rtol=0, atol=0.01)

cycle = lambda peak=19, end=2e-8, bend=lambda share: (1 - math.cos(math.pi * share)) / 2: (
    lambda step: 0.0002 + (0.005 - 0.0002) * bend(step / peak) if step <= peak else
    0.005 + (end - 0.005) * bend((step - peak) / (99 - peak)))
one_cycle = exercise(
    """8: a function of a step that returns OneCycleLR's rate: half a cosine from 0.0002 at step 0 to 0.005 at
    step 19, and half a cosine to 2e-8 at step 99. Smith and Topin, Super-convergence, 2018.""",
    lambda rate: numbers([on(step)(rate) for step in range(100)]), cycle(), {
        "these are straight lines, not cosines": cycle(bend=lambda share: share),
        "the highest rate is one step late, since the first step is 0": cycle(peak=20),
        "the end is a 10,000th of the first rate, not of the highest": cycle(end=5e-7)}, rtol=1e-3, atol=1e-8)

POINTS = torch.tensor([[1., 0], [2, 0], [2, 1], [0, 3]])
turn = lambda x, a: x @ torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
rotation = exercise(
    """9: a function of points (N, 2), x and y, and an angle in degrees that returns the points turned by it
    counter-clockwise about (0, 0).""", on(POINTS, 30.0), lambda x, angle: turn(x, math.radians(angle)), {
        "the angle is in degrees, and the sine and the cosine take radians": turn,
        "this is clockwise: the matrix is transposed": lambda x, a: turn(x, -math.radians(a)),
        "this is not about (0, 0)": lambda x, a: turn(x - x.mean(0), math.radians(a)) + x.mean(0)})

CONFIDENCES = torch.tensor([0.99, 0.62, 0.95, 0.91, 0.48, 0.97, 0.85, 0.98])
HITS = torch.tensor([1., 1, 1, 0, 0, 1, 1, 1])   # 1: read correctly
reliability = exercise("10: the mean of CONFIDENCES above 0.9, and of their HITS.", values, (0.96, 0.8), {
    "these are percent, and shares are wanted": (96, 80),
    "these are of all predictions, not of those above 0.9": (CONFIDENCES.mean(), HITS.mean()),
    "the confidence comes first, then the share of hits": (0.8, 0.96)}, atol=0.006)

heads = exercise(
    "11: the parameters of a linear layer with bias from 8 x 6 x 6 to ten, and of one from 8 means to ten.",
    values, (288 * 10 + 10, 8 * 10 + 10), {
        "the biases are missing": (288 * 10, 8 * 10),
        "there is one bias for each output, not for each input": (288 * 10 + 288, 8 * 10 + 8),
        "a map has 6 x 6 positions, not 6": (48 * 10 + 10, 8 * 10 + 10)})

smoothed_loss = exercise(
    """12: a function of log-probabilities (10,) and a label that returns the loss of one image with a label
    smoothing of 0.1 over all ten classes, as F.cross_entropy. Szegedy et al., 2016, section 7.""",
    on(draw(10).log_softmax(0), 3), lambda x, y: -0.9 * x[y] - 0.1 * x.mean(), {
        "this smooths over nine classes, another convention": lambda x, y: -8 / 9 * x[y] - x.sum() / 90,
        "this is the loss without smoothing": lambda x, y: -x[y],
        "the sign is wrong, for a loss is positive": lambda x, y: 0.9 * x[y] + 0.1 * x.mean(),
        "each class gets 0.1, and all together should": lambda x, y: -0.9 * x[y] - 0.1 * x.sum()})

two_parts = lambda x, depthwise, pointwise, padding=0: torch.einsum(
    "dc,chw->dhw", pointwise, F.conv2d(x[None], depthwise[:, None], padding=padding, groups=len(x))[0])
separable_parameters = exercise(
    "13: the parameters of a separable 3x3 convolution, 18 to 24 channels without bias, and of a full one.",
    values, (9 * 18 + 18 * 24, 9 * 18 * 24), {
        "there are no biases": (9 * 18 + 18 + 18 * 24 + 24, 9 * 18 * 24 + 24),
        "each filter of the first part looks at one channel": (9 * 18 * 18 + 18 * 24, 9 * 18 * 24),
        "the second part, which mixes the channels, is missing": (9 * 18, 9 * 18 * 24)})
separable = exercise(
    """13: a function of x (C, H, W), depthwise (C, 3, 3), which has a filter for each channel, and pointwise
    (D, C), which mixes them, to (D, H - 2, W - 2). Howard et al., MobileNets, 2017, section 3.1.""",
    on(draw(4, 6, 7), draw(4, 3, 3), draw(5, 4)), two_parts, {
        "the channels are not mixed yet": lambda x, d, p: two_parts(x, d, torch.eye(4)),
        "the image is padded, and here the filter has to lie on it entirely": lambda *x: two_parts(*x, 1),
        "all channels get the filter of the first": lambda x, d, p: two_parts(x, d[:1].expand(4, 3, 3), p)})

FIRST = torch.tensor([99.52, 99.59, 99.46, 99.64, 99.47, 99.66, 99.58, 99.53, 99.50, 99.55])
SECOND = torch.tensor([99.64, 99.54, 99.55, 99.67, 99.65, 99.58, 99.64, 99.67, 99.48, 99.58])   # same seeds
paired_interval = exercise(
    "14: the 95 % interval, low and high, of the mean of SECOND - FIRST; Student's t for ten is 2.262.",
    values, interval(SECOND - FIRST, 2.262), {
        "1.96 is for many numbers, and ten have 2.262": interval(SECOND - FIRST, 1.96),
        "this forgets that the seeds are the same": interval(SECOND - FIRST, 2.49),   # so wide without pairs
        "this is FIRST - SECOND": interval(FIRST - SECOND, 2.262)}, rtol=0, atol=0.002)
news = exercise("14: is 0 outside of it, True or False?", values, False, {"look again where 0 lies": True})
