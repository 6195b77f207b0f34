"""What is published: executed notebooks, their records and weights, and the texts and pictures that follow.

A notebook is executed by nbclient; `fit` then trains, or takes from the record, as `lab.training.mode` says.
"""

import os
import re
import tempfile
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lab import keep, record, text
from lab.keep import NOTEBOOKS, RunError, names
from lab.record import ROOT

OUTPUT = ROOT / "runs"   # git ignores runs/: a reader's run publishes nothing
TEXTS = "README.md", "results/ideas.md", "results/reproduction.md"
REPOSITORY = "OWNER/mnist-ladder"   # where badges and set-up cells point; `run.py --repo` rewrites it


def one_at_a_time():
    """Return a lock: two trainings on the same cores are each many times slower than one after the other."""
    OUTPUT.mkdir(exist_ok=True)
    try:
        return FileLock(OUTPUT / ".lock", timeout=0).acquire()
    except Timeout:
        raise RunError("another run.py or `pytest --nbval` is at work here; wait for its end: two at once"
                       " slow each other down") from None


def read(name):
    """Return notebook `name`."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def write(name, notebook):
    """Write notebook `name`."""
    (NOTEBOOKS / f"{name}.ipynb").write_text(nbformat.writes(notebook) + "\n", "utf-8")


# ---------------------------------------------------------------- executed

class Kernel(AsyncKernelManager):
    transport_encryption = "auto"   # where the kernel can: else it warns


class LiveClient(NotebookClient):
    """Shows what the cells print, and the tables that they end in, as they come."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        elif msg["msg_type"] == "execute_result":
            print(msg["content"]["data"].get("text/plain", ""), flush=True)
        return super().process_message(msg, cell, cell_index)


def execute(name, mode="", seed=None, folder=None):
    """Return notebook `name` executed; its `results` are saved in `folder`, where one is given.

    mode: see `lab.training.mode`. seed: in place of the notebook's own. Raises RunError that names the cell.
    """
    notebook = read(name)
    metadata, cells, at = notebook.metadata.copy(), len(notebook.cells), [0]
    if folder:
        notebook.cells.append(nbformat.v4.new_code_cell(
            f"from lab.keep import save\nsave(results, {str(folder)!r})"))
    environment = {**os.environ, "FIT_MODE": mode, "TQDM_DISABLE": "1"}
    environment |= {} if seed is None else {"SEED": str(seed)}
    client = LiveClient(notebook, timeout=None, kernel_name="python3", kernel_manager_class=Kernel,
                        shutdown_kernel="immediate", coalesce_streams=True, record_timing=False,
                        resources={"metadata": {"path": str(NOTEBOOKS)}},
                        on_cell_execute=lambda cell, cell_index: at.append(cell_index))
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        where = f"cell {at[-1] + 1}" if at[-1] < cells else f'no cell makes results = Results("{name}", ...):'
        trace = re.sub(r"\x1b\[[\d;]*m", "", error.traceback)   # without colours
        raise RunError(f"{name}: {where} failed with {error.ename}: {error.evalue}\n{trace}") from None
    except (RuntimeError, AssertionError):   # nbclient's: of a kernel that died; after Ctrl-C, which it takes
        raise RunError(f"{name}: the kernel ended in cell {at[-1] + 1}: interrupted, or out of memory; what"
                       " --record or --seeds trained so far is kept") from None
    notebook.cells, notebook.metadata = notebook.cells[:cells], metadata
    return notebook


def show(name, mode):
    """Execute a notebook for its reader: it goes to runs/, and nothing that is published changes."""
    notebook = execute(name, mode)
    (OUTPUT / f"{name}.ipynb").write_text(nbformat.writes(notebook), "utf-8")
    print(f"{name}: the executed notebook is runs/{name}.ipynb; nothing that is published was changed.")


