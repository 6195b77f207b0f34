"""What a training is: its recipe and digest, what is refused, and its state in a file."""

import copy
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from lab import record, training
from lab.training import CheckpointError, describe, differences, digest
from model import DigitNet, StridedNet
from utils import Augment, Data, Split, fit, one_cycle, set_seed

# ---------------------------------------------------------------- the recipe

LAYERS = dict(conv=nn.Conv2d(1, 4, 3), norm=nn.BatchNorm2d(4), activation=nn.ReLU(), dropout=nn.Dropout(0.1),
              pool=nn.MaxPool2d(2), head=nn.Conv2d(4, 10, 1), mean=nn.AdaptiveAvgPool2d(1))
IMAGES, LABELS = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 10
NOISE = Data("MNIST", Split(IMAGES, LABELS), None)
sgd, adam = partial(SGD, lr=0.1, momentum=0.9), partial(Adam, lr=0.1)
steps, plateau = partial(StepLR, step_size=2), partial(ReduceLROnPlateau, patience=1)
cycle = partial(OneCycleLR, max_lr=0.1, total_steps=50)
smoothed = lambda outputs, labels, share=0.1: F.nll_loss(outputs, labels).lerp(-outputs.mean(), share)
flipped = lambda: partial(lambda images, axis: images.flip(axis), axis=3)   # another object each time


def described(layers=LAYERS, data=NOISE, optimizer=sgd, scheduler=lambda optimizer: None, **settings):
    net = DigitNet(nn.Sequential(*(LAYERS | layers).values()))
    made = optimizer(net.parameters())
    usual = dict(epochs=5, batch_size=10, augment=Augment(rotation=10), autocast=False, loss=F.nll_loss)
    return describe(net, data, made, scheduler(made), **usual | settings)


@pytest.mark.parametrize("what, different", {
    "layers": [
        dict(conv=nn.Conv2d(1, 4, 5)), dict(conv=nn.Conv2d(1, 4, 3, bias=False)), dict(norm=nn.Identity()),
        dict(conv=nn.Conv2d(1, 4, 3, stride=2)), dict(norm=nn.BatchNorm2d(4, eps=1e-3)),
        dict(dropout=nn.Dropout(0.2)), dict(dropout=nn.Dropout2d(0.1)), dict(activation=nn.SiLU()),
        dict(norm=LAYERS["activation"], activation=LAYERS["norm"])],
    "data": [NOISE._replace(train=Split(*train)) for train in (
        (IMAGES, LABELS.flip(0)), (IMAGES + 0.1, LABELS), (IMAGES[:15], LABELS[:15]), (IMAGES.mT, LABELS))],
    "epochs": [6], "batch_size": [20], "autocast": [True], "loss": [smoothed, partial(smoothed, share=0.2)],
    "augment": [None, Augment(rotation=11), flipped(), torch.sin, partial(torch.flip, dims=[2])],
    "optimizer": [
        partial(sgd, lr=0.11), partial(sgd, momentum=0.8), partial(sgd, weight_decay=1e-4), adam,
        partial(adam, betas=(0.95, 0.999)), partial(adam, eps=1e-6), lambda some: sgd([next(some)]),
        lambda rest: sgd([{"params": [next(rest)], "lr": 1}, {"params": rest}])],
    "scheduler": [
        steps, partial(steps, step_size=3), partial(steps, gamma=0.5), plateau, partial(plateau, patience=3),
        partial(plateau, mode="max"), cycle, partial(cycle, max_lr=0.2, div_factor=50),
        partial(cycle, pct_start=0.4), partial(cycle, final_div_factor=9), partial(cycle, max_momentum=0.9),
        partial(cycle, anneal_strategy="linear")]}.items())
def test_what_changes_the_figures_changes_the_digest(what, different):
    recipes = [described(), *(described(**{what: change}) for change in different)]
    assert len({digest(recipe) for recipe in recipes}) == len(recipes)
    assert all(differences(recipes[0], recipe) for recipe in recipes[1:])


@pytest.mark.parametrize("what, one, other", [
    ("augment", flipped(), flipped()), ("optimizer", sgd, partial(sgd, lr=0.1 + 1e-9)),
    ("layers", LAYERS, dict(conv=nn.Conv2d(1, 4, 3))), ("optimizer", sgd, partial(sgd, fused=True)),
    ("loss", smoothed, nn.CrossEntropyLoss(label_smoothing=0.1)),
    ("augment", *[Mock(side_effect=[IMAGES * call for call in range(4)])] * 2)])
