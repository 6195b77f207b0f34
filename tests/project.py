"""Copies of the project, in which tests run what they like; a step and a study of the tests' own."""

import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"digits", "lab"} | {path.stem for path in ROOT.glob("*.py")} - {"conftest"}
NUMBER = 1 + len(list(ROOT.glob("notebooks/[0-9]*_*.ipynb")))
NAME = f"{NUMBER}_small"   # the step: two short trainings, DigitNet and slow
TEXT = """The network learns<!--? run("DigitNet").last.min() > 50 -->: from seed 0 it ends at
<!--= run("DigitNet").last[0] -->0 %. There are <!--= len(run("DigitNet").last) -->0 seeds.
"""
CODE = """
import torch
from torch import nn
from model import DigitNet
from utils import Results, compare, fit, load_mnist, score_once, set_seed
EPOCHS, data, runs = 15, load_mnist(), {}
for name, lr in (("DigitNet", 0.03), ("slow", 0.002)):
    set_seed(int(os.environ.get("SEED", 0)))
    net = DigitNet(nn.Sequential(nn.Conv2d(1, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)))
    runs[name] = fit(net, data, torch.optim.SGD(net.parameters(), lr=lr), epochs=EPOCHS)
    score_once(runs[name], net, data.test)
"""
STUDY = """
def small(seed):
    data = load_mnist()
    for rate, epochs in ((0.1, 2), (1e30, 2)):   # no loss survives the second one
        net = seeded(seed, data, pooled)
        yield Trial(f"rate {rate:g}", net, data, sgd(net, rate), epochs=epochs)
STUDIES["small"] = small
"""


def copied(folder):
    """Copy the project, but for its data, to `folder`, and return that."""
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(
        ".*", "__pycache__", "data", "runs", "venv", "_site"))


def files(tree):
    """Return the digest of every file of a copy that is published, by path."""
    return {path.relative_to(tree).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in tree.rglob("*") if path.is_file() and not {"runs", "__pycache__"} & {*path.parts}}


def add(path, text):
    """Append text to a file."""
    path.write_text(path.read_text() + text)


def edit(tree, find, replace, name=f"notebooks/{NAME}.ipynb"):
    """Replace text in the step, or in another file of a copy."""
    if name.endswith(".ipynb"):
        find, replace = (json.dumps(text)[1:-1] for text in (find, replace))
    content = (tree / name).read_text()
    assert find in content
    (tree / name).write_text(content.replace(find, replace))


def run_py(tree, *arguments):
    """Run run.py of a copy in this process; return exit status, output and errors.

    The project's modules are then those of the copy, for they know their folder from where they lie.
    """
    def take_out():
        return {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] in ROOMS}
    ours, output, errors = take_out(), StringIO(), StringIO()
    sys.path.insert(0, str(tree))
    try:
        with redirect_stdout(output), redirect_stderr(errors):
            return importlib.import_module("run").main(arguments), output.getvalue(), errors.getvalue()
    finally:
        sys.path.remove(str(tree))
        take_out()
        sys.modules.update(ours)


def interrupted(tree, *arguments, at):
    """Run run.py until it has printed the texts `at`, then press Ctrl-C; return exit status and errors."""
    running = subprocess.Popen(
        [sys.executable, "-u", "run.py", *arguments], cwd=tree, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    for text in at:
        assert any(text in line for line in running.stdout), running.stderr.read()
    os.killpg(running.pid, signal.SIGINT)
    errors = running.communicate(timeout=60)[1]
    return running.returncode, errors


def write_step(tree):
    """Make the step in a copy as its author would, but for a network that trains in a moment."""
    run_py(tree, "--new", NAME, "--from", "5_gap")
    path = tree / "notebooks" / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    setup = next(cell.source for cell in notebook.cells if "sys.path" in cell.source)
    head = notebook.cells[0].source.partition("## ")[0]
    notebook.cells = [new_markdown_cell(head + TEXT),
                      new_code_cell(setup.partition("\nimport torch")[0] + CODE),
                      new_code_cell(f'results = Results("{NAME}", runs)\nresults'),
                      new_code_cell("compare(results)")]
    notebook.metadata.kernelspec.name = "another"   # that is installed nowhere
    nbformat.write(notebook, path)