def _executed(name, mode, seed):
    """Return notebook `name` executed, and the Record of what it gave."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(name, mode, seed, folder)
        return notebook, record.parse_record(Path(folder, f"{name}.json").read_text("utf-8"), f"{name}.json")


def train(name, seed):
    """Execute a notebook to train what is not recorded; return the Record."""
    made = _executed(name, "record", seed)[1]
    if made.seed != seed:
        raise RunError(f"{name}: the notebook does not take its seed from the variable SEED")
    return made


# ---------------------------------------------------------------- recorded and published

def publish(name):
    """Execute a notebook from its record and publish it, without training anything."""
    notebook, made = _executed(name, "recorded", record.read_record(name).seed)
    keep.add(made)
    write(name, notebook)
    print(f"{name}: recorded and published.")


def renew():
    """Renew the numbers in all texts, and README's pictures; return what is false in the texts."""
    false = []
    for place in TEXTS:
        content, found = text.renewed((ROOT / place).read_text("utf-8"))
        (ROOT / place).write_text(content, "utf-8")
        false += [f"{place}: {each}" for each in found]
    for name in names():
        notebook = read(name)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source, found = text.renewed(cell.source, name)
                false += [f"notebooks/{name}.ipynb: {each}" for each in found]
        write(name, notebook)
    return false


# ---------------------------------------------------------------- a new step, and another repository

BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
FILL = "FILL IN:"   # what a new notebook has where its author has to write
TO_FILL = {
    "Target": "the one change, why it might help, and a number that you predict before the training. A target"
              " in percent goes into results/targets.csv, the claim of a write-up into results/claims.csv.",
    "The idea": "what it does, and why, for a reader who has not met it.",
    "The network": "which lines are new.",
    "Training": "what is changed in the choices below, and why.",
    "What it does": "one picture that shows the idea act, and what it shows.",
    "Results": "nothing, or a word that is needed to read the table.",
    "Analysis": "what came out, a missed target included; each number with its source, such as"
                ' `<!--= run("IdeaNet").last -->`, each sentence that rests on it with its condition.',
    "By hand": "a line or two that the reader writes, the solution folded; or leave it out.",
    "For graders": "nothing; summary, check and receptive field stand below.",
    "Try it": "two small changes that a reader can make, and what to expect.",
}


def new_step(name, source):
    """Make notebook `name`, after the last one, from notebook `source`: its code, and places to fill in."""
    last, word = names()[-1], lambda name: name.partition("_")[2].replace("_", " ")
    number = int(last.split("_")[0]) + 1
    if source not in names():
        raise RunError(f"no notebook named {source} to start from; there are {', '.join(names())}")
    if not re.fullmatch(rf"{number}_[a-z]\w*", name):
        raise RunError(f"a new step is named NUMBER_IDEA; the next number is {number}")
    notebook = read(source)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = cell.source.replace(f'"{source}"', f'"{name}"')
            continue
        headings = [line.lstrip("# ") for line in cell.source.splitlines() if line.startswith("## ")]
        cell.source = "\n\n".join(f"## {heading}\n\n{FILL} {TO_FILL.get(heading, 'what is to be said here.')}"
                                  for heading in headings) or f"{FILL} a sentence before the next cell."
    address = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}.ipynb"
    head = f"# {number}. {FILL} {word(name)}, and what it asks\n\n{BADGE}({address})\n\n"
    notebook.cells[0].source = f"{head}[previous: {word(last)}]({last}.ipynb)\n\n{notebook.cells[0].source}"
    before = read(last)
    before.cells[0].source = re.sub(r"^(\[previous: .*\))$", rf"\1 | [next: {word(name)}]({name}.ipynb)",
                                    before.cells[0].source, flags=re.MULTILINE)
    write(name, notebook)
    write(last, before)
    print(f"notebooks/{name}.ipynb is made. Fill in what is marked {FILL!r}, write its network in model.py"
          f" and its row in README.md; then `python run.py --record {name} --seeds 0-4` and `pytest`.")


def move_repository(new):
    """Point badges, set-up cells and the addresses of the site to the repository `new`, OWNER/NAME."""
    site = lambda repository: "https://{}.github.io/{}/".format(*repository.split("/"))
    for pattern in ("*.md", "notebooks/*.ipynb", "lab/publish.py", "site/conf.py"):
        for path in ROOT.glob(pattern):
            content = path.read_text("utf-8").replace(site(REPOSITORY), site(new))
            path.write_text(content.replace(REPOSITORY, new), "utf-8")
