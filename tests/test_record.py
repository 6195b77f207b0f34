"""Records, the table of all trainings, weights, what Results shows, and what ideas are worth."""

import pandas
import pytest
import torch

from lab import claims, keep, record, results
from lab.claims import Difference, difference
from lab.record import Record, RecordError
from lab.training import Epoch, History
from model import GapNet, LightNet
from utils import compare, fit, load_mnist, score_once, set_seed

RECIPE = {"layer 1": "Linear", "epochs": "3"}


def history(accuracies=(88.0, 91.0, 90.0), **changed):
    """Return the History of a training of LightNet that was scored on the test set."""
    epochs = [Epoch(number, 0.5, 80.0 + number, 0.25, accuracy, 0.1, 1.5)
              for number, accuracy in enumerate(accuracies, 1)]
    usual = {"network": "LightNet", "parameters": 5784, "planned": 3, "recipe": RECIPE}
    return History(epochs, **usual | changed)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of records: one notebook, 1_small, of one run, with two other seeds."""
    for name in ("RESULTS", "RUNS", "STUDIES"):
        old = getattr(record, name)
        monkeypatch.setattr(record, name, tmp_path if name == "RESULTS" else tmp_path / old.name)
    made = Record("1_small", 0, {"Net": history()}, {}, {"moved": 12.5}, {"torch": "2", "device": "cpu"})
    (tmp_path / "1_small.json").write_text(keep.record_text(made), "utf-8")
    others = [record.rows(Record("1_small", seed, {"Net": history(scores)}))
              for seed, scores in ((1, (80.5, 90.5, 92.5)), (2, (80.5, 90.5, 94.5)))]
    strange = record.rows(Record("1_small", 3, {"Net": history((1.5, 1.5, 1.5), recipe={"epochs": "4"})}))
    record.RUNS.write_text(keep.rows_text(pandas.concat([*others, strange])), "utf-8")
    record.forget()
    yield tmp_path
    monkeypatch.undo()
    record.forget()


def test_a_record_is_read_as_it_was_written(folder):
    read = record.read_record("1_small")
    assert read["Net"] == history() and read.measures == {"moved": 12.5} and read["Net"].recipe == RECIPE
    assert keep.record_text(read) == (folder / "1_small.json").read_text("utf-8")


def test_all_trainings_are_in_one_table_but_for_those_of_another_recipe(folder):
    assert record.over_seeds("1_small", "Net", "last").to_dict() == {0: 90, 1: 92.5, 2: 94.5}
    assert record.over_seeds("1_small", "Net", "best").to_dict() == {0: 91, 1: 92.5, 2: 94.5}
    row = record.trainings().iloc[0]
    assert row[["first", "best_epoch", "last_train", "test", "seconds"]].tolist() == [88, 2, 83, 90, 4.5]
    assert keep.rows_text(record.read_rows(record.RUNS)) == record.RUNS.read_text("utf-8")


@pytest.mark.parametrize("file, old, new", [
    ("1_small.json", '"epoch": 2', '"epoch": 7'), ("1_small.json", "91.0", "191.0"),
    ("1_small.json", '"planned": 3', '"planned": 4'), ("1_small.json", "{", ""),
    ("runs.csv", ",92.5,", ",x,"), ("runs.csv", "parameters", "weights")])
def test_a_record_that_cannot_be_is_refused(folder, file, old, new):
    path = folder / file
    path.write_text(path.read_text().replace(old, new, 1))
    record.forget()
    with pytest.raises(RecordError, match=file):
        record.trainings()


def test_a_missing_record_is_said(folder):
    with pytest.raises(RecordError, match="2_none has no record yet; `python run.py --record 2_none`"):
        record.read_record("2_none")


# ---------------------------------------------------------------- weights, in place of a training

MNIST = pytest.mark.skipif(not (record.ROOT / "data" / "MNIST").exists(), reason="MNIST is not in data/")


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


def gap(data, lr=0.01, seed=0):
    """Begin the training of step 5."""
    set_seed(seed)
    net = GapNet()
    return net, fit(net, data, torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9))


@MNIST
def test_the_recorded_weights_take_the_place_of_a_training(mnist, monkeypatch, capsys):
    monkeypatch.setenv("FIT_MODE", "recorded")
    net, made = gap(mnist)
    assert made == record.read_record("5_gap")["GapNet"] and made.trained == 0
    assert capsys.readouterr().out.count("MNIST  epoch") == 15
    for name, value in record.load_weights("5_gap", "GapNet").items():
        assert torch.equal(net.state_dict()[name], value)
    assert "its weights were loaded" in str(results.Results("5_gap", {"GapNet": made}))


@MNIST
def test_weights_of_another_training_are_found(mnist, monkeypatch):
    monkeypatch.setenv("FIT_MODE", "recorded")
    other = record.load_weights("4_dropout", "DropoutNet")
    monkeypatch.setattr(record, "load_weights", lambda *place: other)
    with pytest.raises(AssertionError, match="are they the weights of this training"):
        gap(mnist)


@MNIST
@pytest.mark.parametrize("changed, message", [({"lr": 0.02}, "lr=0.01 .* in the record, .*lr=0.02"),
                                              ({"seed": 7}, "seed: 0 in the record, 7 here")])
def test_another_training_than_the_recorded_one_is_refused_by_a_test(mnist, monkeypatch, changed, message):
    monkeypatch.setenv("FIT_MODE", "test")
    with pytest.raises(RecordError, match=message):
        gap(mnist, **changed)


def test_weights_that_are_not_there_are_said():
    with pytest.raises(RecordError, match="no weights of the run 'LightNett' .*its runs are: LightNet"):
        record.load_weights("2_light", "LightNett")
    net = LightNet()
    net.load_state_dict(record.load_weights("2_light", "LightNet"))   # the line that a reader needs


@MNIST
@pytest.mark.slow
@pytest.mark.parametrize("name", ["7_ablation", "13_smallest"])
def test_the_recorded_weights_misread_the_recorded_images(mnist, name):
    """Of the other notebooks `pytest --nbval` asks the same: `compare` does."""
    import model

    ours = record.read_record(name)
    for run in ours.misread:
        network = "SchedulerNet" if run in ("all ideas", "no scheduler", "no rotation") else run.split(",")[0]
        if not hasattr(model, network):
            continue
        net = getattr(model, network)()
        net.load_state_dict(record.load_weights(name, run))
        made = History()
        score_once(made, net, mnist.test)
        assert set(made.misread) ^ set(ours.misread[run][str(ours.seed)]) <= set(made.ties)


# ---------------------------------------------------------------- Results and compare

def shown(**changed):
    return results.Results("1_small", {"Net": history(**changed)})


def test_results_stand_beside_record_claim_and_target(folder, monkeypatch):
    claim = pandas.DataFrame([("1_small", "Net", "best", 90.5, "at least")],
                             columns=["notebook", "run", "what", "value", "kind"])
    monkeypatch.setattr(results, "CLAIMS", claim)
    monkeypatch.setattr(results, "TARGETS", claim)
    table = shown(accuracies=(88.0, 89.0, 93.0)).table()
    assert table.loc["Net", "best test accuracy, %"].tolist() == [
        "93.00 (epoch 3)", "92.67 ± 1.76 (3 seeds)", "≥ 90.50 %", "≥ 90.5"]
    assert table.loc["Net", "last test accuracy, %"].tolist() == ["93.00", "92.33 ± 2.25 (3 seeds)", "", ""]


@pytest.mark.parametrize("changed, note", [
    ({}, "the recorded recipe, seed 0. On test images it ends 2.33 points below the record's mean"),
    ({"recipe": {**RECIPE, "epochs": "9"}}, "another recipe than the recorded one (epochs: 3 in the record"),
    ({"dataset": "digits sample"}, "trained on the digits sample, which says nothing about MNIST"),
    ({"accuracies": (88.0,)}, "stopped after 1 of 3 epochs")])
def test_notes_say_what_a_run_is(folder, changed, note):
    assert shown(**changed).notes()[0].startswith(f"Net: {note}")
    assert note in repr(shown(**changed)) and "<table" in shown(**changed)._repr_html_()


@pytest.mark.parametrize("mode, changed, line", [
    ("", {}, "MNIST, Net: agrees with the record"), ("test", {}, "MNIST, Net: agrees with the record"),
    ("", {"recipe": {"epochs": "9"}}, "another recipe than the recorded one, not compared"),
    ("", {"seed": 1}, "seed 1, not compared"), ("test", {"dataset": "digits sample"}, "not compared")])
def test_compare_says_what_it_compared(folder, monkeypatch, capsys, mode, changed, line):
    monkeypatch.setenv("FIT_MODE", mode)
    assert compare(shown(**changed)) is None
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("changed, message", [   # four standard deviations: of the seeds, and of a score
    ({"accuracies": (88.0, 91.0, 71.0)}, "last accuracy 71.00, in the record 90.00"),
    ({"accuracies": (60.0, 91.0, 90.0)}, "first accuracy 60.00, in the record 88.00"),
    ({"recipe": {"epochs": "9"}}, "another recipe than the recorded one: layer 1"),
    ({"parameters": 5785}, "5785 parameters, in the record 5784"), ({"test": 90.0}, "only one of the two")])
def test_a_run_that_disagrees_with_the_record_fails(folder, monkeypatch, changed, message):
    monkeypatch.setenv("FIT_MODE", "test")
    with pytest.raises(AssertionError, match=message):
        compare(shown(**changed))


@pytest.mark.parametrize("values, words", [
    ([99.0, 99.5, 99.25], "99.25 ± 0.25 (3 seeds)"), ([99.0], "99.00 (1 seed(s))"), ([], "-"),
    ([99.0, 9.8, 99.5], "99.25 (median; 1 of 3 seeds failed)"), ([9.8] * 3, "all 3 seeds failed to learn")])
def test_what_is_said_of_seeds(values, words):
    assert results.over(pandas.Series(values, name="last", dtype=float)) == words


# ---------------------------------------------------------------- what an idea is worth

@pytest.mark.parametrize("ours, theirs, verdict, text", [
    ([99.0, 99.2, 99.4], [98.0, 98.3, 98.3], "worth", "1.00 [0.75, 1.25]"),
    ([98.0, 98.3, 98.3], [99.0, 99.2, 99.4], "costs", "-1.00 [-1.25, -0.75]"),
    ([99.0, 99.2, 99.4], [99.1, 99.0, 99.4], "not told apart", "0.03 [-0.35, 0.41]"),
    ([99.0, 99.2, 99.4], [99.0, 99.2, 99.4], "never acted", "0"),
    ([99.0, 99.2, 99.4], [98.0, 9.8, 98.2], "failed", "1.10"),
    ([99.0, 99.2], [98.0, 98.1], "not measured", "-")])
def test_a_difference_is_paired_by_seed(ours, theirs, verdict, text):
    found = difference(pandas.Series(ours), pandas.Series([*theirs, 50.0]))   # a seed that only one has
    assert (found.verdict, str(found), found.seeds) == (verdict, text, len(ours))


def test_the_interval_is_students():
    from scipy import stats

    ours, theirs = (pandas.Series(values) for values in ([3.0, 5, 4, 7], [2.0, 2, 3, 5]))
    wanted = stats.ttest_rel(ours + 90, theirs + 90).confidence_interval()
    assert difference(ours + 90, theirs + 90)[1:3] == pytest.approx(wanted)


@pytest.mark.parametrize("value, what, kind, scores, verdict", [
    (90.0, "best", "", [89, 90, 91], "reproduced"), (95.6, "best", "", [89, 90, 91], "not reproduced"),
    (80.0, "best", "", [89, 90, 91], "exceeded"), (0.9, "last_loss", "", [0.2, 0.3, 0.25], "not reproduced"),
    (90.0, "best", "at least", [89, 90, 92], "reproduced"),
    (91.0, "best", "at least", [89, 90, 91], "not reproduced"),
    (89.0, "best", "about", [89.4, 89.45, 89.5], "reproduced"),
    (88.0, "best", "about", [89.4, 89.45, 89.5], "exceeded"),
    (90.0, "best", "contradictory", [90, 90, 90], "contradictory in the source"),
    (float("nan"), "best", "", [90, 90, 90], "not stated"), (90.0, "best", "", [90], "not measured")])
def test_verdicts_on_claims(monkeypatch, value, what, kind, scores, verdict):
    columns = ["notebook", "run", "what", "value", "kind"]
    row = pandas.DataFrame([("n", "r", what, value, kind)], columns=columns)
    monkeypatch.setattr(results, "CLAIMS", row)
    monkeypatch.setattr(record, "over_seeds", lambda *place: pandas.Series(scores, dtype=float))
    assert claims.verdict("n", "r", what) == verdict


def test_the_other_sign():
    assert (-Difference(1, 0.5, 1.5, 5))[:4] == (-1, -1.5, -0.5, 5)
