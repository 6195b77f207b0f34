"""Trainings that are killed, interrupted and resumed; and checkpoints that must not be."""

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

import checkpoint
import run
from utils import Augment, fit, set_seed


def train(net, data, file=None, resume=False, epochs=4, lr=0.05, batch_size=64, augment=Augment(rotation=10)):
    """Train under one cycle, with dropout and augmentation, so that every random stream is in use."""
    set_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs=epochs, steps_per_epoch=-(-len(data.train.labels) // batch_size))
    return fit(net, data, optimizer, scheduler, epochs, batch_size, augment, quiet=True, checkpoint_file=file, resume=resume)


def without_seconds(history):
    return [epoch[:-1] for epoch in history]


class Turned:
    """A rotation that stops the training, once, at its call number `stop`: one call an epoch."""

    def __init__(self, stop=None):
        self.calls, self.stop = 0, stop

    def __call__(self, images):
        self.calls += 1
        if self.calls == self.stop:
            raise InterruptedError
        return Augment(rotation=10)(images)

    def __repr__(self):
        return "Turned"


def test_resumed_as_if_never_stopped(net, tiny, tmp_path):
    whole_net, stopped, other = (copy.deepcopy(net) for _ in range(3))
    whole = train(whole_net, tiny, augment=Turned())
    with pytest.raises(InterruptedError):
        train(stopped, tiny, tmp_path / "state", augment=Turned(stop=3))
    resumed = train(other, tiny, tmp_path / "state", resume=True, augment=Turned())
    assert without_seconds(resumed) == without_seconds(whole) and len(resumed) == 4
    assert all(torch.equal(a, b) for a, b in zip(whole_net.state_dict().values(), other.state_dict().values()))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_interrupted_from_the_keyboard_the_history_comes_back(net, tiny, capsys):
    calls = []

    def interrupt(images):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return images
    history = train(net, tiny, augment=interrupt)
    assert [epoch.epoch for epoch in history] == [1, 2] and "interrupted after 2 of 4 epochs" in capsys.readouterr().out


@pytest.fixture
def file(net, tiny, tmp_path):
    train(net, tiny, tmp_path / "state")
    return tmp_path / "state"


def test_a_finished_training_resumes_to_its_end(net, tiny, file):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert len(train(net, tiny, file, resume=True)) == 4
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("change, message", [
    (dict(lr=0.1), "of another optimizer: .*0.05.*, here .*0.1"), (dict(epochs=5), "of another scheduler|of another epochs"),
    (dict(batch_size=32), "of another scheduler|batch_size: 64, here 32"), (dict(augment=None), "of another augment: Augment.*, here None")])
def test_another_recipe_is_refused(net, tiny, file, change, message):
    with pytest.raises(checkpoint.CheckpointError, match=message):
        train(net, tiny, file, resume=True, **change)


def test_another_network_is_refused(tiny, file):
    from model import SchedulerNet
    with pytest.raises(checkpoint.CheckpointError, match="of another network: DigitNet .*, here SchedulerNet"):
        train(SchedulerNet(), tiny, file, resume=True)


def test_other_data_is_refused(net, tiny, file):
    with pytest.raises(checkpoint.CheckpointError, match="of another data: digits sample, 320 training images, here MNIST"):
        train(net, tiny._replace(name="MNIST"), file, resume=True)


@pytest.mark.parametrize("spoil", [lambda content: content[:len(content) // 2], lambda content: b"", lambda content: b"{}"])
def test_a_broken_file_is_refused_and_nothing_changes(net, tiny, file, spoil):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(checkpoint.CheckpointError, match="is no checkpoint, or a part of one"):
        train(net, tiny, file, resume=True)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_no_pickle_is_loaded(net, tiny, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was here"),)
    torch.save({"recipe": Evil()}, tmp_path / "state")
    with pytest.raises(checkpoint.CheckpointError):
        train(net, tiny, tmp_path / "state", resume=True)
    assert not (tmp_path / "was here").exists()


def test_no_file(net, tiny, tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint .*; train without resume=True first"):
        train(net, tiny, tmp_path / "state", resume=True)


SCRIPT = """
import hashlib, json, sys
import torch
import utils
from model import SchedulerNet

torch.set_num_threads(int(sys.argv[2]))
utils.set_seed(3)
data = utils.load_mnist()
net = SchedulerNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=20, steps_per_epoch=23)
print("training", flush=True)
history = utils.fit(net, data, optimizer, scheduler, 20, 64, utils.Augment(rotation=10), checkpoint_file=sys.argv[1], resume=sys.argv[3] == "resume")
weights = b"".join(value.numpy().tobytes() for value in net.state_dict().values())
print(json.dumps([[epoch[:-1] for epoch in history], hashlib.sha256(weights).hexdigest()]))
"""


def process(file, threads=1, resume="", **options):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(file), str(threads), resume], cwd=run.ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def result(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bits(tmp_path, no_mnist, threads):
    first, second = (result(process(tmp_path / str(i), threads)) for i in range(2))
    assert first == second


@pytest.mark.slow
def test_killed_ten_times_and_resumed(tmp_path, no_mnist):
    """SIGKILL at random moments, in the middle of epochs and of writing; the end is that of a training left alone."""
    whole = result(process(tmp_path / "whole"))
    moments, file = random.Random(0), tmp_path / "state"
    for _ in range(10):
        training = process(file, resume="resume" if file.exists() else "")
        next(line for line in training.stdout if line == "training\n")
        time.sleep(moments.uniform(0.05, 0.9))
        training.send_signal(signal.SIGKILL)
        training.communicate()
        assert training.returncode == -signal.SIGKILL
    assert result(process(file, resume="resume")) == whole
