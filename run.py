"""Run notebooks top to bottom and keep what they give.

For each notebook this writes the notebook with its outputs and the numbers in its text, the
record results/NAME.json, the picture results/NAME.png and the weights that it keeps; then all
that follows from the records: README's tables, the tables and pictures in results/, its checksums. Nothing else
writes any of these. All or nothing: a run that fails, or one on the digits sample, leaves every
file as it was. With --seeds the notebook's outputs and record stay as they are, and
results/seeds.csv gets a line for every training, on the digits sample too.
"""

import argparse
import base64
import hashlib
import importlib.util
import io
import os
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

import classify
import mnist
import model
import report
import seeds
import utils
from references import PUBLISHED
from utils import RESULTS, ROOT

NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"
SUMS = RESULTS / "SHA256SUMS"
SEEDS = ROOT / seeds.FILE


class RunError(Exception):
    """A notebook did not run to its end, or what it gave could not be kept."""


def names():
    """List the notebooks' names, in the order of the ladder."""
    return sorted((path.stem for path in NOTEBOOKS.glob("[0-9]*_*.ipynb")), key=lambda name: int(name.split("_")[0]))


def records():
    """Return all records, by notebook, in the order of the ladder."""
    return {name: utils.read_record(RESULTS / f"{name}.json")
            for name in names() if (RESULTS / f"{name}.json").exists()}


def seed_rows(all_records):
    """Return the Rows of results/seeds.csv; those of the records' own seeds are the records'."""
    kept = seeds.read(SEEDS.read_text()) if SEEDS.exists() else []
    return seeds.merge(kept, [row for record in all_records.values() if not record["sweeps"] for row in seeds.from_record(record)])


def valid(rows, all_records):
    """Return those of `rows` that say something about MNIST and the notebooks' present recipes and networks."""
    present = {row[:2]: (row.recipe, row.parameters) for record in all_records.values() for row in seeds.from_record(record)}
    return [row for row in rows if row.dataset == "MNIST" and (row.recipe, row.parameters) == present.get(row[:2])]


# ---------------------------------------------------------------- executing

class LiveClient(NotebookClient):
    """Executes a notebook and shows what its cells print as they print it."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        return super().process_message(msg, cell, cell_index)


def execute(name, folder, seed=None):
    """Execute notebook `name`, with its own seed or with `seed`; return it and the record it kept in `folder`, beside weights if it keeps any.

    Raises RunError that names the cell which failed.
    """
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    metadata = notebook.metadata.copy()
    environment = {**os.environ, "RECORD_DIR": str(folder), "TQDM_DISABLE": "1", "SEED": str(seed)}
    if seed is None:
        del environment["SEED"]
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
    if not (folder / f"{name}.json").exists():
        raise RunError(f'no cell called keep_record("{name}", ...), so there is nothing to keep')
    record = utils.read_record(folder / f"{name}.json")
    record["recipe"] = recipe(notebook)
    return notebook, record


def picture(notebook):
    """Return the PNG of the training curves in an executed notebook; raises RunError where there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "training_curves(" in cell.source:
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    raise RunError("no cell draws training_curves, so there is no picture to keep")


# ---------------------------------------------------------------- writing

@contextmanager
def alone():
    """Let no other run.py write between the reading of records and the writing of what follows from them."""
    RESULTS.mkdir(exist_ok=True)
    try:
        with FileLock(RESULTS / ".lock", timeout=60):
            yield
    except Timeout:
        raise RunError("another run.py has been writing for a minute; if there is none, delete results/.lock") from None


