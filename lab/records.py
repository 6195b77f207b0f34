"""The records: one file of epochs for each notebook, and one table with a row for every training.

results/NAME.json has what notebook NAME gave with the record's own seed: every epoch of its trainings, the
places of the misread test images, and the measures that its text quotes. results/runs.csv has a row for each
training from another seed, whose epochs are not kept. `runs` puts both into one table; results/studies.csv
has the trainings of studies.py in the same form. Best, last, mean and spread are computed when they are read.
"""

import json
import math
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pandas

from lab import recipe
from lab.history import Epoch, History

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
RUNS = RESULTS / "runs.csv"
STUDIES = RESULTS / "studies.csv"
NUMBERS = ["seed", "parameters", "epochs", "first_train", "first", "best_train", "best", "best_epoch",
           "last_train", "last", "last_loss", "test", "seconds"]
PLACES = dict.fromkeys(["first_train", "first", "best_train", "best", "last_train", "last", "test"], 2) | {
    "last_loss": 4}
COLUMNS = ["notebook", "run", "recipe", "network", "scored_on", *NUMBERS, "torch", "device"]


class RecordError(ValueError):
    """A record cannot be read, or cannot be true."""


@dataclass
class Record:
    """What a notebook gave: {run: History}, {run: {seed: misread places}}, {measure: number}, the machine."""
    notebook: str
    seed: int
    runs: dict = field(default_factory=dict)
    misread: dict = field(default_factory=dict)
    measures: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)

    def __getitem__(self, run):
        return self.runs[run]

    def over_seeds(self, run, column):
        """Return what a column of `runs` has for a run of the recorded recipe, as a pandas Series by seed."""
        return over_seeds(self.notebook, run, column)

    def other(self, notebook):
        """Return the record of another notebook."""
        return read_record(notebook)

    def study(self, name):
        """Return the rows of a study of studies.py, as a pandas DataFrame."""
        rows = read_rows(STUDIES)
        return rows[rows["notebook"] == name]


# ---------------------------------------------------------------- a notebook's record

def read_record(notebook):
    """Return the Record of a notebook. Raises RecordError, with the line, for a file that cannot be true."""
    path = RESULTS / f"{notebook}.json"
    if not path.exists():
        raise RecordError(f"{notebook} has no record yet; `python run.py --record {notebook}` makes it")
    return parse_record(path.read_text("utf-8"), path.name)


def parse_record(text, name):
    """Return the Record in the text of file `name`."""
    try:
        content = json.loads(text)
        runs = {label: History((Epoch(**epoch) for epoch in run.pop("epochs")), seed=content["seed"], **run)
                for label, run in content["runs"].items()}
        record = Record(**{**content, "runs": runs})
    except json.JSONDecodeError as error:
        fault = f"{error.msg}; the file is cut off or was edited"
        raise RecordError(f"{name}, line {error.lineno}: {fault}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{name}, line 1: this is no record ({type(error).__name__}: {error})") from None
    for label, history in runs.items():
        fault = _fault(history)
        if fault:
            line = text[:text.index(json.dumps(label, ensure_ascii=False) + ":")].count("\n") + 1
            raise RecordError(f"{name}, line {line}: the run {label} {fault}")
    return record


def _fault(history):
    """Say what in a recorded training cannot be, or nothing."""
    if [epoch.epoch for epoch in history] != list(range(1, history.planned + 1)):
        return f"has epochs {[epoch.epoch for epoch in history]}, planned were {history.planned}"
    for epoch in history:
        numbers = [value for value in epoch if value is not None]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
            return f"has a figure in epoch {epoch.epoch} that is no number"
        if not all(value is None or 0 <= value <= 100 for value in (epoch.train_accuracy, epoch.accuracy)):
            return f"has an accuracy in epoch {epoch.epoch} that is no percentage"
    return ""


DIGITS = {"train_loss": 4, "train_accuracy": 2, "loss": 4, "accuracy": 2, "seconds": 2}


def record_text(record):
    """Return a Record as JSON, an epoch and a list of misread images in a line each."""
    runs = {label: {
        "network": history.network, "parameters": history.parameters, "dataset": history.dataset,
        "planned": history.planned, "scored_on": history.scored_on,
        "test": history.test if history.test is None else round(history.test, 2), "recipe": history.recipe,
        "epochs": [{name: round(value, DIGITS[name]) if name in DIGITS and value is not None else value
                    for name, value in epoch._asdict().items()} for epoch in history],
    } for label, history in record.runs.items()}
    text = json.dumps({**vars(record), "runs": runs}, indent=1, ensure_ascii=False)
    text = re.sub(r'\{\s+"epoch":[^}]*\}', lambda row: " ".join(row.group().split()), text)
    return re.sub(r"\[[\d,\s]*\]", lambda row: " ".join(row.group().split()), text) + "\n"


def in_order(names):
    """Return names of notebooks in the order of the ladder."""
    return sorted(names, key=lambda name: int(name.split("_")[0]))


def read_all():
    """Return {notebook: Record} in the order of the ladder."""
    return {name: read_record(name) for name in in_order(path.stem for path in RESULTS.glob("[0-9]*_*.json"))}


# ---------------------------------------------------------------- every training, a row each

def rows(record):
    """Return the rows of a Record's trainings, as a table like `runs`."""
    environment = {name: record.environment.get(name, "") for name in ("torch", "device")}
    return pandas.DataFrame([
        {"notebook": record.notebook, "run": label, "seed": record.seed,
         "recipe": recipe.digest(history.recipe), "network": history.network,
         "parameters": history.parameters, "scored_on": history.scored_on or "",
         "epochs": history.planned, **(_figures(history) if history else {}), "test": history.test,
         "seconds": round(sum(epoch.seconds for epoch in history), 1), **environment}
        for label, history in record.runs.items()], columns=COLUMNS).round(PLACES)


