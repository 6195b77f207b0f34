"""Run notebooks top to bottom and keep what they give.

For each notebook this writes the notebook with its outputs and the numbers in its text, the
record results/NAME.json and the picture results/NAME.png; then README's table,
results/ladder.png and results/SHA256SUMS. Nothing else writes any of these. All or nothing:
a run that fails, or one on the digits sample, leaves every file as it was.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

import utils
from utils import RESULTS, ROOT

REPOSITORY = "OWNER/mnist-ladder"   # where badges and set-up cells point; --repo rewrites it everywhere
NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"
SUMS = RESULTS / "SHA256SUMS"


class RunError(Exception):
    """A notebook did not run to its end, or what it gave could not be kept."""


def names():
    """List the notebooks' names, in the order of the ladder."""
    return sorted((path.stem for path in NOTEBOOKS.glob("[0-9]*_*.ipynb")), key=lambda name: int(name.split("_")[0]))


def records():
    """Return all records, by notebook, in the order of the ladder."""
    return {name: utils.read_record(RESULTS / f"{name}.json")
            for name in names() if (RESULTS / f"{name}.json").exists()}


# ---------------------------------------------------------------- executing

class LiveClient(NotebookClient):
    """Executes a notebook and shows what its cells print as they print it."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        return super().process_message(msg, cell, cell_index)


def execute(name, folder):
    """Execute notebook `name` and return it; its record, if there is one, is written to `folder`.

    Raises RunError that names the cell which failed.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    metadata = notebook.metadata.copy()
    environment = dict(os.environ, RECORD_DIR=str(folder), TQDM_DISABLE="1")
    at = []
    client = LiveClient(notebook, timeout=None, coalesce_streams=True, record_timing=False,
                        on_cell_execute=lambda cell, cell_index: at.append(cell_index),
                        resources={"metadata": {"path": str(NOTEBOOKS)}})
    with ThreadPoolExecutor(1) as pool:   # in the main thread nbclient would take Ctrl-C for itself, and end in disorder
        running = pool.submit(client.execute, env=environment)
        try:
            while not running.done():   # result() alone cannot be interrupted on Windows
                time.sleep(0.1)
            running.result()
        except CellExecutionError as error:
            raise RunError(f"cell {at[-1] + 1} failed with {error.ename}: {error.evalue}\n{error.traceback}") from None
        except DeadKernelError:
            raise RunError(f"the kernel died in cell {at[-1] + 1}: out of memory?") from None
        except KeyboardInterrupt:
            while not running.done():
                if client.km and client.km.has_kernel:
                    client.km.provisioner.process.kill()
                time.sleep(0.1)
            raise
    notebook.metadata = metadata   # the executing machine's Python version is in the record
    return notebook


def picture(notebook):
    """Return the PNG of the training curves in an executed notebook; raises RunError where there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "training_curves(" in cell.source:
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    raise RunError("no cell draws training_curves, so there is no picture to keep")


# ---------------------------------------------------------------- numbers in text

NUMBER = re.compile(r"(<!--= *([^>]+?) *-->)(?!`)(-?[\d.,]*\d)?")   # a source in backticks is an example


def with_numbers(text, all_records, name=None):
    """Put after every `<!--= source -->`, in place of a number that stands there, the one that its source names.

    A source is a path into the record of notebook `name`, or into another's after its name and
    a slash: `LightNet.best.test_accuracy`, `LightNet.epochs.-2.lr` (the last but one),
    `2_batch_norm/minutes`, `all/minutes`. Raises KeyError for a source that is not there.
    """
    return NUMBER.sub(lambda m: m[1] + _number(m[2], all_records, name), text)


def _number(source, all_records, name):
    name, _, path = source.rpartition("/") if "/" in source else (name, "", source)
    if path == "minutes":
        chosen = all_records.values() if name == "all" else [all_records[name]]
        seconds = sum(run["seconds"] for record in chosen for run in record["runs"])
        seconds += sum(row["seconds"]["0"] for record in chosen for row in record["sweeps"].values())   # a re-run repeats one seed
        return f"{seconds / 60:.0f}"
    value = all_records[name]
    value = {**value, **{run["name"]: run for run in value["runs"]}}
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def readme_table(all_records):
    """Write README's results table."""
    lines = ["| step | change | parameters | best test accuracy | last | claimed | Colab |", "|---|---|--:|--:|--:|--:|---|"]
    for name, record in all_records.items():
        link, badge = f"[{name}](notebooks/{name}.ipynb)", f"[![Open in Colab]({BADGE})]({colab(name)})"
        for run in record["runs"]:
            if not on_the_ladder(run):
                continue
            claim = f"{run['claim']['test_accuracy']:.2f} %" if run["claim"] else "-"
            lines.append(f"| {link} | {run['change']} | {run['parameters']:,} | {run['best']['test_accuracy']:.2f} % "
                         f"| {run['last']['test_accuracy']:.2f} % | {claim} | {badge} |")
    return "\n".join(lines)


