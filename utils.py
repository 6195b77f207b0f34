"""Everything a run needs but the network and the pictures, in the order of a run:

constants, seed and device, data, augmentation, `fit` and `evaluate`, records.

Accuracies are in percent, losses are mean negative log-likelihoods, everywhere. The data set
is one tensor that lives on the device; no DataLoader stands in the way. Networks live in
`model.py`, pictures in `plots.py`.
"""

import copy
import ctypes
import json
import math
import os
import platform
import re
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.optim import lr_scheduler
from tqdm import tqdm

import checkpoint
import mnist
from model import count_parameters, receptive_field

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results"
CLASSES = 10
MEAN, STD = 0.1307, 0.3081   # of the 60,000 training images scaled to [0, 1]
BLACK = -MEAN / STD          # what an empty pixel is after normalisation


# ---------------------------------------------------------------- seed and device

def set_seed(seed):
    """Seed PyTorch on every device: weights, shuffles, augmentation and dropout all draw from it."""
    torch.manual_seed(seed)


def pick_device():
    """Return the best device here: cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def half_type(device):
    """Return the 16-bit type that `device` computes in: bfloat16 where it is native, float16 on older GPUs, else None."""
    if (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) or
            device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else None


def half_precision(device, wanted=True):
    """Return the autocast context for `device`: its 16-bit type where that is `wanted` and there is one, else no change."""
    dtype = half_type(device)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=wanted and dtype is not None,
                          cache_enabled=False)   # a CUDA graph would keep the cached copies of its first weights


def keep_memory():
    """Have the C library keep freed memory for the next batch: without it, page faults cost up to a third of an epoch.

    For glibc; elsewhere it changes nothing.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 32 * 2**20)   # M_MMAP_THRESHOLD: blocks up to 32 MB, the most that it takes, come from the heap,
        libc.mallopt(-1, 2**30)        # M_TRIM_THRESHOLD: of which up to 1 GB is not given back


# ---------------------------------------------------------------- data

class Split(NamedTuple):
    """Normalised float images (N, 1, 28, 28) and their labels (N,), int64, on one device."""
    images: torch.Tensor
    labels: torch.Tensor


class Data(NamedTuple):
    """A data set: `name` is "MNIST" or "digits sample", `validation` is None unless split off."""
    name: str
    train: Split
    test: Split
    validation: Split | None = None

    @property
    def held_out(self):
        """What an epoch is scored on: the validation split where there is one, else the test set."""
        return self.validation or self.test


