"""What a training is: its epochs, the recipe that names it, whether it can end well, and its state in a file.

Two trainings with the same recipe and the same seed are the same training. A recipe is described from the
objects that are about to be trained. A state is all that the next epoch depends on: resumed from it, a
training ends as the uninterrupted one does, to the last bit on the same machine.
"""

import copy
import dataclasses
import hashlib
import inspect
import json
import math
import os
import zlib
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

ROOT = Path(__file__).resolve().parent.parent
UNFINISHED = ROOT / "runs" / "unfinished"   # what `run.py --record` and `--seeds` have trained so far


def mode():
    """Return what trainings are made for, as run.py and `pytest --nbval` say it to a notebook's kernel.

    "": by a reader, in full. "record": what is not recorded yet, in full, and kept. "test": the first epoch
    of a notebook's first run. "recorded": nothing. What is not trained is taken from the record.
    """
    return os.environ.get("FIT_MODE", "")


# ---------------------------------------------------------------- epochs

class Epoch(NamedTuple):
    """The figures of one epoch, in percent; `loss` and `accuracy` are of what scores the epochs."""
    epoch: int                # from 1
    train_loss: float         # running, as trained: with dropout and augmentation
    train_accuracy: float     # %, likewise
    loss: float | None        # of the validation split, else of the test set; None where nothing is scored
    accuracy: float | None    # %, likewise
    lr: float                 # at the end of the epoch, before a scheduler's step per epoch
    seconds: float            # of training, scoring not counted

    def line(self, dataset, epochs, scored_on):
        """Write the epoch as one line."""
        score = f"  {scored_on} {self.loss:.4f} {self.accuracy:6.2f} %" if self.accuracy is not None else ""
        train = f"train {self.train_loss:.4f} {self.train_accuracy:6.2f} %"
        rest = f"lr {self.lr:.2g}  {self.seconds:.1f} s"
        return f"{dataset}  epoch {self.epoch:2}/{epochs}  {train}{score}  {rest}"


class History(list):
    """The Epochs of one training of `network`, as far as it has come.

    dataset: "MNIST" or "digits sample". planned: the epochs that were asked for.
    scored_on: "validation" or "test", what scores the epochs; None where nothing does.
    seed and recipe: what the training is known by. trained: how many of the epochs were trained here; the
    others, and the weights, are from the record.
    test: accuracy in percent on the test set, scored once, after the last epoch; None where it was not.
    misread: places in the test set of the images that were misread then; ties: of those that were nearly so.
    """

    def __init__(self, epochs=(), *, dataset="MNIST", network="", parameters=0, planned=0, scored_on="test",
                 seed=0, recipe=None, test=None, misread=()):
        super().__init__(epochs)
        self.dataset, self.network, self.parameters, self.planned = dataset, network, parameters, planned
        self.scored_on, self.seed, self.recipe, self.trained = scored_on, seed, recipe or {}, planned
        self.test, self.misread, self.ties = test, list(misread), []

    @property
    def best(self):
        """The first epoch of the highest accuracy: chosen on the images that score it, so it flatters."""
        return max(self._some(), key=lambda epoch: epoch.accuracy)

    @property
    def last(self):
        """The last epoch."""
        return self._some()[-1]

    def _some(self):
        if not self:
            raise ValueError(f"the training of {self.network} was interrupted in its first epoch, so it has"
                             " no figures; run its cell again")
        return self

    def print_last(self):
        """Print the line of the last epoch."""
        print(self.last.line(self.dataset, self.planned, self.scored_on), flush=True)


# ---------------------------------------------------------------- the recipe

SETTINGS = (   # of layers
    "kernel_size", "stride", "padding", "padding_mode", "dilation", "groups", "ceil_mode", "p", "eps",
    "momentum", "affine", "track_running_stats", "negative_slope", "alpha", "num_groups")
RATES = "lr", "max_lr", "min_lr", "base_momentum", "max_momentum"   # of optimizers, some set by OneCycleLR
IMPLEMENTATION = "params", "fused", "foreach", "capturable", "differentiable"   # change no number


