"""What others report: every claim of the five reference write-ups, the doubtful labels, and the best published networks."""

from typing import NamedTuple


class Statement(NamedTuple):
    """One number in a write-up, and why it comes out here as it does.

    what: a column of results/seeds.csv. value: in percent, but for parameters and losses.
    kind: "" for a number to compare with, "at least", "about" (to the nearest percent), or
    "contradictory" where the write-up says something else as well.
    In `why`, `{column}` stands for that column's mean and spread over the seeds.
    """
    reference: str
    notebook: str
    run: str
    what: str
    value: float | None
    why: str
    kind: str = ""

    @property
    def claimed(self):
        """The value as a table shows it."""
        if self.value is None:
            return "not stated"
        if self.what == "parameters":
            return f"{self.value:,}"
        if self.kind == "about":
            return f"~ {self.value:.0f} %"
        return f"{'>= ' if self.kind == 'at least' else ''}{self.value:.2f}" + ("" if self.what == "last_loss" else " %")


WHAT = {"parameters": "parameters", "best": "best test accuracy", "best_train": "best training accuracy", "last": "last test accuracy",
        "last_loss": "last test loss", "first": "test accuracy after one epoch", "first_train": "training accuracy after one epoch"}

LADDER = "counted from its list of layers"
STATEMENTS = [Statement(*row) for row in [
    ("A", "8_dropout_everywhere", "DropoutEverywhereNet", "parameters", None, "never stated; this is what its list of layers gives without biases"),
    ("A", "8_dropout_everywhere", "DropoutEverywhereNet", "best", 99.55, "rate, batch size and schedule are ours, for it states none: the network can reach it"),
    ("A", "8_dropout_everywhere", "DropoutEverywhereNet", "last", 99.54, "rate, batch size and schedule are ours, for it states none: the network can reach it"),
    ("A", "8_dropout_everywhere", "DropoutEverywhereNet", "last_loss", 0.09, "not inherent in its layers, for ours ends at {last_loss}; where its own comes from is not known"),
    ("A", "8_dropout_everywhere", "DropoutEverywhereNet", "first", 98.24, "its rate is not stated"),
    ("B", "1_baseline", "Baseline", "parameters", 238_926, "it also says 194k, which its layers give; no simple stack gives 238,926", "contradictory"),
    ("B", "1_baseline", "Baseline", "best_train", 99.92, "rate and batch size are not stated"),
    ("B", "1_baseline", "Baseline", "best", 99.15, "its rate is not stated; at a constant one single epochs swing, and the best is picked from fifteen"),
    ("B", "1_baseline", "LightNet", "parameters", 5_784, LADDER),
    ("B", "1_baseline", "LightNet", "best_train", 88.17, "it has no head: ten positions of one channel are the logits"),
    ("B", "1_baseline", "LightNet", "best", 88.67, "no head: ten positions of one channel are the logits; that, not its size, limits it"),
    ("B", "2_batch_norm", "BatchNormNet", "parameters", 5_936, LADDER),
    ("B", "2_batch_norm", "BatchNormNet", "best_train", 93.82, "no head yet"),
    ("B", "2_batch_norm", "BatchNormNet", "best", 91.82, "no head yet"),
    ("B", "3_dropout", "DropoutNet", "parameters", 5_936, LADDER),
    ("B", "3_dropout", "DropoutNet", "best_train", 89.19, "no head yet; the place of the dropout is our reading"),
    ("B", "3_dropout", "DropoutNet", "best", 91.84, "no head yet; the place of the dropout is our reading"),
    ("B", "4_gap", "GapNet", "parameters", 5_936, LADDER),
    ("B", "4_gap", "GapNet", "best_train", 98.50, "not known; its rate and batch size are not stated"),
    ("B", "4_gap", "GapNet", "best", 97.29, "not known, for it pools as well; its rate and batch size are not stated"),
    ("B", "5_scheduler", "SchedulerNet", "parameters", 5_920, LADDER),
    ("B", "5_scheduler", "SchedulerNet", "best_train", 97.63, "it calls both its figures training accuracy", "contradictory"),
    ("B", "5_scheduler", "SchedulerNet", "best", 99.35, "the rate that it starts from is ours"),
    ("C", "6_one_cycle", "OneCycleNet", "parameters", 8_440, "its printed table, row for row"),
    ("C", "6_one_cycle", "OneCycleNet", "best", 99.40, "an expectation there, not a measurement; ours misses it on validation and test images alike", "at least"),
    ("D", "7_rotation", "RotationNet", "parameters", 8_932, "its printed table, row for row"),
    ("D", "7_rotation", "RotationNet", "best_train", 98.93, "not known; upright digits come closer (notebook 7)"),
    ("D", "7_rotation", "RotationNet", "best", 99.50, "not known; upright digits do not reach it either (notebook 7)"),
    ("D", "7_rotation", "RotationNet", "first_train", 90.12, "between ours with and without rotation (notebook 7)"),
    ("D", "7_rotation", "RotationNet", "first", 97.75, "between ours with and without rotation (notebook 7)"),
    ("E", "9_fully_connected", "FullyConnectedNet", "parameters", 11_874, "its printed table, row for row"),
    ("E", "9_fully_connected", "FullyConnectedNet", "best_train", 98.0, "its own recipe; how often an image is cropped is ours", "about"),
    ("E", "9_fully_connected", "FullyConnectedNet", "best", 99.0, "its own recipe; how often an image is cropped is ours", "about"),
]]

# Places in MNIST's test set of the images whose label at most two of five readers confirmed
# (Northcutt et al., Pervasive label errors in test sets, 2021; mturk/mnist_mturk.json of cleanlab/label-errors)
DOUBTFUL = frozenset({947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729})

# (who, parameters, test accuracy in percent): one run each; all but the last chose on the test set
PUBLISHED = [
    ("JoshWarn/Parameter-Efficient-MNIST", 697, 99.03),
    ("adilsammar/woolly-of-cv", 3_762, 99.52),
    ("nikshrimali/TSAI_EVA", 7_076, 99.52),
    ("divya-r-kamat/EfficientMnist-Under20K", 15_794, 99.59),
    ("ruslangrimov/mnist-minimal-model", 1_936, 99.10),
]
