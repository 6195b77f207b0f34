"""What `fit` refuses before any work, because it could not end well, and what it keeps if it ends badly."""

import copy
import inspect
import os
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


def arguments(net, data, optimizer, scheduler, epochs, batch_size, label_smoothing, checkpoint_file, resume):
    """Raise TypeError for arguments of `fit` of a wrong kind, ValueError where they do not fit together.

    Nothing is changed.
    """
    _kinds(data, optimizer, epochs=epochs, batch_size=batch_size)
    labels, held_out = data.train.labels, data.held_out
    for split in filter(None, (data.train, held_out)):
        if len(split.images) != len(split.labels) or split.labels.dtype != torch.long:
            raise ValueError(f"expected an int64 label for each image, got {len(split.images):,} images and"
                             f" {len(split.labels):,} labels of {split.labels.dtype}")
    if len(labels) == 0 or held_out and len(held_out.labels) == 0:
        raise ValueError(f"an empty split: {len(labels)} training images,"
                         f" {len(held_out.labels) if held_out else 'no'} images to score")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not 1 <= batch_size <= len(labels):
        raise ValueError(f"batch_size must be between 1 and the {len(labels):,} training images,"
                         f" got {batch_size}")
    if not isinstance(label_smoothing, Real) or not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing takes a share, from 0 to less than 1, got {label_smoothing!r}")
    if labels.min() < 0:
        raise ValueError(f"the labels begin at {labels.min().item()}; expected 0 and up")
    places = {parameter.device for parameter in net.parameters()} - {labels.device}
    if places:
        raise ValueError(f"the network is on {places.pop()}, the data on {labels.device}; move it before its"
                         " optimizer is made: net.to(data.train.images.device)")
    ours = {id(parameter) for parameter in net.parameters()}
    if not all(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("the optimizer is of another network")
    if scheduler and scheduler.optimizer is not optimizer:
        raise ValueError("the scheduler is of another optimizer")
    if isinstance(scheduler, ReduceLROnPlateau) and not held_out:
        raise ValueError("ReduceLROnPlateau watches a held-out split, and there is none")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure and closure.default is inspect.Parameter.empty:
        raise ValueError(f"{type(optimizer).__name__} calls the network itself; take one such as SGD or Adam")
    steps, planned = epochs * -(-len(labels) // batch_size), getattr(scheduler, "total_steps", None)
    if planned and planned < steps:
        raise ValueError(f"the scheduler is made for {planned:,} batches, and {epochs} epochs of"
                         f" {len(labels):,} images in batches of {batch_size} are {steps:,}")
    if resume and not checkpoint_file:
        raise ValueError("resume=True needs a checkpoint_file")
    path = Path(checkpoint_file or "none").expanduser()
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        fault = "is a folder" if path.is_dir() else f"there is no folder {path.parent} that can be written to"
        raise ValueError(f"checkpoint_file {path}: {fault}")
    _network(net, data.train.images[:2], labels.max().item() + 1)
    if len(labels) % batch_size == 1:
        _batch_of_one(net, data.train.images[:1], len(labels), batch_size)


def _kinds(data, optimizer, **numbers):
    """Raise TypeError for arguments of a wrong kind."""
    if not hasattr(data, "held_out"):
        raise TypeError(f"data takes what load_mnist returns, a utils.Data, got {type(data).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer takes one of torch.optim's, made of net.parameters(), got {optimizer!r}")
    for name, value in numbers.items():
        if not isinstance(value, Integral):
            raise TypeError(f"{name} takes a whole number, got {value!r}")


@torch.no_grad()
def _network(net, images, classes):
    """Raise ValueError for a network that has too few outputs, or other ones than log-probabilities.

    Random streams, mode and batch norm's statistics stay as they are.
    """
    training = net.training
    with torch.random.fork_rng(devices=[]):
        outputs = net.eval()(images)
    net.train(training)
    if outputs.ndim != 2 or len(outputs) != len(images):
        raise ValueError(f"the network makes {tuple(outputs.shape)} of {len(images)} images; expected"
                         f" ({len(images)}, {classes}), a row of log-probabilities for each")
    if outputs.shape[1] < classes:
        raise ValueError(f"the network has {outputs.shape[1]} outputs, the labels go up to {classes - 1}")
    sums = outputs.float().exp().sum(1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=0.01) and outputs.isfinite().all():
        raise ValueError("the network returns no log-probabilities: their exponentials add up to"
                         f" {sums[0]:.3g} and not to 1; let it end in log_softmax")


def _batch_of_one(net, image, images, batch_size):
    """Raise ValueError where the last batch holds one image and a layer such as BatchNorm1d needs two."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            copy.deepcopy(net).train()(image)
    except ValueError as error:
        fits = next(size for size in range(batch_size, 1, -1) if images % size != 1)
        raise ValueError(f"{images:,} images in batches of {batch_size} leave a last batch of one, which"
                         f" batch norm cannot take ({error}); batch_size={fits} would do") from None


def finite(losses, what):
    """Return `losses` as a tensor on the CPU; raise FloatingPointError for one that is no number."""
    losses = torch.stack(losses).cpu().double()
    wrong = (~losses.isfinite()).nonzero()
    if len(wrong):
        first = wrong[0].item()
        raise FloatingPointError(f"the loss of {what} {first + 1} of {len(losses)} is {losses[first]}")
    return losses


@contextmanager
def keeps(history, optimizer):
    """Keep the epochs of a training that is stopped: as a History, or as the `history` of what is raised."""
    try:
        yield
    except KeyboardInterrupt:
        done = f"interrupted after {len(history)} of {history.planned} epochs"
        print(f"{history.dataset}: {done}; this is their history")
    except FloatingPointError as error:
        rate = optimizer.param_groups[0]["lr"]
        stopped = FloatingPointError(f"epoch {len(history) + 1}: {error}, near a learning rate of {rate:.3g};"
                                     " a lower one may do")
        stopped.history = history
        raise stopped from None
    except Exception as error:   # of a scheduler or an augmentation
        error.history = history
        raise
