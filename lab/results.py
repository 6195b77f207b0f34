"""What the last cells of a notebook show: the run that was just made, beside the record and the claims.

`Results` is the table that a reader sees; `compare` and `says` are for the tests.
"""

import html
import math
import os
import platform
from pathlib import Path

import pandas
import torch

from lab import claims, comparisons, recipe, records
from lab.records import Record

GUESSED = 20   # % of ten classes: a training that ends below it has not learnt


class Results:
    """A table of the runs that were just made, beside the record and the claims, and a note for each run.

    runs: {label: History}. measures: further figures that the text quotes. weights: {name: network}, kept in
    results/NAME.pt when run.py records the notebook. record: the Record that they are shown beside, or None.
    """

    def __init__(self, notebook, runs, weights=None, **measures):
        self.notebook, self.runs, seed = notebook, runs, next(iter(runs.values())).seed
        misread = {label: {str(seed): history.misread} for label, history in runs.items() if history.misread}
        made = Record(notebook, seed, runs, misread, measures, environment())
        everything = records.read_all()
        self.record = everything.get(notebook)
        folder = os.environ.get("RECORD_DIR")   # run.py's: it reads there what the notebook gave
        if folder and all(len(history) == history.planned for history in runs.values()):
            Path(folder, f"{notebook}.json").write_text(records.record_text(made), "utf-8")
            for name, net in (weights or {}).items():
                state = {key: value.cpu() for key, value in net.state_dict().items()}
                torch.save(state, Path(folder, f"{name}.pt"))
        if records.mode() == "record" and (self.record is None or self.record.seed == seed):
            old = self.record.misread if self.record else {}   # of the other seeds
            made.misread = {label: {**old.get(label, {}), **seeds} for label, seeds in misread.items()}
            self.record = everything[notebook] = made   # this run becomes the record
        self.trainings = records.runs(everything)

    @classmethod
    def of(cls, record, trainings):
        """Return the results that a Record shows, as its notebook shows them."""
        results = cls.__new__(cls)
        results.notebook, results.runs = record.notebook, record.runs
        results.record, results.trainings = record, trainings
        return results

    def over_seeds(self, label, column):
        """Return what the record has for a column of a run, or NOTEBOOK/run, as a Series by seed."""
        notebook, _, run = label.rpartition("/")
        return records.over_seeds(notebook or self.notebook, run, column, self.trainings)

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
            recorded = mean_and_sd(self.over_seeds(label, column)) if column != "parameters" else ""
            yield (label, name, here, recorded, claims.claimed(self.notebook, label, column),
                   claims.target_text(self.notebook, label, column))

    def notes(self):
        """Return a line for each run: how it was made, and how far it is from the record."""
        return [note for label, history in self.runs.items() for note in self._notes(label, history)]

    def _notes(self, label, history):
        if history.how:
            yield f"{label}: {history.how}."
        if history.dataset != "MNIST":
            yield f"{label}: trained on the {history.dataset}, which says nothing about MNIST."
        elif self.record is None or label not in self.record.runs:
            yield f"{label}: not in the record."
        elif not history.how or len(history) == history.planned:
            other = recipe.differences(self.record[label].recipe, history.recipe)
            same = "the recorded recipe"
            if other:
                same = f"another recipe than the recorded one ({'; '.join(other[:3])})"
            split = history.scored_on or "test"
            here, column = (history.last.accuracy, "last") if history.scored_on else (history.test, "test")
            mean = self.over_seeds(label, column).mean()
            side = "above" if here >= mean else "below"
            yield (f"{label}: {same}, seed {history.seed}. On {split} images it ends"
                   f" {abs(here - mean):.2f} points {side} the record's mean.")

    def differences(self):
        """Return a pandas DataFrame of what the record says each idea is worth, from three seeds on."""
        trainings = comparisons.with_studies(self.trainings)
        table = comparisons.table(trainings, self.notebook)
        return table[table["seeds"] >= 3] if len(table) else table

    def _repr_html_(self):
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes())
        differences = self.differences()
        below = differences.to_html(border=0, index=False) if len(differences) else ""
        return self.table().to_html(border=0) + notes + below

    def __repr__(self):
        differences = self.differences()
        below = [differences.to_string(index=False)] if len(differences) else []
        return "\n".join([self.table().to_string(), *self.notes(), *below])


