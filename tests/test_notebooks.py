"""The committed notebooks, records and texts, read but not run: are they whole, and do they say what is true?

nbval alone passes a stripped notebook, an ignored cell and a misspelt marker; this does not. Of a new step
the tests ask what makes it honest; the full anatomy is asked of the published fourteen.
"""

import ast
import copy
import re
import shutil
import sys
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace

import pytest
import torch

import model
import utils
from lab import claims, publish, record, results, text, training
from lab.publish import FILL, names, read
from utils import Data, Split

NAMES = names()
FOURTEEN = NAMES[:14]
NOTEBOOKS = {name: read(name) for name in NAMES}
MARKER = "# NBVAL_IGNORE_OUTPUT"
every_notebook = pytest.mark.parametrize("name", NAMES)
every_record = pytest.mark.parametrize("name", record.read_all())


def again(name):
    """Say how a notebook is published anew."""
    return f"`python run.py --record {name}` publishes it anew, and trains only what is not recorded"


def assert_none(faults):
    """Raise AssertionError with every fault in a line of its own."""
    faults = "\n".join(faults)
    assert not faults, f"\n{faults}"


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def shown(cell):
    """Return all text in the outputs of a cell."""
    kinds = "text/plain", "text/html"
    return "".join(output.get("text", "") + "".join(output.get("data", {}).get(kind, "") for kind in kinds)
                   for output in cell.outputs)


# ---------------------------------------------------------------- is it whole?

def faults_of_form(name, notebook):
    """Yield what is wrong with a notebook as a file that was executed from top to bottom."""
    cells = code(notebook)
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        yield f"its cells were not executed in order; {again(name)}"
    for cell in cells[1:]:
        lines = cell.source.splitlines()
        here = f"the code cell that begins with {next(line for line in lines if line != MARKER)!r}"
        if not cell.outputs:
            yield f"{here} shows nothing; after the set-up each one should; {again(name)}"
        if any("nbval" in line.lower() and line != MARKER for line in lines):
            yield f"{here}: nbval overlooks a marker that is not exactly {MARKER!r}"
        measured = "Results(" in cell.source or re.search(r"  epoch |\d\.\d\d %", shown(cell))
        if measured and MARKER not in lines:
            yield f"{here} is measured, other machines differ: begin it with {MARKER}"
        if MARKER in lines and not measured and "MNIST" not in shown(cell):
            yield f"{here} is the same on every machine: take {MARKER} away"
        if len(lines) > 20 or re.search(r"import \*|^\s*[%!]|class .*Module", cell.source, re.M):
            yield f"{here}: at most 20 lines, no `import *`, no %magic; networks go into model.py"
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                yield f"{here} ends in an error or a warning"
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                if len(alt.split()) < 6:
                    yield f"{here}: its picture needs show(\"what it shows\"), in six words or more"
        if re.search(r"(?<![\w.])/(home|root|tmp|content|Users|usr|work|var)/|0x[0-9a-f]{6}", shown(cell)):
            yield f"{here} shows a path or an address of one machine"
    if notebook.metadata.kernelspec.name != "python3" or "widgets" in notebook.metadata:
        yield "its kernel must be python3, and its metadata have no widgets"
    if cells[-1].source != "compare(results)" or notebook.cells[-1] is not cells[-1]:
        yield "its last cell must be `compare(results)`"


@every_notebook
def test_a_notebook_is_whole(name):
    assert_none(faults_of_form(name, NOTEBOOKS[name]))


@every_notebook
def test_its_sections(name):
    source = prose(NOTEBOOKS[name])
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", source, re.M))
    assert FILL not in source, f"write what is marked {FILL!r}"
    wanted = ["Target", "Results", "Analysis"]
    if "By hand" in sections:   # in this order
        wanted = ["Target", "The idea", "By hand", "The network", "Training", "What it does", "Results",
                  "Analysis", "Try it", "For graders"]
        assert [*sections] == wanted, f"its sections are {', '.join(wanted)}, in this order"
        assert "### Beside the reference\n" in sections["For graders"]
    elif name in FOURTEEN:   # the old form
        wanted = ["Target", "The idea", "The network", "Training", "What it does", "Results", "Analysis",
                  "Try it", "Beside the reference", "For the tests"]
    assert set(wanted) <= set(sections), f"it needs the sections {', '.join(wanted)}"
    assert re.search(r"\d", sections["Target"]), "the Target names a number, predicted before training"
    for row in results.TARGETS[results.TARGETS["notebook"] == name].itertuples():
        assert re.search(rf"\b{row.value:g}(\.?0)? %", sections["Target"]), (
            f"results/targets.csv has {row.value:g} % for {row.run}, and the Target does not say so")
    assert len(sections["Analysis"].split()) > 30, "the Analysis says what came out"