def keep(name, notebook, record, weights=(), replace=False):
    """Write the executed `notebook`, its record, the `weights` it kept (files), and all that follows from them.

    Raises RunError where the record that is there has more in it, unless it is to be replaced.
    """
    with alone():
        everything = records()
        less = name in everything and not replace and _less(record, everything[name])
        if less:
            raise RunError(f"{less}; --replace keeps the new record nonetheless")
        everything = {n: {**everything, name: record}[n] for n in names() if n in {*everything, name}}
        write({
            RESULTS / f"{name}.json": utils.record_text(record).encode(),
            RESULTS / f"{name}.png": picture(notebook),
            **{RESULTS / path.name: path.read_bytes() for path in weights},
            **derived(everything, seed_rows(everything), {name: notebook}),
        })
        (RESULTS / f".{name}.unfinished").unlink(missing_ok=True)   # what sweep_once kept, in case the run was cut off


def _less(record, old):
    """Say what a new record has less of than the old one, or nothing."""
    if record["dataset"] != old["dataset"]:
        return f"this run is on {record['dataset']}, the record on {old['dataset']}"
    if record["seed"] != old["seed"]:
        return f"this run is of seed {record['seed']}, the record of seed {old['seed']}"
    new = {run["name"]: run for run in record["runs"]}
    for run in old["runs"]:
        if run["name"] not in new:
            return f"this run has no {run['name']}, the record has one"
        fewer, epochs = len(new[run["name"]]["epochs"]), len(run["epochs"])
        if fewer < epochs:
            return f"{run['name']} was trained for {fewer} epochs, in the record for {epochs}"
    for label, swept in old["sweeps"].items():
        seeds_now, seeds_then = (len(r["sweeps"].get(label, {}).get("accuracies", ())) for r in (record, old))
        if seeds_now < seeds_then:
            return f"{label} was trained from {seeds_now} seeds, in the record from {seeds_then}"
    return ""


def derived(all_records, rows, executed=()):
    """Return all files that follow from records and seeds, by path; notebooks in `executed` in place of those on disk."""
    chosen = valid(rows, all_records)
    files = {README: _or_warn(report.readme, README.read_text(), all_records, chosen).encode(),
             SEEDS: seeds.write(rows).encode(),
             RESULTS / "reproduction.md": report.reproduction(chosen).encode(),
             **pictures(all_records, chosen)}
    for name in all_records:
        notebook = executed[name] if name in executed else nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _or_warn(report.with_numbers, cell.source, all_records, chosen, name)
        files[NOTEBOOKS / f"{name}.ipynb"] = nbformat.writes(notebook).encode() + b"\n"
    return files


def _or_warn(renew, text, *arguments):
    """Return the renewed text; where it names a number that no record has, the text as it is: no training is lost for it."""
    try:
        return renew(text, *arguments)
    except (LookupError, AttributeError, TypeError, ValueError) as error:   # whatever a misspelt source or a lost marker raises
        print(f"no record has {error}; the text that asks for it stays as it is: {text[:60]!r}...", file=sys.stderr)
        return text


def recipe(notebook):
    """Return the lines of the cells that set hyperparameters and train, as the record keeps them."""
    return [line for cell in notebook.cells if cell.cell_type == "code" and re.search(r"optim\.|^SEED |\b(fit|sweep|sweep_once)\(", cell.source, re.M)
            for line in cell.source.splitlines()]


def pictures(all_records, rows):
    """Return the PNGs in results/ that no notebook draws, by path."""
    import matplotlib
    matplotlib.use("Agg")
    import plots

    steps = [(name, run) for name, record in all_records.items() for run in record["runs"]
             if report.on_the_ladder(run) and run["scored_on"] == "test"]
    by_network = {}
    for row in rows:
        if row.run in vars(model) and row.test is not None:
            by_network.setdefault(row.run, []).append(row)
    sizes = {label: (found[0].parameters, [row.test for row in found]) for label, found in by_network.items()}
    sizes |= {label: (swept["parameters"], list(swept["accuracies"].values()))
              for record in all_records.values() for label, swept in record["sweeps"].items() if swept["target"]}
    figures = {
        "ladder": lambda: plots.ladder({f"{name.split('_')[0]}  {run['name']}": utils.load_history(all_records[name], run["name"]) for name, run in steps}),
        "best_minus_last": lambda: plots.best_minus_last({
            label: ([row.best - row.last for row in found], utils.binomial(statistics.fmean(row.last for row in found)))
            for label, found in by_network.items()}),
        "frontier": lambda: plots.frontier(sizes, PUBLISHED)}
    files = {}
    for name, draw in figures.items():
        if not (steps and by_network):   # the first record of a project that has none
            continue
        png, figure = io.BytesIO(), draw()
        figure.savefig(png, dpi=100)
        plots.plt.close(figure)
        files[RESULTS / f"{name}.png"] = png.getvalue()
    return files


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
    try:
        for path, part in beside.items():
            part.replace(path)
        SUMS.write_text(checksums())
    except OSError as error:   # a file that is open elsewhere, on Windows
        raise RunError(f"cannot write: {error}; `git status` shows what was") from None