def load_mnist(device="cpu", validation=False):
    """Load MNIST onto `device`, normalised: 60,000 training and 10,000 test images.

    With `validation`, 10,000 training images, always the same, become the validation split.
    Where MNIST is neither on disk nor to be fetched, says why and loads scikit-learn's
    handwritten digits instead (1,797 real images of 8 x 8, resized): enough to run everything,
    but no evidence about MNIST. Raises mnist.DataError where MNIST is there and damaged, and can't be mended.
    """
    try:
        name = "MNIST"
        splits = [(images.unsqueeze(1) / 255, labels.long()) for images, labels in mnist.load()]
    except mnist.NoMnist as reason:
        name = "digits sample"
        print(f"digits sample: no MNIST in {mnist.root().name}/, and {reason}.\n"
              "digits sample: this run uses 1,797 small digits and says nothing about MNIST.")
        splits = _digits_sample()
    train, test = (Split(((images - MEAN) / STD).to(device), labels.to(device)) for images, labels in splits)
    held_out = None
    if validation:
        train, held_out = _split(train, len(train.labels) // 6)
    data = Data(name, train, test, held_out)
    sizes = [f"{len(split.labels):,} {kind}" for kind, split in
             (("training", train), ("validation", held_out), ("test", test)) if split]
    print(f"{name}: {', '.join(sizes)} images")
    return data


def _digits_sample():
    """Return scikit-learn's digits as 28 x 28 images in [0, 1], 1,437 to train and 360 to test."""
    from sklearn.datasets import load_digits   # here, for it takes a second

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = F.interpolate(images, size=(28, 28), mode="bilinear", align_corners=False)
    return _split((images, torch.tensor(digits.target)), 360)


def _split(split, count):
    """Split off `count` images, chosen at random but always the same ones, as the second part."""
    order = torch.randperm(len(split[1]), generator=torch.Generator().manual_seed(0)).to(split[1].device)
    return [Split(split[0][part], split[1][part]) for part in (order[count:], order[:count])]


# ---------------------------------------------------------------- augmentation

@dataclass(frozen=True)
class Augment:
    """Random affine changes, drawn for each image of a batch on its own.

    rotation: degrees, uniform in +-rotation.
    shift: pixels, uniform in +-shift, along each axis.
    scale: fraction, the size is multiplied by a factor uniform in 1 +- scale.
    crop: pixels; the central crop x crop square is blown up to the whole image, for a share
    `crop_chance` of the images. 0 leaves that change out.

    Bilinear, empty pixels outside; one matrix product and one `grid_sample` for the batch
    (Jaderberg et al., Spatial transformer networks, 2015). Raises ValueError for values out of range.
    """
    rotation: float = 0
    shift: float = 0
    scale: float = 0
    crop: int = 0
    crop_chance: float = 0.1

    def __post_init__(self):
        for name, top in (("rotation", 180), ("shift", 28), ("scale", 0.99), ("crop", 28), ("crop_chance", 1)):
            if not 0 <= getattr(self, name) <= top:
                raise ValueError(f"{name} must be between 0 and {top}, got {getattr(self, name)}")

    def __call__(self, images):
        """Return changed copies of normalised `images` (N, 1, H, W); with nothing to change, `images` itself."""
        if not (self.rotation or self.shift or self.scale or self.crop):
            return images
        count, side = len(images), images.shape[-1]
        uniform = torch.rand(5, count, device=images.device)
        signed = 2 * uniform - 1
        angle = signed[0] * math.radians(self.rotation)
        zoom = 1 / (1 + signed[1] * self.scale)   # the grid says where a pixel comes from: the inverse
        if self.crop:
            zoom = torch.where(uniform[4] < self.crop_chance, zoom * self.crop / side, zoom)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
        shift = turn @ (signed[2:4].T.unsqueeze(2) * 2 * self.shift / side)   # the grid's side is 2
        axis = (2 * torch.arange(side, device=images.device) + 1) / side - 1   # centres of the pixels
        pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy")).flatten(1)
        grid = torch.addmm(shift.flatten(0, 1), turn.flatten(0, 1), pixels)   # affine_grid's, in a tenth of its time
        grid = grid.view(count, 2, side, side).permute(0, 2, 3, 1)
        return F.grid_sample(images - BLACK, grid, align_corners=False) + BLACK


# ---------------------------------------------------------------- training

class Epoch(NamedTuple):
    """The figures of one epoch; `test_...` are those of the held-out split."""
    epoch: int              # from 1
    train_loss: float       # running, as trained: with dropout and augmentation
    train_accuracy: float   # %, likewise
    test_loss: float
    test_accuracy: float    # %
    lr: float               # at the end of the epoch, before a scheduler's step per epoch
    seconds: float          # of training, scoring not counted


class History(list):
    """The epochs of one training, on `dataset`, scored on the "test" set or the "validation" split."""

    def __init__(self, dataset, epochs=(), scored_on="test"):
        super().__init__(epochs)
        self.dataset, self.scored_on = dataset, scored_on

    @property
    def best(self):
        """The first epoch of the highest accuracy: chosen on the images that score it, so it flatters."""
        return max(self, key=lambda e: e.test_accuracy)

    @property
    def last(self):
        return self[-1]


def epoch_line(dataset, e, epochs, scored_on="test"):
    """Write one epoch as one line."""
    return (f"{dataset}  epoch {e.epoch:2}/{epochs}  train {e.train_loss:.4f} {e.train_accuracy:6.2f} %"
            f"  {scored_on} {e.test_loss:.4f} {e.test_accuracy:6.2f} %  lr {e.lr:.2g}  {e.seconds:.1f} s")


def one_cycle(net, images, epochs, batch_size=256, lr=0.02, betas=(0.8, 0.95), weight_decay=0.05):
    """Return the optimizer and the scheduler of the fastest runs, for `epochs` of `images` images in batches.

    AdamW (betas 0.8 and 0.95, weight decay 0.05) under OneCycleLR, from 0.004 up to 0.02 in the
    first fifth of the batches, then down to nothing (Smith and Topin, Super-convergence, 2018).
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    return optimizer, lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * math.ceil(images / batch_size),
                                              pct_start=0.201,   # 0.2 of 5 batches would be divided by 1 - 1
                                              div_factor=5, cycle_momentum=False)


CHUNK = 16   # batches shuffled and augmented at once
PER_BATCH = (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)   # every other scheduler steps per epoch


def fit(net, data, optimizer, scheduler=None, epochs=15, batch_size=128, augment=None, autocast=False, graphs=False, quiet=False,
        checkpoint_file=None, resume=False):
    """Train `net` on `data.train`, score it on the held-out split after every epoch, return the History.

    scheduler: any of PyTorch's. OneCycleLR and CyclicLR step after every batch, ReduceLROnPlateau
    on the held-out accuracy (mode "max") or loss (mode "min"), all others after every epoch.
    augment: a function of a batch of images, such as `Augment(rotation=10)`.
    autocast: compute in 16 bits where the device does so natively, else change nothing.
    graphs: on CUDA, replay the forward and backward pass as one graph each; elsewhere change nothing.
    quiet: no bar and no line per epoch.
    checkpoint_file: write the whole state there after every epoch.
    resume: go on from that file, as if the training had never stopped.

    Without a held-out split (`data.test` None) nothing is scored, and the History says nan.
    Interrupted from the keyboard, it returns the epochs so far. Raises ValueError before any work
    for arguments that do not fit together, checkpoint.CheckpointError for a file that can't be
    resumed, FloatingPointError, with epoch, batch and rate, where the loss is no longer a number.
    """
    _check_arguments(net, data, optimizer, scheduler, epochs, batch_size, checkpoint_file, resume)
    keep_memory()
    device = data.train.labels.device
    net.to(memory_format=torch.channels_last)   # the faster layout of convolutions
    forward = _graphed(net, data.train.images[:batch_size], autocast) if graphs and device.type == "cuda" else net
    scaler = torch.amp.GradScaler(device.type, init_scale=1024, enabled=autocast and half_type(device) == torch.float16)
    history = History(data.name, scored_on="validation" if data.validation else "test")
    state = net, optimizer, scheduler, scaler
    recipe = checkpoint_file and checkpoint.recipe(net, data, optimizer, scheduler, epochs=epochs, batch_size=batch_size,
                                                   augment=augment, autocast=autocast)
    if resume:
        history += [Epoch(*epoch) for epoch in checkpoint.load(checkpoint_file, recipe, *state)]
    try:
        for epoch in range(len(history) + 1, epochs + 1):
            net.train()
            start = time.perf_counter()
            with tqdm(total=len(data.train.labels), desc=f"{data.name} epoch {epoch}", unit=" images", leave=False, disable=quiet or None) as bar:
                train = _train_epoch(forward, data.train, optimizer, scheduler, scaler, batch_size, augment, autocast, bar)
            seconds = round(time.perf_counter() - start, 2)
            test = evaluate(net, data.held_out, autocast=autocast) if data.held_out else Score(math.nan, math.nan)
            lr = optimizer.param_groups[0]["lr"]
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(test.accuracy if scheduler.mode == "max" else test.loss)
            elif scheduler and not isinstance(scheduler, PER_BATCH):
                scheduler.step()
            history.append(Epoch(epoch, *train, *test, lr, seconds))
            if checkpoint_file:
                checkpoint.save(checkpoint_file, recipe, history, *state)
            if not quiet:
                print(epoch_line(data.name, history.last, epochs, history.scored_on), flush=True)
    except KeyboardInterrupt:
        print(f"{data.name}: interrupted after {len(history)} of {epochs} epochs; this is their history")
    except FloatingPointError as error:
        raise FloatingPointError(f"epoch {epoch}, {error}") from None
    return history


def _check_arguments(net, data, optimizer, scheduler, epochs, batch_size, checkpoint_file, resume):
    """Raise ValueError for what could not end well."""
    labels, held_out = data.train.labels, data.held_out
    if len(labels) == 0 or held_out and len(held_out.labels) == 0:
        raise ValueError(f"an empty split: {len(labels)} training images, {len(held_out.labels) if held_out else 'no'} images to score")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not 1 <= batch_size <= len(labels):
        raise ValueError(f"batch_size must be between 1 and the {len(labels):,} training images, got {batch_size}")
    ours = {id(parameter) for parameter in net.parameters()}
    if not all(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("the optimizer is of another network")
    if scheduler and scheduler.optimizer is not optimizer:
        raise ValueError("the scheduler is of another optimizer")
    if resume and not checkpoint_file:
        raise ValueError("resume=True needs a checkpoint_file")
    outputs, classes = predict(net, data.train.images[:1]).shape[1], labels.max().item() + 1
    if outputs < classes:
        raise ValueError(f"the network has {outputs} outputs, the labels go up to {classes - 1}")


class Score(NamedTuple):
    """Mean loss and accuracy in percent."""
    loss: float
    accuracy: float


def _train_epoch(forward, split, optimizer, scheduler, scaler, batch_size, augment, autocast, bar):
    """Train one epoch and return its running Score, kept on the device: it is waited for once, at the end.

    Raises FloatingPointError that names the first batch whose loss is no number.
    """
    device = split.labels.device
    losses, rates, hits = [], [], torch.zeros((), dtype=torch.int64, device=device)
    for images, labels in _chunks(split, CHUNK * batch_size, augment):
        for x, y in zip(images.split(batch_size), labels.split(batch_size)):
            with half_precision(device, autocast):
                log_probabilities = forward(x)
            loss = F.nll_loss(log_probabilities, y)
            losses.append(loss.detach())
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if isinstance(scheduler, PER_BATCH):
                scheduler.step()
            hits += (log_probabilities.argmax(1) == y).sum()
        bar.update(len(labels))
    losses = torch.stack(losses).cpu().double()
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        first = wrong[0].item()
        raise FloatingPointError(f"batch {first + 1} of {len(losses)}: the loss is {losses[first]} at a learning rate of {rates[first]:.3g};"
                                 " a lower one may do")
    losses[-1] *= len(y) / batch_size   # the last batch may be a smaller one
    return Score(losses.sum().item() * batch_size / len(split.labels), 100 * hits.item() / len(split.labels))


def _graphed(net, images, autocast):
    """Return `net` as a function that replays CUDA graphs for batches like `images`, or `net` where they can't be recorded.

    For a small network starting the kernels takes longer than running them; a graph starts all at once.
    """
    graphed, state = nn.Sequential(net), copy.deepcopy(net.state_dict())   # graphed, for its forward is replaced
    net.train()
    try:
        with half_precision(images.device, autocast):
            torch.cuda.make_graphed_callables(graphed, (images,))
    except (AssertionError, RuntimeError) as error:
        print(f"no CUDA graphs, trained without: {error}")
        return net
    finally:
        net.load_state_dict(state)   # the trial runs have moved the statistics of batch norm
    return lambda x: graphed(x) if x.shape == images.shape else net(x)


def _chunks(split, size, augment):
    """Shuffle, then yield images and labels `size` at a time: few large gathers and augmentations."""
    for index in torch.randperm(len(split.labels), device=split.labels.device).split(size):
        images = split.images[index]
        yield augment(images) if augment else images, split.labels[index]


@torch.no_grad()
def predict(net, images, batch_size=500, autocast=False):
    """Return log-probabilities (N, outputs) of `images`, computed in eval mode."""
    net.eval()
    with half_precision(images.device, autocast):
        return torch.cat([net(x) for x in images.split(batch_size)])


def evaluate(net, split, batch_size=500, autocast=False):
    """Return the mean loss and the accuracy in percent of `net` on `split`, in eval mode."""
    log_probabilities = predict(net, split.images, batch_size, autocast)
    hits = (log_probabilities.argmax(1) == split.labels).sum().item()
    return Score(F.nll_loss(log_probabilities, split.labels).item(), 100 * hits / len(split.labels))


# ---------------------------------------------------------------- records

class Claim(NamedTuple):
    """What a reference write-up says of its network: best accuracies in percent, parameters as it puts them; None: nothing."""
    parameters: str | None
    train_accuracy: float | None
    test_accuracy: float


class Run(NamedTuple):
    """A finished training, with the reference's claim and the target where there are any.

    target: best accuracy in percent on what scores the epochs, set before the run.
    label: for a run that is there to compare with only; any other is called by its network's class.
    test_accuracy: percent, for a run whose epochs are scored on the validation split: the test set, scored once, at the end.
    once: the history is that of `once`, so it says nothing about this machine.
    """
    net: torch.nn.Module
    history: History
    claim: Claim | None = None
    target: float | None = None
    label: str = ""
    test_accuracy: float | None = None
    once: bool = False

    @property
    def name(self):
        return self.label or type(self.net).__name__


class Sweep(NamedTuple):
    """The same training from several seeds, scored once each, at its end.

    accuracies: percent, by seed. seconds: of training, by seed. target: in percent, for the mean.
    wrong: by seed, the places in the test set of the images that are misread; nothing on the validation split.
    once: made by run.py alone, so it says nothing about this machine.
    recipe: of one that is made once, what it is known by.
    """
    network: str
    parameters: int
    epochs: int
    scored_on: str
    accuracies: dict
    seconds: dict
    target: float | None = None
    wrong: dict = {}
    once: bool = False
    recipe: str = ""


class Trained(NamedTuple):
    """What one seed of a sweep gives: accuracy in percent, seconds of training, places of the misread images, weights on the CPU."""
    accuracy: float
    seconds: float
    wrong: list
    weights: dict


def sweep(make, data, seeds, epochs, batch_size=256, augment=None, autocast=True, target=None, **cycle):
    """Train `make()` by the recipe of `one_cycle` once per seed; score it after the last epoch only.

    Where `data` has a validation split it is trained without those images and scored on them,
    else on the test set. `cycle` are arguments of `one_cycle`.
    """
    return _sweep(make, data, epochs, target, {seed: _train_seed(make, data, seed, epochs, batch_size, augment, autocast, cycle) for seed in seeds})


def _train_seed(make, data, seed, epochs, batch_size, augment, autocast, cycle):
    """Train `make()` from one seed and score it once; return it as Trained."""
    set_seed(seed)
    net = make().to(data.train.labels.device)
    optimizer, scheduler = one_cycle(net, len(data.train.labels), epochs, batch_size, **cycle)
    history = fit(net, data._replace(validation=None, test=None), optimizer, scheduler, epochs, batch_size, augment,
                  autocast, graphs=True, quiet=True)
    wrong = (predict(net, data.held_out.images, autocast=autocast).argmax(1) != data.held_out.labels).nonzero().flatten().tolist()
    return Trained(round(100 * (1 - len(wrong) / len(data.held_out.labels)), 2), round(sum(epoch.seconds for epoch in history), 2), wrong,
                   {name: value.cpu() for name, value in net.state_dict().items()})


def _sweep(make, data, epochs, target, trained, recipe=""):
    """Return the Sweep of {seed: Trained}; with a recipe, of one that is made once."""
    net = make()
    return Sweep(type(net).__name__, count_parameters(net), epochs, "validation" if data.validation else "test",
                 {seed: one.accuracy for seed, one in trained.items()}, {seed: one.seconds for seed, one in trained.items()}, target,
                 {} if data.validation else {seed: one.wrong for seed, one in trained.items()}, bool(recipe), recipe)


def sweep_once(name, label, make, data, seeds, epochs, batch_size=64, augment=None, target=None, keep_weights=False, **cycle):
    """Return the Sweep called `label` in the record of notebook `name`, made once.

    Where there is none of this recipe, on the digits sample, and when run.py renews the record,
    it is made as `sweep` makes it, in float32. run.py keeps every finished seed in
    results/.NAME.unfinished, so that a renewal which is cut off goes on where it was.
    keep_weights: those of the first seed, for results/LABEL.pt.
    """
    print(f"{data.name}: {label}:", end="", flush=True)
    recorded = (_recorded(name, data) or {"sweeps": {}})["sweeps"].get(label)
    recipe = _recipe(make(), epochs, batch_size, augment, cycle)
    if recorded and recorded["recipe"] == recipe:
        swept = _from_record(recorded)._replace(target=target, scored_on="validation" if data.validation else "test")
        print("".join(f" {accuracy:.2f}" for accuracy in swept.accuracies.values()), "%")
        return swept
    renewed = "RECORD_DIR" in os.environ and data.name == "MNIST"
    kept = RESULTS / f".{name}.unfinished"
    finished = torch.load(kept, weights_only=True) if renewed and kept.exists() else {}
    trained = {}
    for seed in seeds:
        key = str((label, seed, str(make()), len(data.train.labels), epochs, batch_size, augment, sorted(cycle.items())))
        if key not in finished:
            finished[key] = tuple(_train_seed(make, data, seed, epochs, batch_size, augment, False, cycle))
            if renewed:
                torch.save(finished, kept.with_suffix(".part"))
                kept.with_suffix(".part").replace(kept)
        trained[seed] = Trained(*finished[key])
        print(f" {trained[seed].accuracy:.2f}", end="", flush=True)
    print(" %")
    if renewed and keep_weights:
        torch.save(trained[seeds[0]].weights, Path(os.environ["RECORD_DIR"]) / f"{label}.pt")
    return _sweep(make, data, epochs, target, trained, recipe)


def _recipe(net, epochs, batch_size, augment, cycle):
    """Write what a recorded training is known by; the layers by name and map, for PyTorch may print them otherwise one day."""
    layers = [type(layer).__name__ for layer in net.modules() if not list(layer.children())]
    maps = [row.output for row in receptive_field(net)]
    settings = ", ".join(f"{name}={value}" for name, value in sorted(cycle.items()))
    return f"{count_parameters(net)} parameters, {' '.join(layers)}, maps of {maps}, {epochs} epochs, batches of {batch_size}, {augment}, {settings}"


def _from_record(row):
    """Return a recorded sweep as a Sweep; JSON's keys are text, seeds are numbers."""
    by_seed = {field: {int(seed): value for seed, value in row[field].items()} for field in ("accuracies", "seconds", "wrong")}
    return Sweep(**{field: row[field] for field in Sweep._fields if field not in by_seed}, **by_seed)


def _recorded(name, data):
    """Return the record of notebook `name`, or None where what is made once has to be made: there is none, it is renewed, or no MNIST."""
    path = RESULTS / f"{name}.json"
    renewed = "RECORD_DIR" in os.environ and "SEED" not in os.environ
    return None if renewed or data.name != "MNIST" or not path.exists() else read_record(path)


def once(name, label, data, train):
    """Return the History of a training to compare with, made once: that of run `label` in the record of notebook `name`.

    Where there is none, on the digits sample, and when run.py renews the record, `train()` makes
    it. Otherwise it is of the record's seed, whatever the notebook's own.
    """
    recorded = _recorded(name, data)
    if recorded is None or label not in [run["name"] for run in recorded["runs"]]:
        return train()
    history = load_history(recorded, label)
    for e in history:
        print(epoch_line(history.dataset, e, len(history), history.scored_on))
    return history


def keep_record(name, data, seed, runs, sweeps=None, **measures):
    """Return the record of notebook `name`: the committed one, unless run.py is at work.

    run.py sets RECORD_DIR, and the fresh run's record is written there; anybody else's run
    leaves the records alone and gets the committed one to compare with. `sweeps` are Sweeps by
    name; `measures` are further figures that the notebook's text quotes.
    """
    fresh = _make_record(name, data, seed, runs, sweeps or {}, measures)
    path = RESULTS / f"{name}.json"
    if os.environ.get("RECORD_DIR"):
        write_record(fresh, Path(os.environ["RECORD_DIR"]) / path.name)
        return fresh
    if data.name != "MNIST":
        print(f"{data.name}: this run is not recorded and checks no claim about MNIST.")
        return fresh
    if not path.exists():
        print(f"MNIST: no record yet; `python run.py {name}` writes it.")
        return fresh
    record = read_record(path)
    if record["seed"] != seed:
        print(f"MNIST: the record is of seed {record['seed']}, this run of seed {seed}; it is compared with itself only.")
        return fresh
    return record


def _make_record(name, data, seed, runs, sweeps, measures):
    return {
        "notebook": name,
        "dataset": data.name,
        "seed": seed,
        "runs": [{
            "name": run.name,
            "network": type(run.net).__name__,
            "change": (type(run.net).__doc__ or "").split("\n")[0],
            "parameters": count_parameters(run.net),
            "claim": run.claim and run.claim._asdict(),
            "target": run.target,
            "scored_on": run.history.scored_on,
            "test_accuracy": run.test_accuracy and round(run.test_accuracy, 2),
            "once": run.once,
            "best": _rounded(run.history.best),
            "last": _rounded(run.history.last),
            "seconds": round(sum(e.seconds for e in run.history)),
            "epochs": [_rounded(e) for e in run.history],
        } for run in runs],
        "sweeps": {key: _summarised(value) for key, value in sweeps.items()},
        "measures": measures,
        "environment": _environment(data.train.labels.device),
    }


def _summarised(swept):
    """Return a Sweep as a dict, with mean, standard deviation and minimum of the accuracies and median of the seconds."""
    accuracies = list(swept.accuracies.values())
    return {**swept._asdict(),
            "mean": statistics.mean(accuracies),
            "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
            "minimum": min(accuracies),
            "median_seconds": statistics.median(swept.seconds.values())}


def _environment(device):
    """Return what else the digits of a run depend on: versions and kind of device, no name of a machine."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else
                  f"{device.type} ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)",
    }


def _rounded(epoch):
    """Return an Epoch as a dict, rounded as `epoch_line` prints it."""
    digits = {"train_loss": 4, "train_accuracy": 2, "test_loss": 4, "test_accuracy": 2, "seconds": 2}
    return {key: round(value, digits[key]) if key in digits else value for key, value in epoch._asdict().items()}


def record_text(record):
    """Return `record` as JSON, an epoch or a sweep's seeds in one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r'\{\s+"(epoch|0)":[^}]*\}', lambda row: " ".join(row.group().split()), text) + "\n"


