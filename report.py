"""What README, results/reproduction.md and the numbers in the notebooks' text say, made from records and seeds.

Text and tables only: run.py writes the files, plots.py draws the pictures.
"""

import math
import re
import statistics

from scipy import stats

import utils
from references import DOUBTFUL, STATEMENTS, WHAT

REPOSITORY = "OWNER/mnist-ladder"   # where badges and set-up cells point; `run.py --repo` rewrites it everywhere
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def colab(name):
    """Return the address that opens notebook `name` on Colab."""
    return f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}.ipynb"


# ---------------------------------------------------------------- numbers in text

NUMBER = re.compile(r"(<!--= *([^>]+?) *-->)(?!`)(-?[\d.,]*\d|nan)?")   # a source in backticks is an example


def with_numbers(text, all_records, rows, name=None):
    """Put after every `<!--= source -->`, in place of a number that stands there, the one that its source names.

    A source is a path into the record of notebook `name`, or into another's after its name and
    a slash: `LightNet.best.test_accuracy`, `LightNet.epochs.-2.lr` (the last but one),
    `2_batch_norm/minutes`, `all/minutes`, `sweeps.SmallNet.mean`; how many images half of a
    sweep's seeds misread, and how many of these labels are in doubt: `sweeps.SmallNet.often`,
    `sweeps.SmallNet.doubtful`; or mean, sd, minimum or count of a column over the
    seeds: `seeds.LightNet.last.mean`; the sd of a single seed is nan. Raises KeyError for a source that is not there.
    """
    return NUMBER.sub(lambda m: m[1] + _number(m[2], all_records, rows, name), text)


def _number(source, all_records, rows, name):
    name, _, path = source.rpartition("/") if "/" in source else (name, "", source)
    if path == "minutes":   # what a re-run trains: one seed, and no run that is made once
        chosen = all_records.values() if name == "all" else [all_records[name]]
        seconds = sum(run["seconds"] for record in chosen for run in record["runs"] if not run["once"])
        seconds += sum(row["seconds"]["0"] for record in chosen for row in record["sweeps"].values() if not row["once"])
        return f"{seconds / 60:.0f}"
    if path.startswith("seeds."):
        _, run, column, figure = path.split(".")
        values = over_seeds(rows, name, run, column)
        if not values:
            raise KeyError(path)
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        value = {"mean": statistics.fmean(values), "sd": spread, "minimum": min(values), "count": len(values)}[figure]
        return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"
    value = all_records[name]
    value = {**value, **{run["name"]: run for run in value["runs"]}}
    if path.startswith("sweeps.") and path.endswith((".often", ".doubtful")):
        often = utils.often_misread(value["sweeps"][path.split(".")[1]])
        return str(len(often) if path.endswith("often") else len(often.keys() & DOUBTFUL))
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


# ---------------------------------------------------------------- the ladder

def on_the_ladder(run):
    """Tell whether a recorded run has its row in README: a step itself, whose accuracy on the test set is known."""
    return utils.is_step(run) and utils.test_accuracy(run) is not None


def ladder_table(all_records, rows):
    """Write README's results table, of seed 0."""
    lines = ["| step | change | parameters | best test accuracy | last | claimed best | Colab |", "|---|---|--:|--:|--:|--:|---|"]
    for name, record in all_records.items():
        link, badge = f"[{name}](notebooks/{name}.ipynb)", f"[![Open in Colab]({BADGE})]({colab(name)})"
        for run in record["runs"]:
            if not on_the_ladder(run):
                continue
            claim = next((s.claimed for s in STATEMENTS if (s.run, s.what) == (run["name"], "best")), "-")
            best = f"{run['best']['test_accuracy']:.2f} %" if run["scored_on"] == "test" else "-"
            lines.append(f"| {link} | {run['change']} | {run['parameters']:,} | {best} | {utils.test_accuracy(run):.2f} % | {claim} | {badge} |")
    return "\n".join(lines)


def sweeps_table(all_records, rows):
    """Write README's table of what a notebook trains from several seeds towards a target, as fast as it can."""
    lines = ["| notebook | run | parameters | target | seeds | test accuracy, mean and sd | lowest | seconds of training, median |",
             "|---|---|--:|--:|--:|--:|--:|--:|"]
    for name, record in all_records.items():
        for label, row in record["sweeps"].items():
            if row["target"] and not row["once"]:
                lines.append(f"| [{name}](notebooks/{name}.ipynb) | {label} | {row['parameters']:,} | {row['target']:.2f} % | {len(row['accuracies'])} "
                             f"| {row['mean']:.3f} +- {row['sd']:.3f} % | {row['minimum']:.2f} % | {row['median_seconds']:.1f} |")
    return "\n".join(lines)


def records_table(all_records, rows):
    """Write README's table of the small and the accurate networks: made once, over seeds, towards a bar."""
    lines = ["| notebook | network | parameters | epochs | bar | seeds | test accuracy, mean and sd | lowest | misread by half of the seeds | of these, labels in doubt | repeat it with |",
             "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"]
    for name, record in all_records.items():
        for label, row in record["sweeps"].items():
            if row["target"] and row["once"]:
                often = utils.often_misread(row)
                lines.append(f"| [{name}](notebooks/{name}.ipynb) | {label} | {row['parameters']:,} | {row['epochs']} | {row['target']:.2f} % "
                             f"| {len(row['accuracies'])} | {row['mean']:.3f} +- {row['sd']:.3f} % | {row['minimum']:.2f} % "
                             f"| {len(often)} | {len(often.keys() & DOUBTFUL)} | `python run.py {name}` |")
    return "\n".join(lines)


