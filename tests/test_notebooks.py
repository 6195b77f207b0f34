"""The committed notebooks, records and README, read but not run.

nbval alone passes a stripped notebook, an ignored cell and a misspelt marker; this does not.
`python run.py --record NAME` mends what is found here, or the notebook's text must be.
"""

import ast
import re
import sys
from types import SimpleNamespace

import pytest
import torch

import model
from lab import claims, comparisons, execute, publish, recipe, records, results, sentences, text
from lab.checkpoint import LEAST, STATES
from utils import Data, Split

NAMES = publish.names()
NOTEBOOKS = {name: execute.read(name) for name in NAMES}
RECORDS = records.read_all()
TRAININGS = records.runs(RECORDS)
README = publish.README.read_text()
MARKER = "# NBVAL_IGNORE_OUTPUT"
every_notebook = pytest.mark.parametrize("name", NAMES)
every_record = pytest.mark.parametrize("name", RECORDS)


def code(name):
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


def prose(name):
    return "\n".join(cell.source for cell in NOTEBOOKS[name].cells if cell.cell_type == "markdown")


def shown(cell):
    """Return all text in the outputs of a cell."""
    kinds = "text/plain", "text/html"
    return "".join(output.get("text", "") + "".join(output.get("data", {}).get(kind, "") for kind in kinds)
                   for output in cell.outputs)


def test_every_notebook_is_recorded():
    assert [int(name.split("_")[0]) for name in NAMES] == list(range(1, len(NAMES) + 1))
    assert list(RECORDS) == NAMES


# ---------------------------------------------------------------- form

