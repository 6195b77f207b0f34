"""Run notebooks top to bottom, and what maintainers do with what they give. The work is done in lab/."""

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from digits import classify, ink, page
from lab import data, keep, publish, record, seeds
from lab.keep import RunError
from lab.publish import one_at_a_time
from lab.record import ROOT, RecordError
from studies import STUDIES, train_study
from utils import load_mnist


def parser():
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Run notebooks top to bottom: train in full, show each epoch, and the results beside the"
                    " record and the claims. The executed notebook is written to runs/; what is published"
                    " stays as it is.",
        epilog="examples: `python run.py 6_scheduler`, `python run.py 6_scheduler --recorded`,"
               " `python run.py 5_gap --seeds 0-4`, `python run.py --new 15_idea --from 5_gap`")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a notebook: {', '.join(publish.names())};"
                        f" or, with --seeds, a study of studies.py: {', '.join(STUDIES)}")
    parser.add_argument("--all", action="store_true", help="all notebooks, in order")
    parser.add_argument("--from", dest="source", metavar="NAME", default="5_gap",
                        help="with --new: the notebook whose code it starts from (5_gap)")
    parser.add_argument("--seeds", type=seeds.parse, metavar="SEEDS",
                        help="train once from each seed, such as 0-4 or 0,2,5, and add a row for each"
                             " training to results/; what is there already is skipped")
    parser.add_argument("--cluster", metavar="ADDRESS",
                        help="with --seeds: let the workers of this Dask cluster train, such as"
                             " tcp://10.0.0.1:8786; needs requirements-cluster.txt")
    parser.add_argument("--out", metavar="FOLDER", help=argparse.SUPPRESS)   # of a process of lab/seeds.py
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--recorded", action="store_true",
                     help="train nothing: show the notebook with the recorded weights, within seconds")
    one.add_argument("--new", metavar="NUMBER_IDEA", help="make a notebook for a step of your own")
    one.add_argument("--record", action="store_true",
                     help="train what is not recorded yet, also from --seeds, keep epochs and weights in"
                          " results/, and publish the notebook; if it is interrupted, the same command"
                          " continues where it stopped")
    one.add_argument("--text", action="store_true",
                     help="renew the numbers in the texts and README's pictures; list what is false")
    one.add_argument("--predict", nargs="+", metavar="IMAGE",
                     help="say which digits are in each picture, and how sure that is")
    one.add_argument("--page", action="store_true",
                     help="renew page/weights.js, the networks of the page to draw on, from results/")
    one.add_argument("--repo", metavar="OWNER/NAME", nargs="?", const="",
                     help="let all badges and set-up cells point to your fork; without OWNER/NAME, to the"
                          " one that `git remote get-url origin` names")
    return parser


def parse(arguments):
    """Return the parsed command line; exit with a message where it does not fit together."""
    command = parser()
    options = command.parse_args(arguments)
    if options.all:
        options.names = publish.names()
    options.names = [Path(name).stem if name.endswith(".ipynb") else name for name in options.names]
    studies = [name for name in options.names if name in STUDIES]
    unknown = [name for name in options.names if name not in [*publish.names(), *STUDIES]]
    if options.repo == "":
        options.repo = origin() or command.error("git knows no origin on GitHub; name it: --repo OWNER/NAME")
    if options.repo and not re.fullmatch(r"[\w.-]+/[\w.-]+", options.repo):
        command.error(f"--repo takes OWNER/NAME, not {options.repo!r}")
    if unknown:
        command.error(f"no notebook named {', '.join(unknown)}; there are {', '.join(publish.names())};"
                      f" and no study: there are {', '.join(STUDIES)}")
    alone = any([options.text, options.repo, options.predict, options.page, options.new])
    if not options.names and not alone:
        command.error("name a notebook, or --all")
    if alone and (options.names or options.seeds):
        command.error("--new, --text, --predict, --page and --repo take no notebooks and no seeds")
    if options.recorded and options.seeds:
        command.error("--recorded trains nothing, so it takes no --seeds")
    if studies and (not options.seeds or options.record):
        command.error(f"{studies[0]} is a study: it takes --seeds, and is not published by itself")
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")   # a console that cannot write "≥" must not end a training
    options = parse(arguments)
    try:
        if options.predict:
            return predict(options.predict)
        if options.out:
            return train_one(options.names[0], options.seeds[0], options.out)
        with one_at_a_time():
            return work(options)
    except (RunError, RecordError, data.DataError, OSError) as error:   # the last: a folder, a disk
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nrun.py: interrupted; what was trained so far is kept for the next --record or --seeds.",
              file=sys.stderr)
        return 130


def predict(paths):
    """Say what is in each picture; return 1 if one of them cannot be read."""
    failed = 0
    for path in paths:
        name = f"{path}: " if len(paths) > 1 else ""
        try:
            print(f"{name}{classify.answer(classify.classify(path))}")
        except (classify.ClassifyError, ink.PictureError) as error:
            print(f"run.py: {error}", file=sys.stderr)
            failed = 1
    return failed


def train_one(name, seed, folder):
    """Train a notebook or a study from one seed, and write each Record into `folder`."""
    made = train_study(name, seed) if name in STUDIES else [publish.train(name, seed)]
    for number, each in enumerate(made):
        Path(folder, f"{number:03}.json").write_text(keep.record_text(each), "utf-8")
    return 0


def work(options):
    """Do what was asked for; return the exit status."""
    needs = options.record or options.seeds or options.page or options.recorded
    if needs and not data.at_hand():   # here, for a notebook that is published shows no download
        raise RunError("no MNIST here and no network to fetch it from; what is recorded is of MNIST, and the"
                       " digits sample is not recorded")
    failed = []
    if options.repo:
        publish.move_repository(options.repo)
        print(f"badges and set-up cells now point to {options.repo}")
    elif options.new:
        publish.new_step(options.new, options.source)
    elif options.page:
        (ROOT / "page" / "weights.js").write_text(page.weights(load_mnist().test), "utf-8")
    elif options.record:
        for name in options.names:
            failed += record_notebook(name, options.seeds or [], options.cluster)
    elif options.seeds:
        failed = seeds.run(options.names, options.seeds, options.cluster)
    else:
        for name in options.names:
            print(f"--- {name}", flush=True)
            publish.show(name, "recorded" if options.recorded else "")
    if options.text or options.record or options.seeds:
        draw()
        false = publish.renew()
        for sentence in false:
            print(f"false: {sentence}", file=sys.stderr)
        if options.text and false:
            return 1
    if failed:
        print(f"failed, and not recorded: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def record_notebook(name, wanted, cluster):
    """Train what is not recorded of a notebook, then publish it from its record; return what failed."""
    recorded = record.read_all().get(name)
    own, failed = recorded.seed if recorded else (wanted or [0])[0], []
    print(f"--- {name}, seed {own}", flush=True)
    keep.add(publish.train(name, own))
    others = [seed for seed in wanted if seed != own]
    if others:
        failed = seeds.run([name], others, cluster)
    print(f"--- {name}, from the record", flush=True)
    publish.publish(name)
    return failed


def draw():
    """Draw the pictures of README and of results/ from the record."""
    import pictures  # here, for it takes seconds

    for name, figure in pictures.draw().items():
        figure.savefig(ROOT / "results" / f"{name}.png", dpi=100)
        pictures.plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
