"""Records and rows, read and refused, and what a notebook shows of them: `Results`, `compare` and `says`."""

import pandas
import pytest

from lab import claims, records
from lab.history import Epoch, History
from lab.records import Record, RecordError, parse_record, read_record, record_text, rows, rows_text
from lab.results import Results, compare, mean_and_sd, says, spread
from model import DigitNet


def history(*accuracies, seed=0, lr=0.1, train=-1.0, scored_on="test", **more):
    """Return the History of a training with these accuracies; as it learns they are `train` points off."""
    scores = [(0.25, accuracy) if scored_on else (None, None) for accuracy in accuracies]
    epochs = [Epoch(number, 0.5, accuracy + train, *score, lr, 30.0)
              for number, (accuracy, score) in enumerate(zip(accuracies, scores, strict=True), 1)]
    return History(epochs, seed=seed, scored_on=scored_on, recipe={"optimizer": f"SGD lr={lr}"},
                   **dict(network="Net", parameters=5936, planned=3) | more)


def record(seed=0, more=0.0):
    """Return what the notebook 3_two gave from a seed, every accuracy `more` points higher."""
    runs = {
        "Net": history(90 + more, 92.5 + more, 91.5 + more, seed=seed),
        "slow": history(80 + more, 81 + more, 82 + more, seed=seed, lr=0.01),
        "blind": history(95 + more, 96 + more, 97 + more, seed=seed, lr=0.2, scored_on=None, test=98 + more)}
    return Record("2_two", seed, runs, {"blind": {str(seed): [7, 947]}}, {"moved": 89.127}, {"device": "cpu"})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The results: one record, two more seeds of it but for the run "slow", and claims about it."""
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(records, "RUNS", tmp_path / "runs.csv")
    (tmp_path / "2_two.json").write_text(record_text(record()))
    others = pandas.concat([rows(record(1, 0.1)), rows(record(2, -0.1))])
    (tmp_path / "runs.csv").write_text(rows_text(others[others["run"] != "slow"]))
    monkeypatch.setattr(claims, "CLAIMS", pandas.DataFrame(
        [["2_two", "Net", "best", 92.5, ""], ["2_two", "Net", "parameters", 5784, ""]],
        columns=["notebook", "run", "what", "value", "kind"]))
    monkeypatch.setattr(claims, "TARGETS", pandas.DataFrame(
        [["2_two", "Net", "best", 92.0]], columns=["notebook", "run", "what", "value"]))
    return tmp_path


# ---------------------------------------------------------------- records

def test_a_record_is_read_as_it_was_written(folder):
    found, written = read_record("2_two"), record()
    assert found == written and [*map(vars, found.runs.values())] == [*map(vars, written.runs.values())]
    lines = [line.strip() for line in (folder / "2_two.json").read_text().splitlines()]
    assert sum(line.startswith('{ "epoch"') for line in lines) == 9 and '"0": [ 7, 947 ]' in lines


@pytest.mark.parametrize("old, new, message", [
    ('{ "epoch": 1', '{ "epoch": 4', r"line 5: the run Net has epochs \[4, 2, 3\], planned were 3"),
    ('"planned": 3', '"planned": 4', r"line 5: the run Net has epochs \[1, 2, 3\], planned were 4"),
    ('"loss": 0.25', '"loss": NaN', "line 5: the run Net has a figure in epoch 1 that is no number"),
    ('"accuracy": 82', '"accuracy": 820', "line 21: the run slow has an accuracy in epoch 3 that is no per"),
    ('"epochs": [', '"Epochs": [', "line 1: this is no record .KeyError: 'epochs'"),
    ('"lr": 0.1', '"rate": 0.1', "line 1: this is no record .TypeError: .*'rate'"),
    ('"seed": 0,', '"seed": 0', "line 4: Expecting ',' delimiter; the file is cut off or was edited"),
    ('"moved": 89.127\n }', "", r"line \d\d: Expecting .*; the file is cut off or was edited"),
    ('"lr": 0.1', '"lr": "high"', "line 5: the run Net has a figure in epoch 1 that is no number")])
def test_a_record_that_cannot_be_true_is_refused_with_the_line(old, new, message):
    text = record_text(record())
    assert old in text
    with pytest.raises(RecordError, match=f"^2_two.json, {message}"):
        parse_record(text.replace(old, new, 1), "2_two.json")


def test_a_missing_record_is_said():
    with pytest.raises(RecordError, match="1_one has no record yet; `python run.py --record 1_one` makes it"):
        read_record("1_one")


# ---------------------------------------------------------------- rows

def test_all_trainings_in_one_table(folder):
    """Without those of another recipe; of a seed the later row counts, of the record's seed the record."""
    more = [record(1, 0.5), record(0, 5), Record("2_two", 3, {"Net": history(50, 60, 70, seed=3, lr=0.3)})]
    (folder / "runs.csv").write_text(rows_text(pandas.concat([records.read_rows(), *map(rows, more)])))
    found = records.runs()
    assert found[["run", "seed", "test"]].values.tolist() == [
        ["Net", 0, 91.5], ["Net", 1, 92.0], ["Net", 2, 91.4], ["blind", 0, 98], ["blind", 1, 98.5],
        ["blind", 2, 97.9], ["slow", 0, 82], ["slow", 1, 82.5]]
    assert found.iloc[0][["first_train", "first", "best_train", "best", "best_epoch", "last_train", "last",
                          "last_loss", "seconds"]].tolist() == [89, 90, 91.5, 92.5, 2, 90.5, 91.5, 0.25, 90]
    assert read_record("2_two").over_seeds("Net", "last").to_dict() == {0: 91.5, 1: 92.0, 2: 91.4}
    assert records.over_seeds("2_two", "blind", "last").empty


