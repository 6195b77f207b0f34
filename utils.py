"""Everything a training needs but the network and the pictures, in the order of a run.

Constants, seed and device, data, augmentation, one epoch of training, `fit`, `predict` and `evaluate`.
Accuracies are in percent and losses are mean negative log-likelihoods, everywhere. A data set is one tensor
that lives on the device: no DataLoader stands in the way. Networks are in `model.py`, pictures in `plots.py`;
what a notebook's last cells ask of the record (`Results`, `compare`, `says`, `read_record`) is in `lab/`.
"""

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.optim import lr_scheduler
from tqdm import tqdm

from lab import checks, mnist
from lab.checkpoint import Training, keeper
from lab.comparisons import difference
from lab.device import half_precision, keep_memory
from lab.history import Epoch, History
from lab.layers import faster
from lab.mnist import MEAN, STD  # of the 60,000 training images scaled to [0, 1]
from lab.optimizers import MuonWithAdamW, one_cycle, orthogonal
from lab.records import read_record
from lab.results import Results, compare, says
from model import count_parameters

__all__ = ["BLACK", "CLASSES", "MEAN", "STD", "Augment", "Data", "Epoch", "History", "MuonWithAdamW",
           "Results", "Score", "Split", "batches", "compare", "difference", "evaluate", "fit",
           "load_mnist", "one_cycle", "orthogonal", "pick_device", "predict", "read_record", "says",
           "score_once", "set_seed", "train_epoch"]
CLASSES = 10
BLACK = -MEAN / STD          # an empty pixel after normalisation


# ---------------------------------------------------------------- seed and device

def set_seed(seed):
    """Seed PyTorch on every device: weights, shuffles, augmentation and dropout all draw from it."""
    torch.manual_seed(seed)