def checksums():
    """Return the checksums of notebooks, records, tables, pictures and weights, as `sha256sum -c results/SHA256SUMS` reads them."""
    kept = sorted([*NOTEBOOKS.glob("*.ipynb"), *(path for path in RESULTS.iterdir() if path.suffix in (".json", ".png", ".csv", ".md", ".pt"))])
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(ROOT).as_posix()}\n" for path in kept)


def move_repository(new):
    """Point badges and set-up cells to the repository `new`, OWNER/NAME."""
    files = [ROOT / "report.py", README, *NOTEBOOKS.glob("*.ipynb")]
    write({path: path.read_text().replace(report.REPOSITORY, new).encode() for path in files})


# ---------------------------------------------------------------- command line

def main(arguments=None):
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description="Run notebooks top to bottom, show each epoch as it is trained, and write the notebook's outputs, "
                    "its record and picture in results/, and README's tables. A failed run writes nothing.",
        epilog="examples: `python run.py 5_scheduler`, `python run.py 2_batch_norm 3_dropout`, `python run.py --all`, "
               "`python run.py 4_gap 5_scheduler --seeds 0-4`")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a notebook: {', '.join(names())}")
    parser.add_argument("--all", action="store_true", help="run every notebook, in order")
    parser.add_argument("--seeds", type=seeds.parse, metavar="SEEDS",
                        help="run once per seed, such as 0-4 or 0,2,5, and add a line to results/seeds.csv for each training; "
                             "what is there already is skipped, and the notebook's outputs stay as they are")
    parser.add_argument("--cluster", metavar="ADDRESS",
                        help="with --seeds: let the workers of this Dask cluster train, such as tcp://10.0.0.1:8786; "
                             "needs requirements-cluster.txt")
    parser.add_argument("--replace", action="store_true",
                        help="keep the new record though it has fewer epochs or runs than the one that is there")
    parser.add_argument("--predict", metavar="IMAGE",
                        help="say which digit is in the picture IMAGE, dark on light or light on dark, of any size, and run nothing")
    parser.add_argument("--text", action="store_true",
                        help="after editing text: renew its numbers, tables, pictures and checksums, and run nothing")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="let all badges and set-up cells point to your fork, and run nothing")
    options = parser.parse_args(arguments)

    if options.repo and not re.fullmatch(r"[\w.-]+/[\w.-]+", options.repo):
        parser.error(f"--repo takes OWNER/NAME, not {options.repo!r}")
    unknown = [name for name in options.names if name not in names()]
    if unknown:
        parser.error(f"no notebook named {', '.join(unknown)}; there are {', '.join(names())}")
    if not (options.names or options.all or options.text or options.repo or options.predict):
        parser.error("name a notebook, or --all")
    if options.cluster and not options.seeds:
        parser.error("--cluster goes with --seeds")
    if options.cluster and not importlib.util.find_spec("distributed"):
        parser.error("--cluster needs dask.distributed: pip install -r requirements-cluster.txt")

    chosen, doing = names() if options.all else options.names, "run.py"
    try:
        if options.repo:
            move_repository(options.repo)
            print(f"badges and set-up cells now point to {options.repo}")
        elif options.predict:
            doing = "--predict"
            print(classify.told(classify.classify(options.predict)))
        elif options.text:
            with alone():
                everything = records()
                write(derived(everything, seed_rows(everything)))
            print("numbers in the text, tables, pictures and results/SHA256SUMS are those of the records and results/seeds.csv")
        elif options.seeds:
            doing = "--seeds"
            failed = run_seeds(chosen, options.seeds, options.cluster)
            if failed:
                print(f"failed, and not in results/seeds.csv: {'; '.join(failed)}", file=sys.stderr)
                return 1
        else:
            for doing in chosen:
                run_notebook(doing, options.replace)
    except classify.ClassifyError as error:
        print(f"{doing}: {error}", file=sys.stderr)
        return 1
    except (RunError, mnist.DataError, utils.RecordError, seeds.SeedsError) as error:
        print(f"{doing}: {error}\n{doing}: failed; nothing of it was written.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{doing}: interrupted; nothing of {'the run in progress' if options.seeds else 'it'} was written.", file=sys.stderr)
        return 130
    return 0


