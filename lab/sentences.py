"""Sentences that are held to the records: `says(words, truth)` in a notebook's last cell, and README's below.

A number in a text comes from the record and cannot be wrong; a sentence around it can. So every sentence
whose truth depends on the record has an assertion that reads like it. Plain `pytest` checks them all, and
`run.py --record` lists those that a new record makes false.
"""

import io
import re
from contextlib import redirect_stdout

import nbformat

from lab import comparisons, records
from lab.comparisons import difference
from lab.results import compare, says

NO_RECORD = LookupError, AttributeError, TypeError, ValueError   # what asking for what no record has raises


def last_cell(notebook):
    """Return the last code cell of a notebook, which compares and says."""
    return next(cell for cell in reversed(notebook.cells) if cell.cell_type == "code")


def said_in(notebook, record):
    """Return [(words, truth)] of the `says` lines in the last cell of a notebook, run on its Record alone."""
    said = []
    exec(last_cell(notebook).source, {
        "results": None, "compare": lambda results: record, "difference": difference,
        "says": lambda words, truth: said.append((words, bool(truth)))})
    return said


def show(notebook, results):
    """Put what the record says into a notebook's Results cell and last cell, for what stands there."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "= Results(" in cell.source:
            for output in cell.outputs:
                output["data"] = {"text/html": results._repr_html_(), "text/plain": repr(results)}
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(last_cell(notebook).source, {
                "results": results, "compare": compare, "difference": difference,
                "says": lambda words, truth: says(words, True) if truth else None})
    except NO_RECORD:
        return   # it is listed as false
    output = nbformat.v4.new_output("stream", name="stdout", text=printed.getvalue())
    last_cell(notebook).outputs = [output]


def plain(source):
    """Return a text without the sources of its numbers, its marks and line breaks, to find words in it."""
    return " ".join(re.sub(r"[*`]", "", re.sub(r"<!--.*?-->", "", source)).split())


def false_in(notebook, record):
    """List the words that the last cell says and that are not true of the record, or not in the text."""
    prose = plain("\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"))
    try:
        return _false(said_in(notebook, record), prose)
    except NO_RECORD as error:
        return [f"the last cell fails on the record: {type(error).__name__}: {error}"]


def _false(said, prose):
    return [words for words, truth in said if not truth] + [
        f"{words} (not in the text)" for words, _ in said if plain(words) not in prose]


def false_in_readme(source, all_records, trainings):
    """The same for README."""
    said, failed = [], []
    try:
        for sentence in readme_says(all_records, trainings):
            said.append(sentence)
    except NO_RECORD as error:
        failed = [f"the next sentence fails on the records: {type(error).__name__}: {error}"]
    return _false(said, plain(source)) + failed


def readme_says(all_records, trainings):
    """Yield (words, truth) for the sentences of README."""
    def over_seeds(notebook, run, column="test"):
        return records.over_seeds(notebook, run, column, trainings)

    light, norm = over_seeds("2_light", "LightNet"), over_seeds("3_batch_norm", "BatchNormNet")
    dropout, gap = over_seeds("4_dropout", "DropoutNet"), over_seeds("5_gap", "GapNet")
    yield ("Global average pooling carries the ladder",
           gap.mean() - dropout.mean() > max(norm.mean() - light.mean(), 5))
    everything = comparisons.with_studies(trainings)
    unseen = [comparisons.difference(f"{idea} in step 6", everything)
              for idea in ("dropout", "scheduler", "rotation")]
    yield ("In that network five seeds show no clear effect of dropout, the scheduler and rotation",
           all(each.seeds == 5 and each.verdict == "not told apart" for each in unseen))
    yield ("In 40 epochs in place of 15 the scheduler is worth",
           comparisons.difference("plateau scheduler, 40 epochs", everything).verdict == "worth")
    yield ("without batch norm the network does not learn at the same rate",
           over_seeds("7_ablation", "no batch norm", "last").max() < 20)
    with_norm, without = (records.over_seeds("batch_norm", run, "last", everything)
                          for run in ("with, rate 0.3", "without, rate 0.1"))
    yield ("four of five seeds end about a point lower, and the fifth never learns",
           sum(0.5 < points < 2 for points in with_norm - without) == 4 and (without < 20).sum() == 1)
    yield ("How it falls, in one cycle or in steps, is not told apart",
           comparisons.difference("one cycle against steps", everything).verdict == "not told apart")
    best, last = (over_seeds("1_baseline", "Baseline", column) for column in ("best", "last"))
    yield "The best epoch flatters", best.mean() > last.mean()
    moved = all_records["11_fully_connected"].measures
    yield "a pooled one much less", moved["pooled_4"] > moved["moved_4"] + 10
    spreads = [over_seeds("14_most_accurate", "MostAccurateNet, test set").std(),
               over_seeds("13_smallest", "SharedNet, test set").std()]
    yield "a few hundredths between two single runs say nothing", 0.02 < spreads[0] < spreads[1]