def write_record(record, path):
    """Write `record` as a file that appears whole or not at all."""
    path = Path(path)
    path.with_suffix(".part").write_text(record_text(record))
    path.with_suffix(".part").replace(path)


def read_record(path):
    """Read a record written by `write_record`; what an older one does not say has the value that it had then.

    Raises RecordError, which names the line, where the text is cut off or does not agree with itself.
    """
    path = Path(path)
    text = path.read_text()
    try:
        record = {"sweeps": {}, **json.loads(text)}
        record["sweeps"] = {label: {"wrong": {}, "once": False, "recipe": "", **row} for label, row in record["sweeps"].items()}
        record["runs"] = [{"scored_on": "test", "test_accuracy": None, "once": False, **run} for run in record["runs"]]
        for run in record["runs"]:
            fault = _fault(run)
            if fault:
                line = text[:text.index(f'"name": "{run["name"]}"')].count("\n") + 1
                raise RecordError(f"{path.name}, line {line}: the run {run['name']} {fault}")
    except json.JSONDecodeError as error:
        raise RecordError(f"{path.name}, line {error.lineno}: {error.msg}; the file is cut off or was edited") from None
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path.name}, line 1: this is no record ({type(error).__name__}: {error})") from None
    return record


class RecordError(ValueError):
    """A record's text is cut off, or does not agree with itself."""


