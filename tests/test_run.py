"""run.py on a copy of the project: what it writes, and that it writes nothing when it should not."""

import hashlib
import os
import re
import signal
import subprocess
import sys

import nbformat
import pytest

import report
import run
import utils

NAME = "2_batch_norm"   # the quickest notebook


def files(tree):
    """The digest of every file: to print a difference of whole pictures would take pytest hours."""
    return {path.relative_to(tree): hashlib.sha256(path.read_bytes()).hexdigest() for path in tree.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.name != ".lock"}


def test_on_the_sample_everything_runs_and_nothing_is_written(tree, no_mnist, capsys):
    before = files(tree)
    assert run.main([NAME]) == 0
    printed = capsys.readouterr().out
    assert printed.count("digits sample  epoch ") == 2
    assert "MNIST  epoch" not in printed and "nothing was written" in printed
    assert files(tree) == before


def test_on_mnist_everything_is_written(tree, small_mnist, capsys):
    before = files(tree)
    assert run.main([NAME, "--replace"]) == 0
    assert capsys.readouterr().out.count("MNIST  epoch ") == 2
    changed = {path.as_posix() for path, digest in files(tree).items() if digest != before.get(path)}
    assert changed == {"README.md", "results/SHA256SUMS", "results/ladder.png", "results/best_minus_last.png", "results/frontier.png",
                       "results/reproduction.md", "results/seeds.csv", f"notebooks/{NAME}.ipynb",
                       f"results/{NAME}.json", f"results/{NAME}.png", "notebooks/3_dropout.ipynb"}   # whose text quotes it
    record = utils.read_record(tree / "results" / f"{NAME}.json")
    accuracy = record["runs"][0]["best"]["test_accuracy"]
    assert f"| {accuracy:.2f} % |" in (tree / "README.md").read_text()
    notebook = nbformat.read(tree / "notebooks" / f"{NAME}.ipynb", as_version=4)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert f"<!--= BatchNormNet.best.test_accuracy -->{accuracy:.2f}" in prose
    written = (tree / "results" / f"{NAME}.png").read_bytes() == run.picture(notebook)
    assert written, "another picture than the notebook's"
    assert run.SUMS.read_text() == run.checksums()


def test_a_record_is_not_replaced_by_a_shorter_run(tree, small_mnist, capsys):
    before = files(tree)
    assert run.main([NAME]) == 1
    assert "BatchNormNet was trained for 2 epochs, in the record for 15; --replace keeps" in capsys.readouterr().err
    assert files(tree) == before


@pytest.mark.parametrize("change, message", [
    (dict(dataset="digits sample"), "on digits sample, the record on MNIST"), (dict(seed=1), "of seed 1, the record of seed 0"),
    (dict(runs=[]), "this run has no BatchNormNet"), ({}, "")])
def test_what_a_record_may_not_lose(change, message):
    record = run.records()[NAME]
    assert message in run._less({**record, **change}, record) and bool(message) == bool(run._less({**record, **change}, record))


def test_a_record_may_not_lose_seeds():
    record = run.records()["11_fastest"]
    assert "from 0 seeds, in the record from 5" in run._less({**record, "sweeps": {}}, record) and not run._less(record, record)


def test_weights_are_kept_and_what_was_unfinished_is_gone(tree, tmp_path):
    (tmp_path / "TinyNet.pt").write_bytes(b"weights")
    unfinished = tree / "results" / f".{NAME}.unfinished"
    unfinished.write_bytes(b"")
    record = run.records()[NAME]
    run.keep(NAME, nbformat.read(run.ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4), record, [tmp_path / "TinyNet.pt"])
    assert (tree / "results" / "TinyNet.pt").read_bytes() == b"weights" and "results/TinyNet.pt" in run.SUMS.read_text()
    assert not unfinished.exists()


