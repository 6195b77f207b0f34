"""README's pictures, and those of results/, drawn from the record. Each function returns its figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.ticker import LogLocator, NullLocator

from lab.claims import IDEAS, PUBLISHED, worth
from lab.record import read_all, trainings
from plots import BLUE, GREEN, GREY, ORANGE, PURPLE, chart, name_points, plot_error

VERDICTS = {"worth": (GREEN, "^"), "costs": (ORANGE, "v"), "not told apart": (GREY, "o"),
            "never acted": (GREY, "x"), "failed": (PURPLE, "o")}


def draw():
    """Return {name: figure}, for results/NAME.png; nothing where there is no record."""
    if not read_all():
        return {}
    return {"ladder": ladder(read_all()), "frontier": frontier(trainings()),
            "ideas": ideas({idea: worth(idea) for idea in IDEAS.index})}


def ladder(records):
    """Draw the test error by epoch of each network of {notebook: Record} that is scored on the test set."""
    curves = {f"{name.split('_')[0]}  {run}": history for name, record in records.items()
              for run, history in record.runs.items()
              if run == history.network and history.scored_on == "test"}
    figure, axis = plt.subplots(figsize=(10, 6))
    plot_error(axis, curves, "test")
    axis.set_title("MNIST: one training of each step that is scored on the test set")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def frontier(trainings, published=PUBLISHED):
    """Draw test error over parameters: our networks, mean and spread over seeds, and published runs.

    A network stands at the run that a notebook names after it, "TinyNet" or "TinyNet, test set"; if there are
    several, at the one of lowest error.
    """
    table = trainings[trainings["notebook"].str.match(r"\d+_")]   # no study
    table = table[[run.split(",")[0] == network for run, network in zip(table["run"], table["network"])]]
    ours = table.groupby(["network", "parameters", "run"])["test"].agg(["mean", "std"]).dropna(subset="mean")
    ours = ours.sort_values("mean").reset_index().drop_duplicates("network", keep="last")
    theirs = published.rename(columns={"who": "network", "accuracy": "mean"})
    points = pandas.concat([ours.assign(colour=BLUE), theirs.assign(colour=ORANGE)])
    points = points.assign(error=100 - points["mean"]).sort_values("parameters")
    best = points[points["error"] == points["error"].cummin()]   # no smaller one has a lower error
    axis = chart("MNIST: error against size", "parameters", "test error, %", (11, 7), xscale="log",
                  yscale="log", xlim=(400, 700_000), ylim=(0.3, 14))
    axis.step(best["parameters"], best["error"], where="post", color=GREY, linestyle="-", alpha=0.5,
              label="the best for their size, ours and published")
    for colour, marker, label in ((BLUE, "o", "ours: mean and standard deviation over seeds"),
                                  (ORANGE, "s", "published: one run each")):
        some = points[points["colour"] == colour]
        axis.errorbar(some["parameters"], some["error"], some["std"], fmt=marker, color=colour, capsize=3,
                      label=label)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set(major_locator=LogLocator(subs=(1, 2, 4, 6)), major_formatter="{x:g}",
                   minor_locator=NullLocator())
    axis.legend(loc="upper right")
    name_points(axis, points[["network", "parameters", "error", "colour"]].to_numpy())
    return axis.figure


def ideas(differences):
    """Draw what each idea of {name: Difference} is worth, sorted: a mark and its 95 % interval.

    Where a seed failed to learn there is no interval, and a hollow mark is the median of the others. Left out
    are ideas without a number: not measured, or no seed learnt.
    """
    points = {name: found.median if found.failed else found.mean for name, found in differences.items()
              if found.verdict in VERDICTS}
    names = sorted((name for name, point in points.items() if not np.isnan(point)), key=points.get)
    axis = chart("MNIST: what each idea is worth, with 95 % intervals", "points of accuracy", "",
                  (11, 0.29 * len(names) + 1.7), ylim=(-0.7, len(names) - 0.3))
    axis.axvline(0, color="black", linestyle="-", linewidth=1)
    for verdict, (colour, marker) in VERDICTS.items():
        rows = [row for row, name in enumerate(names) if differences[name].verdict == verdict]
        found = [differences[names[row]] for row in rows]
        axis.hlines(rows, [one.low for one in found], [one.high for one in found], color=colour)
        axis.plot([points[names[row]] for row in rows], rows, marker, color=colour,
                  markerfacecolor="none" if verdict == "failed" else colour,
                  label=verdict.replace("failed", "a seed failed to learn: median"))
    axis.set_xscale("symlog", linthresh=0.2)   # linear near 0, so that small differences can be read
    axis.set_xticks([-10, -1, -0.1, 0, 0.1, 1, 10], ["-10", "-1", "-0.1", "0", "0.1", "1", "10"])
    axis.set_yticks(range(len(names)), names, fontsize=11)
    axis.legend(loc="lower right", fontsize=11)
    return axis.figure