def pick_device():
    """Return the best device here: cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


# ---------------------------------------------------------------- data

class Split(NamedTuple):
    """Normalised float images (N, 1, 28, 28) and their labels (N,), int64, on one device."""
    images: torch.Tensor
    labels: torch.Tensor


class Data(NamedTuple):
    """A data set: `name` is "MNIST" or "digits sample", `validation` is None unless split off."""
    name: str
    train: Split
    test: Split | None
    validation: Split | None = None

    @property
    def held_out(self):
        """What an epoch is scored on: the validation split where there is one, else the test set."""
        return self.validation or self.test

    @property
    def scored_on(self):
        """Which split an epoch is scored on: "validation", "test", or None."""
        return "validation" if self.validation else "test" if self.test else None

    def unscored(self):
        """Return the data without held-out images: no epoch is scored, so nothing can be chosen on them."""
        return self._replace(test=None, validation=None)


def load_mnist(device="cpu", validation=False):
    """Load MNIST onto `device`, normalised: 60,000 training and 10,000 test images.

    With `validation`, 10,000 training images, always the same, become the validation split.
    Where MNIST is neither on disk nor to be fetched, says why and loads scikit-learn's handwritten
    digits instead (1,797 real images of 8 x 8, resized): enough to run everything, but no evidence
    about MNIST. Raises lab.mnist.DataError where MNIST is there, damaged, and cannot be mended.
    """
    try:
        name = "MNIST"
        parts = [(images.unsqueeze(1) / 255, labels.long()) for images, labels in mnist.load()]
    except mnist.NoMnist as reason:
        name = "digits sample"
        print(f"digits sample: no MNIST in {mnist.root().name}/, and {reason}.\n"
              "digits sample: this run uses 1,797 small digits and says nothing about MNIST.")
        parts = mnist.digits_sample()
    train, test = (Split(((images - MEAN) / STD).to(device), labels.to(device)) for images, labels in parts)
    held_out = None
    if validation:
        train, held_out = (Split(*part) for part in mnist.split(*train, len(train.labels) // 6))
    sizes = [f"{len(split.labels):,} {kind}" for kind, split in
             (("training", train), ("validation", held_out), ("test", test)) if split]
    print(f"{name}: {', '.join(sizes)} images")
    return Data(name, train, test, held_out)


# ---------------------------------------------------------------- augmentation

@dataclass(frozen=True)
class Augment:
    """Random affine changes, drawn for each image of a batch on its own.

    rotation: degrees, uniform in ± rotation.
    shift: pixels, uniform in ± shift, along each axis.
    scale: fraction, the size is multiplied by a factor uniform in 1 ± scale.
    crop: pixels; the central crop x crop square is enlarged to the whole image, for a share
    `crop_chance` of the images. 0 leaves a change out.

    Bilinear, empty pixels outside; one matrix product and one `grid_sample` for the batch
    (Jaderberg et al., Spatial transformer networks, 2015). Raises TypeError for what is no number
    and ValueError for values out of range.
    """
    rotation: float = 0
    shift: float = 0
    scale: float = 0
    crop: int = 0
    crop_chance: float = 0.1

    def __post_init__(self):
        tops = {"rotation": 180, "shift": 28, "scale": 0.99, "crop": 28, "crop_chance": 1}
        for name, top in tops.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)):
                raise TypeError(f"{name} takes one number, the largest change to either side, got {value!r}")
            if not 0 <= value <= top:
                raise ValueError(f"{name} must be between 0 and {top}, got {value}")

    def __call__(self, images):
        """Return changed copies of normalised `images` (N, 1, H, W); with nothing to change, the images."""
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
        grid = torch.addmm(shift.flatten(0, 1), turn.flatten(0, 1), pixels)   # affine_grid's, but faster
        grid = grid.view(count, 2, side, side).permute(0, 2, 3, 1)
        return F.grid_sample(images - BLACK, grid, align_corners=False) + BLACK


# ---------------------------------------------------------------- training

CHUNK = 16   # batches that are shuffled and augmented at once: few large operations
PER_BATCH = (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)   # every other scheduler steps once per epoch


def batches(split, batch_size, augment=None):
    """Yield the images and labels of `split` once, in random order, augmented, `batch_size` at a time."""
    order = torch.randperm(len(split.labels), device=split.labels.device)
    for chunk in order.split(CHUNK * batch_size):
        images = augment(split.images[chunk]) if augment else split.images[chunk]
        yield from zip(images.split(batch_size), split.labels[chunk].split(batch_size))


def train_epoch(net, examples, optimizer, scheduler=None, autocast=False, label_smoothing=0):
    """Train `net` on `examples`, batches of images and labels; return mean loss and accuracy in percent."""
    net.train()
    losses, sizes, hits = [], [], 0
    for images, labels in examples:
        with half_precision(images.device, autocast):
            log_probabilities = net(images)
        loss = F.nll_loss(log_probabilities, labels)
        optimizer.zero_grad()
        smoothed = loss.lerp(-log_probabilities.mean(), label_smoothing) if label_smoothing else loss
        smoothed.backward()
        optimizer.step()
        if isinstance(scheduler, PER_BATCH):
            scheduler.step()
        losses.append(loss.detach())   # stays on the device: nobody waits for it in the middle of an epoch
        sizes.append(len(labels))
        hits += (log_probabilities.argmax(1) == labels).sum()
    mean = checks.finite(losses, "batch") @ torch.tensor(sizes).double() / sum(sizes)
    return Score(mean.item(), 100 * hits.item() / sum(sizes))


def step_after_epoch(scheduler, score):
    """Let a scheduler that steps once per epoch take its step."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(score.accuracy if scheduler.mode == "max" else score.loss)
    elif scheduler and not isinstance(scheduler, PER_BATCH):
        scheduler.step()


