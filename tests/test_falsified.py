"""A test of the tests: every way to falsify a notebook, a record or README makes them fail.

What was changed by hand in a copy of the project is found by the tests of the committed notebooks, in plain
`pytest`; what was changed in the code of a notebook is found when it is run, by `fit` or by `compare`.
"""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pandas
import pytest

import utils
from lab import mnist
from lab.checkpoint import CheckpointError
from lab.execute import read
from lab.records import ROOT

NAME = "3_batch_norm"   # the quickest notebook
NOTEBOOK, RECORD = f"notebooks/{NAME}.ipynb", f"results/{NAME}.json"
CONTROL, SMALL = "results/6_scheduler.json", "results/13_smallest.json"
MARKER = "# NBVAL_IGNORE_OUTPUT\n"
pytestmark = pytest.mark.slow


# ---------------------------------------------------------------- by hand

def text(path, old, new):
    """Replace the first `old`, a pattern, in a file of the project."""
    def falsify(tree):
        before = (tree / path).read_text()
        after = re.sub(old, new, before, count=1)
        assert after != before, "there is nothing to falsify"
        (tree / path).write_text(after)
    return falsify


def epoch(number, path, label):
    """Change the accuracy of an epoch of a run, in a record, by a hundredth of a point."""
    accuracy = rf'(?s)("{label}": .*?"epoch": {number}, [^}}]*"accuracy": [\d.]*)(\d),'
    return text(path, accuracy, lambda found: f"{found[1]}{(int(found[2]) + 1) % 10},")


def row(notebook, run, seed, column, value):
    """Change a figure of a training from another seed, or of those from all of them."""
    def falsify(tree):
        path = tree / "results" / "runs.csv"
        table = pandas.read_csv(path, dtype=str, keep_default_na=False)
        chosen = (table["notebook"] == notebook) & (table["run"] == run)
        if seed != "all":
            chosen &= table["seed"] == str(seed)
        assert chosen.any(), "there is nothing to falsify"
        table.loc[chosen, column] = value
        table.to_csv(path, index=False)
    return falsify


def notebook(change):
    """Change the notebook as an object."""
    def falsify(tree):
        changed = nbformat.read(tree / NOTEBOOK, as_version=4)
        change(changed)
        nbformat.write(changed, tree / NOTEBOOK)
    return falsify


def cell(part, change):
    """Change the first code cell that has `part`."""
    return notebook(lambda changed: change(next(
        cell for cell in changed.cells if cell.cell_type == "code" and part in cell.source)))


def strip(cell):
    cell.update(outputs=[], execution_count=None)


def state(change):
    """Do something with the first recorded state and the folder of all."""
    return lambda tree: change(*sorted((tree / "results" / "states").iterdir())[:2])


