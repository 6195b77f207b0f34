"""Trainings from several seeds, of notebooks and studies: which are made and kept, here and on a cluster."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pandas
import psutil
import pytest
from project import NAME, edit, interrupted, run_py

import studies
from lab import data, keep, publish, record, seeds, training


def seeds_in(tree, table, name):
    """The seeds that have a row in the copy, by run."""
    rows = pandas.read_csv(tree / "results" / f"{table}.csv")
    return rows[rows["notebook"] == name].groupby("run")["seed"].apply(list).to_dict()


def test_seeds_from_text():
    texts = {"0-4": [0, 1, 2, 3, 4], "7": [7], "0,2,5-7,6": [0, 2, 5, 6, 7]}
    assert {text: seeds.parse(text) for text in texts} == texts


# ---------------------------------------------------------------- trained here

@pytest.mark.slow
def test_each_seed_is_trained_once_though_one_fails_and_another_is_interrupted(recorded, monkeypatch):
    edit(recorded, "EPOCHS,", "assert os.environ['SEED'] != '3', '±'\nEPOCHS,")
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    status, errors = interrupted(recorded, NAME, "--seeds", "1-9", at=[
        f"{NAME}, seed 1: there already", f"--- {NAME}, seed 4", "epoch  3/15"])
    assert status == 130 and "interrupted; what was trained so far is kept" in errors
    assert f"{NAME}, seed 3: run.py: {NAME}: cell 2 failed with AssertionError" in errors
    assert seeds_in(recorded, "runs", NAME) == {"DigitNet": [1, 2], "slow": [1, 2]}
    status, output, errors = run_py(recorded, NAME, "--seeds", "2-4")
    assert status == 1 and f"failed, and not recorded: {NAME}, seed 3\n" in errors
    assert f"{NAME}, seed 2: there already" in output and "seed 4, slow: MNIST  epoch 15/15" in output
    assert seeds_in(recorded, "runs", NAME) == {"DigitNet": [1, 2, 4], "slow": [1, 2, 4]}
    path = recorded / "results" / f"{NAME}.json"
    misread = record.parse_record(path.read_text(), NAME).misread["DigitNet"]
    assert misread.keys() == {"0", "1", "2", "4"} and misread["1"] != misread["2"]
    assert "-->4 seeds" in (recorded / "notebooks" / f"{NAME}.ipynb").read_text()
    assert not list((recorded / "runs" / "unfinished").iterdir())


@pytest.mark.slow
def test_an_interrupted_study_keeps_its_finished_trainings(recorded):
    edit(recorded, "(1e30, 2)", "(0.2, 999)", "studies.py")
    status, _ = interrupted(recorded, "small", "--seeds", "1-9", at=["rate 0.2, seed 1", "epoch  1/999"])
    assert status == 130 and seeds_in(recorded, "studies", "small") == {"rate 0.1": [1]}
    edit(recorded, "(0.2, 999)", "(1e30, 2)", "studies.py")
    status, output, errors = run_py(recorded, "small", "--seeds", "1-2")
    assert status == 0 and "small, seed 2, rate 1e+30: failed" in output, errors
    assert "seed 1, rate 0.1: MNIST" not in output
    assert seeds_in(recorded, "studies", "small") == {"rate 0.1": [1, 2], "rate 1e+30": [1, 2]}


def test_a_notebook_needs_a_record_and_must_take_the_seed(monkeypatch):
    monkeypatch.setattr(publish, "_executed", lambda *_: (None, record.read_record("1_baseline")))
    assert publish.train("1_baseline", 0).seed == 0
    with pytest.raises(keep.RunError, match="does not take its seed from the variable SEED"):
        publish.train("1_baseline", 5)
    monkeypatch.setattr(keep, "names", lambda: ["15_idea"])
    with pytest.raises(record.RecordError, match="no record yet; `python run.py --record 15_idea` makes it"):
        seeds.run(["15_idea"], [5])


def test_what_was_trained_on_the_digits_sample_is_refused_and_leaves_the_others(monkeypatch, capsys):
    made = record.read_record("5_gap")
    made["GapNet"].dataset = "digits sample"
    monkeypatch.setattr(seeds, "here", lambda job: (job, [keep.record_text(made)], ""))
    assert seeds.run(["5_gap"], [97, 98]) == ["5_gap, seed 97", "5_gap, seed 98"]
    assert capsys.readouterr().err.count("GapNet was trained on the digits sample; only MNIST") == 2


# ---------------------------------------------------------------- trained on a cluster

@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers in processes of their own, outside the project: (address, workers)."""
    pytest.importorskip("distributed", reason="needs requirements-cluster.txt")

    def start(*arguments):
        return subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=tmp_path, text=True,
                                stderr=subprocess.PIPE, start_new_session=True)
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    address = next(line for line in scheduler.stderr if "Scheduler at:" in line).split()[-1]
    workers = [start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
    yield address, workers
    for process in (scheduler, *workers):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_cluster_makes_every_training_once_though_a_worker_dies(recorded, cluster, monkeypatch):
    address, workers = cluster

    def kill_one_in_the_middle():
        while not psutil.Process(workers[0].pid).children():
            time.sleep(0.1)
        time.sleep(2)
        os.killpg(workers[0].pid, signal.SIGKILL)
    threading.Thread(target=kill_one_in_the_middle, daemon=True).start()
    status, output, errors = run_py(recorded, NAME, "small", "--seeds", "1-2", "--cluster", address)
    assert status == 0 and workers[0].wait() == -signal.SIGKILL and workers[1].poll() is None, errors
    assert re.findall(r"seed (\d), DigitNet: MNIST", output) == ["2"]
    assert seeds_in(recorded, "runs", NAME) == {"DigitNet": [1, 2], "slow": [1, 2]}
    assert seeds_in(recorded, "studies", "small") == {"rate 0.1": [1, 2], "rate 1e+30": [1, 2]}
    os.killpg(workers[1].pid, signal.SIGKILL)
    monkeypatch.setattr(seeds, "WAIT", 1)
    with pytest.raises(keep.RunError, match="or it has no workers"):
        next(seeds.on_cluster([("5_gap", 97)], address))


@pytest.mark.slow
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nothing://here"])
def test_a_cluster_that_does_not_answer(monkeypatch, address):
    pytest.importorskip("distributed", reason="needs requirements-cluster.txt")
    monkeypatch.setattr(seeds, "WAIT", 1)
    with pytest.raises(keep.RunError, match=f"no answer from the cluster at {address}, or it has no w"):
        next(seeds.on_cluster([("5_gap", 97)], address))


# ---------------------------------------------------------------- the studies

@pytest.mark.slow
@pytest.mark.parametrize("name", studies.STUDIES)
def test_rows_are_of_the_trainings_that_the_study_makes(name):
    if not data.at_hand():
        pytest.skip("a recipe names its images: this needs MNIST")
    made = [(trial.run, training.digest(studies._recipe(trial.arguments)))
            for trial in studies.STUDIES[name](0)]
    rows = record.read_rows(record.STUDIES).query("notebook == @name")
    assert len(rows) and set(zip(rows["run"], rows["recipe"])) <= set(made)


def test_rows_are_as_run_py_writes_them():
    for path in (record.RUNS, record.STUDIES):
        assert path.read_text() == keep.rows_text(record.read_rows(path))