def mean_and_sd(values, digits=2):
    """Write mean, standard deviation and number of the values of a Series; of less than three the values."""
    if len(values) == 0:
        return "-"
    if len(values) < 3:   # two values have no spread worth the name
        return " and ".join(f"{value:.{digits}f}" for value in values) + f" ({len(values)} seed(s))"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f} ({len(values)} seeds)"


def environment():
    """Return what else the digits of a run depend on: versions and kind of device, no name of a machine."""
    on_gpu = torch.cuda.is_available()
    return {"python": platform.python_version(), "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if on_gpu else
            f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"}


# ---------------------------------------------------------------- for the tests

def compare(results):
    """Compare a run with the record and return the Record; raise AssertionError where the two disagree.

    The first and the last epoch must lie within four standard deviations of the recorded ones: of the seeds,
    and of a score on 10,000 images. Of a recorded training that ends by guessing the first epoch is left out:
    when it stops learning differs from one processor to the next. Prints only what is the same on every
    machine. A run of another recipe is an error in a test, and for a reader a line; one of another seed or on
    the digits sample is not compared.
    """
    record = results.record
    if record is None:
        print(f"{results.notebook} has no record yet; `python run.py --record {results.notebook}` makes it")
        return None
    for label, history in results.runs.items():
        if history.dataset != "MNIST" or history.seed != record.seed:
            print(f"{history.dataset}, {label}: seed {history.seed}, not compared with the record")
            continue
        assert label in record.runs, f"{label}: not in the record"
        other = recipe.differences(record[label].recipe, history.recipe)
        if other and not records.mode():
            print(f"MNIST, {label}: another recipe than the recorded one, not compared")
            continue
        assert not other, f"{label}: another recipe than the recorded one: {'; '.join(other[:3])}"
        _compare(label, history, record, results.trainings)
        print(f"MNIST, {label}: agrees with the record")
    return record


def _compare(label, history, record, trainings):
    """Raise AssertionError where a run of the recorded recipe is too far from the record."""
    old = record[label]
    here, there = history.parameters, old.parameters
    assert here == there, f"{label}: {here} parameters, in the record {there}"
    pairs = []
    if old.last.train_accuracy > GUESSED:
        pairs.append(("first_train", history[0].train_accuracy, old[0].train_accuracy))
        if history.scored_on:
            pairs.append(("first", history[0].accuracy, old[0].accuracy))
    if len(history) == history.planned:
        pairs.append(("last_train", history.last.train_accuracy, old.last.train_accuracy))
        if history.scored_on:
            pairs.append(("last", history.last.accuracy, old.last.accuracy))
        assert (history.test is None) == (old.test is None), f"{label}: only one of the two has a test score"
        if history.test is not None:
            pairs.append(("test", history.test, old.test))
    for column, here, there in pairs:
        reach = 4 * math.hypot(spread(record.notebook, label, column, trainings), binomial(there))
        assert abs(here - there) <= reach + 0.005, (   # the record is rounded
            f"{label}: {column.replace('_', ' ')} accuracy {here:.2f}, in the record {there:.2f},"
            f" which is more than {reach:.2f} apart")


def spread(notebook, label, column, trainings):
    """Return the standard deviation over seeds; of less than three, the largest of the runs most like it."""
    nearer = [trainings[(trainings["notebook"] == notebook) & (trainings["run"] == label)],
              trainings[trainings["notebook"] == notebook], trainings]
    for chosen in nearer:
        groups = chosen.groupby(["notebook", "run"])[column].agg(["count", "std"])
        known = groups[groups["count"] >= 3]["std"]
        if len(known):
            return known.max()
    return 0.0


def binomial(accuracy, images=10_000):
    """Return the standard deviation, in points, of a score of `accuracy` percent on `images` images."""
    return 100 * math.sqrt(accuracy / 100 * (1 - accuracy / 100) / images)


def says(words, truth):
    """Hold a sentence of the text to the record: print `words`, or raise AssertionError if it is not true.

    While a notebook is recorded nothing is raised: run.py lists what became false.
    """
    assert truth or records.mode() == "record", f"the text says {words!r}, and by the record that is not so"
    if truth:
        print(f"by the record: {words}")
