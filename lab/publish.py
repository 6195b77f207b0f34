"""What is published: executed notebooks, records and what follows from them. Nothing else writes these."""

import io
import shutil
import sys
from pathlib import Path

import nbformat
import pandas
import torch

from lab import claims, execute, pictures, recipe, records, sentences, text
from lab.checkpoint import STATES, UNFINISHED
from lab.execute import NOTEBOOKS, RunError
from lab.records import RESULTS, ROOT, RUNS
from lab.results import Results

README = ROOT / "README.md"


def names():
    """List the notebooks' names, in the order of the ladder."""
    return records.in_order(path.stem for path in NOTEBOOKS.glob("[0-9]*_*.ipynb"))


def record(name, folder):
    """Execute notebook `name`, publish what it gives, list the sentences that became false; or RunError."""
    notebook = execute.execute(name, folder, mode="record")
    path = Path(folder, f"{name}.json")
    if not path.exists():
        raise RunError(f'no cell makes Results("{name}", ...) of whole trainings: there is nothing to record')
    fresh = records.parse_record(path.read_text("utf-8"), path.name)
    others = [label for label, history in fresh.runs.items() if history.dataset != "MNIST"]
    if others:
        raise RunError(f"{', '.join(others)} was trained on the digits sample; only MNIST is recorded")
    old = records.read_all().get(name)
    if old:
        fresh.misread = {run: {**old.misread.get(run, {}), **seeds} for run, seeds in fresh.misread.items()}
    write({NOTEBOOKS / f"{name}.ipynb": as_file(notebook),
           RESULTS / path.name: records.record_text(fresh).encode(),
           **{RESULTS / weights.name: weights.read_bytes() for weights in Path(folder).glob("*.pt")}})
    keep_states(fresh)
    return renew()


def take_up(name):
    """Let `record` continue each training of a notebook from its recorded state, before the last epoch."""
    UNFINISHED.mkdir(parents=True, exist_ok=True)
    recorded = records.read_record(name)
    for history in recorded.runs.values():
        file = f"{recipe.digest(history.recipe)}-{recorded.seed}.pt"
        if (STATES / file).exists():   # of a short training there is none: it is made in full
            state = torch.load(STATES / file, weights_only=True)
            torch.save(state | {"history": [tuple(epoch) for epoch in history[:-1]]}, UNFINISHED / file)


def keep_states(fresh):
    """Move the states before the last epoch to results/states; delete those that no record has any more."""
    STATES.mkdir(exist_ok=True)
    for row in records.rows(fresh).itertuples():
        file = f"{row.recipe}-{row.seed}.pt"
        if (UNFINISHED / "before" / file).exists():
            shutil.move(UNFINISHED / "before" / file, STATES / file)
        (UNFINISHED / file).unlink(missing_ok=True)
    wanted = {f"{row.recipe}-{row.seed}.pt" for row in records.runs().itertuples()}
    for path in STATES.glob("*.pt"):
        if path.name not in wanted:
            path.unlink()


def add_seed(name, seed, fresh):
    """Add a Record of notebook `name` from another seed to results/runs.csv and to its misread lists."""
    recorded = records.read_record(name)
    if seed != recorded.seed:
        for label, by_seed in fresh.misread.items():
            recorded.misread.setdefault(label, {}).update(by_seed)
        table = pandas.concat([records.read_rows(), records.rows(fresh)])
        write({RESULTS / f"{name}.json": records.record_text(recorded).encode(),
               RUNS: records.rows_text(table).encode()})
        renew()


def add_trial(made):
    """Add a Record of one training of a study to results/studies.csv, in place of an older one."""
    new = records.rows(made)
    table = pandas.concat([records.read_rows(records.STUDIES), new])
    table = table.drop_duplicates(["notebook", "run", "seed"], keep="last")
    write({records.STUDIES: records.rows_text(table).encode()})
    renew()


def renew():
    """Renew all that follows from the records, and list the sentences that are false."""
    everything = records.read_all()
    write(derived(everything, records.runs(everything)))
    return false_sentences(everything)


def derived(all_records, trainings):
    """Return all files that follow from the records, by path: texts, tables, pictures, last cells."""
    missing = {README.name: []}
    readme = text.readme(README.read_text("utf-8"), all_records, trainings, missing[README.name])
    files = {README: readme.encode(), RESULTS / "reproduction.md": text.reproduction(trainings).encode(),
             RESULTS / "ideas.md": text.ideas(trainings).encode()}
    for name, figure in pictures.draw(all_records, trainings, claims.PUBLISHED).items():
        png = io.BytesIO()
        figure.savefig(png, dpi=100)
        files[RESULTS / f"{name}.png"] = png.getvalue()
    for name, record in all_records.items():
        notebook, place = execute.read(name), f"notebooks/{name}.ipynb"
        missing[place] = []
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = text.with_numbers(cell.source, all_records, trainings, name, missing[place])
        sentences.show(notebook, Results.of(record, trainings))
        files[ROOT / place] = as_file(notebook)
    for place, sources in missing.items():   # no training is lost for a misspelt source
        for source in sources:
            print(f"{place}: no record has {source}; the number stays as it is", file=sys.stderr)
    return files


def as_file(notebook):
    """Return a notebook as the bytes of its file."""
    return nbformat.writes(notebook).encode() + b"\n"


def false_sentences(all_records):
    """List the sentences of notebooks and README that are not true of the records, each with its place."""
    false = [f"notebooks/{name}.ipynb: {words}" for name, each in all_records.items()
             for words in sentences.false_in(execute.read(name), each)]
    readme = README.read_text("utf-8")
    return false + [f"README.md: {words}" for words in
                    sentences.false_in_readme(readme, all_records, records.runs(all_records))]


def write(files):
    """Write {path: bytes} beside the old files, then rename all; RunError leaves every file as it was."""
    beside = {path: path.with_name(path.name + ".part") for path in files}
    try:
        for path, content in files.items():
            beside[path].write_bytes(content)
    except OSError as error:
        for part in beside.values():
            part.unlink(missing_ok=True)
        raise RunError(f"cannot write: {error}") from None
    try:
        for path, part in beside.items():
            part.replace(path)
    except OSError as error:   # a file that is open elsewhere, on Windows
        raise RunError(f"cannot write: {error}; `git status` shows what was") from None


def move_repository(new):
    """Point badges, set-up cells and the addresses of the site to the repository `new`, OWNER/NAME."""
    old, files = text.REPOSITORY, {}
    for pattern in ("*.md", "notebooks/*.ipynb", "lab/text.py", "site/conf.py"):
        for path in ROOT.glob(pattern):
            content = path.read_text("utf-8").replace(text.site(old), text.site(new))
            files[path] = content.replace(old, new).encode()
    write(files)
