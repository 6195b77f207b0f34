"""Trainings killed, interrupted and resumed, trainings tested, and states refused."""

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import utils
from lab import checkpoint, records
from lab.checkpoint import LEAST, CheckpointError
from model import DigitNet
from utils import Augment, fit, set_seed

ROTATED = Augment(rotation=10)


def train(net, data, epochs=4, lr=0.05, batch_size=64, augment=ROTATED, seed=0, **keeping):
    """Train under one cycle, with dropout and augmentation, so that every random stream is in use."""
    set_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    steps = -(-len(data.train.labels) // batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs=epochs, steps_per_epoch=steps)
    return fit(net, data, optimizer, scheduler, epochs, batch_size, augment, **keeping)


def bits(history):
    """Return what does not depend on the clock."""
    return [epoch[:-1] for epoch in history]


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def mnist(tiny, tmp_path, monkeypatch):
    """A few digits that are taken for MNIST, and folders of their own for records and states."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(checkpoint, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setattr(checkpoint, "STATES", tmp_path / "unfinished" / "before")
    return tiny._replace(name="MNIST")


# ---------------------------------------------------------------- interrupted

def turned(stop=0):
    """Return a rotation that interrupts the training at its call number `stop`."""
    calls = []

    def turn(images):
        calls.append(len(images))
        if len(calls) == stop:
            raise InterruptedError
        return ROTATED(images)
    return turn


@pytest.mark.parametrize("mode", ["", "record"])
def test_resumed_as_if_never_stopped(net, mnist, tmp_path, monkeypatch, mode):
    """From a user's checkpoint, and from what `run.py --record` keeps by itself."""
    def run(net, stop=0, **keeping):   # 20 batches an epoch, of which 16 are turned at once
        return train(net, mnist, batch_size=16, augment=turned(stop), **keeping)
    whole_net, stopped, resumed_net = (copy.deepcopy(net) for _ in range(3))
    whole = run(whole_net)
    monkeypatch.setenv("FIT_MODE", mode)
    keeping = {} if mode else dict(checkpoint_file=tmp_path / "state")
    with pytest.raises(InterruptedError):
        run(stopped, stop=6, **keeping)   # in the middle of epoch 3
    keeping |= {} if mode else dict(resume=True)
    resumed = run(resumed_net, **keeping)
    assert bits(resumed) == bits(whole) and len(resumed) == 4 and same_weights(resumed_net, whole_net)
    finished = run(net, stop=1, **keeping)   # there is nothing left to train
    assert bits(finished) == bits(whole) and same_weights(net, whole_net)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_interrupted_from_the_keyboard_the_history_comes_back(net, tiny, capsys):
    calls = []

    def interrupt(images):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return images
    history = train(net, tiny, augment=interrupt)
    assert [epoch.epoch for epoch in history] == [1, 2]
    assert "interrupted after 2 of 4 epochs" in capsys.readouterr().out


# ---------------------------------------------------------------- tested

@pytest.fixture
def recording(net, mnist, monkeypatch, capsys):
    """A function that records a training as `run.py --record` does, and lets the next ones be tests."""
    def record(epochs=LEAST, seed=0):
        monkeypatch.setenv("FIT_MODE", "record")
        trained = copy.deepcopy(net)
        history = train(trained, mnist, epochs, seed=seed)
        text = records.record_text(records.Record("1_small", seed, {"small": history}))
        (records.RESULTS / "1_small.json").write_text(text)
        monkeypatch.setenv("FIT_MODE", "test")
        capsys.readouterr()
        return history, trained
    return record


@pytest.mark.parametrize("place, large, first", [(0, 10_000, 1), (1, 10_000, 0), (0, 1_000, 0)])
def test_first_and_last_epoch_are_the_recorded_ones_to_the_bit(
        net, mnist, recording, monkeypatch, place, large, first):
    """The last one of every training, the first one only of a notebook's first, if its network is small."""
    whole, trained = recording()
    record = records.read_record("1_small")
    recorded = record["small"]
    monkeypatch.setattr(checkpoint, "LARGE", large)   # the network has 5,354 parameters
    if place:
        before = copy.deepcopy(recorded)
        before.recipe["batch size"] = "1"
        record.runs = {"before": before, "small": recorded}
        (records.RESULTS / "1_small.json").write_text(records.record_text(record))
    epochs, train_epoch = [], utils.train_epoch
    monkeypatch.setattr(utils, "train_epoch", lambda *args: epochs.append(1) or train_epoch(*args))
    history = train(net, mnist, epochs=LEAST)
    assert len(epochs) == first + 1 and same_weights(net, trained)
    assert bits(history[:first] + history[-1:]) == bits(whole[:first] + whole[-1:])
    assert history[first:-1] == recorded[first:-1]
    assert history.how == f"epochs {first + 1} to {LEAST - 1} from the record"


@pytest.mark.parametrize("changed, message", [
    (dict(lr=0.1), "optimizer: SGD lr=0.002 .* in the record, SGD lr=0.004 .* here"),
    (dict(augment=Augment(rotation=11)), r"augmentation: Augment\(rotation=10.* in the record, .*=11.* here"),
    (dict(activation=nn.SiLU()), "layer 3: ReLU -> 8x8x8 in the record, SiLU -> 8x8x8 here"),
    (dict(labels=torch.flipud), r"data: .*labels (\w+) in the record, .*labels (?!\1)\w+ here"),
    (dict(seed=1), "seed: 0 in the record, 1 here")], ids=str)
def test_what_is_not_recorded_is_refused_with_the_difference(net, mnist, recording, changed, message):
    recording()
    changed = dict(changed)
    net.layers[2] = changed.pop("activation", net.layers[2])
    labels = changed.pop("labels", lambda labels: labels)(mnist.train.labels)
    most_like_it = "this training is not recorded. The one most like it is 1_small, small; what differs is "
    with pytest.raises(CheckpointError, match=most_like_it + message):
        train(net, mnist._replace(train=mnist.train._replace(labels=labels)), **{"epochs": LEAST, **changed})


def test_a_missing_state_and_one_of_another_training_are_refused(net, mnist, recording):
    recording(seed=1)
    other, = checkpoint.STATES.iterdir()
    recording()
    state, = set(checkpoint.STATES.iterdir()) - {other}
    other.replace(state)
    with pytest.raises(CheckpointError, match="is of another training. seed: 1 in the file, 0 here"):
        train(copy.deepcopy(net), mnist, epochs=LEAST)
    state.unlink()
    with pytest.raises(CheckpointError, match=f"has no {state.name}, the state before the last epoch"):
        train(net, mnist, epochs=LEAST)


def test_of_a_short_training_only_the_first_epoch_is_made(net, mnist, recording):
    whole, _ = recording(epochs=LEAST - 1)
    history = train(net, mnist, epochs=LEAST - 1)
    assert bits(history) == bits(whole[:1]) and history.how == f"epoch 1 of {LEAST - 1} alone"
    assert not checkpoint.STATES.exists()


@pytest.mark.parametrize("mode, name", [("retrain", "MNIST"), ("", "MNIST"), ("test", "digits sample")])
def test_else_a_training_is_made_in_full(net, mnist, recording, monkeypatch, mode, name):
    whole, _ = recording()
    monkeypatch.setenv("FIT_MODE", mode)
    history = train(net, mnist._replace(name=name), epochs=LEAST)
    assert bits(history) == bits(whole) and history.how == ""


# ---------------------------------------------------------------- refused

@pytest.fixture
def file(net, tiny, tmp_path):
    """The checkpoint of a training of the sample."""
    train(copy.deepcopy(net), tiny, epochs=2, checkpoint_file=tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize("change, message", [
    (dict(seed=1), "seed: 0 in the file, 1 here"), (dict(lr=0.1), "optimizer: .* in the record, .* here"),
    (dict(network=nn.Linear(784, 10)), "layer 1: Conv2d .* in the record, Flatten .* here"),
    (dict(name="MNIST"), "data: digits sample, .* in the record, MNIST, .* here")], ids=str)
def test_the_state_of_another_training_is_refused(net, tiny, file, change, message):
    change = dict(change)
    net = DigitNet(nn.Sequential(nn.Flatten(), change.pop("network"))) if "network" in change else net
    data = tiny._replace(name=change.pop("name", tiny.name))
    before = copy.deepcopy(net)
    with pytest.raises(CheckpointError, match=f"state is of another training. {message}"):
        train(net, data, epochs=2, checkpoint_file=file, resume=True, **change)
    assert same_weights(net, before)


def test_more_epochs_than_the_checkpoints_where_nothing_depends_on_them(net, tiny, tmp_path):
    def at_constant_rate(net, epochs, **keeping):
        set_seed(0)
        return fit(net, tiny, torch.optim.SGD(net.parameters(), lr=0.05), epochs=epochs, **keeping)
    file = tmp_path / "state"
    whole = at_constant_rate(copy.deepcopy(net), 3)
    at_constant_rate(copy.deepcopy(net), 2, checkpoint_file=file)
    assert bits(at_constant_rate(copy.deepcopy(net), 3, checkpoint_file=file, resume=True)) == bits(whole)
    with pytest.raises(CheckpointError, match="epochs: 3 are done, 2 are wanted"):
        at_constant_rate(net, 2, checkpoint_file=file, resume=True)


@pytest.mark.parametrize("spoil", [lambda state: state[:9999], lambda state: b"", lambda state: b"{}"])
def test_a_broken_file_is_refused_and_nothing_changes(net, tiny, file, spoil):
    before = copy.deepcopy(net)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(CheckpointError, match="is no checkpoint, or a part of one"):
        train(net, tiny, epochs=2, checkpoint_file=file, resume=True)
    assert same_weights(net, before)


def test_no_pickle_is_loaded(net, tiny, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)
    torch.save({"recipe": Evil()}, tmp_path / "state")
    with pytest.raises(CheckpointError):
        train(net, tiny, checkpoint_file=tmp_path / "state", resume=True)
    assert not (tmp_path / "was here").exists()


def test_no_file(net, tiny, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint .*; train without resume=True first"):
        train(net, tiny, checkpoint_file=tmp_path / "state", resume=True)


# ---------------------------------------------------------------- in other processes

SCRIPT = """
import hashlib, json, sys
import torch
import utils
from model import DigitNet, block
from torch import nn

EPOCHS = 20
torch.set_num_threads(int(sys.argv[2]))
utils.set_seed(3)
data = utils.load_mnist()
net = DigitNet(nn.Sequential(block(1, 8, 5, stride=3, norm=True, dropout=0.1), nn.Flatten(),
                             nn.Linear(512, 10)))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=EPOCHS, steps_per_epoch=23)
history = utils.fit(net, data, optimizer, scheduler, EPOCHS, 64, utils.Augment(rotation=10),
                    checkpoint_file=sys.argv[1], resume=sys.argv[3] == "resume")
weights = b"".join(value.numpy().tobytes() for value in net.state_dict().values())
print(json.dumps([[epoch[:-1] for epoch in history], hashlib.sha256(weights).hexdigest()]))
"""


def process(file, threads=1, resume=""):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(file), str(threads), resume], cwd=records.ROOT,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def result(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(tmp_path, no_mnist):
    """With two threads; with one, the next test shows it."""
    first, second = (result(process(tmp_path / str(i), threads=2)) for i in range(2))
    assert first == second


@pytest.mark.slow
def test_killed_three_times_and_resumed(tmp_path, no_mnist):
    """SIGKILL at random moments, in epochs and in writing; the end is that of a training left alone."""
    whole = result(process(tmp_path / "whole"))
    moments, file = random.Random(0), tmp_path / "state"
    for killed in range(1, 4):
        training = process(file, resume="resume" if file.exists() else "")
        next(line for line in training.stdout if f"epoch {5 * killed:2}/" in line)
        time.sleep(moments.uniform(0, 0.1))
        training.send_signal(signal.SIGKILL)
        training.communicate()
        assert training.returncode == -signal.SIGKILL
    assert result(process(file, resume="resume")) == whole
