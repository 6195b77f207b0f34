"""What several test files use: a small data set, a network that trains in a moment, a copy of the project."""

import hashlib
import shutil
import urllib.request

import nbformat
import numpy
import pytest
import torch
from torch import nn

import mnist
import run
import utils
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


@pytest.fixture(scope="session")
def small_files(sample):
    """The first digits of the sample as MNIST's four files: {name: bytes}."""
    files = {}
    for prefix, split, count in (("train", sample.train, 600), ("t10k", sample.test, 200)):
        pixels = ((split.images[:count, 0] * utils.STD + utils.MEAN) * 255).round().byte().numpy()
        for kind, array in (("images-idx3", pixels), ("labels-idx1", split.labels[:count].byte().numpy())):
            header = numpy.array([0x800 + array.ndim, *array.shape], ">i4").tobytes()
            files[f"{prefix}-{kind}-ubyte"] = header + array.tobytes()
    return files


@pytest.fixture
def small_mnist(tree, tmp_path, small_files, monkeypatch):
    """Those files in MNIST's place, and taken for MNIST by the copy of the project."""
    raw = tmp_path / "small" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    source = (tree / "mnist.py").read_text()
    for name, content in small_files.items():
        (raw / name).write_bytes(content)
        source = source.replace(mnist.FILES[name], hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(mnist.FILES, name, hashlib.sha256(content).hexdigest())
    (tree / "mnist.py").write_text(source)
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "small"))


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


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the project without its data, and run.py at work on it; the quickest notebook trains two epochs."""
    tree = tmp_path / "tree"
    for folder in ("notebooks", "results"):
        shutil.copytree(run.ROOT / folder, tree / folder, ignore=shutil.ignore_patterns(".*"))
    for path in [run.README, *run.ROOT.glob("*.py")]:
        shutil.copy(path, tree)
    for name in ("ROOT", "NOTEBOOKS", "README", "RESULTS", "SUMS", "SEEDS"):
        monkeypatch.setattr(run, name, tree / getattr(run, name).relative_to(utils.ROOT))
    _edit(tree, "EPOCHS    = 15", "EPOCHS    = 2")
    return tree


@pytest.fixture
def edit(tree):
    """A function that replaces text in the quickest notebook's first cell that has it."""
    return lambda find, replace: _edit(tree, find, replace)


def _edit(tree, find, replace):
    path = tree / "notebooks" / "2_batch_norm.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and find in cell.source)
    cell.source = cell.source.replace(find, replace, 1)
    nbformat.write(notebook, path)