def _fault(run):
    """Say what in a recorded run can't be, or nothing."""
    epochs = run["epochs"]
    if [e["epoch"] for e in epochs] != list(range(1, len(epochs) + 1)) or not epochs:
        return "has no whole row of epochs"
    if not all(math.isfinite(value) for e in epochs for value in e.values()):
        return "has an epoch with a figure that is no number"
    if run["best"] != max(epochs, key=lambda e: e["test_accuracy"]):
        return "has a best epoch that is not the best of its epochs"
    if run["last"] != epochs[-1]:
        return "has a last epoch that is not the last of its epochs"
    if abs(run["seconds"] - sum(e["seconds"] for e in epochs)) > 1:
        return "has seconds that are not the sum of its epochs'"
    return ""


def load_history(record, name):
    """Return the recorded History of run `name`, to draw it beside a new one; `record` is a record or a notebook's name."""
    if isinstance(record, str):
        record = read_record(RESULTS / f"{record}.json")
    found = find_run(record, name)
    return History(record["dataset"], [Epoch(**e) for e in found["epochs"]], found["scored_on"])


def find_run(record, name):
    """Return the part of `record` that belongs to run `name`."""
    return next(run for run in record["runs"] if run["name"] == name)


def results_table(record):
    """Write the record's figures beside the reference's claims, as text."""
    dataset = record["dataset"]
    lines = [f"{dataset + ', seed ' + str(record['seed']):28} {'claimed':>16}  measured"]
    for run in record["runs"]:
        claim = Claim(**run["claim"]) if run["claim"] and dataset == "MNIST" else Claim(None, None, None)
        best, last, train = run["best"], run["last"], max(e["train_accuracy"] for e in run["epochs"])
        accuracy = "test accuracy" if run["scored_on"] == "test" else "validation acc."
        rows = [("parameters", claim.parameters, f"{run['parameters']:,}"),
                ("best training accuracy, %", claim.train_accuracy, f"{train:.2f}"),
                (f"best {accuracy}, %", claim.test_accuracy, f"{best['test_accuracy']:.2f} (epoch {best['epoch']})"),
                (f"last {accuracy}, %", "-", f"{last['test_accuracy']:.2f} (epoch {last['epoch']})")]
        if run["test_accuracy"]:
            rows.append(("test acc., scored once, %", "-", f"{run['test_accuracy']:.2f}"))
        if run["target"] and dataset == "MNIST":
            rows.append((f"target: best {run['scored_on']} >= {run['target']:g}", "", "met" if is_met(run) else "missed"))
        lines += [run["name"], *(f"  {what:26} {'-' if claimed is None else claimed!s:>16}  {measured}" for what, claimed, measured in rows)]
    return "\n".join(lines)


