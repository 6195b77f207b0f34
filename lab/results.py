"""What the end of a notebook shows: its runs beside the record, the claims and the targets.

`Results` is the table that a reader sees, `compare` holds a run against the record.
"""

import html
import math

import pandas

from lab import record
from lab.record import RESULTS
from lab.training import differences, mode

GUESSED = 50   # % of ten classes: a training that ends below it has not learnt, or broke down

# claims: a row for each number of a write-up. what: a column of `trainings`; kind: "" for a number to compare
# with, "at least", "about" (to the nearest percent), "contradictory" where the write-up says something else
# as well. targets: in percent, at least.
CLAIMS = pandas.read_csv(RESULTS / "claims.csv", keep_default_na=False, na_values={"value": [""]})
TARGETS = pandas.read_csv(RESULTS / "targets.csv")

# Places in MNIST's test set of the images whose label at most two of five readers confirmed
# (Northcutt et al., Pervasive label errors in test sets, 2021; mnist_mturk.json of cleanlab/label-errors).
DOUBTFUL = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}


# ---------------------------------------------------------------- the table of a notebook

class Results:
    """A table of the runs that were just made, beside the record and the claims, and a note for each run.

    runs: {label: History}. measures: further figures that the text quotes.
    """

    def __init__(self, notebook, runs, **measures):
        self.notebook, self.runs, self.measures = notebook, runs, measures
        self.record = record.read_all().get(notebook)

    def over_seeds(self, label, column):
        """Return what the record has for a column of a run, or NOTEBOOK/run, as a Series by seed."""
        notebook, _, run = label.rpartition("/")
        return record.over_seeds(notebook or self.notebook, run, column)

    def table(self):
        """Return a pandas DataFrame: the figures of each run, the record's over seeds, and the claims."""
        rows = [row for label, history in self.runs.items() for row in self._rows(label, history)]
        columns = ["run", "", "this run", "record over seeds", "claim", "target"]
        return pandas.DataFrame(rows, columns=columns).set_index(columns[:2])

    def _rows(self, label, history):
        """Yield the rows of one run; of many runs only those that they are compared by."""
        scored, last = history.scored_on, history.last   # which says so where there is no epoch
        best_train = max(epoch.train_accuracy for epoch in history)
        figures = [("parameters", "parameters", f"{history.parameters:,}"),
                   ("best training accuracy, %", "best_train", f"{best_train:.2f}")]
        if scored:
            best = history.best
            figures += [(f"best {scored} accuracy, %", "best", f"{best.accuracy:.2f} (epoch {best.epoch})"),
                        (f"last {scored} accuracy, %", "last", f"{last.accuracy:.2f}")]
        if history.test is not None:
            figures.append(("test accuracy, scored once, %", "test", f"{history.test:.2f}"))
        if len(self.runs) > 4:
            figures = [figure for figure in figures if figure[1] in ("last", "test")]
        for name, column, here in figures:
            recorded = over(self.over_seeds(label, column)) if column != "parameters" else ""
            goal = target(self.notebook, label, column)
            yield (label, name, here, recorded, claimed(self.notebook, label, column),
                   "" if goal is None else f"≥ {goal:g}")

    def notes(self):
        """Return a line for each run: how it was made, and how far it is from the record."""
        return [f"{label}: {self._note(label, history)}" for label, history in self.runs.items()]

    def _note(self, label, history):
        if history.dataset != "MNIST":
            return f"trained on the {history.dataset}, which says nothing about MNIST."
        if history.trained < len(history) == history.planned:
            return "the recorded training: " + (
                "nothing was trained here, its weights were loaded." if history.trained == 0 else
                f"epoch 1 of {len(history)} was trained here, the rest and the weights are the record's.")
        if self.record is None or label not in self.record.runs:
            return "not in the record."
        if len(history) < history.planned:
            return f"stopped after {len(history)} of {history.planned} epochs."
        other = differences(self.record[label].recipe, history.recipe)
        same = "the recorded recipe"
        if other:
            same = f"another recipe than the recorded one ({'; '.join(other[:3])})"
        split = history.scored_on or "test"
        here, column = (history.last.accuracy, "last") if history.scored_on else (history.test, "test")
        mean = self.over_seeds(label, column).mean()
        side = "above" if here >= mean else "below"
        return (f"{same}, seed {history.seed}. On {split} images it ends {abs(here - mean):.2f} points {side}"
                " the record's mean.")

    def _repr_html_(self):
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes())
        return self.table().to_html(border=0) + notes

    def __repr__(self):
        return "\n".join([self.table().to_string(), *self.notes()])


def over(values, digits=2):
    """Write the mean ± the standard deviation of a Series over seeds, and how many these are.

    Of one or two seeds the values themselves; where seeds failed to learn the median of the others.
    """
    if len(values) == 0:
        return "-"
    if len(values) < 3:   # two values have no spread worth the name
        return " and ".join(f"{value:.{digits}f}" for value in values) + f" ({len(values)} seed(s))"
    failed = values < GUESSED if values.name not in ("last_loss", "seconds") else values < 0
    if failed.all():
        return f"all {len(values)} seeds failed to learn"
    if failed.any():
        return f"{values[~failed].median():.{digits}f} (median; {failed.sum()} of {len(values)} seeds failed)"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f} ({len(values)} seeds)"


