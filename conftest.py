"""Set up `pytest --nbval`: notebooks run in this environment, on MNIST or on the digits sample.

The first run of each notebook trains its first epoch from scratch; what is not trained, and the weights, are
taken from the record, and have to score what it says. `--retrain` trains in full.
"""

import os
import re
from pathlib import Path

import pytest

from lab import data
from lab.publish import RunError, one_at_a_time

HOURS = 3600


def pytest_addoption(parser):
    parser.addoption("--retrain", nargs="?", const="all", metavar="NOTEBOOK",
                     help="with --nbval: train every notebook in full, or one, such as 5_gap")


def pytest_configure(config):
    if not config.getoption("nbval", False):
        return
    if not hasattr(config, "workerinput"):         # of pytest-xdist, whose workers start together
        try:
            config.lock = one_at_a_time()
        except RunError as error:
            raise pytest.UsageError(str(error)) from None
        except OSError:
            pass   # a folder that cannot be written to can be tested, and nothing else trains in it
    config.option.nbval_current_env = True         # whatever kernel the notebook names
    config.option.nbval_cell_timeout = 3 * HOURS   # nbval's 2,000 s are short for a training in full
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.pop("SEED", None)                   # a test repeats the recorded seed
    config.on_mnist = data.at_hand()   # here, so that no notebook's output holds a download


def pytest_report_header(config):
    if not config.getoption("nbval", False):
        return None
    if not config.on_mnist:
        return ("notebooks: on the digits sample, for there is no MNIST and no network; only outputs that"
                " do not depend on the data are compared, and no claim about MNIST is checked")
    retrain = config.getoption("retrain")
    short = "the first epoch of each notebook from scratch, the rest with the recorded weights"
    full = {None: "", "all": "every training in full"}.get(retrain, f"{retrain} trained in full; elsewhere ")
    return f"notebooks: on MNIST; {full}{'' if retrain == 'all' else short}"


def pytest_ignore_collect(collection_path, config):
    """Leave out copies that somebody works in, such as 5_gap-Copy1.ipynb: only NUMBER_IDEA is published."""
    return True if collection_path.suffix == ".ipynb" and not re.fullmatch(
        r"\d+_\w+", collection_path.stem) else None


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)      # warnings differ from version to version


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Say in the environment, which a notebook's kernel inherits when it starts, how `fit` is to train."""
    if hasattr(item, "cell"):
        retrained = Path(item.config.getoption("retrain") or "").stem in ("all", item.path.stem)
        os.environ["FIT_MODE"] = "" if retrained else "test"


def pytest_runtest_teardown(item):
    os.environ.pop("FIT_MODE", None)


def pytest_collection_modifyitems(config, items):
    """Leave slow tests to --nbval; on the digits sample, compare no cell that shows MNIST or the record."""
    for item in items:
        if "slow" in item.keywords and not config.getoption("nbval", False):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --nbval"))
        if hasattr(item, "cell") and not config.on_mnist:
            said = any("MNIST" in str(output.get("text", "")) for output in item.cell.outputs)
            if said or "record" in item.cell.source:
                item.options["check"] = False
