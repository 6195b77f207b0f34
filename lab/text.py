"""The numbers in the text of notebooks and README, and README's tables: all of them made from the records.

Text only: `lab/publish.py` writes the files, `lab/pictures.py` draws the pictures.
"""

import math
import re

from lab import claims, comparisons, records
from lab.results import mean_and_sd

REPOSITORY = "OWNER/mnist-ladder"   # where badges and set-up cells point; `run.py --repo` rewrites it
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def colab(name):
    """Return the address that opens notebook `name` on Colab."""
    return f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}.ipynb"


def site(repository):
    """Return the address of the site of `repository`, OWNER/NAME, on GitHub Pages."""
    owner, _, name = repository.partition("/")
    return f"https://{owner}.github.io/{name}/"


# ---------------------------------------------------------------- numbers in text

NUMBER = re.compile(r"(<!--= *([^>]+?) *-->)(?!`)(-?[\d.,]*\d|nan)?")   # a source in backticks is an example


class NoSuchNumber(LookupError):
    """A text asks for a number that no record has."""


def with_numbers(text, all_records, trainings, name=None, missing=None):
    """Put after every `<!--= source -->`, in place of a number that stands there, the one that it names.

    A source is a path into the record of notebook `name`, or of another one after its name and a slash:
    `LightNet.best.accuracy`, `LightNet.epochs.-2.lr` (the last but one), `LightNet.parameters`,
    `measures.moved_up`, `3_batch_norm/minutes`, `all/minutes` (of one training from one seed each); mean, sd,
    min, max, median or count of a column over the seeds: `seeds.LightNet.last.mean`; a target:
    `target.LightNet.best`; points, reach or seeds of what an idea of comparisons.csv is worth:
    `difference.batch norm.points`; how many test images half of a run's seeds misread, and how many of these
    have labels in doubt: `often.SmallNet, test set`, `doubtful.SmallNet, test set`. Raises NoSuchNumber for a
    source that is not there, or adds it to the list `missing`, where there is one, and leaves its number.
    """
    def number(match):
        try:
            return match[1] + _number(match[2], all_records, trainings, name)
        except NoSuchNumber as error:
            if missing is None:
                raise
            missing.append(str(error))
            return match[0]
    return NUMBER.sub(number, text)


def _number(source, all_records, trainings, name):
    name, _, path = source.rpartition("/") if "/" in source else (name, "", source)
    try:
        value = _value(path, name, all_records, trainings)
        digits = 4 if "loss" in path else 1 if "seconds" in path else 2
        return f"{value:.{digits}f}" if isinstance(value, float) else f"{value:,}"
    except (LookupError, AttributeError, TypeError, ValueError) as error:   # what a misspelt source raises
        raise NoSuchNumber(f"{source}: {type(error).__name__} {error}") from None


def _value(path, name, all_records, trainings):
    if path == "minutes":
        chosen = all_records if name == "all" else [name]
        return round(sum(epoch.seconds for each in chosen for history in all_records[each].runs.values()
                         for epoch in history) / 60)
    kind, *rest = path.split(".")
    if kind == "difference":   # the name of an idea may hold a point
        idea, _, figure = path.removeprefix("difference.").rpartition(".")
        return getattr(comparisons.difference(idea, comparisons.with_studies(trainings)), figure)
    if kind == "seeds":   # and so may the name of a run
        run, column, figure = path.removeprefix("seeds.").rsplit(".", 2)
        values = records.over_seeds(name, run, column, comparisons.with_studies(trainings))
        if not len(values):
            raise KeyError(run)
        if figure == "sd" and len(values) < 3:
            return math.nan   # two values have no spread worth the name
        value = getattr(values, {"sd": "std"}.get(figure, figure))()
        return int(value) if figure == "count" else float(value)
    record = all_records[name]
    if kind == "measures":
        return record.measures[rest[0]]
    if kind == "target":
        return claims.target(name, *rest)
    if kind in ("often", "doubtful"):
        often = records.often_misread(record.misread[rest[0]])
        return len(often) if kind == "often" else len(often.keys() & claims.DOUBTFUL)
    value = record[kind]
    for key in rest:
        if key != "epochs":   # a History is the list of its epochs
            value = value[int(key)] if re.fullmatch(r"-?\d+", key) else getattr(value, key)
    return value


# ---------------------------------------------------------------- tables

def _table(head, align, lines):
    """Write a table of Markdown: `align` has a letter a column, l or r."""
    rule = ["---" if side == "l" else "--:" for side in align]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [head, rule, *lines])


def _link(name):
    return f"[{name}](notebooks/{name}.ipynb)"


def steps_table(all_records, trainings):
    """Write README's table of the steps: a network of each notebook, with its test accuracy over seeds."""
    lines = []
    for step in claims.STEPS.itertuples():
        if step.notebook in all_records:
            history = all_records[step.notebook][step.run]
            accuracy = mean_and_sd(records.over_seeds(step.notebook, step.run, "test", trainings))
            badge = f"[![Open in Colab]({BADGE})]({colab(step.notebook)})"
            lines.append([_link(step.notebook), step.idea, f"{history.parameters:,}", accuracy, step.lesson,
                          badge])
    return _table(["step", "idea", "parameters", "test accuracy, %", "lesson", "Colab"], "llrrll", lines)


