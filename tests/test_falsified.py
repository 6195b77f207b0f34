"""A test of the tests: every way to falsify a notebook, a record or README makes them fail, and say why.

The checksums are made anew after each falsification, so that it is not they alone that tell.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import run

NAME = "2_batch_norm"   # the quickest notebook
pytestmark = pytest.mark.slow


@pytest.fixture
def original(tree):
    """The copy of the project as it was committed, with its tests."""
    shutil.copy(run.utils.ROOT / "notebooks" / f"{NAME}.ipynb", tree / "notebooks")
    for folder in ("tests", "benchmarks"):
        shutil.copytree(run.utils.ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pytest.ini", "conftest.py"):
        shutil.copy(run.utils.ROOT / name, tree)
    return tree


def in_text(path, old, new):
    """Replace the first `old`, a pattern, in a file of the project."""
    def falsify(tree):
        text = (tree / path).read_text()
        changed = re.sub(old, new, text, count=1)
        assert changed != text
        (tree / path).write_text(changed)
    return falsify


def in_notebook(change):
    """Change the notebook as an object."""
    def falsify(tree):
        path = tree / "notebooks" / f"{NAME}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        change(notebook)
        nbformat.write(notebook, path)
    return falsify


def cell_with(notebook, part):
    return next(cell for cell in notebook.cells if cell.cell_type == "code" and part in cell.source)


def swap(notebook):
    cells = notebook.cells
    a, b = (next(i for i, cell in enumerate(cells) if cell.cell_type == "code" and part in cell.source) for part in ("training_curves(", "keep_record("))
    cells[a], cells[b] = cells[b], cells[a]


def remove_output(notebook):
    cell_with(notebook, "summary(").outputs = []


def skip_training(notebook):
    cell = cell_with(notebook, " fit(")
    cell.outputs, cell.execution_count = [], None


def delete_verdict(notebook):
    notebook.cells.remove(cell_with(notebook, "verdict("))


def strip(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def path_in_output(notebook):
    cell_with(notebook, "summary(").outputs[0].text += "/content/mnist-ladder\n"


def warn(notebook):
    cell_with(notebook, "summary(").outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: old\n"))


def ignore_the_verdict(notebook):
    cell = cell_with(notebook, "verdict(")
    cell.source = "# NBVAL_IGNORE_OUTPUT\n" + cell.source


def raised(tree):
    """Make a seed of SmallNet's better and its mean with it."""
    path = tree / SMALL
    record = json.loads(path.read_text())
    row = record["sweeps"]["SmallNet"]
    row["accuracies"]["3"] = 99.7
    accuracies = list(row["accuracies"].values())
    row |= {"mean": statistics.mean(accuracies), "sd": statistics.stdev(accuracies)}
    path.write_text(run.utils.record_text(record))


SMALL = "results/10_smallest.json"
NOTEBOOK, RECORD = f"notebooks/{NAME}.ipynb", f"results/{NAME}.json"
WAYS = {
    "a stored epoch": (in_text(NOTEBOOK, r"(MNIST  epoch  7/15 .*test [\d.]+  )\d\d", r"\g<1>99"), "test_epochs_in_the_outputs"),
    "a stored result": (in_text(NOTEBOOK, r"(best test accuracy, %  +[\d.]+  )\d\d", r"\g<1>99"), "test_results_in_the_outputs"),
    "a number in the text": (in_text(NOTEBOOK, r"(BatchNormNet.best.test_accuracy -->)\d\d", r"\g<1>99"), "test_numbers_in_the_text"),
    "a measured number without a source": (in_text(NOTEBOOK, r"## Analysis", r"## Analysis\\nIt reached 99.99 %."), "test_measured_numbers"),
    "a verdict": (in_text(NOTEBOOK, r"target ([\d.]+) (met|missed), as recorded", r"target \1 exceeded, as recorded"), "test_verdict_in_the_outputs"),
    "a record's number": (in_text(RECORD, r'("best": .*"test_accuracy": )\d\d', r"\g<1>99"), "has a best epoch that is not the best of its epochs"),
    "a whole epoch in the record": (in_text(RECORD, r'("epochs": \[\s+\{ "epoch": 1, .*"test_accuracy": )\d\d', r"\g<1>33"), "test_epochs_in_the_outputs"),
    "a claim raised": (in_text(NOTEBOOK, r"91\.82\)", "92.32)"), "test_claims_in_the_notebook"),
    "a target lowered": (in_text(NOTEBOOK, r"target=90\.0", "target=50.0"), "test_targets_are_the_recorded_ones"),
    "epochs cut": (in_text(NOTEBOOK, "EPOCHS    = 15", "EPOCHS    = 5"), "test_record_was_made_by_these_cells"),
    "the record of another seed": (in_text(RECORD, '"seed": 0', '"seed": 3'), "test_record_agrees_with_itself"),
    "cells reordered": (in_notebook(swap), "test_executed_from_top_to_bottom"),
    "an output removed": (in_notebook(remove_output), "code cells without output"),
    "a marker misspelled": (in_text(NOTEBOOK, "# NBVAL_IGNORE_OUTPUT", "# NBVAL_IGNORE_OUTPUTS"), "test_markers_are_whole_lines"),
    "a marker where it must not be": (in_notebook(ignore_the_verdict), "test_markers_are_whole_lines"),
    "the training cell skipped": (in_notebook(skip_training), "test_executed_from_top_to_bottom"),
    "the verdict cell deleted": (in_notebook(delete_verdict), "test_skeleton"),
    "README's table": (in_text("README.md", r"(2_batch_norm.*\| )\d\d(\.\d\d % \| \d)", r"\g<1>99\2"), "test_readme_is_up_to_date"),
    "the table of claims": (in_text("results/reproduction.md", r"\| not reproduced \|", "| reproduced |"), "test_reproduction_is_up_to_date"),
    "a badge that points elsewhere": (in_text(NOTEBOOK, r"google\.com/github/", "google.com/gist/"), "test_badge_and_set_up_point_here"),
    "a set-up cell that clones another repository": (in_text(NOTEBOOK, r'REPOSITORY = \\"[^"]+\\"', r'REPOSITORY = \\"evil/mnist\\"'), "test_badge_and_set_up_point_here"),
    "an absolute path in an output": (in_notebook(path_in_output), "test_outputs_are_clean"),
    "a warning in stderr": (in_notebook(warn), "test_outputs_are_clean"),
    "a stripped notebook": (in_notebook(strip), "test_executed_from_top_to_bottom"),
    "a picture of another run": (lambda tree: (tree / RECORD).with_suffix(".png").write_bytes((tree / "results/4_gap.png").read_bytes()), "test_picture_is"),
    "a seed of a record": (in_text(SMALL, r'("accuracies": \{ "0": .*"4": )\d\d\.\d+', r"\g<1>99.61"), "test_sweeps_agree_with_themselves"),
    "a seed of a record, and its mean": (raised, "test_sweeps_agree_with_themselves"),
    "a misread image dropped": (in_text(SMALL, r'("wrong": \{ "0": \[ *\d+, )\d+, ', r"\g<1>"), "test_sweeps_agree_with_themselves"),
    "a bar lowered": (in_text("notebooks/10_smallest.ipynb", r"target=99\.4,", "target=99.3,"), "test_record_was_made_by_these_cells"),
    "README's records": (in_text("README.md", r"(SmallNet \| 2,988 .*\| )\d\d(\.\d+ \+- )", r"\g<1>98\2"), "test_readme_is_up_to_date"),
    "a line of seeds.csv": (in_text("results/seeds.csv", r"(2_batch_norm,BatchNormNet,0,.*,)9(\d\.\d\d?,\d+,)", r"\g<1>8\2"), "test_seeds_are_as_run_py_writes_them"),
}


