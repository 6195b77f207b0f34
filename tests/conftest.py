"""What several test files use: small data, a network that trains in a moment, copies of the project."""

import hashlib
import shutil
import urllib.request
from types import SimpleNamespace

import project
import pytest
import torch
from torch import nn

from lab import data
from model import DigitNet
from utils import Data, Split, load_mnist


@pytest.fixture(autouse=True)
def seed():
    """Let every test draw the same numbers every time."""
    torch.manual_seed(0)


# ---------------------------------------------------------------- data and a network

@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The digits sample, as a notebook gets it where MNIST is not to be had."""
    with pytest.MonkeyPatch.context() as patch:
        _hide_mnist(patch, tmp_path_factory.mktemp("no"))
        return load_mnist()


@pytest.fixture
def no_mnist(tmp_path, monkeypatch):
    """Let MNIST be neither there nor to be had, here and in every process that is started."""
    _hide_mnist(monkeypatch, tmp_path / "no mnist")


def _hide_mnist(patch, folder):
    patch.setenv("MNIST_ROOT", str(folder))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        patch.setenv(variable, "http://127.0.0.1:9")   # where nobody answers
    patch.setattr(urllib.request, "_opener", None)     # it remembers the proxies of the first request


@pytest.fixture
def tiny(sample):
    """320 training and 100 test images of the sample."""
    return Data(sample.name, Split(*(t[:320] for t in sample.train)), Split(*(t[:100] for t in sample.test)))


@pytest.fixture
def net():
    """A network small enough for an epoch in a moment, the same at every call."""
    torch.manual_seed(0)
    return DigitNet(nn.Sequential(nn.Conv2d(1, 8, 5, stride=3), nn.BatchNorm2d(8), nn.ReLU(),
                                  nn.Dropout(0.1), nn.Flatten(), nn.Linear(512, 10)))


@pytest.fixture(scope="session")
def small_files():
    """The first digits of the sample as MNIST's four files: {name: bytes}."""
    files = {}
    train, test = data.digits_sample()
    for part, (images, labels), count in (("train", train, 600), ("t10k", test, 200)):
        pixels = (images[:count, 0] * 255).round().byte()
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels[:count].byte())):
            header = b"".join(number.to_bytes(4, "big") for number in (0x800 + array.ndim, *array.shape))
            files[f"{part}-{kind}-ubyte"] = header + array.numpy().tobytes()
    return files


# ---------------------------------------------------------------- copies of the project

@pytest.fixture
def tree(tmp_path):
    """A copy of the project without its data."""
    return project.copied(tmp_path / "tree")


@pytest.fixture(scope="session")
def recording(tmp_path_factory, small_files):
    """A copy in which a small step was recorded on small MNIST, its files before, and what run.py gave."""
    tree = project.copied(tmp_path_factory.mktemp("recording") / "tree")
    small = tree.parent / "small"
    (small / "MNIST" / "raw").mkdir(parents=True)
    for name, content in small_files.items():
        (small / "MNIST" / "raw" / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in small_files.items()}
    for name, text in {"lab/data.py": f"FILES = {digests}\n", "studies.py": project.STUDY,
                       "results/targets.csv": f"{project.NAME},DigitNet,last,50\n"}.items():
        project.add(tree / name, text)
    project.write_step(tree)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_ROOT", str(small))
        project.run_py(tree, "--text")
        before = project.files(tree)
        status, output, errors = project.run_py(tree, "--record", project.NAME, "--seeds", "0-1")
    return SimpleNamespace(tree=tree, small=small, before=before, status=status, output=output, errors=errors)


@pytest.fixture
def recorded(recording, tmp_path, monkeypatch):
    """A copy of the project in which a small step was recorded on small MNIST, which is there."""
    monkeypatch.setenv("MNIST_ROOT", str(recording.small))
    return shutil.copytree(recording.tree, tmp_path / "recorded")
