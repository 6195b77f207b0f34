"""What is recorded in results/: epochs and weights of each notebook, and a row for every training.

results/NAME.json has what notebook NAME gave with the record's own seed: every epoch of its runs, the places
of the misread test images, and the measures that its text quotes; results/weights/NAME/ has the weights at
the end of each run. results/runs.csv has a row for each training from another seed, results/studies.csv one
for each training of studies.py; `trainings` puts all of them into one table.
"""

import json
import math
import re
from dataclasses import dataclass, field
from functools import cache

import pandas
import torch

from lab.training import ROOT, Epoch, History, differences, digest, mode

RESULTS = ROOT / "results"
RUNS, STUDIES = RESULTS / "runs.csv", RESULTS / "studies.csv"
PLACES = dict.fromkeys(["first_train", "first", "best_train", "best", "last_train", "last", "test"], 2) | {
    "last_loss": 4}
COLUMNS = ["notebook", "run", "recipe", "network", "scored_on", "seed", "parameters", "epochs", "first_train",
           "first", "best_train", "best", "best_epoch", "last_train", "last", "last_loss", "test", "seconds",
           "torch", "device"]


class RecordError(ValueError):
    """A record is missing, cannot be read, or cannot be true."""


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


# ---------------------------------------------------------------- a notebook's record

def in_order(names):
    """Return names of notebooks in the order of the ladder."""
    return sorted(names, key=lambda name: int(name.split("_")[0]))


def read_record(notebook):
    """Return the Record of a notebook. Raises RecordError."""
    path = RESULTS / f"{notebook}.json"
    if not path.exists():
        raise RecordError(f"{notebook} has no record yet; `python run.py --record {notebook}` makes it")
    return parse_record(path.read_text("utf-8"), path.name)


@cache
def read_all():
    """Return {notebook: Record} in the order of the ladder; what was read is kept until `forget`."""
    return {name: read_record(name) for name in in_order(path.stem for path in RESULTS.glob("[0-9]*_*.json"))}


def parse_record(text, name):
    """Return the Record in the text of file `name`. Raises RecordError."""
    try:
        content = json.loads(text)
        runs = {label: History((Epoch(**epoch) for epoch in run.pop("epochs")), seed=content["seed"], **run)
                for label, run in content["runs"].items()}
        record = Record(**{**content, "runs": runs})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"results/{name} is no record ({type(error).__name__}: {error});"
                          " `git checkout` brings the committed one back") from None
    for label, history in runs.items():
        scores = [score for epoch in history for score in (epoch.train_accuracy, epoch.accuracy)]
        whole = [epoch.epoch for epoch in history] == list(range(1, history.planned + 1))
        if history and not whole or not all(score is None or 0 <= score <= 100 for score in scores):
            raise RecordError(f"results/{name}: the run {label} cannot be: its epochs do not count from 1 to"
                              f" {history.planned}, or an accuracy is no percentage")
    return record


def often_misread(misread):
    """Return {place: by how many seeds} of the images that half of the seeds misread, most often first."""
    counts = pandas.Series([place for places in misread.values() for place in places]).value_counts()
    often = counts[2 * counts >= len(misread)]
    return dict(sorted(often.items(), key=lambda item: (-item[1], item[0])))


# ---------------------------------------------------------------- every training, a row each