def describe(net, data, optimizer, scheduler, epochs, batch_size, augment, autocast, loss):
    """Describe a training that is about to start, as {what: text}."""
    return {
        **{f"layer {number}": text for number, text in enumerate(_layers(net, data.train.images[:1]), 1)},
        "data": _data(data),
        "optimizer": _optimizer(optimizer, net),
        "scheduler": _scheduler(scheduler),
        "epochs": str(epochs),
        "batch size": str(batch_size),
        "augmentation": _augmentation(augment, data.train.images[:16]),
        "16 bits": str(bool(autocast)),
        **({} if loss is F.nll_loss else {"loss": _loss(loss, data.train.labels.device)}),
    }


def digest(description):
    """Return the name of a description: eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:8]


def differences(recorded, here):
    """List in words what differs between two descriptions."""
    return [f"{what}: {recorded.get(what, 'none')} in the record, {here.get(what, 'none')} here"
            for what in {**recorded, **here} if recorded.get(what) != here.get(what)]


def _layers(net, image):
    """List the layers of `net` as they run on `image` (1, 1, H, W), with the sizes of their maps."""
    texts = []
    note = lambda layer, _, out: texts.append(_layer(layer, out)) if not list(layer.children()) else None
    hook = register_module_forward_hook(note)
    try:
        _look(net, image)
    finally:
        hook.remove()
    return texts


def _look(net, images):
    """Return what `net` makes of `images` in eval mode, and leave no trace of it."""
    with torch.no_grad(), same_modes(net), same_streams():
        return net.eval()(images)


def _layer(layer, out):
    words = [type(layer).__name__, *(_size(parameter) for parameter in layer.parameters())]
    words += [f"{name} {_plain(getattr(layer, name))}" for name in SETTINGS if hasattr(layer, name)]
    return " ".join(words) + f" -> {_size(out[0])}"


def _size(tensor):
    return "x".join(map(str, getattr(tensor, "shape", ())))


def _data(data):
    """Name the training set, with what tells it from any other."""
    sums = [f"{zlib.crc32(part.cpu().contiguous().numpy()):08x}" for part in data.train]
    return f"{data.name}, {len(data.train.labels):,} images {sums[0]}, labels {sums[1]}"


def _augmentation(augment, images):
    """Name an augmentation: by its fields, or by a mean of what it makes of some images from a set seed."""
    if augment is None or dataclasses.is_dataclass(augment):
        return str(augment)
    made = []
    for _ in range(2):
        with same_streams():
            torch.manual_seed(0)
            out = augment(images).float().flatten()
            weights = torch.arange(len(out), device=out.device).sin().relu()   # so that places count
            made.append(f"a function; what it makes has a weighted mean of {out @ weights / len(out):.4g}")
    return made[0] if made[0] == made[1] else "a function that draws from elsewhere than PyTorch's seed"


def _loss(loss, device):
    """Name a loss by its value for set log-probabilities."""
    log_probabilities = torch.linspace(-3, 3, 50, device=device).sin().view(5, 10).log_softmax(1)
    return f"{loss(log_probabilities, torch.arange(5, device=device)):.5g} of a set example"


def _optimizer(optimizer, net):
    """Name the class and, for each group of parameters, its rates and what is not the class's default."""
    usual, groups = inspect.signature(type(optimizer)).parameters, []
    size_of = lambda parameters: sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    for group in optimizer.param_groups:
        settings = [f"{name}={_plain(value)}" for name, value in group.items() if name in RATES or
                    name in usual and name not in IMPLEMENTATION and value != usual[name].default]
        if size_of(group["params"]) != size_of(net.parameters()):
            settings.insert(0, f"{size_of(group['params']):,} of the parameters")
        groups.append(" ".join(settings))
    return f"{type(optimizer).__name__} {'; '.join(groups)}"


def _scheduler(scheduler):
    """Name the class and the settings that PyTorch keeps, but for what it counts."""
    if scheduler is None:
        return "none"
    kept = {name.strip("_"): value for name, value in scheduler.state_dict().items()
            if not name.startswith("_") or name in ("_schedule_phases", "_anneal_func_type")}   # OneCycleLR's
    settings = " ".join(f"{name}={_plain(value)}" for name, value in sorted(kept.items()))
    return f"{type(scheduler).__name__} {settings}"


