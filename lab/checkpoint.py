"""A training that can be interrupted, and one that is tested: its whole state in a file.

A state is all that the next epoch depends on: weights, optimizer, scheduler and random streams, with the seed
and the recipe that they belong to. Resumed, a training ends as the uninterrupted one does, to the last bit on
the same machine. `keeper` chooses what is kept of a training: nothing, a file of the user's, or what
`run.py --record` needs to continue after an interruption; for the tests it takes up the recorded state.
"""

import os
from pathlib import Path

import torch

from lab import recipe, records

ROOT = Path(__file__).resolve().parent.parent
STATES = ROOT / "results" / "states"       # the state before the last epoch of every recorded training
UNFINISHED = ROOT / "runs" / "unfinished"  # what `run.py --record` and `--seeds` have trained so far
LEAST = 10   # epochs of a training whose state is recorded: a shorter one is tested by its first epoch alone
LARGE = 100_000   # parameters: an epoch of the baseline takes minutes on a slow CPU, so one has to do


class CheckpointError(Exception):
    """A state can't be read, or is of another network, recipe, seed or data set."""


def save(path, training, history):
    """Write the state after the last epoch of `history` to `path`, whole or not at all."""
    state = {
        "recipe": training.recipe, "seed": training.seed, "history": [tuple(epoch) for epoch in history],
        **{name: part.state_dict() for name, part in training.parts.items()},
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "random_mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }
    part = Path(f"{path}.part")
    torch.save(state, part)
    os.replace(part, path)


def load(path, training):
    """Put the state in `path` in place and return the epochs of its history as tuples.

    The number of epochs may be another one: a scheduler that depends on it has it in its own settings.
    Raises CheckpointError, with nothing changed, for a file that is no state or that of another training.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        there, seed, history = state["recipe"], state["seed"], state["history"]
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint {path}; train without resume=True first") from None
    except Exception as error:   # whatever a truncated or foreign file makes torch.load raise
        raise CheckpointError(f"{path} is no checkpoint, or a part of one: {type(error).__name__}") from None
    other = recipe.differences(there | {"epochs": training.recipe["epochs"]}, training.recipe)
    if len(history) > int(training.recipe["epochs"]):
        other.append(f"epochs: {len(history)} are done, {training.recipe['epochs']} are wanted")
    if seed != training.seed:
        other.append(f"seed: {seed} in the file, {training.seed} here")
    if other:
        raise CheckpointError(f"{path} is of another training. {'; '.join(other)}")
    for name, part in training.parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    if state["random_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    if state["random_mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["random_mps"])
    return history


class Training:
    """What names a training, saves and restores it: recipe, seed and the parts that have a state."""

    def __init__(self, net, data, optimizer, scheduler, **settings):
        self.recipe = recipe.describe(net, data, optimizer, scheduler, **settings)
        self.digest = recipe.digest(self.recipe)
        self.seed = torch.initial_seed()
        self.on_mnist = data.name == "MNIST"
        self.parts = {"net": net, "optimizer": optimizer}
        if scheduler:
            self.parts["scheduler"] = scheduler

    @property
    def file(self):
        return f"{self.digest}-{self.seed}.pt"


# ---------------------------------------------------------------- what is kept of a training

def keeper(training, path, resume):
    """Return what keeps the states of `training`, by the user's wish or by the mode of run.py or a test."""
    if path:
        return File(training, path, resume)
    mode = os.environ.get("FIT_MODE") if training.on_mnist else None
    if mode == "record":
        return Recording(training)
    return Tested(training) if mode == "test" else Keeper(training)


class Keeper:
    """Keeps nothing: the training is made in full."""

    how = ""   # what a reader has to know of a history that was not trained in full

    def __init__(self, training):
        self.training = training

    def begin(self):
        """Return the epochs that are done already, as tuples."""
        return []

    def goes_on(self, history, epochs):
        """Tell whether there is an epoch to train; may put recorded ones into `history` first."""
        return len(history) < epochs

    def after_epoch(self, history, epochs):
        """Keep what is to be kept."""


class File(Keeper):
    """Keeps the state in a file, which is taken up where the user asks for it."""

    def __init__(self, training, path, resume):
        super().__init__(training)
        self.path, self.resume = Path(path).expanduser(), resume

    def begin(self):
        return load(self.path, self.training) if self.resume else []

    def after_epoch(self, history, epochs):
        save(self.path, self.training, history)


class Recording(File):
    """Keeps the last state, so that an interrupted recording continues, and the one before the last epoch."""

    def __init__(self, training):
        UNFINISHED.mkdir(parents=True, exist_ok=True)
        path = UNFINISHED / training.file
        super().__init__(training, path, path.exists())

    def after_epoch(self, history, epochs):
        super().after_epoch(history, epochs)
        if len(history) == epochs - 1 and epochs >= LEAST:
            before = UNFINISHED / "before"
            before.mkdir(exist_ok=True)
            save(before / self.training.file, self.training, [])   # its epochs are in the record


class Tested(Keeper):
    """Takes up the recorded state before the last epoch, and trains that one.

    The first training of a notebook makes its first epoch from scratch before that, unless the network is
    large.
    """

    def __init__(self, training):
        super().__init__(training)
        found = records.find(training.digest, training.seed)
        if found is None:
            nearest = records.nearest(training.recipe, training.seed)
            raise CheckpointError(f"this training is not recorded. {nearest}")
        self.recorded, place = found
        self.from_scratch = int(place == 0 and self.recorded.parameters < LARGE)   # epochs

    def goes_on(self, history, epochs):
        if epochs < LEAST:
            self.how = f"epoch 1 of {epochs} alone" if epochs > 1 else ""
            return not history
        if len(history) == self.from_scratch:
            path = STATES / self.training.file
            if not path.exists():
                raise CheckpointError(f"results/states has no {path.name}, the state before the last epoch;"
                                      " `python run.py --record NAME` makes it")
            load(path, self.training)
            history += self.recorded[self.from_scratch:-1]
            self.how = f"epochs {self.from_scratch + 1} to {epochs - 1} from the record"
            print(f"{history.dataset}  {self.how}", flush=True)
        return len(history) < epochs
