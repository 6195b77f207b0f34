"""Set up `pytest --nbval`: notebooks run in this environment, on MNIST or on the digits sample.

A training is tested by its last epoch, from the recorded state before it; the first one of a notebook by its
first epoch from scratch as well, but for the baseline's. `--retrain` trains in full.
"""

import os
from pathlib import Path

import pytest

from lab import mnist
from lab.execute import RunError, one_at_a_time

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
    for name in ("RECORD_DIR", "SEED"):            # a test writes no record, and repeats the recorded seed
        os.environ.pop(name, None)
    config.on_mnist = mnist.at_hand()   # here, so that no notebook's output holds a download


def pytest_report_header(config):
    if not config.getoption("nbval", False):
        return None
    if not config.on_mnist:
        return ("notebooks: on the digits sample, for there is no MNIST and no network; only outputs that"
                " do not depend on the data are compared, and no claim about MNIST is checked")
    retrain = config.getoption("retrain")
    short = "the last epoch of each training, and of most notebooks the first one, against the records"
    full = {None: "", "all": "every training in full"}.get(retrain, f"{retrain} trained in full; elsewhere ")
    return f"notebooks: on MNIST; {full}{'' if retrain == 'all' else short}"


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)      # warnings differ from version to version


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Say in the environment, which a notebook's kernel inherits when it starts, how `fit` is to train."""
    if hasattr(item, "cell"):
        retrained = Path(item.config.getoption("retrain") or "").stem in ("all", item.path.stem)
        os.environ["FIT_MODE"] = "retrain" if retrained else "test"


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
