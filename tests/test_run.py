"""run.py on a copy of the project: what it writes, what it says, and when it writes nothing."""

import re
import signal
import subprocess
import sys

import nbformat
import pytest
import torch
from filelock import FileLock

import run
from lab import publish, recipe, text
from lab.records import parse_record

NAME = "15_small"   # conftest.py has it: two short trainings, DigitNet and slow


def record_in(folder):
    path = folder / f"{NAME}.json"
    return parse_record(path.read_text(), path.name)


# ---------------------------------------------------------------- the command of a reader

def test_a_readers_run_shows_what_was_changed_and_publishes_nothing(recorded, run_py, edit, files):
    """Fewer epochs, a wider layer, another rate; and the notebook names a kernel that is not installed."""
    edit("EPOCHS = 15", "EPOCHS = 3")
    edit("train(lr=0.03)", "train(lr=0.03, width=16)")
    edit("train(lr=0.002)", "train(lr=0.01)")
    before = files(recorded)
    status, output, _ = run_py(recorded, NAME)
    assert status == 0 and files(recorded) == before
    here, record = record_in(recorded / "runs"), record_in(recorded / "results")
    notebook = nbformat.read(recorded / "runs" / f"{NAME}.ipynb", as_version=4)
    shown = notebook.cells[-2].outputs[0]["data"]["text/plain"]
    assert notebook.metadata.kernelspec.name == "another" and shown in output
    ends = {label: (here[label].last.accuracy, record[label].last.accuracy) for label in ("DigitNet", "slow")}
    assert re.findall(r"last test accuracy, % +(\S+) +(\S+)", shown) == [
        (f"{ours:.2f}", f"{theirs:.2f}") for ours, theirs in ends.values()]
    notes = re.findall(r"^(\w+): another recipe than the recorded one \((.*)\), seed 0\. (.*)$", shown, re.M)
    for (label, changed, far), expected in zip(notes, [
            "layer 1: Conv2d 8x1x5x5 .* in the record, Conv2d 16x1x5x5 .* here; layer 2: BatchNorm2d",
            "optimizer: SGD lr=0.002 in the record, SGD lr=0.01 here; epochs: 15 in the record, 3 here"],
            strict=True):
        ours, theirs = ends[label]
        direction = "above" if ours >= theirs else "below"
        assert re.match(expected, changed) and len(here[label]) == 3
        assert far == f"On test images it ends {abs(ours - theirs):.2f} points {direction} the record's mean."
    assert output.count("another recipe than the recorded one, not compared") == 2


