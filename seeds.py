"""Notebooks trained from several seeds: the lines of results/seeds.csv, and who trains what is missing.

`python run.py NAME --seeds 0-4` is the way in, and run.py writes the file. The runs are made on
this machine, one after another, or by the workers of a Dask cluster.
"""

import argparse
import ast
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import utils

FILE = "results/seeds.csv"


class SeedsError(ValueError):
    """results/seeds.csv can't be read, or no cluster answers."""


class Row(NamedTuple):
    """One training of a notebook from one seed. Accuracies are in percent; those without `train` are of `scored_on`."""
    notebook: str
    run: str
    seed: int
    dataset: str
    recipe: str           # `fingerprint` of the cells that trained it
    parameters: int
    scored_on: str        # every epoch: "test" or "validation"
    epochs: int
    first_train: float    # after one epoch
    best_train: float     # of the epoch that is best on the training images
    last_train: float
    first: float
    best: float           # of the epoch that is best on `scored_on`
    best_epoch: int
    last: float
    last_loss: float
    test: float | None    # the test set's after the last epoch; None where it was not scored
    seconds: int          # of training
    torch: str
    device: str


def key(row):
    """Return what tells a run from any other: notebook, run, seed, data set and recipe."""
    return row[:5]


def fingerprint(lines):
    """Return a name for the code in `lines`: the same whatever its comments, blanks and line breaks."""
    return hashlib.sha256(ast.unparse(ast.parse("\n".join(lines))).encode()).hexdigest()[:8]


def from_record(record):
    """Return a Row for every run in `record`, but for those that are made once."""
    rows = []
    for run in record["runs"]:
        if run["once"]:
            continue
        first, best, last = run["epochs"][0], run["best"], run["last"]
        rows.append(Row(
            record["notebook"], run["name"], record["seed"], record["dataset"], fingerprint(record["recipe"]), run["parameters"],
            run["scored_on"], last["epoch"], first["train_accuracy"], max(e["train_accuracy"] for e in run["epochs"]), last["train_accuracy"],
            first["test_accuracy"], best["test_accuracy"], best["epoch"], last["test_accuracy"], last["test_loss"],
            utils.test_accuracy(run),
            run["seconds"], record["environment"]["torch"], record["environment"]["device"]))
    return rows


def merge(rows, newer):
    """Return `rows` and `newer`, each run once, the newer one where both have it, in the order of the notebooks."""
    merged = {key(row): row for row in [*rows, *newer]}
    return sorted(merged.values(), key=lambda row: (int(row.notebook.split("_")[0]), row.run, row.dataset, row.seed, row.recipe))


def write(rows):
    """Return `rows` as the text of the file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Row._fields, *rows])
    return text.getvalue()


def read(text):
    """Return the Rows in the text of the file; raise SeedsError that names the line which is none."""
    types = {**Row.__annotations__, "test": lambda value: float(value) if value else None}
    rows = []
    for number, line in enumerate(csv.reader(io.StringIO(text)), 1):
        try:
            if number == 1:
                if tuple(line) != Row._fields:
                    raise ValueError(f"expected the columns {', '.join(Row._fields)}")
                continue
            if len(line) != len(Row._fields):
                raise ValueError(f"expected {len(Row._fields)} columns, found {len(line)}")
            rows.append(Row(**{name: types[name](value) for name, value in zip(Row._fields, line)}))
        except ValueError as error:
            raise SeedsError(f"{FILE}, line {number}: {error}") from None
    return rows


def parse(text):
    """Return the seeds that `text`, such as 0-4 or 0,2,5-7, stands for, as an argument's type."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise argparse.ArgumentTypeError(f"expected seeds such as 0-4 or 0,2,5, not {text!r}")
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise argparse.ArgumentTypeError(f"no seed in {text!r}")
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------- who trains

def here(jobs, train):
    """Yield every job (name, seed) with the Rows that `train(name, seed)` returns, or the error that it raises."""
    for job in jobs:
        try:
            yield job, train(*job)
        except Exception as error:   # whatever it is, the other runs go on
            yield job, error


def on_cluster(jobs, dataset, address, project):
    """Yield every job (name, seed) with its Rows, or its error, as the workers of the Dask cluster at `address` finish it.

    `project`, as {path: bytes}, is sent to the workers, and each run is made in a copy of its
    own: a worker needs the packages, and MNIST in its MNIST_ROOT or a network to fetch it. A run
    whose worker dies is made by another. Raises SeedsError where no cluster, or none with a
    worker, answers.
    """
    import asyncio
    from distributed import Client, as_completed

    def train(project, name, seed):   # in here, so that it is sent as it is: the workers do not have this module
        environment = {**os.environ, "MNIST_ROOT": os.path.abspath(os.environ.get("MNIST_ROOT", "data"))}
        with tempfile.TemporaryDirectory() as folder:
            for path, content in project.items():
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / path).write_bytes(content)
            done = subprocess.run([sys.executable, "run.py", name, "--seeds", str(seed)],
                                  cwd=folder, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            return (Path(folder) / FILE).read_text()

    try:
        client = Client(address, timeout=20)
        everything, = client.scatter([project], broadcast=True)
    except (OSError, TimeoutError, asyncio.TimeoutError) as error:   # the last two are one since Python 3.11
        raise SeedsError(f"no answer from the cluster at {address}, or it has no workers: {error}") from None
    with client:
        futures = {client.submit(train, everything, *job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            name, seed = job = futures[future]
            try:
                rows = [row for row in read(future.result()) if (row.notebook, row.seed, row.dataset) == (name, seed, dataset)]
                yield job, rows or RuntimeError(f"the worker found no {dataset}")
            except Exception as error:
                yield job, error
