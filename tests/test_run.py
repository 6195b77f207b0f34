"""run.py on a copy of the project: what it trains, shows and publishes, and when it publishes nothing."""

import os
import re
import subprocess
import sys
from itertools import chain

import nbformat
import pytest
import torch
from filelock import FileLock
from PIL import Image
from project import NAME, NUMBER, add, edit, files, interrupted, run_py

import run
from lab import publish
from lab.record import parse_record


def record_in(tree):
    return parse_record((tree / "results" / f"{NAME}.json").read_text(), NAME)


def notebook_in(folder):
    return nbformat.read(folder / f"{NAME}.ipynb", as_version=4)


def table_in(folder):
    return notebook_in(folder).cells[2].outputs[0]["data"]["text/plain"]


def forbid_training(tree):
    add(tree / "utils.py", "def train_epoch(*_): raise AssertionError\n")


# ---------------------------------------------------------------- a recording

@pytest.mark.slow
def test_a_recording_publishes_what_follows_from_it_and_nothing_else(recording):
    assert recording.status == 0, recording.errors
    tree, before, after = recording.tree, recording.before, files(recording.tree)
    assert {name for name in after if after[name] != before.get(name)} == {
        f"notebooks/{NAME}.ipynb", f"results/{NAME}.json", "results/runs.csv", "results/ladder.png",
        "results/frontier.png", *(f"results/weights/{NAME}/{run}.pt" for run in ("DigitNet", "slow"))}
    assert before.keys() <= after.keys()
    record, head, log = record_in(tree), *notebook_in(tree / "notebooks").cells[:2]
    assert record.seed == 0 and record.misread["DigitNet"].keys() == {"0", "1"}
    rows = [line.split(",") for line in (tree / "results" / "runs.csv").read_text().splitlines()]
    assert [(row[1], row[5]) for row in rows if row[0] == NAME] == [("DigitNet", "1"), ("slow", "1")]
    lines = [epoch.line("MNIST", 15, "test") for epoch in chain(*record.runs.values())]
    assert len(lines) == 30 and "\n".join(lines) in log.outputs[0]["text"]
    assert f"-->{record['DigitNet'].last.accuracy:.2f} %" in head.source and "-->2 seeds" in head.source
    assert "nothing was trained here" in table_in(tree / "notebooks")
    assert notebook_in(tree / "notebooks").metadata.kernelspec.name == "another"


@pytest.mark.slow
def test_recorded_again_nothing_is_trained_and_nothing_changes_but_a_name(recorded):
    forbid_training(recorded)
    before = files(recorded)
    edit(recorded, "-->2 seeds", "-->7 seeds")
    (recorded / "results" / "ladder.png").unlink()
    status, output, errors = run_py(recorded, "--record", NAME, "--seeds", "0-1")
    assert status == 0 and f"{NAME}, seed 1: there already" in output and files(recorded) == before, errors
    edit(recorded, "slow", "slower")
    status, _, errors = run_py(recorded, "--record", NAME)
    weights = {path.stem for path in (recorded / "results" / "weights" / NAME).iterdir()}
    assert status == 0 and weights == record_in(recorded).runs.keys() == {"DigitNet", "slower"}, errors


@pytest.mark.slow
def test_an_interrupted_recording_continues_and_what_became_false_is_listed(recorded):
    edit(recorded, "EPOCHS, data, runs = 15", "EPOCHS, data, runs = 150")
    edit(recorded, "last.min() > 50", "last.min() > 99.9")
    before, unfinished = files(recorded), recorded / "runs" / "unfinished"
    status, errors = interrupted(recorded, "--record", NAME, at=["epoch 150/150", "epoch  3/150"])
    assert status == 1 and "interrupted, or out of memory" in errors and "Traceback" not in errors
    part, whole = sorted((torch.load(path)["history"] for path in unfinished.iterdir()), key=len)
    assert 2 <= len(part) < 150 == len(whole) and files(recorded) == before
    status, _, errors = run_py(recorded, "--record", NAME)
    assert status == 0 and not list(unfinished.iterdir()), errors
    for kept, made in zip((whole, part), record_in(recorded).runs.values()):
        assert [epoch.seconds for epoch in made[:len(kept)]] == [epoch[-1] for epoch in kept]
    assert re.search(f"false: notebooks/{NAME}.ipynb: .*The network learns.* is not true: run", errors)


@pytest.mark.slow
@pytest.mark.parametrize("code, message", [
    ("1 / 0", "cell 2 failed with ZeroDivisionError: division by zero"),
    ("import os; os._exit(1)", "the kernel ended in cell 2: interrupted, or out of memory"),
    ("1 + 1", f'no cell makes results = Results("{NAME}", ...): failed with')])
def test_a_run_that_fails_publishes_nothing(recorded, code, message):
    notebook = notebook_in(recorded / "notebooks")
    notebook.cells[1:] = [nbformat.v4.new_code_cell(code)]
    nbformat.write(notebook, recorded / "notebooks" / f"{NAME}.ipynb")
    before = files(recorded)
    status, _, errors = run_py(recorded, "--record", NAME)
    assert status == 1 and f"run.py: {NAME}: {message}" in errors and files(recorded) == before


# ---------------------------------------------------------------- a reader's run

@pytest.mark.slow
def test_a_readers_run_shows_what_was_changed_and_publishes_nothing(recorded):
    edit(recorded, "0.002", "0.01")
    before = files(recorded)
    status, output, errors = run_py(recorded, NAME)
    assert status == 0 and files(recorded) == before, errors
    shown = table_in(recorded / "runs")
    assert shown in output and "slow: another recipe than the recorded one (optimizer: SGD lr=0.002" in shown
    assert re.search(r"DigitNet: the recorded recipe, seed 0\. On test images it ends \d\.\d\d points", shown)
    assert "MNIST, DigitNet: agrees with the record\nMNIST, slow: another recipe" in output