@pytest.mark.slow
def test_two_runs_at_once_do_not_mix(tree, small_mnist):
    """Each keeps its own record, and all that follows from both is consistent."""
    other = "3_dropout"
    path = tree / "notebooks" / f"{other}.ipynb"
    path.write_text(path.read_text().replace("EPOCHS    = 15", "EPOCHS    = 2"))
    running = [subprocess.Popen([sys.executable, "run.py", name, "--replace"], cwd=tree, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) for name in (NAME, other)]
    for process in running:
        assert process.communicate(timeout=300) and process.returncode == 0
    everything = run.records()
    assert [len(everything[name]["runs"][0]["epochs"]) for name in (NAME, other)] == [2, 2]
    rows = run.valid(run.seed_rows(everything), everything)
    text = (tree / "README.md").read_text()
    assert run.SUMS.read_text() == run.checksums() and text == report.readme(text, everything, rows)


def test_another_run_that_writes_is_waited_for(tree, monkeypatch, capsys):
    held = run.FileLock(tree / "results" / ".lock")
    monkeypatch.setattr(run, "FileLock", lambda path, timeout: held.__class__(path, timeout=0.1))
    with held:
        before = files(tree)
        assert run.main(["--text"]) == 1
    assert "another run.py has been writing for a minute" in capsys.readouterr().err and files(tree) == before


def test_a_failing_cell_leaves_every_file_alone(tree, edit, small_mnist, capsys):
    edit("training_curves(", "1 / 0; training_curves(")
    before = files(tree)
    assert run.main([NAME]) == 1
    printed = capsys.readouterr().err
    assert re.search(rf"{NAME}: cell \d+ failed with ZeroDivisionError: division by zero", printed)
    assert "nothing of it was written" in printed and files(tree) == before


def test_a_dying_kernel_leaves_every_file_alone(tree, edit, small_mnist, capsys):
    edit("import os", "import os; os._exit(1)")
    before = files(tree)
    assert run.main([NAME]) == 1
    assert f"{NAME}: the kernel died in cell 2" in capsys.readouterr().err and files(tree) == before


@pytest.mark.slow
def test_interrupted_from_the_keyboard(tree, small_mnist):
    before = files(tree)
    running = subprocess.Popen([sys.executable, "-u", "run.py", NAME], cwd=tree, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))   # a shell's background jobs ignore it
    next(line for line in running.stdout if line.startswith("MNIST  epoch  1/2"))
    running.send_signal(signal.SIGINT)
    try:
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130 and errors.endswith(f"{NAME}: interrupted; nothing of it was written.\n")
    assert files(tree) == before


@pytest.mark.parametrize("arguments, message", [
    (["2_batchnorm"], f"no notebook named 2_batchnorm; there are {', '.join(run.names())}"),
    (["../5_scheduler"], "no notebook named ../5_scheduler"),
    ([], "name a notebook, or --all"), (["--repo", "me"], "--repo takes OWNER/NAME, not 'me'")])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "A failed run writes nothing." in text and all(name in text for name in run.names())


def test_no_room_leaves_every_file_alone(tmp_path):
    (tmp_path / "old").write_text("old")
    with pytest.raises(run.RunError, match="cannot write: .*No such file"):
        run.write({tmp_path / "old": b"new", tmp_path / "missing" / "file": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and (tmp_path / "old").read_text() == "old"


def test_what_cannot_be_renamed_is_said(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(run.RunError, match="cannot write: .*folder.*; `git status` shows what was"):
        run.write({tmp_path / "folder": b"new"})


def test_a_notebook_without_curves_has_no_picture():
    with pytest.raises(run.RunError, match="no cell draws training_curves"):
        run.picture(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]))


def test_a_notebook_that_keeps_no_record_is_named(tree, small_mnist, capsys):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), tree / "notebooks" / "99_new.ipynb")
    assert run.main(["99_new"]) == 1
    assert 'no cell called keep_record("99_new", ...), so there is nothing to keep' in capsys.readouterr().err


