"""README's pictures, drawn from the records."""

from itertools import cycle

import matplotlib

matplotlib.use("Agg")   # files are written, no window is opened
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from lab.labels import name_points

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"   # Okabe and Ito's


def draw(all_records, trainings, published):
    """Return {name: figure}, for results/NAME.png; nothing where there are no records."""
    curves = {f"{name.split('_')[0]}  {label}": history for name, record in all_records.items()
              for label, history in record.runs.items()
              if label == history.network and history.scored_on == "test"}
    if not curves:
        return {}
    return {"ladder": ladder(curves), "frontier": frontier(trainings, published)}


def ladder(histories):
    """Draw the error on the test set by epoch, on a log scale, a line per entry of {label: History}."""
    figure, axis = plt.subplots(figsize=(10, 6), layout="constrained")
    palette = [GREY, BLUE, "#56B4E9", PURPLE, ORANGE, GREEN, "#E69F00", "#000000", "#8C564B"]
    for (label, history), colour, marker in zip(histories.items(), cycle(palette), cycle("os^vDPX")):
        axis.plot([epoch.epoch for epoch in history], [100 - epoch.accuracy for epoch in history],
                  color=colour, marker=marker, label=label)
    axis.set_yscale("log")
    axis.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axis.minorticks_off()
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel="epoch", ylabel="test error, %", title="MNIST: scored on the test set; seed 0")
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def frontier(trainings, published):
    """Draw test error over parameters, on log scales: mean and spread of our networks, and published runs."""
    figure, axis = plt.subplots(figsize=(11, 7), layout="constrained")
    tested = trainings[(trainings["network"] != "DigitNet") & trainings["test"].notna()]
    by_run = tested.groupby(["network", "parameters", "run"])["test"]
    best = by_run.agg(mean="mean", sd="std", seeds="count").reset_index()
    best = best.sort_values(["seeds", "mean"]).drop_duplicates("network", keep="last")
    best = best.sort_values("parameters")
    error = 100 - best["mean"]
    front = best[error.cummin() == error]   # no network with fewer parameters has a smaller error
    axis.step(front["parameters"], 100 - front["mean"], where="post", color=BLUE, alpha=0.4,
              label="ours: the best for their size")
    axis.errorbar(best["parameters"], error, yerr=best["sd"], fmt="o", color=BLUE, capsize=3,
                  label="ours: mean and standard deviation over seeds")
    axis.plot(published["parameters"], 100 - published["accuracy"], "s", color=ORANGE, markersize=9,
              label="published: one run")
    axis.set(xscale="log", yscale="log", xlabel="parameters", ylabel="test error, %",
             title="MNIST: error against size", xlim=(400, 700_000), ylim=(0.3, 14))
    axis.set_yticks([0.4, 0.5, 0.6, 0.8, 1, 2, 5, 10], ["0.4", "0.5", "0.6", "0.8", "1", "2", "5", "10"])
    axis.set_xticks([1_000, 10_000, 100_000], ["1,000", "10,000", "100,000"])
    axis.yaxis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right", frameon=False)
    name_points(axis, [(row.network, row.parameters, 100 - row.mean, BLUE) for row in best.itertuples()]
                + [(row.who, row.parameters, 100 - row.accuracy, ORANGE) for row in published.itertuples()])
    return figure
