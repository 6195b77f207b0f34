"""What several test files use: a small data set and a network that trains in a moment."""

import pytest
import torch
from torch import nn

from model import DigitNet
from utils import Data, Split, load_mnist


@pytest.fixture(autouse=True)
def seed():
    """Let every test draw the same numbers every time."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The digits sample, as a notebook gets it where MNIST is not to be had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_ROOT", _nowhere(tmp_path_factory.mktemp("no")))
        return load_mnist()


@pytest.fixture
def no_mnist(tmp_path, monkeypatch):
    """Let MNIST be neither there nor to be had."""
    monkeypatch.setenv("MNIST_ROOT", _nowhere(tmp_path))


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


def _nowhere(folder):
    """Return a path where MNIST is not and can't be put."""
    (folder / "file").touch()
    return str(folder / "file" / "data")