def test_rows_are_written_in_one_order(folder):
    text, ten = (folder / "runs.csv").read_text(), rows(Record("10_ten", 1, {"Net": history(50., 60., 70.)}))
    mixed = pandas.concat([ten, records.read_rows().iloc[::-1]])
    assert rows_text(mixed) == text + rows_text(ten).split("\n", 1)[1]


@pytest.mark.parametrize("spoil, message", [
    (lambda text: text.replace(",92.6,", ",92.6 %,"), ", line 2: best is '92.6 %'"),
    (lambda text: text.replace("test,1,5936,", "test,1,,", 1), ", line 2: a row without seed, para"),
    (lambda text: text.replace("notebook,run", "notebook,label"), ", line 1: expected the columns note"),
    (lambda text: text + "2_two,Net\n", ", line 6: "), (lambda text: text + "," * 20, " in line 6, saw 21"),
    (lambda text: "", "No columns")])
def test_rows_that_are_none_are_refused_with_the_line(folder, spoil, message):
    (folder / "runs.csv").write_text(spoil((folder / "runs.csv").read_text()))
    with pytest.raises(RecordError, match=f"^results/runs.csv.*{message}"):
        records.read_rows()


@pytest.mark.parametrize("values, text", [
    ([], "-"), ([91.5], "91.50 (1 seed"), ([91.5, 92], "91.50 and 92.00 (2 seed"),
    ([91, 92, 93], "92.00 ± 1.00 (3 seeds)")])
def test_mean_and_standard_deviation(values, text):
    assert mean_and_sd(pandas.Series(values, dtype=float)).startswith(text)


def test_the_spread_is_that_of_the_runs_most_like_it():
    table = records.runs()
    table.loc[table["run"] == "blind", "best_train"] *= 2
    found = [spread(notebook, run, "best_train", table) for notebook, run in (
        ("2_two", "Net"), ("2_two", "slow"), ("1_one", "Net"))]
    assert found == pytest.approx([0.1, 0.2, 0.2])   # its own; the largest of the notebook; of all
    assert spread("2_two", "Net", "last", table[table["seed"] < 2]) == 0   # nothing has three seeds


# ---------------------------------------------------------------- what a notebook shows

