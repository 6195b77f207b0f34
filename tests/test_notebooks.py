"""The committed notebooks, records, pictures and README, read but not run.

nbval alone passes a stripped notebook, an ignored cell and a misspelt marker; this does not.
`python run.py NAME` mends what is found here, or the notebook's text must be.
"""

import re
import statistics

import nbformat
import pytest

import model
import report
import run
import seeds
import utils
from references import PUBLISHED, STATEMENTS

NAMES = run.names()
RECORDS = run.records()
ROWS = run.valid(run.seed_rows(RECORDS), RECORDS)
every_notebook = pytest.mark.parametrize("name", NAMES)


def read(name):
    return nbformat.read(run.NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def prose(name):
    return "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")


def test_the_ladder_is_here():
    assert NAMES[:9] == ["1_baseline", "2_batch_norm", "3_dropout", "4_gap", "5_scheduler",
                         "6_one_cycle", "7_rotation", "8_dropout_everywhere", "9_fully_connected"]
    assert list(RECORDS) == NAMES


# ---------------------------------------------------------------- form

@every_notebook
def test_executed_from_top_to_bottom(name):
    cells = code(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    silent = [i for i, cell in enumerate(cells[1:], 2) if not cell.outputs]
    assert not silent, f"code cells without output: {silent}; after the set-up, each one shows something"


@every_notebook
def test_outputs_are_clean(name):
    for number, cell in enumerate(code(name), 1):
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", f"cell {number}"
            text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            assert not re.search(r"(?<![\w.])/(home|root|tmp|content|Users|usr|work|var)/|0x[0-9a-f]{6}", text), f"cell {number}"


@every_notebook
def test_metadata(name):
    metadata = read(name).metadata
    assert metadata.kernelspec.name == "python3" and "widgets" not in metadata
    assert metadata.accelerator == "GPU" and metadata.colab == {"gpuType": "T4", "provenance": []}
    assert all(not cell.metadata for cell in read(name).cells)


@every_notebook
def test_markers_are_whole_lines(name):
    """nbval silently ignores a marker with anything else on its line, and would then compare, or not."""
    for cell in code(name):
        for line in cell.source.splitlines():
            assert "nbval" not in line.lower() or line == "# NBVAL_IGNORE_OUTPUT"
        if "# NBVAL_IGNORE_OUTPUT" in cell.source:   # only what differs from machine to machine may be left uncompared
            assert "MNIST" in printed(cell)
            assert not re.search(r"summary\(|receptive_field\(|check\(|keep_record\(|verdict\(", cell.source)


@every_notebook
def test_skeleton(name):
    cells = read(name).cells
    assert cells[0].source.startswith(f"# {name.split('_')[0]}. ") and "**Target.**" in cells[0].source
    headings = re.findall(r"^## (.+)$", prose(name), re.M)
    assert headings[-2:] == ["Results", "Analysis"]
    assert len(cells[-1].source.split("## Analysis")[1].split()) > 60
    sources = [cell.source for cell in code(name)]
    order = [next(i for i, source in enumerate(sources) if part in source)
             for part in ("sys.path", "SEED ", "summary(", "fit(", "training_curves(", "keep_record(", "verdict(")]
    assert order == sorted(order) and order[-1] == len(sources) - 1
    assert not any("verdict(" in source for source in sources[:-1])


@every_notebook
def test_code_is_short_and_plain(name):
    for cell in code(name):
        assert len(cell.source.splitlines()) <= 20
        assert not re.search(r"import \*|^\s*[%!]|\.backward\(\)|class .*Module", cell.source, re.M)


@every_notebook
def test_badge_and_set_up_point_here(name):
    first, set_up = read(name).cells[:2]
    assert f"[![Open in Colab]({report.BADGE})]({report.colab(name)})" in first.source
    assert f'REPOSITORY = "{report.REPOSITORY}"\n' in set_up.source


@every_notebook
def test_set_up_is_the_same_everywhere(name):
    def shared(source):
        return re.sub(r"^(from (model|plots|torch|utils) |import torch$).*?(?=^\S|\Z)", "", source.replace("(\n", "("), flags=re.M | re.S)
    assert shared(code(name)[0].source) == shared(code(NAMES[0])[0].source)


# ---------------------------------------------------------------- numbers

@every_notebook
def test_record_agrees_with_itself(name):
    record = RECORDS[name]
    assert (record["notebook"], record["dataset"], record["seed"]) == (name, "MNIST", 0)
    for r in record["runs"]:
        epochs = r["epochs"]
        assert [e["epoch"] for e in epochs] == list(range(1, len(epochs) + 1))
        assert r["last"] == epochs[-1]
        assert r["best"] == max(epochs, key=lambda e: e["test_accuracy"])
        assert r["seconds"] == pytest.approx(sum(e["seconds"] for e in epochs), abs=1)
        if utils.is_step(r):
            network = getattr(model, r["name"])
            assert r["parameters"] == model.count_parameters(network())
            assert r["change"] == network.__doc__.split("\n")[0]


@every_notebook
def test_record_was_made_by_these_cells(name):
    assert RECORDS[name]["recipe"] == run.recipe(read(name))


@every_notebook
def test_targets_are_the_recorded_ones(name):
    recorded = [r["target"] for r in RECORDS[name]["runs"] if r["target"]]
    source = next(cell.source for cell in code(name) if "keep_record(" in cell.source)
    assert [float(target) for target in re.findall(r"target=([\d.]+)", source)] == recorded
    everywhere = {float(target) for cell in code(name) for target in re.findall(r"target=([\d.]+)", cell.source)}
    assert everywhere == {*recorded, *(row["target"] for row in RECORDS[name]["sweeps"].values() if row["target"])}


@every_notebook
def test_epochs_in_the_outputs_are_the_recorded_ones(name):
    lines = [line for cell in code(name) for line in printed(cell).splitlines() if "  epoch " in line]
    recorded = [utils.epoch_line("MNIST", utils.Epoch(**e), len(r["epochs"]), r["scored_on"]) for r in RECORDS[name]["runs"] for e in r["epochs"]]
    assert lines == recorded


@every_notebook
def test_results_in_the_outputs_are_the_recorded_ones(name):
    cell = next(cell for cell in code(name) if "keep_record(" in cell.source)
    assert printed(cell).strip() == utils.results_table(RECORDS[name])


@every_notebook
def test_sweeps_agree_with_themselves_and_the_outputs(name):
    sweeps = RECORDS[name]["sweeps"]
    for label, row in sweeps.items():
        accuracies = list(row["accuracies"].values())
        assert list(row["accuracies"]) == list(row["seconds"]) == [str(seed) for seed in range(len(accuracies))]
        least = 5 if row["target"] or not row["once"] else 2   # a road is shorter
        assert len(accuracies) >= least and (row["mean"], row["minimum"]) == (pytest.approx(statistics.mean(accuracies)), min(accuracies))
        assert row["sd"] == pytest.approx(statistics.stdev(accuracies))
        assert row["median_seconds"] == statistics.median(row["seconds"].values())
        assert row["once"] == bool(row["recipe"])
        if row["once"]:
            assert row["recipe"].startswith(f"{row['parameters']} parameters, ") and f", {row['epochs']} epochs, " in row["recipe"]
        if row["scored_on"] == "test" and row["once"]:
            assert row["accuracies"] == {seed: round(100 - len(places) / 100, 2) for seed, places in row["wrong"].items()}
            assert all(places == sorted(set(places)) and 0 <= places[0] <= places[-1] < 10_000 for places in row["wrong"].values())
            assert f"MNIST: {label}: {' '.join(f'{accuracy:.2f}' for accuracy in accuracies)} %\n" in "".join(map(printed, code(name)))
    tables = [printed(cell).strip() for cell in code(name) if "sweep_table(" in cell.source]
    assert tables == ([utils.sweep_table(RECORDS[name])] if sweeps else [])


@every_notebook
def test_a_step_is_trained_again(name):
    """Only what a step is compared with may be taken from the record."""
    for r in RECORDS[name]["runs"]:
        assert not (r["once"] and utils.is_step(r)), r["name"]
    once = {(name, r["name"]) for r in RECORDS[name]["runs"] if r["once"]}
    assert once == set(re.findall(r'= once\("(\w+)", "([\w ]+)"', "\n".join(cell.source for cell in code(name))))


@every_notebook
def test_measures_in_the_outputs_are_the_recorded_ones(name):
    """What the notebook measured beside its training stands in its outputs, to the last digit."""
    outputs = "".join(printed(cell) for cell in code(name))
    for measure, value in RECORDS[name]["measures"].items():
        assert re.search(rf"(?<![\d.]){re.escape(f'{value:.2f}')}(?!\d)", outputs), f"{measure} = {value}"


@every_notebook
def test_verdict_in_the_outputs_is_the_recorded_one(name):
    lines = printed(code(name)[-1]).splitlines()
    expected = []
    for r in RECORDS[name]["runs"]:
        if r["once"]:
            expected.append(f"MNIST, {r['name']}: from the record, not trained again")
            continue
        expected.append(f"MNIST, {r['name']}: {r['parameters']:,} parameters, {len(r['epochs'])} epochs,")
        if r["target"]:
            expected.append(f"MNIST, {r['name']}: target {r['target']:g} {'met' if utils.is_met(r) else 'missed'}, as recorded")
    expected += [f"MNIST, {label}: {'from the record, not trained again' if row['once'] else 'within'}" for label, row in RECORDS[name]["sweeps"].items()]
    assert len(lines) == len(expected) and all(line.startswith(start) for line, start in zip(lines, expected))


@every_notebook
def test_numbers_in_the_text_are_the_recorded_ones(name):
    for cell in read(name).cells:
        if cell.cell_type == "markdown":
            assert cell.source == report.with_numbers(cell.source, RECORDS, ROWS, name)


@every_notebook
def test_measured_numbers_in_the_text_name_their_source(name):
    """A percentage with two decimals is a measurement and carries its source, unless others claim it."""
    claims = {f"{s.value:.2f}" for s in STATEMENTS if s.value} | {f"{accuracy:.2f}" for *_, accuracy in PUBLISHED}
    plain = re.findall(r"(?<![\d.])\d\d\.\d\d(?!\d)", report.NUMBER.sub("", prose(name)))
    assert not set(plain) - claims


@every_notebook
def test_picture_is_the_notebooks(name):
    same = (run.RESULTS / f"{name}.png").read_bytes() == run.picture(read(name))
    assert same, f"results/{name}.png is not the last picture of the notebook"   # pytest would take hours to print how they differ


def test_checksums():
    """Whatever else was changed by hand since run.py wrote it: `sha256sum -c results/SHA256SUMS` says the same."""
    changed = set(run.SUMS.read_text().splitlines()) ^ set(run.checksums().splitlines())
    assert not changed, "not as run.py wrote it: " + ", ".join(sorted({line.split()[1] for line in changed}))


# ---------------------------------------------------------------- seeds and claims

def test_seeds_are_as_run_py_writes_them():
    text = run.SEEDS.read_text()
    assert text == seeds.write(run.seed_rows(RECORDS)), "results/seeds.csv differs from the records; `python run.py --text` mends it"
    for row in ROWS:
        assert row.last <= row.best and row.epochs >= row.best_epoch >= 1 and 0 < row.first <= row.best <= 100


@pytest.mark.parametrize("network", sorted({(s.notebook, s.run) for s in STATEMENTS}), ids="/".join)
def test_every_claim_was_measured_over_seeds(network):
    assert len({row.seed for row in ROWS if (row.notebook, row.run) == network}) >= 3


def test_every_network_is_the_claims():
    assert {run for _, run in {(s.notebook, s.run) for s in STATEMENTS}} == {
        r["name"] for name in NAMES[:9] for r in RECORDS[name]["runs"] if utils.is_step(r)}


@pytest.mark.parametrize("name", NAMES[:9])
def test_claims_in_the_notebook_are_the_listed_ones(name):
    listed = {(s.run, s.what): s.value for s in STATEMENTS if s.notebook == name}
    for r in RECORDS[name]["runs"]:
        if r["claim"]:
            claimed = r["claim"]["train_accuracy"], r["claim"]["test_accuracy"]
            assert claimed == (listed.get((r["name"], "best_train")), listed[r["name"], "best"])
            assert f'Claim("{r["claim"]["parameters"]}", {claimed[0]}, {claimed[1]}' in re.sub(r"(\.\d)0\b", r"\1", "".join(cell.source for cell in code(name)))


def test_reproduction_is_up_to_date():
    assert (run.RESULTS / "reproduction.md").read_text() == report.reproduction(ROWS)


# ---------------------------------------------------------------- README

def test_readme_is_up_to_date():
    text = run.README.read_text()
    assert text == report.readme(text, RECORDS, ROWS)


def test_readme_points_here():
    text = run.README.read_text()
    assert set(re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+)", text)) == {report.REPOSITORY}
    for target in re.findall(r"\]\((?!http)([^)#]+)\)|src=\"(?!http)([^\"]+)\"", text):
        assert (run.ROOT / "".join(target)).exists(), target


def test_readme_lists_every_file():
    listed = set(re.findall(r"^\| `([\w./-]+)`", run.README.read_text(), re.M))
    ours = {path.name for path in run.ROOT.iterdir() if path.suffix in (".py", ".txt", ".ini")}
    assert ours | {"notebooks/", "results/", "tests/"} <= listed