def run_notebook(name, replace=False):
    """Execute notebook `name` and, on MNIST, keep what it gives."""
    print(f"--- {name}")
    seed_rows(records())   # a file that can't be read should not cost a training
    on_mnist = mnist.at_hand()   # here, so that no notebook's output holds a download
    with tempfile.TemporaryDirectory() as folder:
        notebook, record = execute(name, Path(folder))
        if on_mnist:
            keep(name, notebook, record, sorted(Path(folder).glob("*.pt")), replace)
            print(f"{name}: wrote notebooks/{name}.ipynb, results/{name}.json, results/{name}.png and README's tables.")
        else:
            print(f"{name}: ran on the digits sample; nothing was written.")


def run_seeds(chosen, wanted, cluster):
    """Train the `chosen` notebooks once per wanted seed, but for what is there, and add each run as it ends to results/seeds.csv.

    Returns the names of those that failed.
    """
    dataset = "MNIST" if mnist.at_hand() else "digits sample"
    everything = records()
    there = {(row.notebook, row.seed, row.dataset, row.recipe) for row in seed_rows(everything)}
    jobs = []
    for name in chosen:
        if name in everything and everything[name]["sweeps"]:
            print(f"{name}: trains from several seeds itself, with `python run.py {name}`; skipped", flush=True)
            continue
        code = seeds.fingerprint(recipe(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)))
        for seed in wanted:
            if (name, seed, dataset, code) in there:
                print(f"{name}, seed {seed}: there already", flush=True)
            else:
                jobs.append((name, seed))
    made = seeds.on_cluster(jobs, dataset, cluster, project()) if cluster and jobs else seeds.here(jobs, train_seed)
    failed = []
    for (name, seed), rows in made:
        if isinstance(rows, Exception):
            print(f"{name}, seed {seed}: {rows}", file=sys.stderr, flush=True)
            failed.append(f"{name}, seed {seed}")
            continue
        with alone():
            everything = records()
            write(derived(everything, seeds.merge(seed_rows(everything), rows)))
        for row in rows:
            print(f"{row.dataset}, {name}, seed {seed}, {row.run}: best {row.scored_on} accuracy {row.best:.2f} %, last {row.last:.2f} %", flush=True)
    return failed


def train_seed(name, seed):
    """Execute notebook `name` with `seed` and return the Rows of its runs."""
    print(f"--- {name}, seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        _, record = execute(name, Path(folder), seed)
    if record["seed"] != seed:
        raise RunError("the notebook does not take its seed from the environment's SEED")
    return seeds.from_record(record)


def project():
    """Return the files that run.py needs in a copy of this project, by path."""
    files = [README, *ROOT.glob("*.py"), *NOTEBOOKS.glob("*.ipynb"), *RESULTS.glob("*.json")]
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}


if __name__ == "__main__":
    sys.exit(main())