def test_ctrl_c_ends_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(run, "run_notebook", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run.main([NAME]) == 130
    assert capsys.readouterr().err == f"\n{NAME}: interrupted; nothing of it was written.\n"


def test_repo_moves_every_address(tree):
    assert run.main(["--repo", "somebody/my-digits"]) == 0
    for path in [tree / "report.py", tree / "README.md", *(tree / "notebooks").glob("*.ipynb")]:
        assert report.REPOSITORY not in path.read_text() and "somebody/my-digits" in path.read_text()
    assert run.SUMS.read_text() == run.checksums()


def test_text_is_renewed_without_a_run(tree):
    run.main(["--text"])   # the checksum of the shortened notebook
    before = files(tree)
    path = tree / "notebooks" / f"{NAME}.ipynb"
    number = re.search(r"<!--= BatchNormNet.best.test_accuracy -->([\d.]+)", path.read_text())
    path.write_text(path.read_text().replace(number[0], number[0].replace(number[1], "12.34")))
    (tree / "README.md").write_text((tree / "README.md").read_text().replace(f"{number[1]} %", "12.34 %"))
    assert files(tree) != before
    assert run.main(["--text"]) == 0 and files(tree) == before


def test_numbers_come_from_their_source():
    record = {"runs": [{"name": "A", "seconds": 90, "once": False, "parameters": 5936, "best": {"test_accuracy": 99.5},
                        "epochs": [{"lr": 0.5}, {"lr": 0.25}]}], "measures": {"x": 0.25},
              "sweeps": {"s": {"seconds": {"0": 30.0, "1": 99.0}, "once": False}, "r": {"seconds": {"0": 900.0}, "once": True, "wrong": {"0": [7, 947], "1": [8, 947]}}}}
    text = "<!--= A.best.test_accuracy -->1.1 % of <!--=A.parameters-->7, <!--= measures.x -->0, <!--= A.epochs.-2.lr -->0, <!--= all/minutes -->1; 3 stays"
    assert report.with_numbers(text, {"n": record}, [], "n") == (
        "<!--= A.best.test_accuracy -->99.50 % of <!--=A.parameters-->5,936, <!--= measures.x -->0.25, "
        "<!--= A.epochs.-2.lr -->0.50, <!--= all/minutes -->2; 3 stays")
    assert report.with_numbers("<!--= sweeps.r.often -->0, <!--= sweeps.r.doubtful -->0", {"n": record}, [], "n") == "<!--= sweeps.r.often -->3, <!--= sweeps.r.doubtful -->1"
    assert report.with_numbers("<!--= A.parameters --> new, `<!--= B.x -->` example", {"n": record}, [], "n") == (
        "<!--= A.parameters -->5,936 new, `<!--= B.x -->` example")
    with pytest.raises(KeyError):
        report.with_numbers("<!--= B.parameters -->1", {"n": record}, [], "n")


def test_a_number_that_no_record_has_costs_no_training(tree, capsys):
    run.README.write_text(run.README.read_text() + "<!--= 1_baseline/Gone.parameters -->7")
    assert run.main(["--text"]) == 0
    assert run.README.read_text().endswith("-->7") and "no record has 'Gone'" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["2_batch_norm/BatchNormNet.epochs.99.lr", "2_batch_norm/seeds.BatchNormNet.bset.mean",
                                    "2_batch_norm/seeds.BatchNormNet.mean", "2_batch_norm/BatchNormNet.claim.x.y"])
def test_nor_does_a_source_that_is_misspelt(tree, source, capsys):
    run.README.write_text(run.README.read_text() + f"<!--= {source} -->7")
    assert run.main(["--text"]) == 0 and "no record has" in capsys.readouterr().err


def test_the_first_record_of_a_project_without_any(tree, capsys):
    for path in (tree / "results").iterdir():
        path.unlink()
    assert run.main(["--text"]) == 0
    assert {path.name for path in files(tree) if path.parts[0] == "results"} == {"SHA256SUMS", "seeds.csv", "reproduction.md"}