def sweep_table(record):
    """Write the record's sweeps as text, a line each."""
    swept = record["sweeps"]
    width = max(map(len, swept))
    lines = [f"{record['dataset'] + ', accuracy in %':{width}}  parameters  epochs  seeds  seconds    mean     sd  minimum"]
    for name, row in swept.items():
        lines.append(f"{name:{width}}  {row['parameters']:>10,}  {row['epochs']:>6}  {len(row['accuracies']):>5}"
                     f"  {row['median_seconds']:>7.2f}  {row['mean']:.3f}  {row['sd']:.3f}    {row['minimum']:.2f}")
    return "\n".join(lines)


def often_misread(swept):
    """Return {place in the test set: by how many seeds} of the images that at least half of a recorded sweep's seeds misread, most first."""
    counts = Counter(place for places in swept["wrong"].values() for place in places)
    return {place: count for place, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if 2 * count >= len(swept["wrong"])}


def binomial(accuracy, images=10_000):
    """Return the standard deviation, in points, with which a network of `accuracy` percent scores on `images` images."""
    return 100 * math.sqrt(accuracy / 100 * (1 - accuracy / 100) / images)


def is_step(run):
    """Tell whether a recorded run is the step itself, not one to compare with."""
    return run["name"] == run["network"]


def test_accuracy(run):
    """Return a recorded run's accuracy on the test set after its last epoch, in percent, or None where it was not scored."""
    return run["last"]["test_accuracy"] if run["scored_on"] == "test" else run["test_accuracy"]


