"""The numbers and the conditions of the texts: what is written, renewed, and listed as false."""

import pandas
import pytest

from lab import text
from lab.claims import Difference

SCORES = pandas.Series([99.0, 99.25, 99.5], index=[0, 1, 2], name="last")


@pytest.fixture
def names(monkeypatch):
    """A vocabulary of the test's own."""
    monkeypatch.setattr(text, "vocabulary", lambda notebook=None: {
        "whole": 5936, "part": 0.125, "scores": SCORES, "gain": Difference(1.5, -0.25, 3.25, 5),
        "failed": Difference(0, 0, 0, 5, failed=1), "one": SCORES[:1], "notebook": notebook})


@pytest.mark.parametrize("expression, value", {
    "whole": "5,936", "part": "0.12", "part:.4f": "0.1250", "-part": "-0.12", "whole // 2:d": "2968",
    "scores": "99.25 ± 0.25", "scores:.1f": "99.2 ± 0.2", "scores.mean()": "99.25", "len(scores)": "3",
    "gain": "1.50 [-0.25, 3.25]", "gain.mean": "1.50"}.items(), ids=lambda pair: pair[0])
@pytest.mark.parametrize("there", ["", "the old value"])
def test_a_number_is_written_in_place_of_the_old_one(names, expression, value, there):
    old = there and value.replace("9", "8").replace("5", "1")
    renewed, false = text.renewed(f"At <!--= {expression} -->{old} %, then 7.")
    assert (renewed, false) == (f"At <!--= {expression} -->{value} %, then 7.", [])
    assert text.renewed(renewed) == (renewed, [])


def test_a_number_that_follows_is_not_eaten(names):
    source = "<!--= part -->0.12, 7 and <!--= whole -->5,936. 8 <!--= scores.mean() -->99.25 ± 0.30"
    assert text.renewed(source) == (source, [])


def test_a_condition_holds_its_words(names):
    assert text.renewed("It **gains**<!--? gain.mean > 1 --> much.") == (
        "It **gains**<!--? gain.mean > 1 --> much.", [])
    assert text.renewed("It **gains**<!--? gain.mean > 2 --> much.")[1] == [
        "“It **gains**” is not true: gain.mean > 2"]


@pytest.mark.parametrize("expression, message", {
    "nothing": "NameError", "scores[7]": "KeyError", "whole +": "SyntaxError", "scores.nan": "AttributeError",
    "failed": "'failed' has no interval", "one": "1 seeds", "True": "is no number",
    "part * float('nan')": "it is not known"}.items())
def test_what_no_record_has_is_listed_and_its_number_left(names, expression, message):
    source = f"So <!--= {expression} -->1.00 %."
    renewed, (false,) = text.renewed(source)
    assert renewed == source and message in false and "after “So”" in false


def test_what_stands_in_backticks_is_an_example(names):
    source = "Write `<!--= nothing -->` or `words<!--? nothing -->`."
    assert text.renewed(source) == (source, [])


def test_the_vocabulary_is_that_of_the_record():
    ours = text.vocabulary("5_gap")
    run, other = ours["run"]("GapNet"), ours["run"]("4_dropout/DropoutNet")
    assert list(run.last.index) == [0, 1, 2, 3, 4] and run.last[0] == run.history.last.accuracy
    assert run.parameters == 5_936 and run.target() == 97.3 and run.verdict() == "exceeded"
    worth = ours["worth"]("global average pooling")
    assert worth.mean == pytest.approx((run.last - other.last).mean()) and worth.verdict == "worth"
    assert ours["cost"]("global average pooling").mean == -worth.mean
    assert ours["all_are"]("worth", "global average pooling", "batch norm")
    assert not ours["all_are"]("worth", "global average pooling", "dropout")
    assert len(ours["run"]("batch_norm/without, rate 0.1").learnt.last) == 4   # one seed never learnt
    assert set(ours["study"]("batch_norm")["run"]) == {"with, rate 0.3", "without, rate 0.1"}
    assert ours["measure"]("2_light/moved_up") > 50 and ours["minutes"]("5_gap") >= 1
    assert 0 < ours["doubtful"]("13_smallest/SmallNet, test set") < len(
        ours["misread"]("13_smallest/SmallNet, test set"))