LAST, WARNING = "compare(results)", nbformat.v4.new_output("stream", name="stderr", text="UserWarning: old\n")
WAYS = {   # the test that finds it: {what: how}
    "epochs_in_the_outputs": {
        "a stored epoch": text(NOTEBOOK, r"(MNIST  epoch  7/15 .*test [\d.]+  )\d\d", r"\g<1>99"),
        "the first epoch of a record": epoch(1, RECORD, "BatchNormNet"),
        "a middle epoch of a record": epoch(7, RECORD, "BatchNormNet"),
        "the last epoch of a record": epoch(15, RECORD, "BatchNormNet"),
        "an epoch of a control": epoch(9, CONTROL, "constant rate")},
    "results_in_the_outputs": {
        "fewer parameters": text(CONTROL, r'(?s)("constant rate".*?"parameters": )\d', r"\g<1>1"),
        "a stored result": text(NOTEBOOK, r"(best test accuracy, % +)\d\d", r"\g<1>99"),
        "a claim raised": text("lab/claims.csv", "BatchNormNet,best,91.82", "BatchNormNet,best,92.32"),
        "a target lowered": text("lab/targets.csv", "BatchNormNet,best,90", "BatchNormNet,best,50"),
        "a target for ten seeds lowered": text("lab/targets.csv", "test,99.4", "test,99.3")},
    "measures_in_the_outputs": {"a measure of a record": text(RECORD, r'("beside": )\d', r"\g<1>9")},
    "last_cell_prints": {"a stored verdict": text(NOTEBOOK, "agrees with the record", "beats the record")},
    "sentences_are_true": {
        "a sentence that is not true": text(NOTEBOOK, r"(says\(.*)\)", r"\1 and False)"),
        "a sentence that the text does not say": text(NOTEBOOK, r'says\(\\"', r'says(\\"never '),
        "the sentences deleted": cell(LAST, lambda cell: cell.update(source=f"record = {LAST}"))},
    "test_numbers_in_the_text": {
        "a number in the text": text(NOTEBOOK, r"(BatchNormNet.last.mean -->)\d\d", r"\g<1>99"),
        "a training from another seed": row(NAME, "BatchNormNet", 1, "last", "82.31")},
    "measured_numbers": {
        "one without a source": text(NOTEBOOK, "## Analysis", r"## Analysis\\nIt has 99.98 %.")},
    "record_is_of_these_networks": {
        "another network": text("model.py", r"Dropout\(0\.25", "Dropout(0.2"),
        "another seed": text(RECORD, '"seed": 0', '"seed": 3'),
        "other data": text(RECORD, '"dataset": "MNIST"', '"dataset": "digits sample"')},
    "misread_images": {
        "an image dropped": text(SMALL, r'("misread": \{[^\[]*\[ *\d+, )\d+, ', r"\g<1>"),
        "an accuracy raised": row("13_smallest", "SmallNet, test set", 4, "test", "99.61")},
    "states_are_those": {
        "another recipe": text(RECORD, "lr=0.01", "lr=0.02"),
        "the state of another network": state(lambda first, other: shutil.copy(other, first)),
        "a state missing": state(lambda first, other: first.unlink()),
        "a state that no record has": state(lambda first, other: shutil.copy(first, f"{first}.pt"))},
    "rows_of_other_seeds": {
        "an epoch that is not the best": row(NAME, "BatchNormNet", 2, "best_epoch", "15"),
        "a first epoch better than the best": row(NAME, "BatchNormNet", 2, "first", "99.12")},
    "claims_were_measured": {
        "another recipe": row("6_scheduler", "SchedulerNet", "all", "recipe", "01234567")},
    "reproduction_is_up_to_date": {
        "a verdict": text("results/reproduction.md", r"\| not reproduced \|", "| reproduced |"),
        "a training from another seed": row(NAME, "BatchNormNet", 1, "best", "92.32")},
    "readme_is_up_to_date": {
        "a step": text("README.md", r"(\| batch norm \| 5,936 \| )9\d\.", r"\g<1>99."),
        "a target": text("README.md", r"(\| SmallNet \| 2,988 .*\| )\d\d(\.\d+ ± )", r"\g<1>98\2")},
    "executed_from_top": {
        "cells reordered": notebook(lambda changed: changed.cells.insert(-5, changed.cells.pop())),
        "an output removed": cell("summary(", lambda cell: cell.update(outputs=[])),
        "the training cell skipped": cell(" fit(", strip),
        "a stripped notebook": notebook(lambda changed: [
            strip(cell) for cell in changed.cells if cell.cell_type == "code"])},
    "skeleton": {"the last cell deleted": notebook(lambda changed: changed.cells.pop())},
    "depends_on_the_machine": {
        "a marker misspelled": text(NOTEBOOK, "# NBVAL_IGNORE_OUTPUT", "# NBVAL_IGNORE_OUTPUTS"),
        "a marker too many": cell(LAST, lambda cell: cell.update(source=MARKER + cell.source)),
        "a marker too few": cell(" fit(", lambda cell: cell.update(source=cell.source.replace(MARKER, "")))},
    "outputs_are_clean": {
        "a path": cell("summary(", lambda cell: cell.outputs[0].update(text="/content/mnist-ladder\n")),
        "a warning": cell("summary(", lambda cell: cell.outputs.append(WARNING))},
    "points_here": {
        "a badge that points elsewhere": text(NOTEBOOK, r"google\.com/github/", "google.com/gist/"),
        "another repository": text(NOTEBOOK, r'REPOSITORY = \\"[^"]+\\"', r'REPOSITORY = \\"evil/mnist\\"')},
}