# ---------------------------------------------------------------- a run against the record

def compare(results):
    """Print whether the runs of `results` agree with the record; AssertionError where they do not.

    What was trained here, a first or a last epoch, must lie within four standard deviations of the recorded
    one: of the seeds, and of a score on 10,000 images. Where the recorded weights were scored, they must
    misread the recorded images, but for near ties. Of a recorded training that ends by guessing the first
    epoch is left out: when it stops learning differs from one processor to the next. A run of another recipe
    is an error in a test, and else a line; one of another seed or on the digits sample is not compared.
    """
    if results.record is None:
        print(f"{results.notebook} has no record yet; `python run.py --record {results.notebook}` makes it")
        return
    for label, history in results.runs.items():
        if history.dataset != "MNIST" or history.seed != results.record.seed:
            print(f"{history.dataset}, {label}: seed {history.seed}, not compared with the record")
            continue
        old = results.record.runs.get(label)
        other = ["it is not in the record"] if old is None else differences(old.recipe, history.recipe)
        if other and mode() in ("", "record"):
            print(f"MNIST, {label}: another recipe than the recorded one, not compared")
            continue
        assert not other, (f"{label}: another recipe than the recorded one: {'; '.join(other[:3])}; undo the"
                           " change, or record the notebook anew")
        _compare(results, label, history, old)
        print(f"MNIST, {label}: agrees with the record")


def _compare(results, label, history, old):
    """Raise AssertionError where a run of the recorded recipe is too far from the record."""
    assert history.parameters == old.parameters, (
        f"{label}: {history.parameters} parameters, in the record {old.parameters}")
    assert (history.test is None) == (old.test is None), f"{label}: only one of the two has a test score"
    pairs = [("first_train", history[0].train_accuracy, old[0].train_accuracy),
             ("first", history[0].accuracy, old[0].accuracy)]
    if old.last.train_accuracy <= GUESSED:
        pairs = []
    if len(history) == history.planned:
        pairs += [("last_train", history.last.train_accuracy, old.last.train_accuracy),
                  ("last", history.last.accuracy, old.last.accuracy), ("test", history.test, old.test)]
    for column, here, there in pairs:
        if there is None:
            continue
        reach = 4 * math.hypot(spread(results.notebook, label, column), binomial(there))
        assert abs(here - there) <= reach + 0.005, (   # the record is rounded
            f"{label}: {column.replace('_', ' ')} accuracy {here:.2f}, in the record {there:.2f}, which is"
            f" more than {reach:.2f} apart; is the code still that of the record?")
    recorded = results.record.misread.get(label, {}).get(str(old.seed))
    if history.trained < len(history) and recorded and history.misread:
        other = set(recorded) ^ set(history.misread)
        assert other <= set(history.ties), (
            f"{label}: the recorded weights do not misread the recorded images: {sorted(other)[:5]} differ;"
            " are they the weights of this training?")


def spread(notebook, label, column):
    """Return the standard deviation over seeds; of less than three, the largest of the runs most like it."""
    table = record.trainings()
    ours = table[table["notebook"] == notebook]
    for chosen in (ours[ours["run"] == label], ours, table):
        groups = chosen.groupby(["notebook", "run"])[column].agg(["count", "std"])
        known = groups[groups["count"] >= 3]["std"]
        if len(known):
            return known.max()
    return 0.0


def binomial(accuracy, images=10_000):
    """Return the standard deviation, in points, of a score of `accuracy` percent on `images` images."""
    return 100 * math.sqrt(accuracy / 100 * (1 - accuracy / 100) / images)


# ---------------------------------------------------------------- claims and targets

def claim_text(claim):
    """Write a claim's value as a table shows it."""
    if math.isnan(claim.value):
        return "not stated"
    if claim.what == "parameters":
        return f"{claim.value:,.0f}"
    if claim.kind == "about":
        return f"~ {claim.value:.0f} %"
    unit = "" if claim.what == "last_loss" else " %"
    return f"{'≥ ' if claim.kind == 'at least' else ''}{claim.value:.2f}{unit}"


def claimed(notebook, run, what):
    """Return the claim about a figure of a run as text, "" where there is none."""
    claim = find_claim(notebook, run, what)
    return claim_text(claim) if claim is not None else ""


def target(notebook, run, what):
    """Return the target for a figure of a run in percent, or None."""
    row = _row(TARGETS, notebook, run, what)
    return None if row is None else float(row.value)


def find_claim(notebook, run, what):
    """Return the row of the claim about a figure of a run, or None."""
    return _row(CLAIMS, notebook, run, what)


def _row(table, notebook, run, what):
    found = table[(table["notebook"] == notebook) & (table["run"] == run) & (table["what"] == what)]
    return next(found.itertuples(), None)