def test_results_beside_record_claim_and_target():
    blind = history(1.0, 2.0, 3.0, scored_on=None, test=98.3)
    shown = Results("2_two", {"Net": history(90.5, 93.0, 92.0), "blind": blind})
    assert shown.table().reset_index().values.tolist() == [
        ["Net", "parameters", "5,936", "", "5,784", ""],
        ["Net", "best training accuracy, %", "92.00", "91.50 ± 0.10 (3 seeds)", "", ""],
        ["Net", "best test accuracy, %", "93.00 (epoch 2)", "92.50 ± 0.10 (3 seeds)", "92.50 %", "≥ 92"],
        ["Net", "last test accuracy, %", "92.00", "91.50 ± 0.10 (3 seeds)", "", ""],
        ["blind", "parameters", "5,936", "", "", ""],
        ["blind", "best training accuracy, %", "2.00", "96.00 ± 0.10 (3 seeds)", "", ""],
        ["blind", "test accuracy, scored once, %", "98.30", "98.00 ± 0.10 (3 seeds)", "", ""]]
    many = Results("2_two", {str(number): history(90, 91, 92) for number in range(5)}).table()
    assert [*many.index.get_level_values(1)] == ["last test accuracy, %"] * 5   # one row each


SAME = "the recorded recipe, seed {}. On test images it ends {} the record's mean."
OTHER = "another recipe than the recorded one (optimizer: SGD lr=0.1 in the record, SGD lr=0.3 here), seed 0."


@pytest.mark.parametrize("run, notes", [
    (history(90.5, 93, 92, seed=4), [SAME.format(4, "0.50 points above")]),
    (history(90, 91, 91.25, lr=0.3),
     [f"{OTHER} On test images it ends 0.25 points below the record's mean."]),
    (history(50, dataset="digits sample"), ["trained on the digits sample, which says nothing about MNIST."]),
    (history(90, how="epoch 1 of 3 alone"), ["epoch 1 of 3 alone."]),
    (history(90, 92.5, 91.5, how="epoch 2 from the record"),
     ["epoch 2 from the record.", SAME.format(0, "0.00 points above")])], ids=str)
def test_notes_say_what_a_run_is(run, notes):
    shown = Results("2_two", {"Net": run})
    assert shown.notes() == [f"Net: {note}" for note in notes]
    assert repr(shown).endswith(notes[-1]) and shown._repr_html_().count("<p>") == len(notes)
    assert Results("1_one", {"Net": history(1)}).notes() == ["Net: not in the record."]


def test_whole_runs_are_left_where_run_py_asks_for_them(folder, monkeypatch):
    left = folder / "left"
    left.mkdir()
    monkeypatch.setenv("RECORD_DIR", str(left))
    Results("2_two", {"Net": history(90, 91)}, weights={"Net": DigitNet(None)})   # interrupted
    assert not [*left.iterdir()]
    Results("2_two", {"Net": history(90, 91, 92, misread=[3])}, weights={"Net": DigitNet(None)}, moved=1.5)
    made = parse_record((left / "2_two.json").read_text(), "2_two.json")
    assert made.runs["Net"].last.accuracy == 92
    assert (made.misread, made.measures) == ({"Net": {"0": [3]}}, {"moved": 1.5})
    assert {path.name for path in left.iterdir()} == {"2_two.json", "Net.pt"}


@pytest.mark.parametrize("seed, last, misread", [(0, 70, [9]), (4, 91.5, [7, 947])])
def test_while_recording_a_run_of_the_records_seed_is_the_record(folder, monkeypatch, seed, last, misread):
    before = record()
    before.misread["blind"]["1"] = [8]
    (folder / "2_two.json").write_text(record_text(before))
    monkeypatch.setenv("FIT_MODE", "record")
    blind = history(1, 2, 3, seed=seed, scored_on=None, misread=[9])
    shown = Results("2_two", {"Net": history(50, 60, 70, seed=seed), "blind": blind})
    assert shown.record["Net"].last.accuracy == shown.over_seeds("Net", "last")[0] == last
    assert shown.record.misread["blind"] == {"0": misread, "1": [8]}


