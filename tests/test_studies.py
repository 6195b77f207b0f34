"""Studies: their rows are of the trainings that the code describes; what an idea is worth."""

import pandas
import pytest
import torch

import studies
from lab import comparisons, mnist, publish, recipe, records, seeds
from lab.comparisons import COMPARISONS, Difference, difference
from utils import Data, Split, fit

ROWS = records.read_rows(records.STUDIES)


@pytest.fixture
def blank(monkeypatch):
    """Let studies get blank images, as many as MNIST has: to describe a training needs no more."""
    labels, image = torch.zeros(60_000, dtype=torch.long), torch.zeros(1, 1, 28, 28)
    split = lambda count: Split(image.expand(count, 1, 28, 28), labels[:count])
    monkeypatch.setattr(studies, "load_mnist", lambda device, validation=False: Data(
        "MNIST", split(50_000 if validation else 60_000), split(10), split(10) if validation else None))


@pytest.mark.parametrize("name", sorted(set(ROWS["notebook"])))
def test_rows_are_of_the_trainings_that_the_study_makes(name, blank):
    trials = {trial.run: trial.arguments for trial in studies.STUDIES[name](0)}
    rows = ROWS[ROWS["notebook"] == name]
    assert set(rows["run"]) <= set(trials)
    for row in rows.itertuples():
        arguments = trials[row.run]
        assert row.epochs == arguments["epochs"]
        assert row.parameters == sum(p.numel() for p in arguments["net"].parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ROWS["notebook"])))
def test_recipes_of_rows_are_those_of_the_code(name):
    if not mnist.at_hand():
        pytest.skip("a recipe names its images: this needs MNIST")
    made = {(trial.run, recipe.digest(seeds._describe(fit, trial.arguments)))
            for trial in studies.STUDIES[name](0)}
    assert set(zip(*(ROWS.loc[ROWS["notebook"] == name, column] for column in ("run", "recipe")))) <= made


def test_rows_of_studies_are_as_run_py_writes_them():
    assert records.STUDIES.read_text() == records.rows_text(ROWS)


def test_a_record_can_be_asked_for_the_rows_of_a_study():
    rows = records.read_record("8_one_cycle").study("one_cycle_rivals")
    assert set(rows["notebook"]) == {"one_cycle_rivals"} and len(rows) >= 6


def test_comparisons_are_of_runs_that_there_are():
    runs = {name: set(records.read_record(name).runs) for name in publish.names()}
    for row in COMPARISONS.itertuples():
        for place, run in ((row.notebook, row.run), (row.against, row.other)):
            assert run in runs[place] if place in runs else place in studies.STUDIES, (place, run)
    assert not COMPARISONS["idea"].duplicated().any()


def table(with_it, without):
    rows = [{"notebook": place, "run": run, "seed": seed, "last": value}
            for run, values in (("all ideas", with_it), ("no dropout", without))
            for seed, value in values.items() for place in ["7_ablation"]]
    return pandas.DataFrame(rows)


def test_a_difference_is_paired_by_seed():
    found = difference("dropout in step 6", table({0: 99, 1: 98, 2: 97, 3: 50}, {0: 98.9, 1: 97.8, 2: 96.7}))
    assert found == pytest.approx((0.2, 4.303 * 0.1 / 3 ** 0.5, 3), abs=1e-3)   # Student's t of three seeds
    assert found.verdict == "not told apart" and str(found) == "+0.20 ± 0.25"


@pytest.mark.parametrize("found, verdict", [(Difference(0.2, 0.1, 5), "worth"),
                                            (Difference(-0.2, 0.1, 5), "costs"),
                                            (Difference(0.2, 0.3, 5), "not told apart"),
                                            (Difference(0.2, 0.1, 2), "not measured")])
def test_verdicts(found, verdict):
    assert found.verdict == verdict


def test_an_idea_that_is_not_there():
    with pytest.raises(KeyError):
        comparisons.difference("magic", table({}, {0: 1}))


# ---------------------------------------------------------------- training

@pytest.fixture
def small_study(tiny, net, tmp_path, monkeypatch):
    """A study of two trainings of one epoch, the second at a rate that no loss survives."""
    def study(seed):
        for rate in (0.1, 1e30):
            torch.manual_seed(seed)
            for layer in net.modules():
                getattr(layer, "reset_parameters", lambda: None)()
            yield studies.trial(f"rate {rate:g}", net, tiny, studies.sgd(net, rate), epochs=2, batch_size=32)
    monkeypatch.setattr(records, "STUDIES", tmp_path / "studies.csv")
    monkeypatch.setattr(publish, "renew", list)
    return study


def test_a_row_for_each_training_and_none_twice(small_study, capsys):
    for _ in range(2):
        seeds.run_study("small", small_study, fit, [3])
    rows = records.read_rows(records.STUDIES)
    assert list(rows["run"]) == ["rate 0.1", "rate 1e+30"] and set(rows["seed"]) == {3}
    assert rows["last"].isna().tolist() == [False, True]   # that it cannot be trained is a result
    assert capsys.readouterr().out.count("there already") == 2
    assert rows["recipe"].tolist() == [recipe.digest(seeds._describe(fit, trial.arguments))
                                       for trial in small_study(3)]


def test_a_study_takes_seeds(run_py, tree, capsys):
    with pytest.raises(SystemExit):
        run_py(tree, "log_of_d")