def is_met(run):
    """Tell whether a recorded run met its target."""
    return run["best"]["test_accuracy"] >= run["target"]


def verdict(record, data, runs, tolerance, sweeps=None):
    """Check the fresh `runs` and `sweeps` against `record` and say so; raise AssertionError where they disagree.

    Parameters, epochs and target must be equal, and the best test accuracy within `tolerance`
    points. So must the last one, of what the last five recorded epochs had: at a constant rate
    a single epoch swings. In the environment of the record the target must also be met or missed
    as recorded; in another one the digits move, and close to the target the tolerance has to
    decide. A sweep must come within `tolerance` of the record for every seed that both have, one
    made once be of the recorded recipe; whether the recorded mean meets the target is said. On the
    digits sample nothing is checked.
    """
    if data.name != "MNIST":
        print(f"{data.name}: no claim about MNIST is checked.")
        return
    device = data.train.labels.device   # a GPU does not repeat its digits even in the same environment
    same_environment = device.type == "cpu" and record["environment"] == _environment(device)
    for run in runs:
        old = find_run(record, run.name)
        if run.once:
            print(f"MNIST, {run.name}: from the record, not trained again")
            continue
        best, last, parameters = run.history.best.test_accuracy, run.history.last.test_accuracy, count_parameters(run.net)
        for what, fresh, recorded in (("parameters", parameters, old["parameters"]), ("target", run.target, old["target"]),
                                      ("epochs", len(run.history), len(old["epochs"]))):
            assert fresh == recorded, f"{run.name}: {what} {fresh}, by the record {recorded}"
        ending = [e["test_accuracy"] for e in old["epochs"][-5:]]
        scored_on = run.history.scored_on
        scores = [(f"best {scored_on}", best, [old["best"]["test_accuracy"]]), (f"last {scored_on}", last, ending)]
        scores += [("test", run.test_accuracy, [old["test_accuracy"]])] if run.test_accuracy else []
        for what, fresh, recorded in scores:
            low, high = min(recorded) - tolerance, max(recorded) + tolerance
            assert low - 0.005 <= fresh <= high + 0.005, (   # the record is rounded
                f"{run.name}: {what} accuracy {fresh:.2f}, by the record {low:.2f} to {high:.2f}")
        print(f"MNIST, {run.name}: {parameters:,} parameters, {len(run.history)} epochs,"
              f" best and last {scored_on} accuracy{' and test accuracy' if run.test_accuracy else ''} within {tolerance:g} of the record")
        if run.target:
            recorded = "met" if is_met(old) else "missed"
            assert (best >= run.target) == is_met(old) or not same_environment, (
                f"{run.name}: best {scored_on} accuracy {best:g}, but target {run.target:g} recorded as {recorded}")
            print(f"MNIST, {run.name}: target {run.target:g} {recorded}, as recorded")
    for name, fresh in (sweeps or {}).items():
        assert name in record["sweeps"], f"{name}: not in the record"
        old = record["sweeps"][name]
        for what in ("network", "parameters", "epochs", "scored_on", "target", "recipe"):
            assert getattr(fresh, what) == old[what], f"{name}: {what} {getattr(fresh, what)}, by the record {old[what]}"
        if fresh.once:
            told = f", mean of {len(old['accuracies'])} seeds {old['mean']:.3f}"
            if fresh.target:
                told += f", target {fresh.target:g} {'met' if old['mean'] >= fresh.target else 'missed'}"
            print(f"MNIST, {name}: from the record, not trained again{told}")
            continue
        recorded = {int(seed): accuracy for seed, accuracy in old["accuracies"].items()}   # JSON's keys are text
        for seed in fresh.accuracies.keys() & recorded.keys():
            assert abs(fresh.accuracies[seed] - recorded[seed]) <= tolerance + 0.005, (
                f"{name}, seed {seed}: accuracy {fresh.accuracies[seed]:.2f}, by the record {recorded[seed]:.2f}")
        told = f"; mean of {len(recorded)} seeds {old['mean']:.3f}"
        if fresh.target:
            told += f", target {fresh.target:g} {'met' if old['mean'] >= fresh.target else 'missed'}"
        print(f"MNIST, {name}: within {tolerance:g} of the record{told}")
