"""Everything a training needs but the network and the pictures, in the order of a run.

Constants, seed and device, data, augmentation, one epoch of training, `fit`, `predict` and `evaluate`.
Accuracies are in percent and losses are mean negative log-likelihoods, everywhere. A data set is one tensor
that lives on the device: no DataLoader stands in the way. Networks are in `model.py`, pictures in `plots.py`.
What can be asked of any network (`summary`, `receptive_field`, `check`) and of the record (`Results`,
`compare`, `read_record`, `load_weights`) is in `lab/` and can be imported from here.
"""

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.optim import lr_scheduler
from tqdm import tqdm

from lab import data as mnist
from lab import fast, training
from lab.analysis import IMAGE, check, count_parameters, receptive_field, show_source, summary
from lab.data import MEAN, STD  # of the 60,000 training images scaled to [0, 1]
from lab.fast import half_precision
from lab.optimizers import MuonWithAdamW, one_cycle, orthogonal
from lab.record import load_weights, read_record, take_up, trained_here
from lab.results import Results, compare
from lab.training import Epoch, History

__all__ = ["BLACK", "CLASSES", "IMAGE", "MEAN", "STD", "Augment", "Data", "Epoch", "History", "MuonWithAdamW",
           "Results", "Score", "Split", "batches", "check", "compare", "count_parameters", "evaluate", "fit",
           "load_mnist", "load_weights", "one_cycle", "orthogonal", "pick_device", "predict", "read_record",
           "receptive_field", "score_once", "set_seed", "show_source", "summary", "train_epoch"]
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
    about MNIST. Raises lab.data.DataError where what lies in MNIST's place is something else.
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


def train_epoch(net, examples, optimizer, scheduler=None, loss=F.nll_loss, autocast=False):
    """Train `net` on `examples`, batches of images and labels; return mean loss and accuracy in percent."""
    net.train()
    losses, sizes, hits = [], [], 0
    for images, labels in examples:
        with half_precision(images.device, autocast):
            log_probabilities = net(images)
        optimizer.zero_grad()
        loss(log_probabilities, labels).backward()
        optimizer.step()
        if isinstance(scheduler, PER_BATCH):
            scheduler.step()
        losses.append(F.nll_loss(log_probabilities.detach(), labels))   # stays on the device: nobody waits
        sizes.append(len(labels))
        hits += (log_probabilities.argmax(1) == labels).sum()
    return Score(training.mean_loss(losses, sizes), 100 * hits.item() / sum(sizes))


def step_after_epoch(scheduler, score):
    """Let a scheduler that steps once per epoch take its step."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(score.accuracy if scheduler.mode == "max" else score.loss)
    elif scheduler and not isinstance(scheduler, PER_BATCH):
        scheduler.step()


def fit(net, data, optimizer, scheduler=None, epochs=15, batch_size=128, augment=None, autocast=False,
        loss=F.nll_loss, checkpoint_file=None, resume=False):
    """Train `net` on `data.train`, score it on the held-out split after every epoch, return the History.

    scheduler: any of PyTorch's. OneCycleLR and CyclicLR step after every batch, ReduceLROnPlateau
    on the held-out accuracy (mode "max") or loss (mode "min"), all others after every epoch.
    augment: a function of a batch of images, such as `Augment(rotation=10)`.
    autocast: compute in 16 bits where the device does so natively, else change nothing.
    loss: a function of log-probabilities and labels; the losses that are printed are always `nll_loss`.
    checkpoint_file: write the whole state there after every epoch; resume: continue from that file.

    On a CPU, batch norm and dropout are computed by faster code; afterwards the network is as it was made.
    Interrupted from the keyboard, it returns the epochs so far. Raises ValueError or TypeError before any
    work for what would go wrong silently or late, CheckpointError for a file that cannot be resumed,
    FloatingPointError where a loss is no number; what is raised later has the epochs so far as `history`.
    """
    training.check_training(net, data, optimizer, scheduler, epochs, batch_size, checkpoint_file, resume)
    recipe = training.describe(net, data, optimizer, scheduler, epochs, batch_size, augment, autocast, loss)
    count = sum(parameter.numel() for parameter in net.parameters())
    history = History(dataset=data.name, network=type(net).__name__, parameters=count, planned=epochs,
                      scored_on=data.scored_on, seed=torch.initial_seed(), recipe=recipe)
    parts = {"net": net, "optimizer": optimizer, **({"scheduler": scheduler} if scheduler else {})}
    stop = trained_here(history) if training.mode() else epochs   # the rest is taken from the record
    if stop < epochs:
        checkpoint_file, resume = None, False
    elif training.mode() == "record":
        checkpoint_file, resume = training.unfinished(history)
    if resume:
        training.load(checkpoint_file, history, parts)
    with training.keeps(history, optimizer), training.same_modes(net), fast.training(net, optimizer):
        for epoch in range(len(history) + 1, stop + 1):
            start = time.perf_counter()
            bar = tqdm(batches(data.train, batch_size, augment), f"{data.name} epoch {epoch}",
                       -(-len(data.train.labels) // batch_size), leave=False, disable=None, unit=" batches")
            train = train_epoch(net, bar, optimizer, scheduler, loss, autocast)
            seconds = time.perf_counter() - start
            score = Score(None, None)
            if data.held_out:
                score = evaluate(net, data.held_out, autocast)
                training.check_loss(score.loss, f"the {data.scored_on} images")
            lr = optimizer.param_groups[0]["lr"]
            step_after_epoch(scheduler, score)
            history.append(Epoch(epoch, *train, *score, lr, round(seconds, 2)))
            history.print_last()
            if checkpoint_file:
                training.save(checkpoint_file, history, parts)
        if stop < epochs:
            take_up(history, net)
            agrees(history, net, data, autocast)
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
    with half_precision(images.device, autocast), fast.channels_last(net):
        return torch.cat([net(x) for x in images.split(batch_size)])


def evaluate(net, split, autocast=False):
    """Return the mean loss and the accuracy in percent of `net` on `split`, in eval mode."""
    log_probabilities = predict(net, split.images, autocast=autocast)
    hits = (log_probabilities.argmax(1) == split.labels).sum().item()
    return Score(F.nll_loss(log_probabilities, split.labels).item(), 100 * hits / len(split.labels))


def near_ties(log_probabilities, autocast=False):
    """Return the places of the images whose two likeliest classes are as near as rounding may move them."""
    first, second = log_probabilities.topk(2).values.T
    return (first - second < (0.3 if autocast else 0.02)).nonzero().flatten().tolist()


def score_once(history, net, split, autocast=False):
    """Score a trained `net` on the test set; return the accuracy, which `history` keeps."""
    log_probabilities = predict(net, split.images, autocast=autocast)
    history.misread = (log_probabilities.argmax(1) != split.labels).nonzero().flatten().tolist()
    history.ties = near_ties(log_probabilities, autocast)
    history.test = 100 * (1 - len(history.misread) / len(split.labels))
    return history.test


def agrees(history, net, data, autocast):
    """Raise AssertionError where `net` with recorded weights does not score as its History says."""
    if data.held_out:
        images, labels = data.held_out
        log_probabilities = predict(net, images, autocast=autocast)
        accuracy = 100 * (log_probabilities.argmax(1) == labels).float().mean().item()
        doubt = 100 * len(near_ties(log_probabilities, autocast)) / len(labels)
        assert abs(accuracy - history.last.accuracy) <= doubt + 0.005, (
            f"the recorded weights read {accuracy:.2f} % of the {data.scored_on} images, and the record says"
            f" {history.last.accuracy:.2f} %; are they the weights of this training?")
