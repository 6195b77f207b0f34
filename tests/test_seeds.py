"""Runs over seeds: the file, who trains, on this machine and on a cluster; and the verdicts on claims."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import report
import run
import seeds
import utils
from references import Statement

NAME = "2_batch_norm"   # the quickest notebook

ROW = seeds.Row("2_batch_norm", "BatchNormNet", 1, "MNIST", "12345678", 5936, "test", 15, 40.0, 92.5, 92.0, 41.0, 91.5, 12, 91.0, 0.25, 91.0, 120,
                "2.15.0", "cpu (AVX512, 2 threads)")


# ---------------------------------------------------------------- the file

def test_rows_round_trip():
    rows = [ROW, ROW._replace(seed=2, test=None, last_loss=0.0051)]
    assert seeds.read(seeds.write(rows)) == rows


@pytest.mark.parametrize("old, new, message", [
    ("91.5", "ninety", "line 2: could not convert string to float: 'ninety'"), ("5936,", "", "line 2: expected 20 columns, found 19"),
    ("notebook,run", "run,notebook", "line 1: expected the columns notebook, run, seed")])
def test_a_line_that_is_none_is_named(old, new, message):
    with pytest.raises(ValueError, match="results/seeds.csv, " + message):
        seeds.read(seeds.write([ROW]).replace(old, new, 1))


def test_each_run_is_there_once():
    newer = ROW._replace(best=92.0)
    other = ROW._replace(recipe="87654321")
    assert seeds.merge([ROW, other], [newer, ROW._replace(seed=0)]) == [ROW._replace(seed=0), newer, other]


def test_fingerprint_sees_code_alone():
    assert seeds.fingerprint(["x = 1   # a", "", "y = (2,", "  3)"]) == seeds.fingerprint(["x=1", "y = (2, 3)"])
    assert seeds.fingerprint(["x = 1"]) != seeds.fingerprint(["x = 2"])


@pytest.mark.parametrize("text, expected", [("0-4", [0, 1, 2, 3, 4]), ("7", [7]), ("0,2,5-7,6", [0, 2, 5, 6, 7])])
def test_seeds_from_text(text, expected):
    assert seeds.parse(text) == expected


@pytest.mark.parametrize("arguments, message", [
    (["--seeds", "a"], "expected seeds such as 0-4 or 0,2,5, not 'a'"), (["--seeds", "4-0"], "no seed in '4-0'"),
    (["--cluster", "tcp://x:1"], "--cluster goes with --seeds")])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        run.main([NAME, *arguments])
    assert message in capsys.readouterr().err


def test_rows_of_another_network_or_recipe_do_not_count():
    everything = run.records()
    row = next(row for row in seeds.from_record(everything[NAME]))
    rows = [row, row._replace(seed=1), row._replace(parameters=5), row._replace(recipe="x"), row._replace(dataset="digits sample")]
    assert run.valid(rows, everything) == rows[:2]


def test_a_notebook_with_sweeps_is_left_to_itself(capsys):
    assert run.main(["11_fastest", "--seeds", "1"]) == 0
    assert "11_fastest: trains from several seeds itself" in capsys.readouterr().out


# ---------------------------------------------------------------- trained here, on the digits sample

def on_the_sample(tree):
    path = tree / "results" / "seeds.csv"
    return [row for row in seeds.read(path.read_text()) if row.dataset == "digits sample"] if path.exists() else []


def test_a_line_for_each_seed_and_none_twice(tree, no_mnist, capsys):
    before = run.checksums()
    assert run.main([NAME, "--seeds", "0,3"]) == 0
    rows = on_the_sample(tree)
    assert [(row.notebook, row.run, row.seed, row.epochs) for row in rows] == [(NAME, "BatchNormNet", 0, 2), (NAME, "BatchNormNet", 3, 2)]
    assert rows[0].last != rows[1].last
    written = set(run.checksums().splitlines()) ^ set(before.splitlines())
    assert {line.split()[1] for line in written} == {"results/seeds.csv"}
    assert run.SUMS.read_text() == run.checksums()
    capsys.readouterr()
    assert run.main([NAME, "--seeds", "0,3"]) == 0
    assert capsys.readouterr().out == f"{NAME}, seed 0: there already\n{NAME}, seed 3: there already\n"
    assert on_the_sample(tree) == rows


def test_a_broken_run_leaves_the_others(tree, edit, no_mnist, capsys):
    edit("set_seed(SEED)", "assert SEED != 1; set_seed(SEED)")
    assert run.main([NAME, "--seeds", "1-2"]) == 1
    assert [row.seed for row in on_the_sample(tree)] == [2]
    assert f"failed, and not in results/seeds.csv: {NAME}, seed 1" in capsys.readouterr().err


def test_a_notebook_must_take_the_seed(tree, edit, no_mnist, capsys):
    edit('int(os.environ.get("SEED", 0))', "0")
    assert run.main([NAME, "--seeds", "5"]) == 1
    assert "does not take its seed from the environment" in capsys.readouterr().err and not on_the_sample(tree)


@pytest.mark.slow
def test_ctrl_c_loses_only_the_run_in_progress(tree, no_mnist):
    running = subprocess.Popen([sys.executable, "-u", "run.py", NAME, "--seeds", "0-4"], cwd=tree, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    next(line for line in running.stdout if line.startswith(f"--- {NAME}, seed 1"))
    next(line for line in running.stdout if "epoch  1/2" in line)
    running.send_signal(signal.SIGINT)
    try:
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130 and "nothing of the run in progress was written" in errors
    assert [row.seed for row in on_the_sample(tree)] == [0]


# ---------------------------------------------------------------- trained on a cluster

@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers in processes of their own, outside the project: (address, workers)."""
    pytest.importorskip("distributed", reason="needs requirements-cluster.txt")
    outside = tmp_path / "outside"
    outside.mkdir()

    def start(*arguments):
        return subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=outside, text=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, start_new_session=True)
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    address = next(line for line in scheduler.stderr if "Scheduler at:" in line).split()[-1]
    threading.Thread(target=scheduler.stderr.read, daemon=True).start()
    workers = [start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
    for worker in workers:
        threading.Thread(target=worker.stderr.read, daemon=True).start()
    yield address, workers
    for process in [*workers, scheduler]:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_cluster_makes_every_run_once_though_a_worker_dies(tree, no_mnist, cluster, capsys):
    address, workers = cluster

    def kill_one_in_the_middle():
        while not psutil.Process(workers[0].pid).children():
            time.sleep(0.1)
        time.sleep(2)
        os.killpg(workers[0].pid, signal.SIGKILL)
    killer = threading.Thread(target=kill_one_in_the_middle, daemon=True)
    killer.start()
    assert run.main([NAME, "--seeds", "0-2", "--cluster", address]) == 0
    assert sorted(re.findall(r"seed (\d), BatchNormNet: best", capsys.readouterr().out)) == ["0", "1", "2"]
    assert workers[0].wait() == -signal.SIGKILL and workers[1].poll() is None
    assert [row.seed for row in on_the_sample(tree)] == [0, 1, 2]


def test_a_cluster_that_does_not_answer(tree, no_mnist, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed", reason="needs requirements-cluster.txt")
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: (_ for _ in ()).throw(OSError("Timed out")))
    assert run.main([NAME, "--seeds", "0", "--cluster", "tcp://127.0.0.1:1"]) == 1
    assert "no answer from the cluster at tcp://127.0.0.1:1, or it has no workers: Timed out" in capsys.readouterr().err


def test_without_dask_there_is_a_hint(monkeypatch, capsys):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        run.main([NAME, "--seeds", "0", "--cluster", "tcp://127.0.0.1:1"])
    assert "pip install -r requirements-cluster.txt" in capsys.readouterr().err


# ---------------------------------------------------------------- verdicts

def of(last, best=None, count=3):
    """Rows of `count` seeds around `last` and `best`, 0.1 points apart."""
    return [ROW._replace(seed=i, last=last + (i - 1) / 10, best=(best or last) + (i - 1) / 10) for i in range(count)]


def statement(value, what="best", kind=""):
    return Statement("B", ROW.notebook, ROW.run, what, value, "for {last}", kind)


@pytest.mark.parametrize("claim, rows, verdict", [
    (statement(91.99), of(91.5), "reproduced"),   # t of two degrees of freedom is 4.30, sd 0.1, n 3: up to 0.50 apart
    (statement(92.01), of(91.5), "not reproduced"), (statement(90.99), of(91.5), "exceeded"), (statement(91.01), of(91.5), "reproduced"),
    (statement(92.15), of(91.5, count=5), "not reproduced"),
    (statement(99.4, kind="at least"), of(99.39), "not reproduced"), (statement(99.4, kind="at least"), of(99.41), "reproduced"),
    (statement(99.0, kind="about"), of(99.9), "reproduced"), (statement(99.0, kind="about"), of(97.9), "not reproduced"),
    (statement(5936, "parameters"), of(91), "reproduced"), (statement(5937, "parameters"), of(91), "not reproduced"),
    (statement(5936, "parameters", "contradictory"), of(91), "contradictory in the source"), (statement(None, "parameters"), of(91), "not stated"),
    (statement(0.25, "last_loss"), of(91), "reproduced"), (statement(0.26, "last_loss"), of(91), "not reproduced"),
    (statement(0.24, "last_loss"), of(91), "not reproduced"),
    (statement(91.5), of(91.5, count=1), "not measured"), (statement(91.8), [], "not measured")])
def test_verdicts(claim, rows, verdict):
    assert report.judge(claim, rows) == verdict


def test_reasons_and_text_quote_the_seeds():
    rows = of(91.5, 92.0)
    assert report._why(statement(91.8), rows) == "for 91.50 +- 0.10"
    text = f"<!--= seeds.{ROW.run}.best.mean -->1 <!--= {ROW.notebook}/seeds.{ROW.run}.last.sd -->1 of <!--= seeds.{ROW.run}.last.count -->1"
    assert report.with_numbers(text, {}, rows, ROW.notebook).split() == [
        "<!--=", "seeds.BatchNormNet.best.mean", "-->92.00", "<!--=", f"{ROW.notebook}/seeds.BatchNormNet.last.sd", "-->0.10",
        "of", "<!--=", "seeds.BatchNormNet.last.count", "-->3"]
    alone = report.with_numbers(text, {}, rows[:1], ROW.notebook)   # and a number again when there are more
    assert "-->nan of" in alone and report.with_numbers(alone, {}, rows, ROW.notebook) == report.with_numbers(text, {}, rows, ROW.notebook)
    with pytest.raises(KeyError):
        report.with_numbers(text, {}, [], ROW.notebook)


def test_binomial():
    assert utils.binomial(99.4) == pytest.approx(0.0772, abs=1e-4)