def test_what_changes_no_figure_changes_no_digest(what, one, other):
    one, other = described(**{what: one}), described(**{what: other})
    assert differences(one, other) == [] and digest(one) == digest(other) and " at 0x" not in str(one)


def test_a_recipe_and_its_digest_are_those_in_the_record():
    recorded, net = record.read_record("12_fastest")["StridedNet, 1 epoch"].recipe, StridedNet()
    optimizer, schedule = one_cycle(net, 50_000, 1, 512, lr=0.04, muon_lr=0.15)
    here = describe(net, NOISE, optimizer, schedule, 1, 512, None, True, smoothed)
    assert differences(recorded, here | {"data": recorded["data"]}) == []   # MNIST need not be here
    rows = {*record.read_rows(record.RUNS)[["notebook", "run", "recipe"]].itertuples(index=False, name=None)}
    assert len(rows) > 40 and rows == {(notebook, run, digest(record.read_record(notebook)[run].recipe))
                                       for notebook, run, _ in rows}


def test_having_looked_changes_nothing(net, tiny, monkeypatch):
    chip = torch.Generator()   # the random stream of an accelerator
    monkeypatch.setattr(training, "_drawn_from", lambda: [torch, Mock(
        __name__="chip", get_rng_state=chip.get_state, set_rng_state=chip.set_state)])
    net.layers[1].eval()
    state = lambda: ([value.tolist() for value in (*net.state_dict().values(), torch.get_rng_state())],
                     chip.get_state().tolist(), [module.training for module in net.modules()])
    noise = lambda images: images + torch.rand(1) + torch.rand(1, generator=chip)
    before, optimizer = state(), sgd(net.parameters())
    training.check_training(net, tiny, optimizer, None, 1, 319, None, False)   # with a last batch of one
    describe(net, tiny, optimizer, None, 1, 319, noise, False, F.nll_loss)
    assert state() == before


# ---------------------------------------------------------------- what is refused

