"""A notebook or a study trained from several seeds; notebooks also by the workers of a Dask cluster.

`python run.py NAME --seeds 0-4` is the way in.
"""

import argparse
import inspect
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import publish, recipe, records
from lab.execute import RunError, execute
from lab.history import History
from lab.records import ROOT, Record
from lab.results import environment


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


def run(names, wanted, cluster):
    """Train the notebooks from each wanted seed, but for what is there; return what failed."""
    trainings = records.runs()
    missing = [name for name in names if name not in set(trainings["notebook"])]
    if missing:
        raise RunError(f"{', '.join(missing)}: no record yet; `python run.py --record NAME` makes it")
    jobs = [(name, seed) for name in names for seed in wanted if not _is_there(name, seed, trainings)]
    failed = []
    for (name, seed), made in on_cluster(jobs, cluster) if cluster and jobs else here(jobs):
        if isinstance(made, str):
            made = records.parse_record(made, f"{name}.json")
            publish.add_seed(name, seed, made)
            for label, history in made.runs.items():
                line = history.last.line("MNIST", history.planned, history.scored_on)
                print(f"{name}, seed {seed}, {label}: {line}", flush=True)
        else:
            print(f"{name}, seed {seed}: {made}", file=sys.stderr, flush=True)
            failed.append(f"{name}, seed {seed}")
    return failed


def _is_there(name, seed, trainings):
    """Tell whether every recorded run of a notebook has a row for `seed`, and say so."""
    ours = trainings[trainings["notebook"] == name]
    there = len(ours) and set(ours["run"]) == set(ours[ours["seed"] == seed]["run"])
    if there:
        print(f"{name}, seed {seed}: there already", flush=True)
    return there


def train(name, seed):
    """Execute notebook `name` with `seed` and return the text of its record."""
    print(f"--- {name}, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        execute(name, folder, "record", seed)
        path = Path(folder, f"{name}.json")
        if not path.exists() or records.parse_record(path.read_text("utf-8"), path.name).seed != seed:
            raise RunError("the notebook makes no Results, or does not take its seed from the variable SEED")
        return path.read_text("utf-8")


def here(jobs):
    """Yield every job (name, seed) with the text of its record, or the error that it ended in."""
    for job in jobs:
        try:
            yield job, train(*job)
        except Exception as error:   # whatever it is, the other runs go on
            yield job, error


def on_cluster(jobs, address):
    """Yield every job as the workers of the Dask cluster at `address` finish it.

    The project is sent to the workers, and each run is made in a copy of its own: a worker needs the
    packages, and MNIST in its MNIST_ROOT or a network to fetch it. A run whose worker dies is made by
    another. Raises RunError where no cluster, or none with a worker, answers.
    """
    import asyncio

    from distributed import Client, as_completed

    def train_there(project, name, seed):   # here, for the workers do not have this module
        data = os.path.abspath(os.environ.get("MNIST_ROOT") or "data")
        command = f"from lab import seeds; open('made.json', 'w').write(seeds.train({name!r}, {seed}))"
        with tempfile.TemporaryDirectory() as folder:
            for path, content in project.items():
                Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
                Path(folder, path).write_bytes(content)
            done = subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True, text=True,
                                  env={**os.environ, "MNIST_ROOT": data})
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            return Path(folder, "made.json").read_text("utf-8")

    try:
        client = Client(address, timeout=20)
        project, = client.scatter([project_files()], broadcast=True)
    except (OSError, TimeoutError, asyncio.TimeoutError) as error:   # the last two are one since Python 3.11
        raise RunError(f"no answer from the cluster at {address}, or it has no workers: {error}") from None
    with client:
        futures = {client.submit(train_there, project, *job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except Exception as error:
                yield futures[future], error


def project_files():
    """Return the files that run.py needs in a copy of this project, by path."""
    wanted = "*.py", "README.md", "lab/*.*", "notebooks/*.ipynb", "results/*.json", "results/*.csv"
    paths = [path for pattern in wanted for path in ROOT.glob(pattern)]
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}


# ---------------------------------------------------------------- studies

def run_study(name, study, fit, wanted):
    """Train a study of studies.py with `fit` from each wanted seed, but for the trainings that are there.

    A training whose loss is no number gets a row without figures: that it cannot be trained is a result.
    """
    for seed in wanted:
        for trial in study(seed):
            description, there = _describe(fit, trial.arguments), records.read_rows(records.STUDIES)
            row = [name, trial.run, recipe.digest(description), seed]
            if (there[["notebook", "run", "recipe", "seed"]] == row).all(axis=1).any():
                print(f"{name}, {trial.run}, seed {seed}: there already", flush=True)
                continue
            print(f"--- {name}, {trial.run}, seed {seed}", flush=True)
            try:
                history = fit(**trial.arguments)
                if len(history) < history.planned:
                    raise KeyboardInterrupt
                trial.finish(history)
            except FloatingPointError as error:
                print(f"{name}, {trial.run}, seed {seed}: {error}", flush=True)
                net, data = trial.arguments["net"], trial.arguments["data"]
                history = History(network=type(net).__name__, planned=trial.arguments["epochs"], seed=seed,
                                  parameters=sum(p.numel() for p in net.parameters()),
                                  scored_on=data.scored_on, recipe=description)
            publish.add_trial(Record(name, seed, {trial.run: history}, environment=environment()))


def _describe(fit, arguments):
    """Return the recipe of a call of `fit`."""
    call = inspect.signature(fit).bind(**arguments)
    call.apply_defaults()
    return recipe.describe(*(call.arguments[name] for name in inspect.signature(recipe.describe).parameters))
