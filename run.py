"""Run notebooks top to bottom, and what maintainers do with what they give. The work is done in lab/."""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile

import nbformat

from lab import classify, execute, ink, mnist, page, publish, seeds
from lab.execute import OUTPUT, RunError, one_at_a_time
from lab.records import ROOT, RecordError
from model import PICTURE_READERS, LightNet
from studies import STUDIES
from utils import fit, load_mnist


def parser():
    """Return the parser of the command line."""
    names = publish.names()
    parser = argparse.ArgumentParser(
        description="Run notebooks top to bottom: train in full, show each epoch, and the results beside the"
                    " record and the claims. The executed notebook and its record are written to runs/; what"
                    " is published stays as it is.",
        epilog="examples: `python run.py 6_scheduler`, `python run.py --all`,"
               " `python run.py 5_gap --seeds 0-4`, `python run.py --record 5_gap`")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a notebook: {', '.join(names)};"
                        f" or, with --seeds, a study of studies.py: {', '.join(STUDIES)}")
    parser.add_argument("--all", action="store_true", help="run every notebook, in order")
    parser.add_argument("--record", action="store_true",
                        help="for maintainers: publish what the notebooks give, in notebooks/, results/ and"
                             " README, and list the sentences that it makes false; if it is interrupted, the"
                             " next --record continues where it stopped")
    parser.add_argument("--refresh", action="store_true",
                        help="for maintainers: --record where only text or pictures of the notebook changed:"
                             " a training whose state is recorded continues before its last epoch")
    parser.add_argument("--seeds", type=seeds.parse, metavar="SEEDS",
                        help="train once from each seed, such as 0-4 or 0,2,5, and add a row for each"
                             " training to results/runs.csv; what is there already is skipped")
    parser.add_argument("--cluster", metavar="ADDRESS",
                        help="with --seeds: let the workers of this Dask cluster train, such as"
                             " tcp://10.0.0.1:8786; needs requirements-cluster.txt")
    parser.add_argument("--predict", metavar="IMAGE",
                        help="say which digits are in the picture IMAGE, and how sure that is")
    parser.add_argument("--page", action="store_true",
                        help="renew page/weights.js, the networks of the page to draw on, from results/")
    parser.add_argument("--text", action="store_true",
                        help="renew the numbers in the text, the tables and the pictures")
    parser.add_argument("--repo", metavar="OWNER/NAME", nargs="?", const="",
                        help="let all badges and set-up cells point to your fork; without OWNER/NAME, to the"
                             " one that `git remote get-url origin` names")
    return parser


def parse(arguments):
    """Return the parsed command line; exit with a message where it does not fit together."""
    command = parser()
    options = command.parse_args(arguments)
    studies = [name for name in options.names if name in STUDIES]
    unknown = [name for name in options.names if name not in [*publish.names(), *STUDIES]]
    if options.repo == "":
        options.repo = origin() or command.error("git knows no origin on GitHub; name it: --repo OWNER/NAME")
    if options.repo and not re.fullmatch(r"[\w.-]+/[\w.-]+", options.repo):
        command.error(f"--repo takes OWNER/NAME, not {options.repo!r}")
    if unknown:
        command.error(f"no notebook named {', '.join(unknown)}; there are {', '.join(publish.names())};"
                      f" and no study: there are {', '.join(STUDIES)}")
    if not (options.names or options.all or options.text or options.repo or options.predict or options.page):
        command.error("name a notebook, or --all")
    if studies and (not options.seeds or options.cluster):
        command.error(f"{studies[0]} is a study: it takes --seeds, and no --cluster")
    if options.cluster and not options.seeds:
        command.error("--cluster goes with --seeds")
    if options.cluster and not importlib.util.find_spec("distributed"):
        command.error("--cluster needs dask.distributed: pip install -r requirements-cluster.txt")
    return options


def origin():
    """Return OWNER/NAME of git's origin, or "" where that is not on GitHub."""
    asked = ["git", "remote", "get-url", "origin"]
    try:
        answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout
    except OSError:   # there is no git
        return ""
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?\s*$", answer)
    return found[1] if found else ""


def main(arguments=None):
    """Run the command line; return the exit status."""
    options = parse(arguments)
    try:
        if options.predict:
            nets = [make() for make in PICTURE_READERS]
            print(classify.answer(classify.classify(nets, options.predict)))
            return 0
        with one_at_a_time():
            return work(options)
    except (RunError, RecordError, mnist.DataError, classify.ClassifyError, ink.PictureError,
            OSError) as error:   # the last where a folder cannot be written to
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted; nothing of the run in progress was written.", file=sys.stderr)
        return 130


def work(options):
    """Do what was asked for; return the exit status."""
    chosen, false, failed = publish.names() if options.all else options.names, [], []
    publishes = options.record or options.refresh or options.seeds or options.page
    if publishes and not mnist.at_hand():   # a notebook that is published shows no download
        raise RunError("no MNIST here and no network to fetch it from; the digits sample is not recorded")
    if options.repo:
        publish.move_repository(options.repo)
        print(f"badges and set-up cells now point to {options.repo}")
    elif options.page:
        nets = [make() for make in (*PICTURE_READERS, LightNet)]
        publish.write({ROOT / "page" / "weights.js": page.weights(nets, load_mnist().test).encode()})
    elif options.text:
        false = publish.renew()
    elif options.seeds:
        for name in [name for name in chosen if name in STUDIES]:
            seeds.run_study(name, STUDIES[name], fit, options.seeds)
        failed = seeds.run([name for name in chosen if name not in STUDIES], options.seeds, options.cluster)
    else:
        for name in chosen:
            print(f"--- {name}", flush=True)
            if options.refresh:
                publish.take_up(name)
            recording = options.record or options.refresh
            false = record_notebook(name) if recording else run_notebook(name)
    for sentence in false:
        print(f"no longer true: {sentence}", file=sys.stderr)
    if failed:
        print(f"failed, and not in results/runs.csv: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def run_notebook(name):
    """Execute a notebook for its reader: it and its record go to runs/."""
    notebook = execute.execute(name, OUTPUT)
    publish.write({OUTPUT / f"{name}.ipynb": nbformat.writes(notebook).encode()})
    print(f"{name}: the executed notebook is runs/{name}.ipynb; nothing that is published was changed.")
    return []


def record_notebook(name):
    """Execute a notebook and publish what it gives; return the sentences that became false."""
    with tempfile.TemporaryDirectory() as folder:
        false = publish.record(name, folder)
    print(f"{name}: recorded.")
    return false


if __name__ == "__main__":
    sys.exit(main())