def targets_table(all_records, trainings):
    """Write README's table of the targets for a mean over seeds: the test set scored once for each seed."""
    lines = []
    for row in claims.TARGETS[claims.TARGETS["what"] == "test"].itertuples():
        if row.notebook not in all_records or row.run not in all_records[row.notebook].runs:
            continue
        history = all_records[row.notebook][row.run]
        over_seeds = lambda what, row=row: records.over_seeds(row.notebook, row.run, what, trainings)
        test, seconds = over_seeds("test"), over_seeds("seconds")
        margin = test.mean() - row.value
        verdict = "missed" if margin < 0 else "met" if margin >= test.sem() else "met, within its error"
        lines.append([_link(row.notebook), history.network, f"{history.parameters:,}", history.planned,
                      f"{row.value:.2f}", mean_and_sd(test, 3), f"{test.min():.2f}", verdict,
                      f"{seconds.median():.1f}"])
    return _table(["notebook", "network", "parameters", "epochs", "target, %", "test accuracy, %", "lowest",
                   "verdict", "seconds of training, median"], "llrrrrrlr", lines)


def _measured(claim, trainings):
    """Return a function that writes mean and spread of a column for the run of a claim."""
    return lambda column: mean_and_sd(records.over_seeds(claim.notebook, claim.run, column, trainings),
                                      3 if column == "last_loss" else 2)


def claims_table(all_records, trainings):
    """Write README's table of the claimed test accuracies."""
    lines = []
    for claim in claims.CLAIMS[claims.CLAIMS["what"] == "best"].itertuples():
        best = records.over_seeds(claim.notebook, claim.run, "best", trainings)
        lines.append([claim.reference, _link(claim.notebook), claims.claim_text(claim), mean_and_sd(best),
                      claims.judge(claim, best)])
    return _table(["reference", "notebook", "claimed", "best epoch here", "verdict"], "llrrl", lines)


def reproduction(trainings):
    """Write results/reproduction.md: every claim beside what was measured."""
    lines = []
    for claim in claims.CLAIMS.itertuples():
        values = records.over_seeds(claim.notebook, claim.run, claim.what, trainings)
        measured = _measured(claim, trainings)
        counted = claim.what == "parameters" and len(values)
        here = f"{values.iloc[0]:,.0f}" if counted else measured(claim.what)
        last = {"best": "last", "best_train": "last_train"}.get(claim.what)
        chosen = trainings[(trainings["notebook"] == claim.notebook) & (trainings["run"] == claim.run)]
        validated = (chosen["scored_on"] == "validation").any()
        what = claims.WHAT[claim.what].replace("test", "validation") if validated else claims.WHAT[claim.what]
        lines.append([claim.reference, claim.run, what, claims.claim_text(claim), here,
                      measured(last) if last else "-", claims.judge(claim, values),
                      claims.reason(claim, measured)])
    head = ["reference", "network", "claim", "claimed", "measured", "last epoch", "verdict", "why"]
    return ("# What reproduces\n\nEvery number that the five write-ups state, beside mean ± standard"
            " deviation over the seeds here.\nMade by `run.py` from the records; accuracies are in percent."
            f"\n\n{claims.RULE}\n\n{_table(head, 'lllrrrll', lines)}\n")


IDEAS = """# What each idea is worth

Runs with an idea and without it, from the same seeds. The difference is the mean over the seeds, in points of
accuracy, with its 95 % interval; *not told apart* says that the interval holds zero. In the column, *last* is
the last epoch on the split that scores the run, and *test* is the test set, scored once. A difference is
given from three seeds on. `python run.py NAME --seeds 0-4` trains the notebook or study NAME again; what
is not measured yet is listed as such.

"""


SHOWN = "first_train", "first", "last_train", "best", "last", "last_loss", "test"   # of a study


def ideas(trainings):
    """Write results/ideas.md: every comparison of comparisons.csv, and the trainings of every study."""
    with_studies = comparisons.with_studies(trainings)
    table = comparisons.table(with_studies)
    parts = [IDEAS, _table(table.columns, "lllllrl", table.itertuples(index=False))]
    studies = records.read_rows(records.STUDIES)
    for study, rows in studies.groupby("notebook"):
        seeds = sorted(set(rows["seed"]))
        lines = [[run, f"{chosen['epochs'].iloc[0]:.0f}", len(chosen),
                  *(mean_and_sd(chosen[column].dropna(), 4 if column == "last_loss" else 2).split(" (")[0]
                    for column in SHOWN)]
                 for run, chosen in rows.groupby("run", sort=False)]
        head = ["run", "epochs", "seeds", "first epoch, training", "first epoch", "last, training", "best",
                "last", "last loss", "test"]
        which = f"{seeds[0]:.0f}" if len(seeds) == 1 else f"{seeds[0]:.0f}-{seeds[-1]:.0f}"
        parts.append(f"\n\n## {study}\n\n`python run.py {study} --seeds {which}`; what it"
                     f" trains is in [studies.py](../studies.py).\n\n{_table(head, 'lrrrrrrrrr', lines)}")
    return "".join(parts) + "\n"


# ---------------------------------------------------------------- README

TABLES = {"steps": steps_table, "claims": claims_table, "targets": targets_table}


def readme(text, all_records, trainings, missing=None):
    """Return README's text with its tables and its numbers made anew."""
    for name, table in TABLES.items():
        if f"<!-- {name} -->" in text:
            before, rest = text.split(f"<!-- {name} -->\n")
            after = rest.split(f"<!-- /{name} -->")[1]
            text = f"{before}<!-- {name} -->\n{table(all_records, trainings)}\n<!-- /{name} -->{after}"
    return with_numbers(text, all_records, trainings, missing=missing)