@pytest.mark.slow
def test_the_first_command_of_the_readme_without_mnist(tree, no_mnist, files):
    before = files(tree)
    command = [sys.executable, "run.py", "3_batch_norm"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "trained on the digits sample, which says nothing about MNIST" in done.stdout
    assert "MNIST  epoch" not in done.stdout and files(tree) == before
    assert (tree / "runs" / "3_batch_norm.ipynb").exists()


# ---------------------------------------------------------------- the command of a maintainer

def test_a_recording_publishes_what_follows_from_it_and_nothing_else(recording, files):
    assert recording.status == 0 and recording.output.endswith(f"{NAME}: recorded.\n")
    record, after = record_in(recording.tree / "results"), files(recording.tree)
    states = {f"results/states/{recipe.digest(history.recipe)}-0.pt" for history in record.runs.values()}
    assert {name for name in after if after[name] != recording.before.get(name)} == states | {
        "README.md", "results/ladder.png", "results/DigitNet.pt",
        f"results/{NAME}.json", f"notebooks/{NAME}.ipynb"}
    assert len(states) == 2 and recording.before.keys() <= after.keys()
    accuracy = f"{record['DigitNet'].last.accuracy:.2f}"
    prose = nbformat.read(recording.tree / "notebooks" / f"{NAME}.ipynb", as_version=4).cells[0].source
    assert f"-->{accuracy} %" in prose and "-->1 seed(s)" in prose
    assert f"| a small one | 5,354 | {accuracy} (1 seed(s)) |" in (recording.tree / "README.md").read_text()


def test_an_interrupted_recording_continues_and_what_became_false_is_listed(recorded, run_py, edit):
    """As after Ctrl-C: one training before its last epoch, the other one done."""
    old, unfinished = record_in(recorded / "results"), recorded / "runs" / "unfinished"
    for label, done in (("DigitNet", 14), ("slow", 15)):
        file = f"{recipe.digest(old[label].recipe)}-0.pt"
        state = torch.load(recorded / "results" / "states" / file)
        old[label][:done] = [epoch._replace(seconds=77.0) for epoch in old[label][:done]]
        torch.save({**state, "history": [tuple(epoch) for epoch in old[label][:done]]}, unfinished / file)
    edit("last.accuracy > 80", "last.accuracy > 99.9")
    gap = recorded / "results" / "5_gap.json"
    gap.write_text(re.sub(r'"accuracy": [\d.]+', '"accuracy": 50.0', gap.read_text()))
    status, _, errors = run_py(recorded, "--record", NAME)
    fresh = record_in(recorded / "results")
    old["DigitNet"][-1] = old["DigitNet"][-1]._replace(seconds=fresh["DigitNet"].last.seconds)
    assert status == 0 and fresh.runs == old.runs and not list(unfinished.glob("*.pt"))
    false = re.findall(r"^no longer true: (.*)$", errors, re.M)
    assert f"notebooks/{NAME}.ipynb: The network learns" in false
    assert "README.md: Global average pooling carries the ladder" in false


@pytest.mark.parametrize("code, message", [
    ("1 / 0", "cell 2 failed with ZeroDivisionError: division by zero"),
    ("import os; os._exit(1)", "the kernel died in cell 2")])
def test_a_run_that_fails_publishes_nothing(recorded, run_py, edit, files, code, message):
    edit("import os, sys", code)
    before = files(recorded)
    status, _, errors = run_py(recorded, "--record", NAME)
    assert status == 1 and f"run.py: {message}" in errors and files(recorded) == before


def test_what_cannot_be_recorded_is_said(recorded, run_py, files, request):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    nbformat.write(notebook, recorded / "notebooks" / "15_empty.ipynb")
    before = files(recorded)
    status, _, errors = run_py(recorded, "--record", "15_empty")
    assert status == 1 and 'no cell makes Results("15_empty", ...) of whole trainings' in errors
    request.getfixturevalue("no_mnist")
    status, _, errors = run_py(recorded, "--record", NAME)
    assert status == 1 and "the digits sample is not recorded" in errors and files(recorded) == before


@pytest.mark.slow
def test_ctrl_c_publishes_nothing_and_keeps_the_epochs(recorded, edit, files):
    edit("EPOCHS = 15", "EPOCHS = 999")
    before = files(recorded)
    running = subprocess.Popen(
        [sys.executable, "-u", "run.py", "--record", NAME], cwd=recorded, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    next(line for line in running.stdout if "epoch  5/999" in line)
    running.send_signal(signal.SIGINT)
    try:
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130 and errors.endswith("nothing of the run in progress was written.\n")
    state, = (recorded / "runs" / "unfinished").glob("*.pt")
    assert len(torch.load(state)["history"]) >= 5 and files(recorded) == before


def test_refresh_makes_only_the_last_epoch_again(recorded, run_py, edit):
    edit("print(score_once(history, net, data.test))", "print('new:', score_once(history, net, data.test))")
    before = record_in(recorded / "results")
    status, output, _ = run_py(recorded, "--refresh", NAME)
    after = record_in(recorded / "results")
    notebook = recorded / "notebooks" / f"{NAME}.ipynb"
    assert status == 0 and "new: " in output and "new: " in notebook.read_text()
    for label, history in after.runs.items():
        assert history[:-1] == before[label][:-1]   # the seconds too
        assert history.last._replace(seconds=0) == before[label].last._replace(seconds=0)
    assert not list((recorded / "runs" / "unfinished").glob("*.pt"))


def test_a_folder_that_cannot_be_made_is_named(tree, run_py):
    (tree / "runs").write_text("in the way")
    status, _, errors = run_py(tree, "--text")
    assert status == 1 and re.match(r"run\.py: .*File exists: .*runs", errors)


def test_two_at_a_time_are_refused(tree, run_py):
    (tree / "runs").mkdir()
    with FileLock(tree / "runs" / ".lock"):
        status, _, errors = run_py(tree, "--text")
        command = [sys.executable, "-m", "pytest", "--nbval", "tests/test_text.py"]
        tested = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    said = "another run.py or `pytest --nbval` is at work here; wait for its end"
    assert status == 1 and errors.startswith(f"run.py: {said}")
    assert tested.returncode == pytest.ExitCode.USAGE_ERROR and said in tested.stderr


def test_a_folder_that_cannot_be_written_to_can_be_tested(tree):
    (tree / "runs").write_text("no folder")   # as an administrator nothing else is refused
    command = [sys.executable, "-m", "pytest", "--nbval", "--collect-only", "-q", "tests/test_text.py"]
    tested = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr


def test_no_room_leaves_every_file_alone(tmp_path):
    (tmp_path / "old").write_text("old")
    with pytest.raises(run.RunError, match="cannot write: .*No such file"):
        publish.write({tmp_path / "old": b"new", tmp_path / "missing" / "file": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and (tmp_path / "old").read_text() == "old"
    with pytest.raises(run.RunError, match="cannot write: .*; `git status` shows what was"):
        publish.write({tmp_path: b"new"})   # it cannot be renamed


# ---------------------------------------------------------------- the command line

@pytest.mark.parametrize("arguments, message", [
    (["3_batchnorm"], "no notebook named 3_batchnorm; there are 1_baseline, 2_light, 3_batch_norm"),
    (["../6_scheduler"], "no notebook named ../6_scheduler"), ([], "name a notebook, or --all"),
    (["--repo", "me"], "--repo takes OWNER/NAME, not 'me'"),
    (["1_baseline", "--seeds", "a"], "expected seeds such as 0-4 or 0,2,5, not 'a'"),
    (["1_baseline", "--seeds", "4-0"], "no seed in '4-0'"),
    (["1_baseline", "--cluster", "tcp://x:1"], "--cluster goes with --seeds")])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_repo_moves_every_address(tree, run_py):
    assert run_py(tree, "--repo", "somebody/my-digits")[0] == 0
    moved = [tree / "lab" / "text.py", tree / "site" / "conf.py", tree / "README.md"]
    for path in [*moved, *(tree / "notebooks").glob("*.ipynb")]:
        assert text.REPOSITORY not in path.read_text() and "somebody/my-digits" in path.read_text()
    for path in moved[1:]:
        assert "https://somebody.github.io/my-digits/" in path.read_text()


def test_repo_takes_gits_origin(tree, run_py):
    for command in (["init", "-q"], ["remote", "add", "origin", "git@github.com:somebody/digits.git"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    assert run_py(tree, "--repo")[0] == 0 and "somebody/digits" in (tree / "README.md").read_text()
    subprocess.run(["git", "remote", "set-url", "origin", "https://example.org/x"], cwd=tree, check=True)
    with pytest.raises(SystemExit):
        run_py(tree, "--repo")


def test_text_is_renewed_from_the_records(recorded, run_py, files):
    before = files(recorded)
    notebook, readme = recorded / "notebooks" / f"{NAME}.ipynb", recorded / "README.md"
    notebook.write_text(re.sub("(DigitNet.last.accuracy -->)[^ ]*", r"\g<1>12.34", notebook.read_text()))
    readme.write_text(readme.read_text().replace("| a small one | 5,354 |", "| a small one | 5 |"))
    (recorded / "results" / "ladder.png").unlink()
    assert {name for name in before if files(recorded).get(name) != before[name]} == {
        f"notebooks/{NAME}.ipynb", "README.md", "results/ladder.png"}
    assert run_py(recorded, "--text")[0] == 0 and files(recorded) == before


def test_a_number_that_no_record_has_costs_no_training(recorded, run_py):
    readme = recorded / "README.md"
    readme.write_text(readme.read_text() + "<!--= 1_baseline/Gone.parameters -->7")
    status, _, errors = run_py(recorded, "--text")
    assert status == 0 and readme.read_text().endswith("-->7")
    assert "no record has 1_baseline/Gone.parameters" in errors


def test_a_project_without_records(tree, run_py):
    for path in (tree / "results").glob("*.*"):
        path.unlink()
    assert run_py(tree, "--text")[0] == 0
    assert {path.name for path in (tree / "results").glob("*.*")} == {"ideas.md", "reproduction.md"}