# ---------------------------------------------------------------- what the tests ask

@pytest.mark.parametrize("mode", ["", "test", "retrain"])
def test_a_run_agrees_with_the_record(monkeypatch, capsys, mode):
    monkeypatch.setenv("FIT_MODE", mode)
    near = {"Net": history(90.5, 99, 92), "slow": history(81, 0, 81, lr=0.01),
            "blind": history(95, 1, 97, lr=0.2, scored_on=None, test=98.5)}
    assert compare(Results("2_two", near)) == record()
    compare(Results("2_two", {"Net": history(90.5)}))   # of a short test: its last epoch is the first
    assert capsys.readouterr().out.splitlines() == [
        f"MNIST, {label}: agrees with the record" for label in ("Net", "slow", "blind", "Net")]


@pytest.mark.parametrize("label, run, message", [   # four standard deviations are 1.2 points at 91.5 %
    ("Net", history(88, 92.5, 91.5, train=1), "first accuracy 88.00, in the record 90.00, .* 1.26 apart"),
    ("Net", history(90, 92.5, 90, train=0), "last accuracy 90.00, in the record 91.50, .* 1.19 apart"),
    ("Net", history(91.2, 92.5, 91.5, train=0), "first train accuracy 91.20, in the record 89.00"),
    ("Net", history(90, 92.5, 92.2, train=0), "last train accuracy 92.20, in the record 90.50"),
    ("Net", history(90, 92.5, 91.5, parameters=5937), "5937 parameters, in the record 5936"),
    ("Net", history(90, 92.5, 91.5, lr=0.3), "another recipe .*: optimizer: SGD lr=0.1 in .* lr=0.3 here"),
    ("blind", history(95, 96, 97, lr=0.2, scored_on=None, test=97), "test accuracy 97.00, in the record 98"),
    ("new", history(90, 92.5, 91.5), "not in the record")])
def test_a_run_that_disagrees_with_the_record_fails(monkeypatch, label, run, message):
    monkeypatch.setenv("FIT_MODE", "test")
    with pytest.raises(AssertionError, match=f"^{label}: {message}"):
        compare(Results("2_two", {label: run}))


def test_where_a_recorded_training_ends_by_guessing_only_the_end_is_compared(folder, monkeypatch):
    """On another processor it may learn a little before it stops learning."""
    monkeypatch.setenv("FIT_MODE", "test")
    guess = record()
    guess.runs["guess"] = history(9.53, 9.53, 9.8, train=0, lr=3)
    (folder / "2_two.json").write_text(record_text(guess))
    compare(Results("2_two", {"guess": history(20.96, 15, 10, train=0, lr=3)}))
    with pytest.raises(AssertionError, match="guess: last train accuracy 90.00"):
        compare(Results("2_two", {"guess": history(20.96, 80, 90, train=0, lr=3)}))


@pytest.mark.parametrize("name, run, line", [
    ("2_two", history(1, 2, 3, lr=0.3), "MNIST, Net: another recipe than the recorded one, not compared"),
    ("2_two", history(1, 2, 3, seed=4), "MNIST, Net: seed 4, not compared with the record"),
    ("2_two", history(1, 2, 3, dataset="digits sample"), "digits sample, Net: seed 0, not compared"),
    ("1_one", history(1, 2, 3), "1_one has no record yet; `python run.py --record 1_one` makes it")], ids=str)
def test_a_readers_other_run_is_not_compared(capsys, name, run, line):
    assert compare(Results(name, {"Net": run})) == (record() if name == "2_two" else None)
    assert capsys.readouterr().out.startswith(line)


@pytest.mark.parametrize("mode", ["", "test", "retrain", "record"])
def test_a_sentence_is_held_to_the_record(monkeypatch, mode):
    monkeypatch.setenv("FIT_MODE", mode)
    says("it is so", True)
    if mode == "record":   # run.py lists those that became false
        return says("it is so", False)
    with pytest.raises(AssertionError, match="the text says 'it is so', and by the record that is not so"):
        says("it is so", False)