def on_the_ladder(run):
    """Tell whether a recorded run is a step of the ladder: scored on the test set, epoch by epoch, as the references do."""
    return utils.is_step(run) and run["scored_on"] == "test"


def seeds_table(all_records):
    """Write README's table of what was trained from several seeds towards a target."""
    lines = ["| notebook | run | parameters | target | seeds | test accuracy, mean and sd | lowest | seconds of training |",
             "|---|---|--:|--:|--:|--:|--:|--:|"]
    for name, record in all_records.items():
        for label, row in record["sweeps"].items():
            if row["target"]:
                lines.append(f"| [{name}](notebooks/{name}.ipynb) | {label} | {row['parameters']:,} | {row['target']:.2f} % | {len(row['accuracies'])} "
                             f"| {row['mean']:.3f} +- {row['sd']:.3f} % | {row['minimum']:.2f} % | {row['median_seconds']:.1f} |")
    return "\n".join(lines)


BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def colab(name):
    """Return the address that opens notebook `name` on Colab."""
    return f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}.ipynb"


def readme(text, all_records):
    """Return README's text with its tables and its numbers made anew."""
    for name, table in (("results", readme_table), ("seeds", seeds_table)):
        before, rest = text.split(f"<!-- {name} -->\n")
        after = rest.split(f"<!-- /{name} -->")[1]
        text = f"{before}<!-- {name} -->\n{table(all_records)}\n<!-- /{name} -->{after}"
    return with_numbers(text, all_records)


# ---------------------------------------------------------------- writing

def keep(name, notebook, folder):
    """Write all that follows from the executed `notebook` and its record in `folder`."""
    if not (folder / f"{name}.json").exists():
        raise RunError(f'no cell called keep_record("{name}", ...), so there is nothing to keep')
    record = utils.read_record(folder / f"{name}.json")
    record["recipe"] = recipe(notebook)
    utils.write_record(record, folder / f"{name}.json")
    everything = {**records(), name: record}
    everything = {n: everything[n] for n in names() if n in everything}
    write({
        RESULTS / f"{name}.json": (folder / f"{name}.json").read_bytes(),
        RESULTS / f"{name}.png": picture(notebook),
        RESULTS / "ladder.png": ladder_picture(everything),
        **texts(everything, {name: notebook}),
    })


def texts(all_records, executed=()):
    """Return README and the notebooks, `executed` ones in place of those on disk, with all numbers renewed, by path."""
    files = {README: _or_warn(readme, README.read_text(), all_records).encode()}
    for name in all_records:
        notebook = executed[name] if name in executed else nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _or_warn(with_numbers, cell.source, all_records, name)
        files[NOTEBOOKS / f"{name}.ipynb"] = nbformat.writes(notebook).encode() + b"\n"
    return files


def _or_warn(renew, text, *arguments):
    """Return the renewed text; where it names a number that no record has, the text as it is: no training is lost for it."""
    try:
        return renew(text, *arguments)
    except KeyError as error:
        print(f"no record has {error}; the text that asks for it stays as it is: {text[:60]!r}...", file=sys.stderr)
        return text