# ---------------------------------------------------------------- what reproduces

def over_seeds(rows, notebook, run, column):
    """List what `column` of results/seeds.csv has for a run, seed by seed."""
    return [getattr(row, column) for row in rows if (row.notebook, row.run) == (notebook, run) and getattr(row, column) is not None]


def mean_and_sd(values, digits=2):
    """Write mean and standard deviation; of a single value, the value."""
    if not values:
        return "-"
    return f"{statistics.fmean(values):.{digits}f}" + (f" +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


RULE = """A claim is one run, so it is held against the range in which one more run of ours would lie with 95 % confidence:
mean +- t sd sqrt(1 + 1/n) over n seeds, t being Student's. All but C share our test images, so what chance there is in those is in both.
A claim inside the range is *reproduced*; below it, *exceeded*; above it, *not reproduced*. "At least" is met by our mean or not; "about"
allows for rounding to the percent, and a loss for the two digits it is given with. The range is wide where the seeds are few."""


DIGITS = {"last_loss": 3}   # of a mean over seeds, where they are not 2


def judge(statement, rows):
    """Return the verdict on a Statement, by RULE: reproduced, exceeded, not reproduced, contradictory in the source, not stated.

    From less than two seeds there is none: "not measured".
    """
    values = over_seeds(rows, statement.notebook, statement.run, statement.what)
    if statement.kind == "contradictory":
        return "contradictory in the source"
    if statement.value is None:
        return "not stated"
    if len(values) < 2:
        return "not measured"
    mean = statistics.fmean(values)
    if statement.what == "parameters":
        return "reproduced" if mean == statement.value else "not reproduced"
    if statement.kind == "at least":
        return "reproduced" if mean >= statement.value else "not reproduced"
    reach = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    reach += 0.5 if statement.kind == "about" else 0.005   # rounded to the percent, or to two digits
    if abs(mean - statement.value) <= reach:
        return "reproduced"
    return "exceeded" if mean > statement.value and statement.what != "last_loss" else "not reproduced"


def _why(statement, rows):
    """Return the statement's reason with its `{columns}` filled in."""
    return re.sub(r"\{(\w+)\}", lambda m: mean_and_sd(over_seeds(rows, statement.notebook, statement.run, m[1]), DIGITS.get(m[1], 2)), statement.why)


def accuracy_claims(all_records, rows):
    """Write README's table of the claimed test accuracies."""
    lines = ["| reference | notebook | network | claimed | last epoch | best epoch | seeds | verdict | why |", "|---|---|---|--:|--:|--:|--:|---|---|"]
    for statement in STATEMENTS:
        if statement.what == "best":
            last, best = (over_seeds(rows, statement.notebook, statement.run, what) for what in ("last", "best"))
            lines.append(f"| {statement.reference} | [{statement.notebook}](notebooks/{statement.notebook}.ipynb) | {statement.run} "
                         f"| {statement.claimed} | {mean_and_sd(last)} | {mean_and_sd(best)} | {len(best)} | {judge(statement, rows)} | {_why(statement, rows)} |")
    return "\n".join(lines)


def reproduction(rows):
    """Write results/reproduction.md: every claim beside what was measured."""
    lines = ["# What reproduces", "",
             "Every number that the five write-ups state, beside mean +- standard deviation over the seeds of the same figure here.",
             "Made by `run.py` from [seeds.csv](seeds.csv); accuracies are in percent.", "",
             RULE, "",
             "| reference | network | claim | claimed | measured | last epoch | seeds | verdict | why |", "|---|---|---|--:|--:|--:|--:|---|---|"]
    for s in STATEMENTS:
        values = over_seeds(rows, s.notebook, s.run, s.what)
        last = over_seeds(rows, s.notebook, s.run, {"best": "last", "best_train": "last_train"}.get(s.what, s.what))
        measured = f"{values[0]:,}" if values and s.what == "parameters" else mean_and_sd(values, DIGITS.get(s.what, 2))
        what = WHAT[s.what].replace("test", "validation") if "validation" in over_seeds(rows, s.notebook, s.run, "scored_on") else WHAT[s.what]
        lines.append(f"| {s.reference} | {s.run} | {what} | {s.claimed} | {measured} | {mean_and_sd(last) if s.what.startswith('best') else '-'} "
                     f"| {len(values)} | {judge(s, rows)} | {_why(s, rows)} |")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- README

TABLES = {"results": ladder_table, "claims": accuracy_claims, "seeds": sweeps_table, "records": records_table}


def readme(text, all_records, rows):
    """Return README's text with its tables and its numbers made anew."""
    for name, table in TABLES.items():
        before, rest = text.split(f"<!-- {name} -->\n")
        after = rest.split(f"<!-- /{name} -->")[1]
        text = f"{before}<!-- {name} -->\n{table(all_records, rows)}\n<!-- /{name} -->{after}"
    return with_numbers(text, all_records, rows)