def test_what_would_go_wrong_silently_or_late_is_refused(net, tiny, capsys):
    """In a sentence; what is given here goes well, with a last batch of one."""
    (images, labels), made = tiny.train, sgd(net.parameters())
    given = dict(net=net, data=tiny, optimizer=made, epochs=1, batch_size=29)
    on = lambda *train: dict(data=tiny._replace(train=Split(*train)))
    normalised = nn.Sequential(net, nn.BatchNorm1d(10), nn.LogSoftmax(1))
    for message, change in {
            "epochs must be at least 1, got 0": dict(epochs=0),
            "batch_size takes a whole number, got 32.0": dict(batch_size=32.0),
            "batch_size must be at most the 320 training images, got 321": dict(batch_size=321),
            "data takes what load_mnist returns, a utils.Data, got list": dict(data=[tiny.train]),
            "optimizer takes one of torch.optim's, made of net.parameters()": dict(optimizer=SGD),
            "got labels (0,) for images (0, 1, 28, 28)": on(images[:0], labels[:0]),
            "expected a label (N,) for each of some images (N, 1, H, W), got": on(images, labels[:9]),
            "expected int64 labels from 0 up, got torch.float32": on(images, labels.float()),
            "expected int64 labels from 0 up, got torch.int64 from -1": on(images, labels - 1),
            "makes (2, 10) of 2 images; expected a row of log-prob": on(images, labels + 1),
            "makes (2, 2, 5) of 2 images": dict(net=nn.Sequential(net, nn.Unflatten(1, (2, 5)))),
            "not to 1; let it end in log_softmax": dict(net=net.layers),
            "the optimizer is of another network; make it": dict(optimizer=sgd(StridedNet().parameters())),
            "the scheduler is of another optimizer; make it": dict(scheduler=steps(sgd(net.parameters()))),
            "watches a held-out split, and there is no": dict(scheduler=plateau(made), data=tiny.unscored()),
            "for 11 batches, and 1 epochs of ... are 12": dict(scheduler=OneCycleLR(made, 0.1, 320 // 29)),
            "resume=True needs a checkpoint_file": dict(resume=True),
            "takes a file in a folder that can be written to, got no/a": dict(checkpoint_file="no/a"),
            "takes a file in a folder that can be written to, got .": dict(checkpoint_file="."),
            "leave a last batch of one, which ... batch_size=30 would do": dict(net=normalised)}.items():
        with pytest.raises((TypeError, ValueError), match=re.escape(message).replace(r"\.\.\.", ".*")):
            fit(**given | change)
    assert capsys.readouterr().out == "" and len(fit(**given)) == 1


# ---------------------------------------------------------------- its state in a file

def train(net, data, epochs=4, seed=0, lr=0.05, augment=None, cycle=True, **keeping):
    """Train under one cycle, with dropout."""
    set_seed(seed)
    optimizer, total = SGD(net.parameters(), lr, 0.9), epochs * -(-len(data.train.labels) // 16)
    scheduler = OneCycleLR(optimizer, lr, total) if cycle else None
    return fit(net, data, optimizer, scheduler, epochs, 16, augment, **keeping)


def outcome(history, net):
    """Return what does not depend on the clock."""
    return [[*epoch[:-1]] for epoch in history], [value.tolist() for value in net.state_dict().values()]


@pytest.mark.parametrize("mode, planned", [("", 3), ("record", 4)])
def test_resumed_as_if_never_stopped(net, tiny, tmp_path, monkeypatch, mode, planned):
    """From a user's file, with more epochs than planned, and from what `run.py --record` keeps by itself."""
    def run(stop=0, epochs=4, **keeping):   # 20 batches an epoch, of which 16 are turned at once
        calls, copied = iter(range(1, 20)), copy.deepcopy(net)

        def turn(images):
            if next(calls) == stop:
                raise InterruptedError
            return Augment(rotation=10)(images)
        return outcome(train(copied, tiny, epochs, augment=turn, cycle=planned == 4, **keeping), copied)
    whole = run()
    monkeypatch.setattr(training, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FIT_MODE", mode)
    keeping, resuming = ({}, {}) if mode else ({"checkpoint_file": "~/state"}, {"resume": True})
    with pytest.raises(InterruptedError):
        run(8, planned, **keeping)   # in the middle of epoch 3: the first two calls are the recipe's
    assert run(**keeping, **resuming) == whole
    assert run(3, **keeping, **resuming) == whole   # nothing is left to train
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize("spoil, change, message", [
    (str, dict(seed=1), "seed: 0 in the file, 1 here"), (str, dict(lr=0.1), "optimizer: .* record, .* here"),
    (str, dict(epochs=1), "epochs: 2 are done, 1 are wanted"), (Path.unlink, {}, "train without resume=True"),
    (lambda file: file.write_bytes(b""), {}, "is no checkpoint, or a part of one"),
    (lambda file: file.write_bytes(file.read_bytes()[:9999]), {}, "is no checkpoint, or a part of one"),
    (lambda file: torch.save(dict.fromkeys(torch.load(file), Path()), file), {}, "is no checkpoint")])
def test_another_state_is_refused_and_nothing_changes(net, tiny, tmp_path, spoil, change, message):
    """Nor is one that holds more than weights and numbers: reading it could run code."""
    settings, file, before = dict(epochs=2, cycle=False), tmp_path / "state", outcome([], net)
    train(copy.deepcopy(net), tiny, **settings, checkpoint_file=file)
    spoil(file)
    with pytest.raises(CheckpointError, match=message):
        train(net, tiny, **settings | change, checkpoint_file=file, resume=True)
    assert outcome([], net) == before


SCRIPT = """
import sys
sys.path.insert(0, "tests")
import model, utils
from test_training import *
set_seed(3)
data, net = utils.load_mnist(), DigitNet(model.block(1, 8, 5, 3, norm=True, dropout=0.1), nn.Linear(512, 10))
file, augment = Path(sys.argv[1]), Augment(rotation=10)
print(outcome(train(net, data, 8, augment=augment, checkpoint_file=file, resume=file.exists()), net))
"""


@pytest.mark.slow
def test_killed_three_times_and_resumed(tmp_path, no_mnist):
    """At some moment of an epoch or of writing; the end is that of a training left alone."""
    def start(file):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / file], cwd=record.ROOT, text=True,
                                stdout=subprocess.PIPE)
    for killed in range(1, 4):
        process = start("killed")
        next(line for line in process.stdout if f"epoch {2 * killed:2}/" in line)
        time.sleep(0.03 * killed)
        process.kill()
        assert process.wait() < 0
    ends = [start(file).communicate(timeout=300)[0].splitlines()[-1] for file in ("whole", "killed")]
    assert ends[0] == ends[1] and ends[0].startswith("([[1, ")