@every_notebook
def test_title_and_the_ways_to_its_neighbours(name):
    title, place = NOTEBOOKS[name].cells[0].source, NAMES.index(name)
    assert title.startswith(f"# {place + 1}. "), f"its title begins with its number, {place + 1}"
    neighbours = {"previous": NAMES[place - 1] if place else None,
                  "next": NAMES[place + 1] if place + 1 < len(NAMES) else None}
    ways = dict(re.findall(r"\[(previous|next): [\w ]+\]\((\w+)\.ipynb\)", title))
    assert ways == {way: there for way, there in neighbours.items() if there}, "below the badge, in a line"
    there = f"({publish.REPOSITORY}/blob/main/notebooks/{name}.ipynb)"
    assert there.replace("(", "/").rstrip(")") in title, f"the badge leads to {there}"


@every_notebook
def test_set_up_is_the_same_everywhere(name):
    same, imports = code(NOTEBOOKS[name])[0].source.split("\n\n", 1)
    here = code(NOTEBOOKS[NAMES[0]])[0].source.split("\n\n")[0]
    assert same == here and f'REPOSITORY = "{publish.REPOSITORY}"\n' in same, f"copy the set-up of {NAMES[0]}"
    assert all(isinstance(line, (ast.Import, ast.ImportFrom)) for line in ast.parse(imports).body)


@pytest.mark.parametrize("folder", ["", "notebooks"])
def test_set_up_finds_the_repository_from(folder, monkeypatch):
    monkeypatch.chdir(record.ROOT / folder)
    monkeypatch.setattr(sys, "path", [])
    exec(code(NOTEBOOKS[NAMES[0]])[0].source.split("\n\n")[0], {})
    assert sys.path == [str(record.ROOT)]


