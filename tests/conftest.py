"""What several test files use: small data, a network that trains in a moment, copies of the project.

Whatever a test runs or changes is a copy: `tree`, or `recorded`, in which 15_small, a notebook of the tests'
own, has a record. `run_py` runs the copy's run.py.
"""

import hashlib
import importlib
import json
import shutil
import sys
import urllib.request
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from torch import nn

from lab import mnist
from model import DigitNet
from utils import Data, Split, load_mnist

ROOT = Path(__file__).resolve().parent.parent


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
    train, test = mnist.digits_sample()
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
    return _copy(tmp_path / "tree")


def _copy(tree):
    for folder in ("benchmarks", "lab", "notebooks", "page", "results", "site", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for path in [path for kind in ("py", "md", "toml", "txt") for path in ROOT.glob(f"*.{kind}")]:
        shutil.copy(path, tree)
    return tree


@pytest.fixture(scope="session")
def files():
    """A function that returns the digest of every file of a copy that is published."""
    return lambda tree: {
        path.relative_to(tree).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree.rglob("*") if path.is_file() and not {"runs", "__pycache__"} & {*path.parts}}


@pytest.fixture(scope="session")
def run_py():
    """A function that runs run.py of a copy, in this process; returns exit status, output and errors."""
    def run_py(tree, *arguments):
        output, errors = StringIO(), StringIO()
        with _modules_of(tree), redirect_stdout(output), redirect_stderr(errors):
            status = importlib.import_module("run").main(arguments)
        return status, output.getvalue(), errors.getvalue()
    return run_py


@contextmanager
def _modules_of(tree):
    """Let the project's modules be those of the copy: they know their folder from where they lie."""
    take_out = lambda: {name: sys.modules.pop(name) for name in list(sys.modules)
                        if name.split(".")[0] in ("lab", "model", "plots", "run", "studies", "utils")}
    ours = take_out()
    sys.path.insert(0, str(tree))
    try:
        yield
    finally:
        sys.path.remove(str(tree))
        take_out()
        sys.modules.update(ours)


# ---------------------------------------------------------------- a notebook of the tests' own

README = """# A project of the tests
Baseline ends at <!--= 1_baseline/Baseline.last.accuracy -->0 %.
<!-- steps -->
<!-- /steps -->
"""
CELLS = [new_markdown_cell("""# 15. Small
**The network learns**: it ends at <!--= DigitNet.last.accuracy -->0 %.
From <!--= seeds.DigitNet.last.count -->0 seed(s).
"""), *map(new_code_cell, ["""import os, sys
SEED = int(os.environ.get("SEED", 0))
sys.path.insert(0, os.path.dirname(os.getcwd()))
import torch
from torch import nn
from model import DigitNet
from utils import Results, compare, fit, load_mnist, says, score_once, set_seed
""", """EPOCHS = 15
data = load_mnist()

def train(lr, width=8):
    set_seed(SEED)
    net = DigitNet(nn.Sequential(nn.Conv2d(1, width, 5, stride=3), nn.BatchNorm2d(width), nn.ReLU(),
                                 nn.Flatten(), nn.Linear(64 * width, 10)))
    return net, fit(net, data, torch.optim.SGD(net.parameters(), lr=lr), epochs=EPOCHS)
""", """net, history = train(lr=0.03)
_, slow = train(lr=0.002)
print(score_once(history, net, data.test))
""", """results = Results("15_small", {"DigitNet": history, "slow": slow}, weights={"DigitNet": net})
results
""", """record = compare(results)
says("The network learns", record["DigitNet"].last.accuracy > 80)
"""])]


@pytest.fixture(scope="session")
def recording(tmp_path_factory, small_files, run_py, files):
    """A copy in which 15_small was recorded on small MNIST, its files before that, and what run.py gave."""
    folder = tmp_path_factory.mktemp("recording")
    tree = _copy(folder / "tree")
    notebook = new_notebook(cells=CELLS, metadata={"kernelspec": {
        "name": "another", "display_name": "Another", "language": "python"}})   # there is no such kernel
    nbformat.write(notebook, tree / "notebooks" / "15_small.ipynb")
    (tree / "README.md").write_text(README)
    with (tree / "lab" / "steps.csv").open("a") as steps:
        steps.write("15_small,DigitNet,a small one,it learns\n")
    raw, code = folder / "small" / "MNIST" / "raw", tree / "lab" / "mnist.py"
    raw.mkdir(parents=True)
    for name, content in small_files.items():   # the copy takes them for MNIST's
        (raw / name).write_bytes(content)
        code.write_text(code.read_text().replace(mnist.FILES[name], hashlib.sha256(content).hexdigest()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNIST_ROOT", str(folder / "small"))
        run_py(tree, "--text")
        before = files(tree)
        status, output, _ = run_py(tree, "--record", "15_small")
    return SimpleNamespace(tree=tree, before=before, status=status, output=output)


@pytest.fixture
def recorded(recording, tmp_path, monkeypatch):
    """A copy of the project in which 15_small was recorded on small MNIST, which is there."""
    monkeypatch.setenv("MNIST_ROOT", str(recording.tree.parent / "small"))
    return shutil.copytree(recording.tree, tmp_path / "recorded")


@pytest.fixture
def edit(recorded):
    """A function that replaces text in 15_small."""
    path = recorded / "notebooks" / "15_small.ipynb"

    def edit(find, replace):
        find, replace = (json.dumps(text)[1:-1] for text in (find, replace))
        assert find in path.read_text()
        path.write_text(path.read_text().replace(find, replace))
    return edit