def _plain(value):
    """Write a setting so that every machine writes it alike: numbers with six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in value]
        return parts[0] if parts and len(set(parts)) == 1 else f"({', '.join(parts)})"
    if isinstance(value, dict):
        return f"({', '.join(f'{name}={_plain(part)}' for name, part in sorted(value.items()))})"
    return str(value)


# ---------------------------------------------------------------- whether it can end well

def check_training(net, data, optimizer, scheduler, epochs, batch_size, checkpoint_file, resume):
    """Raise TypeError or ValueError for what would go wrong silently or late; change nothing."""
    if not hasattr(data, "held_out"):
        raise TypeError(f"data takes what load_mnist returns, a utils.Data, got {type(data).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer takes one of torch.optim's, made of net.parameters(), got {optimizer!r}")
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if not isinstance(value, Integral):
            raise TypeError(f"{name} takes a whole number, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    for split in filter(None, (data.train, data.held_out)):
        if len(split.labels) == 0 or split.labels.shape != split.images.shape[:1]:
            raise ValueError(f"expected a label (N,) for each of some images (N, 1, H, W), got labels"
                             f" {tuple(split.labels.shape)} for images {tuple(split.images.shape)}")
        if split.labels.dtype != torch.long or split.labels.min() < 0:
            raise ValueError(f"expected int64 labels from 0 up, got {split.labels.dtype} from"
                             f" {split.labels.min()}")
    images = len(data.train.labels)
    if batch_size > images:
        raise ValueError(f"batch_size must be at most the {images:,} training images, got {batch_size}")
    ours = {id(parameter) for parameter in net.parameters()}
    if not all(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("the optimizer is of another network; make it of this one's parameters()")
    if scheduler and scheduler.optimizer is not optimizer:
        raise ValueError("the scheduler is of another optimizer; make it of the one that fit is given")
    if isinstance(scheduler, ReduceLROnPlateau) and not data.held_out:
        raise ValueError("ReduceLROnPlateau watches a held-out split, and there is none; take data with one")
    steps, planned = epochs * -(-images // batch_size), getattr(scheduler, "total_steps", None)
    if planned and planned < steps:
        raise ValueError(f"the scheduler is made for {planned:,} batches, and {epochs} epochs of"
                         f" {images:,} images in batches of {batch_size} are {steps:,}; make it anew")
    if resume and not checkpoint_file:
        raise ValueError("resume=True needs a checkpoint_file")
    path = Path(checkpoint_file).expanduser() if checkpoint_file else None
    if path and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ValueError(f"checkpoint_file takes a file in a folder that can be written to, got {path}")
    classes = 1 + max(split.labels.max().item() for split in filter(None, (data.train, data.held_out)))
    _try(net, data.train.images[:2], classes)
    if images % batch_size == 1:
        _try_one(net, data.train.images[:1], images, batch_size)


def _try(net, images, classes):
    """Raise ValueError for a network that has too few outputs, or other ones than log-probabilities."""
    outputs = _look(net, images)
    if outputs.ndim != 2 or len(outputs) != len(images) or outputs.shape[1] < classes:
        raise ValueError(f"the network makes {tuple(outputs.shape)} of {len(images)} images; expected a row"
                         f" of log-probabilities for each, of {classes} classes or more")
    sums = outputs.float().exp().sum(1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=0.01) and outputs.isfinite().all():
        raise ValueError("the network returns no log-probabilities: their exponentials add up to"
                         f" {sums[0]:.3g} and not to 1; let it end in log_softmax")


def _try_one(net, image, images, batch_size):
    """Raise ValueError where the last batch holds one image and a layer such as BatchNorm1d needs two."""
    try:
        with same_streams(), torch.no_grad():
            copy.deepcopy(net).train()(image)
    except ValueError as error:
        fits = next(size for size in range(batch_size + 1, images + 1) if images % size != 1)
        raise ValueError(f"{images:,} images in batches of {batch_size} leave a last batch of one, which"
                         f" batch norm cannot take ({error}); batch_size={fits} would do") from None


def mean_loss(losses, sizes):
    """Return the mean loss of all images of an epoch; FloatingPointError names a batch whose loss is none."""
    losses = torch.stack(losses).cpu().double()
    for number, loss in enumerate(losses.tolist(), 1):
        check_loss(loss, f"batch {number} of {len(losses)}")
    return (losses @ torch.tensor(sizes).double() / sum(sizes)).item()


def check_loss(loss, what):
    """Raise FloatingPointError where the `loss` of `what` is no number."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss of {what} is {loss}")