def test_set_up_on_colab_says_that_the_repository_has_no_owner_yet(monkeypatch, tmp_path):
    if "OWNER" not in publish.REPOSITORY:
        pytest.skip("it has one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    with pytest.raises(AssertionError, match="whose repository. run `python run.py --repo YOU/NAME`"):
        exec(code(NOTEBOOKS[NAMES[0]])[0].source, {})


def test_every_notebook_has_a_number_a_record_and_a_row_in_readme():
    assert [int(name.split("_")[0]) for name in NAMES] == list(range(1, len(NAMES) + 1))
    assert list(record.read_all()) == NAMES, "`python run.py --record NAME` makes the record that is missing"
    readme = (record.ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\(notebooks/\w+\.ipynb\) \|", readme, re.M)
    assert rows[:len(NAMES)] == NAMES, "each notebook has a row in README's first table"


# ---------------------------------------------------------------- is it true?

def faults_of_text(source, name=None):
    """Return what is false, stale or without a source in a text: a notebook's, or another one's."""
    renewed, false = text.renewed(source, name)
    if renewed != source:
        old, new = next((a, b) for a, b in zip(source.splitlines(), renewed.splitlines()) if a != b)
        false.append(f"a number is not the recorded one; `python run.py --text` renews it: {old} -> {new}")
    values = [*results.CLAIMS["value"], *results.TARGETS["value"], *claims.PUBLISHED["accuracy"]]
    bare = text.MARK.sub("<!-- -->", re.sub(r"(?<=-->)[^ ]+( ± [\d.]+| \[[^]]*\])?", "", source))
    for number in set(re.findall(r"(?<![\d.])\d\d\.\d\d(?!\d)", bare)) - {f"{value:.2f}" for value in values}:
        false.append(f"{number} is a measurement without a source: put `<!--= run(...)... -->` before it")
    return false


def faults_of_outputs(name, notebook):
    """Yield where the outputs of a notebook are not what the record says."""
    ours, outputs = record.read_all().get(name), "\n".join(map(shown, code(notebook)))
    if not ours:
        yield f"it has no record yet; {again(name)}"
        return
    lines = [line for line in outputs.splitlines() if "  epoch " in line]
    if lines != [epoch.line("MNIST", history.planned, history.scored_on)
                 for history in ours.runs.values() for epoch in history]:
        yield f"the epochs in the outputs are not the recorded ones; {again(name)}"
    table = shown(next(cell for cell in code(notebook) if "Results(" in cell.source))
    for (_, figure), row in results.Results(name, ours.runs).table().iterrows():
        line = ".*".join(re.escape(part) for part in (figure, *row))
        if not re.search(line, table):
            yield f"Results does not show {figure}: {dict(row)}; {again(name)}"
    for measure, value in ours.measures.items():
        number = f"{value:.2f}" if isinstance(value, float) else f"{value:,}"
        if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", outputs):
            yield f"no output shows the measure {measure} = {number}: print it; {again(name)}"
    for cell in code(notebook):
        if cell.source.startswith("show_source(") and shown(cell).strip() != fresh(cell.source).strip():
            yield f"{cell.source} printed what is no longer the source; {again(name)}"
        if cell.source == "compare(results)" and shown(cell) != "".join(
                f"MNIST, {label}: agrees with the record\n" for label in ours.runs):
            yield f"compare(results) printed something else than that all agrees; {again(name)}"


def fresh(source):
    """Return what a cell prints today."""
    printed = StringIO()
    with redirect_stdout(printed):
        exec(source, {**vars(model), **vars(utils)})
    return printed.getvalue()


def faults(name, notebook):
    """Return all that is not whole or not true in a notebook."""
    return [*faults_of_form(name, notebook), *faults_of_outputs(name, notebook),
            *faults_of_text(prose(notebook), name)]


@every_notebook
def test_a_notebook_is_true(name):
    assert_none([*faults_of_outputs(name, NOTEBOOKS[name]), *faults_of_text(prose(NOTEBOOKS[name]), name)])


@pytest.mark.parametrize("place", publish.TEXTS)
def test_a_text_is_true(place):
    assert_none(faults_of_text((record.ROOT / place).read_text("utf-8")))


@pytest.mark.parametrize("path", [*record.ROOT.glob("*.md"), *record.ROOT.glob("results/*.md"),
                                  *publish.NOTEBOOKS.glob("*.ipynb")], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    source = prose(NOTEBOOKS[path.stem]) if path.suffix == ".ipynb" else path.read_text()
    for there in re.findall(r"(?:\]\(|(?:src|href)=\")(?!http)([^)\"]+)", source):
        file, _, heading = there.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{there} leads nowhere"
        if heading:
            headings = re.sub(r"[^\w \n#-]", "", target.read_text().lower()).replace(" ", "-")
            assert re.search(f"^#+-{heading}$", headings, re.M), f"{there}: no such heading"


# ---------------------------------------------------------------- are the records possible?

@every_record
def test_a_record_is_of_these_networks_and_has_its_weights(name):
    """Every layer that was recorded is the one that the class in model.py has today."""
    ours, blank = record.read_all(), Split(torch.zeros(1, 1, 28, 28), torch.zeros(1).long())
    for label, history in ours[name].runs.items():
        weights = record.load_weights(name, label)
        assert history.dataset == "MNIST" and history.recipe["epochs"] == str(history.planned), label
        if label.split(",")[0] == history.network:   # others are built with arguments of their own
            net = getattr(model, history.network)()
            net.load_state_dict(weights)
            here = training.describe(net, Data("MNIST", blank, None), torch.optim.SGD(net.parameters()), None,
                                     1, 1, None, False, torch.nn.functional.nll_loss)
            other = [what for what in training.differences(history.recipe, here) if what.startswith("layer")]
            assert not other, f"{label}: model.py has another network than the record; {again(name)}"
    wanted = {record.weights_path(name, label).name for label in ours[name].runs}
    assert {path.name for path in record.weights_path(name, "x").parent.glob("*")} == wanted


@every_record
def test_misread_images_are_as_many_as_the_accuracy_says(name):
    ours = record.read_all()[name]
    for label, by_seed in ours.misread.items():
        accuracy = record.over_seeds(name, label, "test")
        for seed, places in by_seed.items():
            assert places == sorted(set(places)) and 0 <= places[0] <= places[-1] < 10_000
            assert len(places) == round(10_000 - 100 * accuracy.get(int(seed), 100 - len(places) / 100))


def test_rows_of_other_seeds_can_be():
    for row in record.trainings().dropna(subset="last_train").itertuples():
        assert not row.best_train < max(row.first_train, row.last_train) and row.seconds > 0, row
        if row.scored_on and row.best == row.best:   # nan: of some trainings only the last epoch is known
            assert 1 <= row.best_epoch <= row.epochs and row.best >= max(row.first, row.last), row


def test_claims_were_measured_over_seeds_and_targets_at_all():
    for claim in results.CLAIMS.itertuples():
        assert len(record.over_seeds(claim.notebook, claim.run, "parameters")) >= 3, (
            f"`python run.py {claim.notebook} --seeds 0-4`")
    for target in results.TARGETS.itertuples():
        assert len(record.over_seeds(target.notebook, target.run, target.what)), target


# ---------------------------------------------------------------- would a lie be found?

def edit(old, new):
    """Return a function that puts `new` in place of `old` in a file of results/."""
    def falsify(path):
        content = path.read_text("utf-8")
        assert old in content
        path.write_text(content.replace(old, new, 1), "utf-8")
    return falsify


@pytest.mark.parametrize("file, falsify", {
    "an epoch": ("5_gap.json", edit('"epoch": 7, "train_loss": 0.0555', '"epoch": 7, "train_loss": 0.0455')),
    "a parameter": ("5_gap.json", edit('"parameters": 5936', '"parameters": 5939')),
    "a measure": ("5_gap.json", edit('"moved_up": 98.', '"moved_up": 97.')),
    "a row of another seed": ("runs.csv", edit("99.24,0.0269,", "98.94,0.0269,")),
    "a claim": ("claims.csv", edit("5_gap,GapNet,best,97.29", "5_gap,GapNet,best,97.99")),
    "a target": ("targets.csv", edit("5_gap,GapNet,best,97.3", "5_gap,GapNet,best,99.9")),
}.values(), ids=str)
def test_a_falsified_record_is_found(tmp_path, monkeypatch, file, falsify):
    for path in [*record.RESULTS.glob("*.json"), *record.RESULTS.glob("*.csv")]:
        shutil.copy(path, tmp_path)
    falsify(tmp_path / file)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "RUNS", tmp_path / "runs.csv")
    for table in ("CLAIMS", "TARGETS"):
        path = tmp_path / f"{table.lower()}.csv"
        monkeypatch.setattr(results, table, results.pandas.read_csv(path, keep_default_na=False,
                                                                    na_values={"value": [""]}))
    record.forget()
    try:
        assert faults("5_gap", NOTEBOOKS["5_gap"])
    finally:
        monkeypatch.undo()
        record.forget()


@pytest.mark.parametrize("falsify", [
    lambda cells: next(cell for cell in cells if "-->98.8" in cell.source).update(source="<!--= 1 + 1 -->3"),
    lambda cells: next(cell for cell in cells if "not the last" in cell.source).update(
        source='The best epoch is the last one<!--? run("GapNet").history.best.epoch == 15 -->.'),
    lambda cells: cells[0].update(source=cells[0].source + "\n\nIt reads 99.99 %."),
    lambda cells: cells[0].update(source=cells[0].source + '\n\nSo<!--? run("Net").last.min() > 0 --> it.'),
    lambda cells: [cell.update(outputs=[], execution_count=None) for cell in cells if "outputs" in cell],
    lambda cells: next(cell for cell in cells if "fit(" in cell.source).update(outputs=[]),
    lambda cells: cells[3].outputs[0].update(text=cells[3].outputs[0].text.replace("Dropout(", "Drop(")),
    lambda cells: cells[-1].update(source="print('agrees')"),
], ids=["a digit", "a condition", "a number without source", "no such run", "stripped", "an output", "source",
        "the last cell"])
def test_a_falsified_notebook_is_found(falsify):
    notebook = copy.deepcopy(NOTEBOOKS["5_gap"])
    before = faults("5_gap", notebook)
    falsify(notebook.cells)
    assert not before and faults("5_gap", notebook)