@pytest.mark.slow
def test_recorded_trains_nothing_and_says_so_on_any_console(recorded):
    forbid_training(recorded)
    before = files(recorded)
    done = subprocess.run([sys.executable, "run.py", NAME, "--recorded"], cwd=recorded, capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"? 50" in done.stdout, done.stderr
    shown = table_in(recorded / "runs")
    assert shown.count("nothing was trained here, its weights were loaded") == 2
    assert "≥ 50" in shown and files(recorded) == before


@pytest.mark.slow
def test_the_first_command_of_the_readme_without_mnist(tree, no_mnist):
    before = files(tree)
    done = subprocess.run([sys.executable, "run.py", "6_scheduler"], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0 and files(tree) == before, done.stderr
    assert "trained on the digits sample, which says nothing about MNIST" in done.stdout
    assert "MNIST  epoch" not in done.stdout and (tree / "runs" / "6_scheduler.ipynb").exists()


def test_pictures_are_read_though_one_of_them_is_none(tree, sample):
    ink = (sample.test.images[0, 0] > 0).numpy().astype("uint8")
    Image.fromarray(255 - 255 * ink).resize((200, 200)).save(tree / "digit.png")
    status, output, errors = run_py(tree, "--predict", str(tree / "digit.png"), str(tree / "none.png"))
    assert status == 1 and re.match(r".*digit\.png: .*\d", output) and "none.png" in errors


# ---------------------------------------------------------------- a new step, another repository

def test_a_new_step_has_a_place_for_all_that_is_to_be_written(tree):
    status, output, _ = run_py(tree, "--new", NAME, "--from", "5_gap")
    notebook, last = notebook_in(tree / "notebooks"), publish.names()[-1]
    head, *texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert status == 0 and f"notebooks/{NAME}.ipynb is made" in output
    assert head.startswith(f"# {NUMBER}. FILL IN: small") and f"]({last}.ipynb)" in head
    assert f"{publish.REPOSITORY}/blob/main/notebooks/{NAME}.ipynb)" in head
    before = nbformat.read(tree / "notebooks" / f"{last}.ipynb", as_version=4)
    assert f" | [next: small]({NAME}.ipynb)\n" in before.cells[0].source
    assert all(publish.FILL in text for text in texts) and "## Analysis" in "".join(texts)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert f'Results("{NAME}"' in "".join(cell.source for cell in code)


def test_repo_moves_every_address_and_takes_gits_origin(tree):
    for command in (["init", "-q"], ["remote", "add", "origin", "git@github.com:somebody/my-digits.git"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    assert run_py(tree, "--repo")[0] == 0
    site = [tree / "site" / "conf.py", tree / "README.md"]
    for path in [tree / "lab" / "publish.py", *site, *(tree / "notebooks").glob("*.ipynb")]:
        content = path.read_text()
        assert publish.REPOSITORY not in content and "somebody/my-digits" in content
        assert path not in site or "https://somebody.github.io/my-digits/" in content
    subprocess.run(["git", "remote", "set-url", "origin", "https://example.org/x"], cwd=tree, check=True)
    with pytest.raises(SystemExit):
        run_py(tree, "--repo")


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize("arguments, message", [
    (["3_batchnorm"], "no notebook named 3_batchnorm; there are 1_baseline, 2_light, 3_batch_norm"),
    (["../6_scheduler"], "no notebook named ../6_scheduler"), ([], "name a notebook, or --all"),
    (["--repo", "me"], "--repo takes OWNER/NAME, not 'me'"),
    (["1_baseline", "--seeds", "a"], "expected seeds such as 0-4 or 0,2,5, not 'a'"),
    (["1_baseline", "--seeds", "4-0"], "expected seeds such as 0-4 or 0,2,5, not '4-0'"),
    (["1_baseline", "--cluster", "tcp://x:1"], "--cluster goes with --seeds"),
    (["log_of_d"], "log_of_d is a study: it takes --seeds"),
    (["1_baseline", "--recorded", "--seeds", "1"], "--recorded trains nothing, so it takes no --seeds"),
    (["1_baseline", "--text"], "take no notebooks and no seeds"),
    (["1_baseline", "--record", "--recorded"], "not allowed with argument"),
    (["1_baseline", "--seeds", "0", "--cluster", "tcp://x:1"], "pip install -r requirements-cluster.txt")])
def test_wrong_arguments(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)   # as without dask.distributed
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


NO_MNIST = "no MNIST here and no network to fetch it from; what is recorded is of MNIST"


@pytest.mark.parametrize("arguments, message", [
    (["--record", "5_gap"], NO_MNIST), (["5_gap", "--seeds", "7"], NO_MNIST), (["--page"], NO_MNIST),
    (["5_gap", "--recorded"], NO_MNIST), (["--new", f"{NUMBER + 1}_small"], "is named NUMBER_IDEA"),
    (["--new", "small"], f"next number is {NUMBER}"), (["--new", f"{NUMBER}_"], f"next number is {NUMBER}"),
    (["--new", NAME, "--from", "5_gapp"], "no notebook named 5_gapp to start from; there are 1_baseline")])
def test_what_is_refused_changes_nothing(tree, no_mnist, arguments, message):
    before = files(tree)
    status, _, errors = run_py(tree, *arguments)
    assert status == 1 and message in errors and files(tree) == before


def test_two_at_a_time_are_refused(tree):
    (tree / "runs").mkdir()
    with FileLock(tree / "runs" / ".lock"):
        status, _, errors = run_py(tree, "--text")
    assert status == 1 and "run.py: another run.py or `pytest --nbval` is at work here; wait" in errors