@contextmanager
def keeps(history, optimizer):
    """Keep the epochs of a training that is stopped: as a History, or as the `history` of what is raised."""
    try:
        yield
    except KeyboardInterrupt:
        done = f"interrupted after {len(history)} of {history.planned} epochs"
        print(f"{history.dataset}: {done}; this is their history")
    except Exception as error:   # a loss that is no number, or of a scheduler or an augmentation
        if isinstance(error, FloatingPointError):
            rate = optimizer.param_groups[0]["lr"]
            error.args = (f"epoch {len(history) + 1}: {error}, near a learning rate of {rate:.3g};"
                          " a lower one may do",)
        error.history = history
        raise


# ---------------------------------------------------------------- its state in a file

def unfinished(history):
    """Return the file that keeps a training which is recorded, and whether it is there already."""
    UNFINISHED.mkdir(parents=True, exist_ok=True)
    path = UNFINISHED / f"{digest(history.recipe)}-{history.seed}.pt"
    return path, path.exists()


class CheckpointError(Exception):
    """A state can't be read, or is of another network, recipe, seed or data set."""


def save(path, history, parts):
    """Write the state after the last epoch of `history` to `path`, whole or not at all.

    parts: {name: network, optimizer or scheduler}, whatever has a state_dict.
    """
    state = {"recipe": history.recipe, "seed": history.seed, "history": [tuple(epoch) for epoch in history],
             "streams": _streams(), **{name: part.state_dict() for name, part in parts.items()}}
    path = Path(path).expanduser()
    torch.save(state, f"{path}.part")
    os.replace(f"{path}.part", path)


def load(path, history, parts):
    """Put the state in `path` in place, and its epochs into `history`.

    The number of epochs may be another one: a scheduler that depends on it has it in its own settings.
    Raises CheckpointError, with nothing changed, for a file that is no state or that of another training.
    """
    try:
        state = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
        there, seed, epochs, streams = (state[name] for name in ("recipe", "seed", "history", "streams"))
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint {path}; train without resume=True first") from None
    except Exception as error:   # whatever a truncated or foreign file makes torch.load raise
        raise CheckpointError(f"{path} is no checkpoint, or a part of one: {type(error).__name__}") from None
    other = differences(there | {"epochs": history.recipe["epochs"]}, history.recipe)
    if len(epochs) > history.planned:
        other.append(f"epochs: {len(epochs)} are done, {history.planned} are wanted")
    if seed != history.seed:
        other.append(f"seed: {seed} in the file, {history.seed} here")
    if other:
        raise CheckpointError(f"{path} is of another training. {'; '.join(other)}")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    _set_streams(streams)
    for epoch in epochs:
        history.append(Epoch(*epoch))
        history.print_last()


# ---------------------------------------------------------------- left as it was

@contextmanager
def same_modes(net):
    """Let every module of `net` be in the mode, train or eval, that it was in before."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def same_streams():
    """Let the random streams go on as if nothing had been drawn."""
    streams = _streams()
    try:
        yield
    finally:
        _set_streams(streams)


def _streams():
    """Return the state of each random stream that a training may draw from, by its module."""
    return {module.__name__: module.get_rng_state() for module in _drawn_from()}


def _set_streams(streams):
    """Continue from what `_streams` returned, here or on another machine."""
    for module in _drawn_from():
        if module.__name__ in streams:
            module.set_rng_state(streams[module.__name__])


def _drawn_from():
    return [torch, torch.get_device_module()] if torch.accelerator.is_available() else [torch]
