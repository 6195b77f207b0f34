"""What trainings gave, written to results/: the record of a notebook and its weights, rows of other seeds.

A notebook's kernel leaves its Record in a folder (`save`), and run.py takes it from there (`add`).
"""

import json
import platform
import re
import shutil
from pathlib import Path

import pandas
import torch

from lab import record
from lab.record import RESULTS, Record, in_order
from lab.training import ROOT, UNFINISHED, digest

NOTEBOOKS = ROOT / "notebooks"


class RunError(Exception):
    """A notebook did not run to its end, or what it gave could not be kept."""


def names():
    """List the notebooks' names, in the order of the ladder."""
    return in_order(path.stem for path in NOTEBOOKS.glob("[0-9]*_*.ipynb")
                    if re.fullmatch(r"\d+_\w+", path.stem))


def environment():
    """Return what else the digits of a run depend on: versions and kind of device, no name of a machine."""
    on_gpu = torch.cuda.is_available()
    return {"python": platform.python_version(), "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if on_gpu else
            f"cpu ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"}


def save(results, folder):
    """Write what was just made to `folder`, as the file of a Record; what was taken from the record stays."""
    runs = {label: history if history.trained else record.find(history)[2]
            for label, history in results.runs.items()}
    seed, misread = next(iter(runs.values())).seed, {}
    for label, history in runs.items():
        if history.trained and history.misread:
            misread[label] = {str(seed): history.misread}
    new = any(history.trained for history in results.runs.values())
    made = Record(results.notebook, seed, runs, misread, results.measures,
                  environment() if new else results.record.environment)
    Path(folder, f"{results.notebook}.json").write_text(record_text(made), "utf-8")


DIGITS = {"train_loss": 4, "train_accuracy": 2, "loss": 4, "accuracy": 2, "seconds": 2}


def record_text(made):
    """Return a Record as JSON, an epoch and a list of misread images in a line each."""
    runs = {label: {
        "network": history.network, "parameters": history.parameters, "dataset": history.dataset,
        "planned": history.planned, "scored_on": history.scored_on,
        "test": history.test if history.test is None else round(history.test, 2), "recipe": history.recipe,
        "epochs": [{name: round(value, DIGITS[name]) if name in DIGITS and value is not None else value
                    for name, value in epoch._asdict().items()} for epoch in history],
    } for label, history in made.runs.items()}
    text = json.dumps({**vars(made), "runs": runs}, indent=1, ensure_ascii=False)
    text = re.sub(r'\{\s+"epoch":[^}]*\}', lambda row: " ".join(row.group().split()), text)
    return re.sub(r"\[[\d,\s]*\]", lambda row: " ".join(row.group().split()), text) + "\n"


def rows_text(table):
    """Return rows as the text of results/runs.csv or studies.csv: one for each training."""
    table = table.astype({"seed": int, "parameters": int, "epochs": int}).astype({"best_epoch": "Int64"})
    table = table.drop_duplicates(["notebook", "run", "seed", "recipe"], keep="last")
    order = table["notebook"].str.extract(r"^(\d+)", expand=False).fillna("0").astype(int)  # a study: 0
    by = ["order", "notebook", "run", "seed", "recipe"]
    table = table.assign(order=order).sort_values(by).drop(columns="order")
    return table.to_csv(index=False, lineterminator="\n")


def add(made):
    """Add a Record to what is recorded: as its notebook's record, as rows of another seed, or of a study."""
    others = [label for label, history in made.runs.items() if history.dataset != "MNIST"]
    if others:
        raise RunError(f"{', '.join(others)} was trained on the digits sample; only MNIST is recorded")
    if made.notebook in names():
        old = record.read_all().get(made.notebook, made)
        kept = made if made.seed == old.seed else old
        if kept is made:
            _keep_weights(made)
        else:
            _add_rows(record.RUNS, made)
        for label, history in made.runs.items():
            places = old.misread.get(label, {}) | made.misread.get(label, {})
            if places and label in old.runs and old[label].recipe == history.recipe:
                kept.misread[label] = places
        (RESULTS / f"{made.notebook}.json").write_text(record_text(kept), "utf-8")
    else:
        _add_rows(record.STUDIES, made)
    for history in made.runs.values():
        (UNFINISHED / f"{digest(history.recipe)}-{made.seed}.pt").unlink(missing_ok=True)
    record.forget()


def _add_rows(path, made):
    table, fresh = record.read_rows(path), record.rows(made)
    if len(table):
        fresh = pandas.concat([table, fresh.astype(table.dtypes.to_dict())])
    path.write_text(rows_text(fresh), "utf-8")


def _keep_weights(made):
    """Keep the weights of the runs of a Record: as just trained, or as recorded, be it under another name."""
    weights, folder = {}, RESULTS / "weights" / made.notebook
    for label, history in made.runs.items():
        state = UNFINISHED / f"{digest(history.recipe)}-{made.seed}.pt"
        weights[record.weights_path(made.notebook, label)] = (
            torch.load(state, map_location="cpu", weights_only=True)["net"] if state.exists() else
            record.load_weights(*record.find(history)[:2]))
    shutil.rmtree(folder, ignore_errors=True)   # those of runs that there are no more, too
    folder.mkdir(parents=True)
    for path, net in weights.items():
        torch.save(net, path)