def _figures(history):
    train = [epoch.train_accuracy for epoch in history]
    figures = {"first_train": train[0], "best_train": max(train), "last_train": train[-1]}
    if history.scored_on:
        best, last = history.best, history.last
        figures |= {"first": history[0].accuracy, "best": best.accuracy, "best_epoch": best.epoch,
                    "last": last.accuracy, "last_loss": last.loss}
    return figures


def read_rows(path=None):
    """Return the rows in results/runs.csv or studies.csv; RecordError names the line which is none."""
    path = path or RUNS
    return _rows_in(path, _stamp(path)).copy() if path.exists() else pandas.DataFrame(columns=COLUMNS)


@lru_cache(maxsize=2)   # of both files: every number of a text asks for them
def _rows_in(path, stamp):
    try:
        table = pandas.read_csv(path, dtype=str, keep_default_na=False)
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
        raise RecordError(f"results/{path.name}: {error}") from None
    if list(table.columns) != COLUMNS:
        raise RecordError(f"results/{path.name}, line 1: expected the columns {', '.join(COLUMNS)}")
    for column in NUMBERS:
        numbers = pandas.to_numeric(table[column], errors="coerce")
        wrong = table.index[numbers.isna() & (table[column] != "")]
        if len(wrong):
            found = table[column][wrong[0]]
            raise RecordError(f"results/{path.name}, line {wrong[0] + 2}: {column} is {found!r}")
        table[column] = numbers
    incomplete = table.index[table[["seed", "parameters", "epochs", "seconds"]].isna().any(axis=1)]
    if len(incomplete):
        raise RecordError(f"results/{path.name}, line {incomplete[0] + 2}: a row without seed, parameters,"
                          " epochs or seconds")
    return table


def rows_text(table):
    """Return rows as the text of results/runs.csv or studies.csv: one for each training."""
    table = table.astype({"seed": int, "parameters": int, "epochs": int}).astype({"best_epoch": "Int64"})
    table = table.drop_duplicates(["notebook", "run", "seed", "recipe"], keep="last")
    order = table["notebook"].str.extract(r"^(\d+)", expand=False).fillna("0").astype(int)  # a study: 0
    by = ["order", "notebook", "run", "seed", "recipe"]
    table = table.assign(order=order).sort_values(by).drop(columns="order")
    return table.to_csv(index=False, lineterminator="\n")


def runs(records=None, table=None):
    """Return every training of the recorded recipes, a row each: those of runs.csv and of the records.

    Accuracies in percent. first, best and last (epoch) are of `scored_on`; test: of the test set, after the
    last epoch; seconds: of training. A row whose recipe is no longer its notebook's is left out.
    """
    if records is None and table is None:
        return _runs_of(_stamp(*sorted(RESULTS.glob("[0-9]*_*.json")), RUNS))
    records = read_all() if records is None else records
    recorded = [rows(record) for record in records.values()]
    if not recorded:
        return pandas.DataFrame(columns=COLUMNS)
    recorded = pandas.concat(recorded)
    kept = (read_rows() if table is None else table).merge(recorded[["notebook", "run", "recipe"]])
    both = pandas.concat([recorded, kept.astype(recorded.dtypes.to_dict())] if len(kept) else [recorded])
    both["test"] = both["test"].astype(float).where(both["scored_on"] != "test", both["last"])
    return both.drop_duplicates(["notebook", "run", "seed"]).sort_values(["notebook", "run", "seed"])


def _stamp(*paths):
    """Return what changes when one of the files does."""
    return tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists())


@lru_cache(maxsize=1)   # a notebook's last cell asks many times
def _runs_of(stamp):
    return runs(read_all())


def over_seeds(notebook, run, column, table=None):
    """Return what `column` of `runs` has for a run, as a Series by seed, without what is not known."""
    table = runs() if table is None else table
    chosen = table.loc[(table["notebook"] == notebook) & (table["run"] == run), ["seed", column]]
    return chosen.set_index("seed")[column].dropna()


def often_misread(misread):
    """Return {place: by how many seeds} of the images that half of the seeds misread, most often first."""
    counts = pandas.Series([place for places in misread.values() for place in places]).value_counts()
    often = counts[2 * counts >= len(misread)]
    return dict(sorted(often.items(), key=lambda item: (-item[1], item[0])))


# ---------------------------------------------------------------- looked up by recipe

def find(digest, seed):
    """Return the recorded History of this recipe and seed, and its place in its notebook from 0; or None."""
    for record in read_all().values():
        for place, history in enumerate(record.runs.values()):
            if record.seed == seed and recipe.digest(history.recipe) == digest:
                return history, place
    return None


def nearest(description, seed):
    """Say which recorded training is most like a description, and what differs."""
    found = [(len(recipe.differences(history.recipe, description)), record, label, history)
             for record in read_all().values() for label, history in record.runs.items()]
    if not found:
        return "There are no records."
    _, record, label, history = min(found, key=lambda item: item[0])
    other = recipe.differences(history.recipe, description)
    other += [f"seed: {record.seed} in the record, {seed} here"] if record.seed != seed else []
    return f"The one most like it is {record.notebook}, {label}; what differs is {'; '.join(other[:3])}"


def mode():
    """Return what a notebook is run for: "" by a reader, else "record", "test" or "retrain"."""
    return os.environ.get("FIT_MODE", "")