@every_notebook
def test_executed_from_top_to_bottom(name):
    cells = code(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    silent = [number for number, cell in enumerate(cells[1:], 2) if not cell.outputs]
    assert not silent, f"code cells without output: {silent}; after the set-up, each one shows something"


@every_notebook
def test_outputs_are_clean(name):
    paths = r"(?<![\w.])/(home|root|tmp|content|Users|usr|work|var)/|0x[0-9a-f]{6}"
    for number, cell in enumerate(code(name), 1):
        assert not re.search(paths, shown(cell)), f"cell {number}"
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", f"cell {number}"


@every_notebook
def test_metadata(name):
    metadata = NOTEBOOKS[name].metadata
    assert metadata.kernelspec.name == "python3" and "widgets" not in metadata
    assert metadata.accelerator == "GPU" and metadata.colab == {"gpuType": "T4", "provenance": []}
    assert all(not cell.metadata for cell in NOTEBOOKS[name].cells)


@every_notebook
def test_what_depends_on_the_machine_is_not_compared_and_all_else_is(name):
    """nbval silently ignores a marker with anything else on its line, and would then compare, or not."""
    for cell in code(name):
        lines = cell.source.splitlines()
        assert all("nbval" not in line.lower() or line == MARKER for line in lines)
        if "Results(" in cell.source or re.search(r"  epoch |\d\.\d\d %", shown(cell)):
            assert MARKER in lines, "measured, so another machine prints something else"
        if MARKER in lines:
            assert "Results(" in cell.source or "MNIST" in shown(cell), "the same on every machine"
            assert not re.search(r"\b(summary|receptive_field|check|compare)\(", cell.source)


HEADINGS = ["Target", "The idea", "The network", "Training", "Results", "Analysis", "Try it",
            "Beside the reference", "For the tests"]   # and "What it does", before or after the results


@every_notebook
def test_skeleton(name):
    headings = re.findall("^## (.+)$", prose(name), re.M)
    assert [heading for heading in headings if heading != "What it does"] == HEADINGS
    assert headings.index("Training") < headings.index("What it does") < headings.index("Analysis")
    sections = dict(zip(headings, re.split("^## .+$", prose(name), flags=re.M)[1:]))
    assert all(text.strip() for heading, text in sections.items() if heading not in ("Results",)), sections
    assert len(sections["Analysis"].split()) > 60 and "**" in sections["Analysis"].strip().splitlines()[-1]
    assert 2 <= len(re.findall(r"^\d\. ", sections["Try it"], re.M)) <= 3
    wanted = [r"sys\.path", r"show_source\(", r"summary\(", r"receptive_field\(", "^SEED ", r"fit\(",
              r"Results\(", r"compare\(results\)"]
    cells = NOTEBOOKS[name].cells
    places = {part: [number for number, cell in enumerate(cells, 1)
                     if cell.cell_type == "code" and re.search(part, cell.source, re.M)] for part in wanted}
    assert all(places.values()), places
    assert places[r"Results\("][0] < places[r"compare\(results\)"][0] == len(cells)


@every_notebook
def test_title_and_the_ways_to_its_neighbours(name):
    title, place = NOTEBOOKS[name].cells[0].source, NAMES.index(name)
    assert title.startswith(f"# {place + 1}. ")
    neighbours = {"previous": NAMES[place - 1] if place else None,
                  "next": NAMES[place + 1] if place + 1 < len(NAMES) else None}
    ways = dict(re.findall(r"\[(previous|next): [\w ]+\]\((\w+)\.ipynb\)", title))
    assert re.search(r"\.ipynb\)\n\n", title)   # a line of its own
    assert ways == {way: there for way, there in neighbours.items() if there}


@every_notebook
def test_the_network_that_is_trained_is_printed(name):
    printed = re.findall(r"\w+", " ".join(re.findall(r"show_source\((.+?)\)", "\n".join(
        cell.source for cell in code(name)))))
    trained = {history.network for history in RECORDS[name].runs.values()}
    assert trained - {"DigitNet"} <= set(printed)   # a DigitNet is written out where it is made


@every_notebook
def test_every_picture_has_a_text_for_those_who_cannot_see_it(name):
    for cell in code(name):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                source = re.sub(r'"\n +"', "", cell.source)   # a string in two lines
                assert len(alt.split()) > 5 and f'show("{alt}")' in source, source


@every_notebook
def test_code_is_short_and_plain(name):
    for cell in code(name):
        assert len(cell.source.splitlines()) <= 20
        assert not re.search(r"import \*|^\s*[%!]|\.backward\(\)|class .*Module", cell.source, re.M)


@every_notebook
def test_set_up_is_the_same_everywhere_and_points_here(name):
    (same, imports), (here, _) = (code(each)[0].source.split("\n\n", 1) for each in (name, NAMES[0]))
    assert len(same.splitlines()) <= 8
    assert same == here and f'REPOSITORY = "{text.REPOSITORY}"\n' in same
    assert all(isinstance(line, (ast.Import, ast.ImportFrom)) for line in ast.parse(imports).body)
    assert f"[![Open in Colab]({text.BADGE})]({text.colab(name)})" in NOTEBOOKS[name].cells[0].source


@pytest.mark.parametrize("folder", ["", "notebooks"])
def test_set_up_finds_the_repository_from(folder, monkeypatch):
    monkeypatch.chdir(records.ROOT / folder)
    monkeypatch.setattr(sys, "path", [])
    set_up = code(NAMES[0])[0].source.split("\n\n")[0]
    exec(compile(set_up, "set-up", "exec"), {})
    assert sys.path == [str(records.ROOT)]


def test_set_up_on_colab_says_that_the_repository_has_no_owner_yet(monkeypatch, tmp_path):
    if "OWNER" not in text.REPOSITORY:
        pytest.skip("it has one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    with pytest.raises(AssertionError, match="whose repository. run `python run.py --repo YOU/NAME`"):
        exec(code(NAMES[0])[0].source, {})


# ---------------------------------------------------------------- numbers

@every_record
def test_epochs_in_the_outputs_are_the_recorded_ones(name):
    lines = [line for cell in code(name) for line in shown(cell).splitlines() if "  epoch " in line]
    assert lines == [epoch.line("MNIST", history.planned, history.scored_on)
                     for history in RECORDS[name].runs.values() for epoch in history]


@every_record
def test_results_in_the_outputs_are_the_recorded_ones(name):
    """Run, claim and target; what stands between them is of the seeds that were there at that time."""
    table = shown(next(cell for cell in code(name) if "Results(" in cell.source))
    for (_, figure), row in results.Results(name, RECORDS[name].runs).table().iterrows():
        line = ".*".join(re.escape(part) for part in (figure, row["this run"], row["claim"], row["target"]))
        assert re.search(line, table), f"{figure}: expected {dict(row)}"


@every_record
def test_measures_in_the_outputs_are_the_recorded_ones(name):
    outputs = "".join(map(shown, code(name)))
    for measure, value in RECORDS[name].measures.items():
        number = f"{value:.2f}" if isinstance(value, float) else f"{value:,}"
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", outputs), f"{measure} = {number}"


@every_record
def test_last_cell_prints_what_it_prints_of_the_record(name, capsys):
    record, last = RECORDS[name], code(name)[-1]
    made = SimpleNamespace(notebook=name, runs=record.runs, record=record, trainings=TRAININGS)
    exec(last.source, {"results": made, "compare": results.compare, "says": results.says,
                       "difference": comparisons.difference})
    assert capsys.readouterr().out == shown(last)


@every_record
def test_sentences_are_true(name):
    assert sentences.said_in(NOTEBOOKS[name], RECORDS[name]), "no sentence is held to the record"
    assert sentences.false_in(NOTEBOOKS[name], RECORDS[name]) == []


@every_record
def test_numbers_in_the_text_are_the_recorded_ones(name):
    for cell in NOTEBOOKS[name].cells:
        if cell.cell_type == "markdown":
            assert cell.source == text.with_numbers(cell.source, RECORDS, TRAININGS, name)


@pytest.mark.parametrize("name", [*NAMES, "README"])
def test_measured_numbers_in_the_text_name_their_source(name):
    """A percentage with two decimals is a measurement and carries its source, if it is no claim or target."""
    values = [*claims.CLAIMS["value"], *claims.TARGETS["value"], *claims.PUBLISHED["accuracy"]]
    tables = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.S)
    written = tables.sub("", README) if name == "README" else prose(name)
    measured = set(re.findall(r"(?<![\d.])\d\d\.\d\d(?!\d)", text.NUMBER.sub("", written)))
    assert not measured - {f"{value:.2f}" for value in values}


# ---------------------------------------------------------------- records

@every_record
def test_record_is_of_these_networks_and_of_mnist(name):
    """Every layer that was recorded is the one that the class in model.py has today."""
    blank = Data("MNIST", Split(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.long)), None)
    assert f'"SEED", {RECORDS[name].seed})' in "".join(cell.source for cell in code(name))
    for label, history in RECORDS[name].runs.items():
        assert (history.dataset, history.recipe["epochs"]) == ("MNIST", str(history.planned)), label
        if label.split(",")[0] == history.network:   # others are built with arguments of their own
            net = getattr(model, history.network)()
            here = recipe.describe(net, blank, torch.optim.SGD(net.parameters()), None, 1, 1, None, False)
            different = recipe.differences(history.recipe, here)
            assert not [text for text in different if text.startswith("layer")], label
            assert history.parameters == model.count_parameters(net), label


