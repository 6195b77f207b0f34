"""A notebook executed from top to bottom, in this interpreter; what its cells print is shown as it comes."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import nbformat
from filelock import FileLock, Timeout
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from lab.records import ROOT

NOTEBOOKS = ROOT / "notebooks"
OUTPUT = ROOT / "runs"   # git ignores it: whatever a reader runs leaves what is published alone
COLOURS = re.compile(r"\x1b\[[\d;]*m")   # of a traceback


class RunError(Exception):
    """A notebook did not run to its end, or what it gave could not be kept."""


def one_at_a_time():
    """Return a lock: two trainings on the same cores are each many times slower than one after the other."""
    OUTPUT.mkdir(exist_ok=True)
    try:
        return FileLock(OUTPUT / ".lock", timeout=0).acquire()
    except Timeout:
        raise RunError("another run.py or `pytest --nbval` is at work here; wait for its end: two at once"
                       " slow each other down") from None


class ThisInterpreter(AsyncKernelManager):
    """Starts a kernel of the running Python, whatever kernel a notebook names."""

    transport_encryption = "auto"   # where the kernel can: else it warns

    @property
    def kernel_spec(self):
        return KernelSpec(**get_kernel_dict())


class LiveClient(NotebookClient):
    """Shows what the cells print, and the tables that they end in, as they come."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            print(msg["content"]["text"], end="", flush=True)
        elif msg["msg_type"] == "execute_result":
            print(msg["content"]["data"].get("text/plain", ""), flush=True)
        return super().process_message(msg, cell, cell_index)


def read(name):
    """Return notebook `name`."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def execute(name, folder, mode="", seed=None):
    """Return notebook `name` executed, with its own seed or `seed`; `Results` leaves the record in `folder`.

    mode: "record" where trainings are to be kept, so that an interrupted run continues. Raises RunError that
    names the cell which failed.
    """
    notebook = read(name)
    metadata = notebook.metadata.copy()
    environment = {**os.environ, "RECORD_DIR": str(folder), "FIT_MODE": mode, "TQDM_DISABLE": "1"}
    environment.pop("SEED", None)
    if seed is not None:
        environment["SEED"] = str(seed)
    at = []
    client = LiveClient(notebook, timeout=None, coalesce_streams=True, record_timing=False,
                        kernel_manager_class=ThisInterpreter,
                        resources={"metadata": {"path": str(NOTEBOOKS)}},
                        on_cell_execute=lambda cell, cell_index: at.append(cell_index))
    with ThreadPoolExecutor(1) as pool:   # in the main thread nbclient would take Ctrl-C for itself
        running = pool.submit(client.execute, env=environment)
        try:
            while not running.done():   # result() alone cannot be interrupted on Windows
                time.sleep(0.1)
            running.result()
        except CellExecutionError as error:
            raise RunError(f"cell {at[-1] + 1} failed with {error.ename}: {error.evalue}\n"
                           f"{COLOURS.sub('', error.traceback)}") from None
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
