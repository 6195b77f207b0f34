"""Runs over seeds: which are trained and kept, here and on a cluster; verdicts on claims."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pandas
import psutil
import pytest

import run
from lab import claims, records, seeds

NAME = "15_small"   # conftest.py has it: two short trainings, DigitNet and slow; recorded from seed 0


def rows_in(folder):
    """The seeds in the copy's results/runs.csv, by run."""
    table = pandas.read_csv(folder / "results" / "runs.csv")
    return table[table["notebook"] == NAME].groupby("run")["seed"].apply(list).to_dict()


def test_seeds_from_text():
    texts = {"0-4": [0, 1, 2, 3, 4], "7": [7], "0,2,5-7,6": [0, 2, 5, 6, 7]}
    assert {text: seeds.parse(text) for text in texts} == texts


# ---------------------------------------------------------------- trained here

def test_a_row_for_each_seed_though_one_fails_and_none_twice(recorded, run_py, edit, files):
    edit("import os, sys", "import os, sys; assert os.environ['SEED'] != '1'")
    before = files(recorded)
    status, output, errors = run_py(recorded, NAME, "--seeds", "0-2")
    assert status == 1 and f"{NAME}, seed 0: there already\n" in output
    assert f"failed, and not in results/runs.csv: {NAME}, seed 1" in errors
    assert rows_in(recorded) == {"DigitNet": [2], "slow": [2]}
    path = recorded / "results" / f"{NAME}.json"
    misread = records.parse_record(path.read_text(), path.name).misread["DigitNet"]
    assert misread.keys() == {"0", "2"} and misread["0"] != misread["2"]
    assert "-->2 seed(s)" in (recorded / "notebooks" / f"{NAME}.ipynb").read_text()
    after = files(recorded)
    assert {name for name in after if after[name] != before.get(name)} == {
        "README.md", "results/runs.csv", f"results/{NAME}.json", f"notebooks/{NAME}.ipynb"}
    status, output, _ = run_py(recorded, NAME, "--seeds", "0,2")
    assert (status, output) == (0, f"{NAME}, seed 0: there already\n{NAME}, seed 2: there already\n")
    assert files(recorded) == after


def test_a_notebook_must_take_the_seed(monkeypatch):
    recorded = records.RESULTS / "1_baseline.json"   # from seed 0, whatever was asked for
    monkeypatch.setattr(seeds, "execute", lambda name, folder, *_: shutil.copy(recorded, folder))
    assert seeds.train("1_baseline", 0)
    with pytest.raises(seeds.RunError, match="does not take its seed from the variable SEED"):
        seeds.train("1_baseline", 5)


@pytest.mark.slow
def test_ctrl_c_loses_only_the_run_in_progress(recorded):
    running = subprocess.Popen(
        [sys.executable, "-u", "run.py", NAME, "--seeds", "1-9"], cwd=recorded, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    next(line for line in running.stdout if line.startswith(f"--- {NAME}, seed 2"))
    next(line for line in running.stdout if "epoch  1/15" in line)
    running.send_signal(signal.SIGINT)
    try:
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130 and "nothing of the run in progress was written" in errors
    assert rows_in(recorded) == {"DigitNet": [1], "slow": [1]}


# ---------------------------------------------------------------- trained on a cluster

@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers in processes of their own, outside the project: (address, workers)."""
    pytest.importorskip("distributed", reason="needs requirements-cluster.txt")
    outside = tmp_path / "outside"
    outside.mkdir()

    def start(*arguments):
        process = subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=outside, text=True,
                                   env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE,
                                   start_new_session=True)
        started.append(process)
        return process
    started = []
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    address = next(line for line in scheduler.stderr if "Scheduler at:" in line).split()[-1]
    workers = [start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
    for process in started:
        threading.Thread(target=process.stderr.read, daemon=True).start()
    yield address, workers
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_cluster_makes_every_run_once_though_a_worker_dies(recorded, run_py, cluster):
    address, workers = cluster

    def kill_one_in_the_middle():
        while not psutil.Process(workers[0].pid).children():
            time.sleep(0.1)
        time.sleep(2)
        os.killpg(workers[0].pid, signal.SIGKILL)
    threading.Thread(target=kill_one_in_the_middle, daemon=True).start()
    status, output, _ = run_py(recorded, NAME, "--seeds", "0-2", "--cluster", address)
    assert status == 0 and sorted(re.findall(r"seed (\d), DigitNet: MNIST", output)) == ["1", "2"]
    assert workers[0].wait() == -signal.SIGKILL and workers[1].poll() is None
    assert rows_in(recorded) == {"DigitNet": [1, 2], "slow": [1, 2]}


def test_a_cluster_that_does_not_answer(recorded, run_py, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs requirements-cluster.txt")
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: (_ for _ in ()).throw(OSError("Timed out")))
    status, _, errors = run_py(recorded, NAME, "--seeds", "1", "--cluster", "tcp://127.0.0.1:1")
    assert status == 1
    assert "no answer from the cluster at tcp://127.0.0.1:1, or it has no workers: Timed out" in errors


def test_without_dask_there_is_a_hint(monkeypatch, capsys):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        run.main(["1_baseline", "--seeds", "0", "--cluster", "tcp://127.0.0.1:1"])
    assert "pip install -r requirements-cluster.txt" in capsys.readouterr().err


# ---------------------------------------------------------------- verdicts

@pytest.mark.parametrize("value, what, kind, mean, count, verdict", [
    # t of two degrees of freedom is 4.30, the sd 0.1: up to 0.50 apart
    (91.99, "best", "", 91.5, 3, "reproduced"),
    (92.01, "best", "", 91.5, 3, "not reproduced"), (91.01, "best", "", 91.5, 3, "reproduced"),
    (90.99, "best", "", 91.5, 3, "exceeded"), (92.15, "best", "", 91.5, 5, "not reproduced"),
    (99.4, "best", "at least", 99.39, 3, "not reproduced"),
    (99.4, "best", "at least", 99.41, 3, "reproduced"), (5937, "parameters", "", 5936, 3, "not reproduced"),
    (99, "best", "about", 99.9, 3, "reproduced"), (99, "best", "about", 97.9, 3, "not reproduced"),
    (5936, "parameters", "contradictory", 5936, 3, "contradictory in the source"),
    (float("nan"), "parameters", "", 5936, 3, "not stated"), (91.5, "best", "", 91.5, 1, "not measured"),
    (0.25, "last_loss", "", 0.5, 3, "reproduced"), (0.99, "last_loss", "", 0.25, 3, "not reproduced"),
    (0.01, "last_loss", "", 0.55, 3, "not reproduced")])   # a loss is not exceeded
def test_verdicts(value, what, kind, mean, count, verdict):
    claim = SimpleNamespace(value=value, what=what, kind=kind)
    values = pandas.Series([mean + (i - 1) / 10 for i in range(count)])
    assert claims.judge(claim, values) == verdict
