"""Numbers and tables that are made from the records, and sentences that are held to them."""

import nbformat.v4
import pandas
import pytest

from lab import claims, recipe, records, sentences, text
from lab.history import Epoch, History
from lab.records import COLUMNS, Record

RECIPE = {"layer 1": "Conv2d"}


def history(*accuracies, **more):
    """Return the History of a training with these accuracies; the rate halves, an epoch takes 30 seconds."""
    epochs = [Epoch(number, 1 / number, accuracy - 1, 0.25, accuracy, 0.5 ** number, 30.0)
              for number, accuracy in enumerate(accuracies, 1)]
    return History(epochs, network="Net", parameters=5936, planned=len(epochs), recipe=RECIPE, **more)


def row(seed, last, best=None, **more):
    """Return a training from another seed, as it stands in runs.csv."""
    return {**dict.fromkeys(COLUMNS, last), "notebook": "1_one", "run": "Net", "seed": seed, "network": "Net",
            "recipe": recipe.digest(RECIPE), "parameters": 5936, "scored_on": "test", "epochs": 3,
            "best": best or last, "best_epoch": 2, "test": None, "seconds": 90.0, **more}


VALIDATED = {"notebook": "2_two", "scored_on": "validation", "test": 98.76}
RECORDS = {
    "1_one": Record("1_one", 0, {"Net": history(90.0, 92.5, 91.5), "control": history(80.0, 81.0, 82.0)},
                    {"Net": {"0": [7, 947], "1": [8, 947], "2": [9, 947], "3": [9, 11]}}, {"moved": 89.127}),
    "2_two": Record("2_two", 0, {"Net": history(98.0, 99.0, scored_on="validation", test=98.76)})}
TRAININGS = records.runs(RECORDS, pandas.DataFrame(
    [row(1, 91.6, 92.5), row(2, 91.4, 92.5), row(1, 82.5, run="control"), row(1, 99.0, **VALIDATED),
     row(2, 99.0, **VALIDATED)], columns=COLUMNS))


@pytest.fixture(autouse=True)
def claimed(monkeypatch):
    """Claims and targets for the networks above."""
    monkeypatch.setattr(claims, "CLAIMS", pandas.DataFrame(
        [["B", "1_one", "Net", "best", 92.5, "", "for {last}"],
         ["B", "1_one", "Net", "parameters", 5784, "", "counted"],
         ["C", "2_two", "Net", "best", 99.4, "at least", "unknown"]],
        columns=["reference", "notebook", "run", "what", "value", "kind", "why"]))
    monkeypatch.setattr(claims, "TARGETS", pandas.DataFrame(
        [["2_two", "Net", "test", 98.75]], columns=["notebook", "run", "what", "value"]))
    monkeypatch.setattr(claims, "STEPS", pandas.DataFrame(
        [["1_one", "Net", "a start", "it learns"], ["2_two", "Net", "a change", "it helps"],
         ["3_three", "Net", "not recorded", ""]], columns=["notebook", "run", "idea", "lesson"]))


# ---------------------------------------------------------------- numbers

@pytest.mark.parametrize("source, number", {
    "Net.best.accuracy": "92.50", "Net.last.train_accuracy": "90.50", "Net.best.epoch": "2",
    "Net.parameters": "5,936", "Net.epochs.-2.lr": "0.25", "Net.epochs.0.accuracy": "90.00",
    "measures.moved": "89.13", "2_two/Net.test": "98.76", "2_two/target.Net.test": "98.75",
    "2_two/minutes": "1", "all/minutes": "4", "seeds.Net.last.mean": "91.50", "seeds.Net.last.min": "91.40",
    "1_one/seeds.Net.last.sd": "0.10", "seeds.control.last.sd": "nan", "seeds.Net.last.max": "91.60",
    "seeds.Net.last.median": "91.50", "seeds.Net.last.count": "3", "often.Net": "2", "doubtful.Net": "1",
}.items())
def test_a_number_comes_from_its_source(source, number):
    """Whatever stood there before, and nothing around it is touched."""
    for before in ("", "1.5", "12,345", "-3.00", "nan"):
        written = text.with_numbers(f"of <!--= {source} -->{before}, 7 % and", RECORDS, TRAININGS, "1_one")
        assert written == f"of <!--= {source} -->{number}, 7 % and"