def rows(record):
    """Return the rows of a Record's trainings, as a table like `trainings`."""
    environment = {name: record.environment.get(name, "") for name in ("torch", "device")}
    return pandas.DataFrame([
        {"notebook": record.notebook, "run": label, "seed": record.seed,
         "recipe": digest(history.recipe), "network": history.network,
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


def read_rows(path):
    """Return the rows in results/runs.csv or studies.csv. Raises RecordError."""
    if not path.exists():
        return pandas.DataFrame(columns=COLUMNS)
    try:
        table = pandas.read_csv(path, keep_default_na=False, dtype={"recipe": str}, na_values={
            column: [""] for column in COLUMNS[5:18]})
        return table[COLUMNS].astype(dict.fromkeys(COLUMNS[8:18], float))
    except (ValueError, KeyError) as error:   # pandas' errors among them
        raise RecordError(f"results/{path.name}: {error}; `git checkout` brings it back") from None


def joined(records, kept):
    """Return the rows of `records` ({notebook: Record}), and those of `kept` that have their recipes."""
    recorded = [rows(record) for record in records.values()]
    if not recorded:
        return pandas.DataFrame(columns=COLUMNS)
    recorded = pandas.concat(recorded)
    kept = kept.merge(recorded[["notebook", "run", "recipe"]])
    both = pandas.concat([recorded, kept.astype(recorded.dtypes.to_dict())] if len(kept) else [recorded])
    both["test"] = both["test"].astype(float).where(both["scored_on"] != "test", both["last"])
    return both.drop_duplicates(["notebook", "run", "seed"]).sort_values(["notebook", "run", "seed"])


@cache
def trainings():
    """Return every training of the recorded recipes and of the studies, a row each; kept until `forget`.

    Accuracies in percent. first, best and last (epoch) are of `scored_on`; test: of the test set after the
    last epoch, be it scored once or with every epoch; seconds: of training. A row of runs.csv whose recipe is
    no longer its notebook's is left out. A study has its name in the column notebook.
    """
    return pandas.concat([joined(read_all(), read_rows(RUNS)), read_rows(STUDIES)])


def forget():
    """Read anew what is asked for next: the files have changed."""
    read_all.cache_clear()
    trainings.cache_clear()


def over_seeds(notebook, run, column, table=None):
    """Return what `column` of `trainings` has for a run, as a Series by seed, without what is not known."""
    table = trainings() if table is None else table
    chosen = table.loc[(table["notebook"] == notebook) & (table["run"] == run), ["seed", column]]
    return chosen.set_index("seed")[column].dropna()


# ---------------------------------------------------------------- weights

def weights_path(notebook, run):
    """Return the file of the recorded weights of a run."""
    return RESULTS / "weights" / notebook / (re.sub(r"[^\w.-]+", "_", run) + ".pt")


def load_weights(notebook, run):
    """Return the weights at the end of a recorded run, for `net.load_state_dict`. Raises RecordError."""
    path = weights_path(notebook, run)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:   # whatever a missing, truncated or foreign file makes torch.load raise
        there = ", ".join(read_all()[notebook].runs) if notebook in read_all() else "none"
        raise RecordError(f"no weights of the run {run!r} of {notebook} ({type(error).__name__});"
                          f" its runs are: {there}") from None


# ---------------------------------------------------------------- in place of a training

def find(history):
    """Return notebook, label, recorded History and place in its notebook of this training. Or RecordError."""
    wanted, seed = digest(history.recipe), history.seed
    nearest = math.inf, "there are no records"
    for notebook, record in read_all().items():
        for place, (label, recorded) in enumerate(record.runs.items()):
            other = differences(recorded.recipe, history.recipe)
            if not other and record.seed == seed:
                return notebook, label, recorded, place
            other += [f"seed: {record.seed} in the record, {seed} here"] if record.seed != seed else []
            what = f"the one most like it is {notebook}, {label}; what differs is {'; '.join(other[:3])}"
            nearest = min(nearest, (len(other), what))
    raise RecordError(f"this training ({wanted}, seed {seed}) is not recorded: {nearest[1]}. `python"
                      " run.py --record NAME` records the runs that the notebook gives to Results")


def trained_here(history):
    """Return how many epochs of a training `fit` makes itself, as `lab.training.mode` asks for."""
    if not mode() or history.dataset != "MNIST":
        return history.planned
    try:
        place = find(history)[3]
    except RecordError:
        if mode() == "record":
            return history.planned
        raise
    return int(mode() == "test" and place == 0)


def take_up(history, net):
    """Put the recorded weights into `net` and the recorded epochs, those that are missing, into `history`."""
    notebook, label, recorded, _ = find(history)
    net.load_state_dict(load_weights(notebook, label))
    history.trained = len(history)
    for epoch in recorded[len(history):]:
        history.append(epoch)
        history.print_last()
