"""What others report, the targets that were set before the runs, and how a claim is judged."""

import math
import re
from pathlib import Path

import pandas

HERE = Path(__file__).resolve().parent
# A row for each number of a write-up, with why it comes out here as it does. what: a column of `runs`;
# kind: "" for a number to compare with, "at least", "about" (to the nearest percent), "contradictory" where
# the write-up says something else as well. {column} in `why` stands for that column's mean and spread.
CLAIMS = pandas.read_csv(HERE / "claims.csv", keep_default_na=False, na_values={"value": [""]})
TARGETS = pandas.read_csv(HERE / "targets.csv")   # notebook, run, what, value: in percent, at least
STEPS = pandas.read_csv(HERE / "steps.csv")       # a row of README's first table for each notebook
PUBLISHED = pandas.read_csv(HERE / "published.csv")   # who, parameters, accuracy in percent: one run each

WHAT = {"parameters": "parameters", "best": "best test accuracy", "best_train": "best training accuracy",
        "last": "last test accuracy", "last_loss": "last test loss", "first": "test accuracy after one epoch",
        "first_train": "training accuracy after one epoch"}

# Places in MNIST's test set of the images whose label at most two of five readers confirmed
# (Northcutt et al., Pervasive label errors in test sets, 2021; mnist_mturk.json of cleanlab/label-errors).
DOUBTFUL = {947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729}


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
    found = CLAIMS[(CLAIMS["notebook"] == notebook) & (CLAIMS["run"] == run) & (CLAIMS["what"] == what)]
    return claim_text(next(found.itertuples())) if len(found) else ""


def target(notebook, run, what):
    """Return the target for a figure of a run in percent, or None."""
    found = TARGETS[(TARGETS["notebook"] == notebook) & (TARGETS["run"] == run) & (TARGETS["what"] == what)]
    return float(found["value"].iloc[0]) if len(found) else None


def target_text(notebook, run, what):
    """Return the target for a figure of a run as text, "" where there is none."""
    value = target(notebook, run, what)
    return "" if value is None else f"≥ {value:g}"


RULE = """A claim is one run, so it is compared with the range in which one more run of ours would lie with
95 % confidence: mean ± t sd sqrt(1 + 1/n) over n seeds, where t is Student's. All write-ups but C share our
test images, so the chance that lies in those images is in both numbers. A claim inside the range is
*reproduced*; below it, *exceeded*; above it, *not reproduced*. "At least" is met by our mean or not; "about"
allows for rounding to the percent, and a loss for the two digits that it is given with. The range is wide
where the seeds are few."""


def judge(claim, values):
    """Return the verdict on a claim by RULE, from what was measured over the seeds (a Series).

    One of reproduced, exceeded, not reproduced, contradictory in the source, not stated; "not measured" from
    less than two seeds.
    """
    if claim.kind == "contradictory":
        return "contradictory in the source"
    if math.isnan(claim.value):
        return "not stated"
    if len(values) < 2:
        return "not measured"
    mean = values.mean()
    if claim.what == "parameters":
        return "reproduced" if mean == claim.value else "not reproduced"
    if claim.kind == "at least":
        return "reproduced" if mean >= claim.value else "not reproduced"
    from scipy import stats  # here, for it takes a second

    reach = stats.t.ppf(0.975, len(values) - 1) * values.std() * math.sqrt(1 + 1 / len(values))
    reach += 0.5 if claim.kind == "about" else 0.005   # rounded to the percent, or to two digits
    if abs(mean - claim.value) <= reach:
        return "reproduced"
    return "exceeded" if mean > claim.value and claim.what != "last_loss" else "not reproduced"


def reason(claim, measured):
    """Return why a claim comes out as it does; `measured(column)` writes what stands for its {columns}."""
    return re.sub(r"\{(\w+)\}", lambda match: measured(match[1]), claim.why)
