"""Trainings from several seeds, of notebooks and of studies: each in a process of its own, here or elsewhere.

`python run.py NAME --seeds 0-4` is the way in, and with `--out FOLDER` what each process does.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import keep, record
from lab.keep import RunError

INTERRUPTED = "interrupted"
WAIT = 20   # seconds in which a cluster has to answer


def parse(text):
    """Return the seeds that `text`, such as 0-4 or 0,2,5-7, stands for, as an argument's type."""
    found = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        seeds = range(int(ends[1]), int(ends[2] or ends[1]) + 1) if ends else ()
        if not seeds:
            raise argparse.ArgumentTypeError(f"expected seeds such as 0-4 or 0,2,5, not {text!r}")
        found += seeds
    return list(dict.fromkeys(found))


def run(names, seeds, cluster=None):
    """Train notebooks, which must have a record, and studies from each seed; return what failed."""
    for name in set(names) & set(keep.names()):
        record.read_record(name)
    jobs = [(name, seed) for name in names for seed in seeds if not _is_there(name, seed)]
    failed = []
    for (name, seed), texts, error in on_cluster(jobs, cluster) if cluster and jobs else map(here, jobs):
        try:
            for text in texts:
                made = record.parse_record(text, f"{name}.json")
                keep.add(made)
                for label, run in made.runs.items():
                    end = run.last.line(run.dataset, run.planned, run.scored_on) if run else "failed"
                    print(f"{name}, seed {seed}, {label}: {end}", flush=True)
        except RunError as fault:
            error = error or fault
        if error == INTERRUPTED:
            raise KeyboardInterrupt
        if error:
            print(f"{name}, seed {seed}: {error}", file=sys.stderr, flush=True)
            failed.append(f"{name}, seed {seed}")
    return failed


def _is_there(name, seed):
    """Tell whether every run of a notebook has a row for `seed`, and say so; a study looks for itself."""
    ours = record.trainings()[record.trainings()["notebook"] == name]
    there = name in record.read_all() and set(ours["run"]) == set(ours[ours["seed"] == seed]["run"])
    if there:
        print(f"{name}, seed {seed}: there already", flush=True)
    return there


def _train(name, seed, root, **options):
    """Train in a process of its own in the project at `root`; return its Records as texts, and the error."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "run.py", name, "--seeds", str(seed), "--out", folder]
        try:
            done = subprocess.run(command, cwd=root, stderr=subprocess.PIPE, errors="replace", **options)
            error = done.stderr.strip() if done.returncode else ""
        except KeyboardInterrupt:
            error = INTERRUPTED
        return [path.read_text("utf-8") for path in sorted(Path(folder).glob("*.json"))], error


def here(job):
    """Return a job (name, seed) with the texts of its Records, and the error that it ended in, or ""."""
    print(f"--- {job[0]}, seed {job[1]}", flush=True)
    return job, *_train(*job, record.ROOT)


def on_cluster(jobs, address):
    """Yield every job, as `here` returns it, as the workers of the Dask cluster at `address` finish it.

    The workers are sent the project, and need the packages, and MNIST in their MNIST_ROOT or a network to
    fetch it. A job whose worker dies is done by another. Raises RunError where no worker answers.
    """
    import cloudpickle
    from distributed import Client, as_completed

    cloudpickle.register_pickle_by_value(sys.modules[__name__])   # the workers do not have this module, and
    train = lambda *job: _train_in_a_copy(*job)   # Dask sends by value only what is no module's
    try:
        client = Client(address, timeout=WAIT)
        project, = client.scatter([project_files()], broadcast=True)
    except (OSError, asyncio.TimeoutError, ValueError) as error:   # the last: of an address that is none
        raise RunError(f"no answer from the cluster at {address}, or it has no workers: {error}") from None
    with client:
        futures = {client.submit(train, project, *job, pure=False): job for job in jobs}
        for future in as_completed(futures):
            try:
                yield futures[future], *future.result()
            except Exception as error:   # whatever a worker sends back
                yield futures[future], [], f"{type(error).__name__}: {error}"


def _train_in_a_copy(project, name, seed):
    data = os.path.abspath(os.environ.get("MNIST_ROOT") or "data")
    with tempfile.TemporaryDirectory() as folder:
        for path, content in project.items():
            Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, path).write_bytes(content)
        return _train(name, seed, folder, env={**os.environ, "MNIST_ROOT": data}, stdout=subprocess.DEVNULL)


def project_files():
    """Return the files that run.py needs in a copy of this project, by path."""
    wanted = "*.py", "*/*.py", "notebooks/*.ipynb", "results/**/*.*"
    return {path.relative_to(record.ROOT).as_posix(): path.read_bytes()
            for pattern in wanted for path in record.ROOT.glob(pattern)}