@every_record
def test_misread_images_are_as_many_as_the_accuracy_says(name):
    record = RECORDS[name]
    assert set(record.misread) == {label for label in record.runs if record[label].test is not None}
    for label, by_seed in record.misread.items():
        accuracy = records.over_seeds(name, label, "test", TRAININGS)
        assert str(record.seed) in by_seed
        for seed, places in by_seed.items():
            assert places == sorted(set(places)) and 0 <= places[0] <= places[-1] < 10_000
            if int(seed) in accuracy:
                assert len(places) == round(10_000 - 100 * accuracy[int(seed)]), (label, seed)


def test_rows_of_other_seeds_can_be():
    assert records.RUNS.read_text() == records.rows_text(records.read_rows())
    for row in TRAININGS.itertuples():
        assert not row.best_train < max(row.first_train, row.last_train) and row.seconds > 0, row
        if row.scored_on and row.best == row.best:   # nan: of some trainings only the last epoch is known
            known = {1: row.first, row.epochs: row.last}   # the best epoch may be one of these
            assert row.best_epoch in range(1, row.epochs + 1), row
            assert row.best >= max(known.values()) and row.best == known.get(row.best_epoch, row.best), row


def test_states_are_those_of_the_records():
    """The state before the last epoch of every training that is long enough: `pytest --nbval` needs it."""
    wanted = {f"{recipe.digest(history.recipe)}-{record.seed}.pt": (history.recipe, record.seed)
              for record in RECORDS.values() for history in record.runs.values() if len(history) >= LEAST}
    assert {path.name for path in STATES.glob("*.pt")} == set(wanted)
    for name, of in wanted.items():
        state = torch.load(STATES / name, weights_only=True)
        assert (state["recipe"], state["seed"]) == of, f"results/states/{name} is of another training"


def test_claims_were_measured_over_seeds_and_targets_at_all():
    measured = TRAININGS.groupby(["notebook", "run"])["seed"].nunique()
    few = {run for run in zip(claims.CLAIMS["notebook"], claims.CLAIMS["run"]) if measured.get(run, 0) < 3}
    assert not few, f"less than three seeds of {few}"
    for target in claims.TARGETS.itertuples():
        assert len(records.over_seeds(target.notebook, target.run, target.what, TRAININGS)), target


def test_reproduction_is_up_to_date():
    assert (records.RESULTS / "reproduction.md").read_text() == text.reproduction(TRAININGS)
    assert (records.RESULTS / "ideas.md").read_text() == text.ideas(TRAININGS)


# ---------------------------------------------------------------- README

def test_readme_is_up_to_date_and_true():
    assert README == text.readme(README, RECORDS, TRAININGS)
    assert sentences.false_in_readme(README, RECORDS, TRAININGS) == []


@pytest.mark.parametrize("path", [*records.ROOT.glob("*.md"), *records.ROOT.glob("tests/*.md"),
                                  *execute.NOTEBOOKS.glob("*.ipynb")], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    source = prose(path.stem) if path.suffix == ".ipynb" else path.read_text()
    for repository, there in re.findall(r"google\.com/github/([\w.-]+/[\w.-]+)/blob/main/([\w./-]+)", source):
        assert repository == text.REPOSITORY and (records.ROOT / there).exists(), there
    for there in re.findall(r"(?:\]\(|(?:src|href)=\")(?!http)([^)\"]+)", source):
        file, _, heading = there.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), there
        if heading:
            headings = re.sub(r"[^\w \n#-]", "", target.read_text().lower()).replace(" ", "-")
            assert re.search(f"^#+-{heading}$", headings, re.M), there


def test_the_tests_that_are_named_are_there():
    tests = records.ROOT / "tests"
    for names in re.findall(r"`test_.+`", (tests / "README.md").read_text()):
        source = ""
        for file, test in re.findall(r"`(?:(test_\w+\.py)(?:::)?)?(test_\w+)?`", names):
            source = (tests / file).read_text() if file else source
            assert not test or f"def {test}(" in source, f"{file} {test}"
