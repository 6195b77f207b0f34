"""Set up `pytest --nbval`: notebooks run in this environment, on MNIST or on the digits sample."""

import os

import pytest

import mnist

HOURS = 3600


def pytest_configure(config):
    if not config.getoption("nbval", False):
        return
    config.option.nbval_current_env = True        # whatever kernel the notebook names
    config.option.nbval_cell_timeout = 3 * HOURS   # nbval's 2,000 s are short for a CPU
    os.environ["TQDM_DISABLE"] = "1"
    for name in ("RECORD_DIR", "SEED"):            # a test never writes a record, and repeats the recorded seed
        os.environ.pop(name, None)
    config.on_mnist = mnist.at_hand()   # here, so that no notebook's output holds a download


def pytest_report_header(config):
    if not config.getoption("nbval", False):
        return None
    if config.on_mnist:
        return "notebooks: on MNIST; retrained in full, outputs and verdicts compared with the records"
    return ("notebooks: on the digits sample, for there is no MNIST and no network;"
            " only outputs that do not depend on the data are compared, and no claim about MNIST is checked")


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)      # warnings differ from version to version


def pytest_collection_modifyitems(config, items):
    """Leave slow tests to --nbval. On the digits sample, compare no cell that draws from the record, or whose stored output speaks of MNIST: every line that depends on the data does."""
    for item in items:
        if "slow" in item.keywords and not config.getoption("nbval", False):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --nbval"))
        if hasattr(item, "cell") and not config.on_mnist:
            if "record[" in item.cell.source or any("MNIST" in str(output.get("text", "")) for output in item.cell.outputs):
                item.options["check"] = False
