"""What an idea is worth: trainings with it and without it, from the same seeds."""

import math
from pathlib import Path
from typing import NamedTuple

import pandas

from lab import records

# A row for each comparison: the run with the idea, and the one that it is compared against, each of a
# notebook or a study; column: a column of `records.runs`, in percent.
COMPARISONS = pandas.read_csv(Path(__file__).with_name("comparisons.csv"))


class Difference(NamedTuple):
    """How many points a run is above another one: the mean over seeds, half its 95 % interval, the seeds."""
    mean: float
    reach: float
    seeds: int

    @property
    def points(self):
        """The size of the difference, in points."""
        return abs(self.mean)

    @property
    def verdict(self):
        """One of "worth", "costs" and "not told apart"; "not measured" from less than three seeds."""
        if self.seeds < 3:
            return "not measured"
        if abs(self.mean) <= self.reach:
            return "not told apart"
        return "worth" if self.mean > 0 else "costs"

    def __str__(self):
        return f"{self.mean:+.2f} ± {self.reach:.2f}" if self.seeds >= 3 else "-"


def with_studies(trainings):
    """Return the trainings of notebooks, and those of studies below them."""
    return pandas.concat([trainings, records.read_rows(records.STUDIES)])


def difference(idea, trainings=None):
    """Return the Difference that an idea of comparisons.csv makes, paired by seed.

    The interval is Student's: mean ± t sd / sqrt(n) of the differences of n seeds. Raises KeyError.
    """
    trainings = with_studies(records.runs()) if trainings is None else trainings
    row = COMPARISONS.set_index("idea").loc[idea]
    pairs = [records.over_seeds(row[place], row[run], row["column"], trainings)
             for place, run in (("notebook", "run"), ("against", "other"))]
    each = (pairs[0] - pairs[1]).dropna()
    if len(each) < 2:
        return Difference(math.nan, math.nan, len(each))
    from scipy import stats  # here, for it takes a second

    reach = stats.t.ppf(0.975, len(each) - 1) * each.std() / math.sqrt(len(each))
    return Difference(float(each.mean()), float(reach), len(each))


def table(trainings, notebook=None):
    """Return a DataFrame of the comparisons, all of them or those of a notebook."""
    chosen = COMPARISONS[COMPARISONS["notebook"] == notebook] if notebook else COMPARISONS
    rows = []
    for row in chosen.itertuples():
        found = difference(row.idea, trainings)
        rows.append({"idea": row.idea, "with": _name(row.notebook, row.run, notebook),
                     "without": _name(row.against, row.other, notebook), "column": row.column,
                     "difference, points": str(found), "seeds": found.seeds, "it is": found.verdict})
    return pandas.DataFrame(rows)


def _name(place, run, here):
    return run if place == here else f"{run} ({place})"