def recipe(notebook):
    """Return the lines of the cells that set hyperparameters and train, as the record keeps them."""
    return [line for cell in notebook.cells if cell.cell_type == "code" and re.search(r"optim\.|^SEED |\b(fit|sweep)\(", cell.source, re.M)
            for line in cell.source.splitlines()]


def ladder_picture(all_records):
    """Return the PNG that shows every recorded training."""
    import matplotlib
    matplotlib.use("Agg")
    import plots

    png = io.BytesIO()
    plots.ladder({f"{name.split('_')[0]}  {run['name']}": utils.load_history(record, run["name"])
                  for name, record in all_records.items() for run in record["runs"] if on_the_ladder(run)}).savefig(png, dpi=100)
    return png.getvalue()


def write(files):
    """Write {path: bytes} beside the old files, then rename all, then renew the checksums.

    Raises RunError, with every file as it was, where there is no room or no right to write.
    """
    beside = {path: path.with_name(path.name + ".part") for path in files}
    try:
        RESULTS.mkdir(exist_ok=True)
        for path, content in files.items():
            beside[path].write_bytes(content)
    except OSError as error:
        for part in beside.values():
            part.unlink(missing_ok=True)
        raise RunError(f"cannot write: {error}") from None
    for path, part in beside.items():
        part.replace(path)
    SUMS.write_text(checksums())


def checksums():
    """Return the checksums of notebooks, records and pictures, as `sha256sum -c results/SHA256SUMS` reads them."""
    kept = sorted([*NOTEBOOKS.glob("*.ipynb"), *RESULTS.glob("*.json"), *RESULTS.glob("*.png")])
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(ROOT).as_posix()}\n" for path in kept)


def move_repository(new):
    """Point badges and set-up cells to the repository `new`, OWNER/NAME."""
    files = [ROOT / "run.py", README, *NOTEBOOKS.glob("*.ipynb")]
    write({path: path.read_text().replace(REPOSITORY, new).encode() for path in files})


# ---------------------------------------------------------------- command line

def main(arguments=None):
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description="Run notebooks top to bottom, show each epoch as it is trained, and write the notebook's outputs, "
                    "its record and picture in results/, and README's table. A failed run writes nothing.",
        epilog="examples: `python run.py 5_scheduler`, `python run.py 2_batch_norm 3_dropout`, `python run.py --all`")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a notebook: {', '.join(names())}")
    parser.add_argument("--all", action="store_true", help="run every notebook, in order")
    parser.add_argument("--text", action="store_true",
                        help="after editing text: renew its numbers, README's table and the checksums, and run nothing")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="let all badges and set-up cells point to your fork, and run nothing")
    options = parser.parse_args(arguments)

    if options.repo and not re.fullmatch(r"[\w.-]+/[\w.-]+", options.repo):
        parser.error(f"--repo takes OWNER/NAME, not {options.repo!r}")
    unknown = [name for name in options.names if name not in names()]
    if unknown:
        parser.error(f"no notebook named {', '.join(unknown)}; there are {', '.join(names())}")
    if not (options.names or options.all or options.text or options.repo):
        parser.error("name a notebook, or --all")

    doing = "run.py"
    try:
        if options.repo:
            move_repository(options.repo)
            print(f"badges and set-up cells now point to {options.repo}")
        elif options.text:
            write(texts(records()))
            print("numbers in the text, README's table and results/SHA256SUMS are those of the records")
        else:
            for doing in names() if options.all else options.names:
                run_notebook(doing)
    except RunError as error:
        print(f"{doing}: {error}\n{doing}: failed; nothing of it was written.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{doing}: interrupted; nothing of it was written.", file=sys.stderr)
        return 130
    return 0


def run_notebook(name):
    """Execute notebook `name` and, on MNIST, keep what it gives."""
    print(f"--- {name}")
    on_mnist = utils.find_mnist() is not None   # here, so that no notebook's output holds a download
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(name, Path(folder))
        if on_mnist:
            keep(name, notebook, Path(folder))
            print(f"{name}: wrote notebooks/{name}.ipynb, results/{name}.json, results/{name}.png and README's table.")
        else:
            print(f"{name}: ran on the digits sample; nothing was written.")


if __name__ == "__main__":
    sys.exit(main())