def test_a_source_in_backticks_is_an_example():
    example = "write `<!--= Nobody.parameters -->`1, 2 <!-- a comment -->3"
    assert text.with_numbers(example, RECORDS, TRAININGS, "1_one") == example


@pytest.mark.parametrize("source", [
    "Gone.parameters", "Net.epochs.99.lr", "Net.bset.accuracy", "seeds.Net.bset.mean", "seeds.Net.mean",
    "seeds.Gone.last.mean", "seeds.Net.last.maen", "measures.gone", "often.control", "3_three/Net.parameters",
    "target.Net.best", "Net.test", "Net"])
def test_a_number_that_no_record_has_is_named(source):
    with pytest.raises(text.NoSuchNumber, match=source):
        text.with_numbers(f"<!--= {source} -->1", RECORDS, TRAININGS, "1_one")


# ---------------------------------------------------------------- tables

def cells(table):
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]


def test_tables():
    steps, measured, targets = (cells(table(RECORDS, TRAININGS)) for table in text.TABLES.values())
    one, two = "[1_one](notebooks/1_one.ipynb)", "[2_two](notebooks/2_two.ipynb)"
    last, ninety_nine = "91.50 ± 0.10 (3 seeds)", "99.00 ± 0.00 (3 seeds)"
    assert [step[:5] for step in steps] == [
        [one, "a start", "5,936", last, "it learns"],
        [two, "a change", "5,936", "98.76 ± 0.00 (3 seeds)", "it helps"]]
    assert measured == [
        ["B", one, "92.50 %", "92.50 ± 0.00 (3 seeds)", "reproduced"],
        ["C", two, "≥ 99.40 %", ninety_nine, "not reproduced"]]
    assert targets == [
        [two, "Net", "5,936", "2", "98.75", "98.760 ± 0.000 (3 seeds)", "98.76", "met", "90.0"]]
    assert [[line[2], line[4], line[-2]] for line in cells(text.reproduction(TRAININGS))] == [
        ["best test accuracy", "92.50 ± 0.00 (3 seeds)", "reproduced"],
        ["parameters", "5,936", "not reproduced"],
        ["best validation accuracy", ninety_nine, "not reproduced"]]


def test_readme_is_renewed_between_its_marks_alone():
    old = "above\n<!-- steps -->\n| old |\n<!-- /steps -->\nbelow <!--= 1_one/Net.parameters -->1\n"
    new = text.readme(old, RECORDS, TRAININGS)
    assert new.startswith("above\n<!-- steps -->\n| step |") and "old" not in new
    assert new.endswith("\n<!-- /steps -->\nbelow <!--= 1_one/Net.parameters -->5,936\n")
    assert text.readme(new, RECORDS, TRAININGS) == new


# ---------------------------------------------------------------- sentences

@pytest.mark.parametrize("best, prose, false", [
    ("2", "At *92.50* %, the `best`\nepoch (<!--= Net.best.epoch -->2) is not the last.", []),
    ("3", "The best epoch (3) is the last.", ["best epoch (3)"]),
    ("2", "Nothing.", ["best epoch (2) (not in the text)"]),
    ("record.gone", "", ["the last cell fails on the record:"
                         " AttributeError: 'Record' object has no attribute 'gone'"])])
def test_a_sentence_is_held_to_the_record(best, prose, false):
    last = f'record = compare(results)\nsays("best epoch ({best})", record["Net"].best.epoch == {best})'
    new = nbformat.v4
    notebook = new.new_notebook(cells=[
        new.new_markdown_cell(prose), new.new_code_cell("1 / 0"), new.new_code_cell(last)])
    assert sentences.false_in(notebook, RECORDS["1_one"]) == false


def test_a_sentence_of_readme_is_held_to_the_records(monkeypatch):
    monkeypatch.setattr(sentences, "readme_says", lambda everything, trainings: [
        ("the best flatters", everything["1_one"]["Net"].best.epoch == 2),
        ("ten seeds", len(trainings) == 10)])
    source = "Often **the best**\nflatters, of ten seeds."
    assert sentences.false_in_readme(source, RECORDS, TRAININGS) == ["ten seeds"]
    assert sentences.false_in_readme("", RECORDS, TRAININGS)[1:] == [
        "the best flatters (not in the text)", "ten seeds (not in the text)"]