WARM = """
import os, sys
import ipykernel.kernelspec, matplotlib.pyplot, nbclient, pandas, pytest, scipy.stats, torch, torchsummary
for line in sys.stdin:
    folder, test = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        os.chdir(folder)
        with open("tested", "w") as output:
            os.dup2(output.fileno(), 1), os.dup2(output.fileno(), 2)
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "-k", test,
                            "tests/test_notebooks.py"])   # that plugin collects garbage for half a second
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def warm():
    """A process that has imported what takes most of a test run's time; its forks run tests in copies."""
    if not hasattr(os, "fork"):
        pytest.skip("forks, which Windows has not")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}   # other plugins take as long again
    environment.pop("PYTEST_ADDOPTS", None)
    with subprocess.Popen([sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, env=environment) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def run_tests(warm, tree):
    """A function that runs the tests of the copy's notebooks, or one; returns exit status and output."""
    def run_tests(test=""):
        print(tree, test, sep="\t", file=warm.stdin, flush=True)
        return int(warm.stdout.readline()), (tree / "tested").read_text()
    return run_tests


def test_not_falsified(run_tests):
    status, output = run_tests()
    assert status == pytest.ExitCode.OK, output[-3000:]


@pytest.mark.parametrize("test, way", [(test, way) for test, ways in WAYS.items() for way in ways])
def test_falsified(tree, run_tests, test, way):
    WAYS[test][way](tree)
    status, output = run_tests(test)
    assert status == pytest.ExitCode.TESTS_FAILED, output[-3000:]


# ---------------------------------------------------------------- by a change of the cells

@pytest.fixture
def run_cells(monkeypatch):
    """A function that runs the quickest notebook up to a cell, as the tests do, with a line changed."""
    if not mnist.at_hand():
        pytest.skip("only trainings on MNIST are recorded")
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("FIT_MODE", "test")
    monkeypatch.delenv("SEED", raising=False)

    def run_cells(last, old="", new=""):
        cells = [cell.source for cell in read(NAME).cells if cell.cell_type == "code"]
        cells = cells[:1 + next(place for place, cell in enumerate(cells) if last in cell)]
        cells = [cell for cell in cells if "\nshow(" not in cell]
        code, changes = re.subn(old, new, "\n".join(cells), count=1)
        assert changes, "there is nothing to change"
        exec(code, {})
    return run_cells


@pytest.mark.parametrize("old, new, difference", [
    ("LR( *)= 0.01", r"LR\1= 0.02", "optimizer: SGD lr=0.01 momentum=0.9 in the record, SGD lr=0.02 .* here"),
    ("momentum=0.9", "momentum=0.8", "optimizer: .* momentum=0.9 in the record, .* momentum=0.8 here"),
    ("EPOCHS( *)= 15", r"EPOCHS\1= 14", "epochs: 15 in the record, 14 here"),
    ("BATCH( *)= 128", r"BATCH\1= 64", "batch size: 128 in the record, 64 here"),
    ('"SEED", 0', '"SEED", 1', "seed: 0 in the record, 1 here"),
    ("(?m)^(optimizer .*)", r"\1\ndata.train.labels[:9] = 0", "data: MNIST, .* here"),
    ("(?m)^(history .*)", r"net.layers.append(torch.nn.Dropout())\n\1", "layer 23: none .* Dropout .* here")])
def test_another_recipe_is_refused_before_any_training(run_cells, monkeypatch, old, new, difference):
    monkeypatch.setattr(utils, "train_epoch", None)   # it would fail
    with pytest.raises(CheckpointError, match=f"not recorded. .* {NAME}, BatchNormNet; .* is {difference}"):
        run_cells(" fit(", old, new)


def test_a_training_that_learns_nothing_is_found_by_compare(run_cells, monkeypatch):
    """The recipe is the recorded one, so that `fit` begins."""
    monkeypatch.setattr(utils, "train_epoch", lambda *arguments: utils.Score(2.3, 10.0))
    with pytest.raises(AssertionError, match="BatchNormNet: first train accuracy 10.00, in the record"):
        run_cells("compare(results)")
