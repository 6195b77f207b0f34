"""The numbers and the conditions in the texts of notebooks, README and results/: Python, at the sentence.

    It learns<!--? run("GapNet").last.min() > 90 -->, and ends at <!--= run("GapNet").last -->99.23 ± 0.05 %.

`<!--= expression -->` is followed by the value that the record gives it; `<!--? expression -->` stands behind
the words that it holds, and has to be true. What the expressions may name is `vocabulary`. A value is written
with two digits, or as a format after the expression says: `<!--= run("GapNet").last_loss.mean():.4f -->`.
What stands in backticks is an example.
"""

import re

import pandas

from lab import claims, results
from lab.claims import Difference
from lab.record import RecordError, often_misread, read_all, trainings
from lab.results import DOUBTFUL, GUESSED

MARK = re.compile(r"(?<!`)<!--([=?]) (.*?)(?::([,.\d]*[df]))? -->(?!`)", re.DOTALL)
NUMBER = r"-?\d[\d.,]*\d|-?\d"
MISTAKES = NameError, LookupError, AttributeError, TypeError, ValueError, SyntaxError   # of who wrote a text


class Run:
    """A run over its seeds: each column of `trainings` (`last`, `best`, `test`, ...) is a Series by seed."""

    def __init__(self, notebook, name):
        self.notebook, self.name = notebook, name
        table = trainings()
        self.rows = table[(table["notebook"] == notebook) & (table["run"] == name)].set_index("seed")
        if self.rows.empty:
            raise RecordError(f"no run {name!r} of {notebook!r}")

    def __getattr__(self, column):
        if column.startswith("_") or column not in self.rows:
            raise AttributeError(f"a run has no {column!r}; it has {', '.join(self.rows)}")
        return self.rows[column].dropna()

    @property
    def history(self):
        """The recorded History, of the record's own seed: its epochs, `best` and `last` one."""
        return read_all()[self.notebook][self.name]

    @property
    def parameters(self):
        return int(self.rows["parameters"].iloc[0])

    @property
    def learnt(self):
        """This run without the seeds that failed to learn."""
        part = Run(self.notebook, self.name)
        part.rows = self.rows[~(self.rows["last"].fillna(self.rows["test"]) < GUESSED)]
        return part

    def target(self, what="best"):
        """The target for a column, in percent."""
        return results.target(self.notebook, self.name, what)

    def verdict(self, what="best"):
        """The verdict on the claim about a column."""
        return claims.verdict(self.notebook, self.name, what)


def vocabulary(notebook=None):
    """Return what the expressions in the text of `notebook`, or of another text, may name.

    run(name): a Run; of another notebook or a study its name before a slash, "5_gap/GapNet".
    worth(idea), cost(idea): the Difference that an idea of ideas.csv makes, and the same with the other sign.
    all_are(verdict, *ideas): whether all of these ideas have this verdict. study(name): the rows of a study.
    measure(name): a figure that the notebook measured. minutes(notebook): of training its runs once.
    next_run(column): the range in which one more seed would lie with 95 % confidence, as (low, high).
    misread(run): {place: seeds} of the test images that half of its seeds misread; doubtful(run): of these,
    how many have a doubtful label. all, any, abs, len, max, min, ...
    """
    def place(name):
        there, _, rest = name.partition("/")
        return (there, rest) if rest else (notebook, name)

    def run(name):
        return Run(*place(name))

    def measure(name):
        there, which = place(name)
        return read_all()[there].measures[which]

    def minutes(name):
        runs = read_all()[name].runs.values()
        return round(sum(epoch.seconds for history in runs for epoch in history) / 60)

    def misread(name):
        there, which = place(name)
        return often_misread(read_all()[there].misread[which])

    def doubtful(name):
        return len(misread(name).keys() & DOUBTFUL)

    def all_are(verdict, *ideas):
        return all(claims.worth(idea).verdict == verdict for idea in ideas)

    def study(name):
        return trainings()[trainings()["notebook"] == name]

    return {"run": run, "all_are": all_are, "study": study, "worth": claims.worth,
            "cost": lambda idea: -claims.worth(idea), "measure": measure, "minutes": minutes,
            "misread": misread, "doubtful": doubtful, "next_run": claims.next_run}


def written(value, form=None):
    """Write a value as the texts show it: an integer, a number, mean ± deviation, mean [interval]."""
    if isinstance(value, pandas.Series):
        if len(value) < 3 or (value < GUESSED).any() and value.name not in ("last_loss", "seconds"):
            raise ValueError(f"{len(value)} seeds, {(value < GUESSED).sum()} of which failed, have no"
                             " mean and deviation worth the name; quote the median, or single values")
        return f"{value.mean():{form or '.2f'}} ± {value.std():{form or '.2f'}}"
    if isinstance(value, Difference):
        if value.verdict in ("failed", "not measured", "never acted"):
            raise ValueError(f"an idea that is {value.verdict!r} has no interval; say that in words")
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) and not hasattr(value, "item"):
        raise TypeError(f"{value!r} is no number")
    value = value.item() if hasattr(value, "item") else value
    if value != value:
        raise ValueError("it is not known: no seed has it")
    return f"{value:{form or (',' if isinstance(value, int) else '.2f')}}"


def renewed(text, notebook=None):
    """Return the text with every number renewed from the record, and a list of what is false in it.

    notebook: whose text it is; run names without a slash are its. What no record has is listed, too, and its
    number left as it is.
    """
    names, false, parts, end = vocabulary(notebook), [], [], 0
    for mark in MARK.finditer(text):
        kind, expression, form = mark.groups()
        parts.append(text[end:mark.end()])
        end = mark.end()
        words = " ".join(re.sub(r"<!--.*?-->", "", text[:mark.start()], flags=re.DOTALL).split()[-12:])
        try:
            value = eval(expression, dict(names))
            if kind == "?" and not value:
                false.append(f"“{words}” is not true: {expression}")
            elif kind == "=":
                value = written(value, form)
                same_form = re.escape(re.sub(NUMBER, "@", value)).replace("@", f"(?:{NUMBER})")
                there = re.match(f"{same_form}|{NUMBER}", text[end:])
                parts.append(value)
                end += there.end() if there else 0
        except MISTAKES as error:
            false.append(f"after “{words}”: {expression}: {type(error).__name__}: {error}")
    return "".join([*parts, text[end:]]), false