WARM = """
import os, sys
import matplotlib.pyplot, nbclient, nbformat, pytest, scipy.stats, sklearn.metrics, torch, torchsummary, torchvision   # most of a test run's time
for tree in map(str.strip, sys.stdin):
    child = os.fork()
    if not child:
        os.chdir(tree)
        with open("tested", "w") as output:
            os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
        code = pytest.main(["-q", "-p", "no:cacheprovider", "tests/test_notebooks.py"])
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def warm():
    """A process that has imported what the tests need; each of its forks runs them in a copy of the project."""
    if not hasattr(os, "fork"):
        pytest.skip("forks, which Windows has not")
    with subprocess.Popen([sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}) as process:   # measures no coverage
        yield process
        process.stdin.close()


@pytest.fixture
def run_tests(warm, original):
    """A function that runs the tests of the committed notebooks in the copy, and returns their exit status and output."""
    def run_tests():
        print(original, file=warm.stdin, flush=True)
        return int(warm.stdout.readline()), (original / "tested").read_text()
    return run_tests


def test_not_falsified(run_tests):
    status, output = run_tests()
    assert status == 0, output[-3000:]


@pytest.mark.parametrize("way", WAYS)
def test_falsified(original, run_tests, way):
    falsify, expected = WAYS[way]
    falsify(original)
    run.SUMS.write_text(run.checksums())
    status, output = run_tests()
    assert status != 0 and re.search(expected, output), output[-3000:]


def test_a_change_that_nothing_else_tells_breaks_the_checksums(original, run_tests):
    in_text(NOTEBOOK, "## Analysis", "## Analysis\\\\n\\\\nAll is well.")(original)
    _, output = run_tests()
    assert f"not as run.py wrote it: notebooks/{NAME}.ipynb" in output


@pytest.mark.parametrize("old, new", [("lr=LR", "lr=0.0"), ("history ", "data.train.labels[:] = data.train.labels[torch.randperm(600)]\nhistory ")],
                         ids=["a rate of zero", "shuffled labels"])
def test_a_training_that_learns_nothing_fails_its_verdict(tree, edit, small_mnist, old, new):
    """On a small MNIST: the record of eight epochs is made, then the notebook is run with the fault."""
    edit("EPOCHS    = 2", "EPOCHS    = 8")
    assert run.main([NAME, "--replace"]) == 0
    notebook = nbformat.read(tree / "notebooks" / f"{NAME}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source and "import" not in cell.source)
    cell.source = cell.source.replace(old, new, 1)
    environment = {name: value for name, value in os.environ.items() if name not in ("RECORD_DIR", "SEED")}
    client = NotebookClient(notebook, resources={"metadata": {"path": str(tree / "notebooks")}})
    with pytest.raises(CellExecutionError, match="BatchNormNet: best test accuracy .*, by the record"):
        client.execute(env=environment)
