"""A training that can be interrupted: its whole state in one file, written after every epoch.

What is in the file is all that the next epoch depends on: weights, optimizer, scheduler,
gradient scaler and random streams, with the history so far and the recipe they belong to.
Resumed, a training ends as the uninterrupted one does, bit for bit on the same machine.
"""

import os
from pathlib import Path

import torch


class CheckpointError(Exception):
    """A checkpoint can't be read, or is of another network, recipe or data set."""


def recipe(net, data, optimizer, scheduler, **settings):
    """Describe a training that is about to start, as {what: text}; two that differ in it are not the same training."""
    return {
        "network": f"{type(net).__name__} {[tuple(p.shape) for p in net.parameters()]}",
        "data": f"{data.name}, {len(data.train.labels)} training images",
        "seed": str(torch.initial_seed()),
        "optimizer": f"{type(optimizer).__name__} {[{k: v for k, v in group.items() if k != 'params'} for group in optimizer.param_groups]}",
        "scheduler": f"{type(scheduler).__name__} {scheduler.state_dict()}" if scheduler else "none",
        **{what: str(setting) for what, setting in settings.items()},
    }


def save(path, described, history, net, optimizer, scheduler, scaler):
    """Write the state after the last epoch of `history` to `path`, whole or not at all."""
    state = {
        "recipe": described, "history": [tuple(epoch) for epoch in history],
        "net": net.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler and scheduler.state_dict(),
        "scaler": scaler.state_dict(), "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    part = Path(f"{path}.part")
    torch.save(state, part)
    os.replace(part, path)


def load(path, described, net, optimizer, scheduler, scaler):
    """Put the state in `path` in place and return the epochs of its history; raise CheckpointError, with nothing changed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        there = state["recipe"]
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint {path}; train without resume=True first") from None
    except Exception as error:   # whatever a truncated or foreign file makes torch.load raise
        raise CheckpointError(f"{path} is no checkpoint, or a part of one: {type(error).__name__}") from None
    for what, here in described.items():
        if there.get(what) != here:
            raise CheckpointError(f"{path} is of another {what}: {there.get(what)}, here {here}")
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    if scheduler:
        scheduler.load_state_dict(state["scheduler"])
    scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"]:
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return state["history"]
