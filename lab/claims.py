"""What ideas are worth and which claims hold, over the seeds: for the texts, and for README's pictures."""

import math
from typing import NamedTuple

import pandas
from scipy import stats

from lab import record
from lab.record import RESULTS
from lab.results import GUESSED, find_claim

# A row for each comparison of a run with an idea and one without it, each of a notebook or a study.
IDEAS = pandas.read_csv(RESULTS / "ideas.csv").set_index("idea")
PUBLISHED = pandas.read_csv(RESULTS / "published.csv")   # who, parameters, accuracy in percent: one run each


class Difference(NamedTuple):
    """How many points a run is above another one from the same seeds: the mean, and its 95 % interval.

    `failed` counts the seeds from which either did not learn; then a mean means nothing, mean, low and high
    are nan, and `median` is that of the other seeds. `same`: the two ended alike from each seed.
    """
    mean: float
    low: float
    high: float
    seeds: int
    failed: int = 0
    median: float = math.nan
    same: bool = False

    @property
    def verdict(self):
        """One of "worth", "costs", "not told apart", "never acted", "failed", "not measured"."""
        if self.seeds < 3:
            return "not measured"
        if self.same or self.failed:
            return "never acted" if self.same else "failed"
        if self.low <= 0 <= self.high:
            return "not told apart"
        return "worth" if self.mean > 0 else "costs"

    def __neg__(self):
        return self._replace(mean=-self.mean, low=-self.high, high=-self.low, median=-self.median)

    def __str__(self):
        if self.seeds < 3 or self.same:
            return "-" if self.seeds < 3 else "0"
        return f"{self.median:.2f}" if self.failed else f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def worth(idea):
    """Return the Difference that an idea of ideas.csv makes, paired by seed. Raises KeyError.

    The interval is Student's, of the mean of the differences.
    """
    row = IDEAS.loc[idea]
    return difference(record.over_seeds(row["notebook"], row["run"], row["column"]),
                      record.over_seeds(row["against"], row["other"], row["column"]))


def difference(run, other):
    """Return the Difference of two Series of accuracies by seed, over the seeds that both have."""
    pairs = pandas.concat([run, other], axis=1, join="inner").to_numpy()
    learnt = pairs[(pairs >= GUESSED).all(axis=1)]
    each, failed = learnt[:, 0] - learnt[:, 1], len(pairs) - len(learnt)
    median = float(pandas.Series(each).median())
    if len(each) < 2 or failed or (each == 0).all():
        same = bool(len(each) and not failed and (each == 0).all())
        middle = (0.0, 0.0, 0.0) if same else (math.nan,) * 3
        return Difference(*middle, len(pairs), failed, median, same)
    interval = stats.ttest_1samp(each, 0).confidence_interval() if each.std() else (each[0], each[0])
    return Difference(float(each.mean()), float(interval[0]), float(interval[1]), len(pairs), 0, median)


def verdict(notebook, run, what):
    """Return the verdict on a claim, by the rule that stands in results/reproduction.md.

    One of reproduced, exceeded, not reproduced, contradictory in the source, not stated; "not measured" from
    less than two seeds.
    """
    claim, values = find_claim(notebook, run, what), record.over_seeds(notebook, run, what)
    if claim.kind == "contradictory":
        return "contradictory in the source"
    if math.isnan(claim.value):
        return "not stated"
    if len(values) < 2:
        return "not measured"
    if what == "parameters":
        return "reproduced" if values.mean() == claim.value else "not reproduced"
    if claim.kind == "at least":
        return "reproduced" if values.mean() >= claim.value else "not reproduced"
    low, high = next_run(values)
    rounded = 0.5 if claim.kind == "about" else 0.005   # to the percent, or to two digits
    if low - rounded <= claim.value <= high + rounded:
        return "reproduced"
    return "exceeded" if low > claim.value and what != "last_loss" else "not reproduced"


def next_run(values):
    """Return the range in which one more run would lie with 95 % confidence: mean ± t sd sqrt(1 + 1/n)."""
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std() * math.sqrt(1 + 1 / len(values))
    return values.mean() - reach, values.mean() + reach