def fit(net, data, optimizer, scheduler=None, epochs=15, batch_size=128, augment=None, autocast=False,
        label_smoothing=0, checkpoint_file=None, resume=False):
    """Train `net` on `data.train`, score it on the held-out split after every epoch, return the History.

    scheduler: any of PyTorch's. OneCycleLR and CyclicLR step after every batch, ReduceLROnPlateau
    on the held-out accuracy (mode "max") or loss (mode "min"), all others after every epoch.
    augment: a function of a batch of images, such as `Augment(rotation=10)`.
    autocast: compute in 16 bits where the device does so natively, else change nothing.
    label_smoothing: the share of the wanted probability that goes to all classes alike (Szegedy et al.,
    Rethinking the Inception architecture, 2016); the losses that are printed are without it.
    checkpoint_file: write the whole state there after every epoch; resume: continue from that file,
    as if the training had never stopped.

    On a CPU, batch norm and dropout are computed by faster code with the same results. Without a
    held-out split nothing is scored. Interrupted from the keyboard, it returns the epochs so far.
    Raises ValueError or TypeError before any work for arguments that cannot end well, CheckpointError for a
    file that cannot be resumed, FloatingPointError, with epoch and rate, where a loss is no number.
    Whatever is raised after the first epoch has the epochs so far as its `history`.
    """
    checks.arguments(net, data, optimizer, scheduler, epochs, batch_size, label_smoothing, checkpoint_file,
                     resume)
    keep_memory()
    net.to(memory_format=torch.channels_last)   # the faster layout of convolutions
    training = Training(net, data, optimizer, scheduler, epochs=epochs, batch_size=batch_size,
                        augment=augment, autocast=autocast, label_smoothing=label_smoothing)
    kept = keeper(training, checkpoint_file, resume)
    history = History((Epoch(*epoch) for epoch in kept.begin()), dataset=data.name,
                      network=type(net).__name__, parameters=count_parameters(net), planned=epochs,
                      scored_on=data.scored_on, seed=training.seed, recipe=training.recipe)
    for epoch in history:
        print(epoch.line(data.name, epochs, data.scored_on))
    with checks.keeps(history, optimizer):
        while kept.goes_on(history, epochs):
            start, epoch = time.perf_counter(), len(history) + 1
            bar = tqdm(batches(data.train, batch_size, augment), f"{data.name} epoch {epoch}",
                       -(-len(data.train.labels) // batch_size), leave=False, disable=None, unit=" batches")
            with faster(net):
                train = train_epoch(net, bar, optimizer, scheduler, autocast, label_smoothing)
            seconds = time.perf_counter() - start
            score = evaluate(net, data.held_out, autocast) if data.held_out else Score(None, None)
            checks.finite([torch.tensor(score.loss or 0)], data.scored_on)
            lr = optimizer.param_groups[0]["lr"]
            step_after_epoch(scheduler, score)
            history.append(Epoch(epoch, *train, *score, lr, round(seconds, 2)))
            kept.after_epoch(history, epochs)
            print(history.last.line(data.name, epochs, data.scored_on), flush=True)
    history.how = kept.how
    return history


# ---------------------------------------------------------------- scoring

class Score(NamedTuple):
    """Mean loss and accuracy in percent; None where nothing was scored."""
    loss: float | None
    accuracy: float | None


@torch.no_grad()
def predict(net, images, batch_size=500, autocast=False):
    """Return log-probabilities (N, outputs) of `images`, computed in eval mode."""
    net.eval()
    with half_precision(images.device, autocast):
        return torch.cat([net(x) for x in images.split(batch_size)])


def evaluate(net, split, autocast=False):
    """Return the mean loss and the accuracy in percent of `net` on `split`, in eval mode."""
    log_probabilities = predict(net, split.images, autocast=autocast)
    hits = (log_probabilities.argmax(1) == split.labels).sum().item()
    return Score(F.nll_loss(log_probabilities, split.labels).item(), 100 * hits / len(split.labels))


def score_once(history, net, split, autocast=False):
    """Score a trained `net` on the test set; return the accuracy, which `history` keeps."""
    wrong = predict(net, split.images, autocast=autocast).argmax(1) != split.labels
    history.misread = wrong.nonzero().flatten().tolist()
    history.test = 100 * (1 - len(history.misread) / len(split.labels))
    return history.test
