"""Measure how fast training is, in turns with what it is compared with.

    python benchmarks/benchmark.py             measure, print the tables: half an hour on two cores
    python benchmarks/benchmark.py --record    keep them, too: in measured.json, README.md and benchmark.png

Each training runs in a process of its own, so that none finds the memory of another, and a cold start is one.
A GPU loads a kernel when it is first asked for: there, the process trains once before it measures.
"""

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
from lab import data as mnist
from lab.fast import FASTER
from lab.keep import environment
from utils import Augment, Split, evaluate, fit, load_mnist, one_cycle, pick_device, score_once, set_seed

HERE = Path(__file__).resolve().parent
LAST = "train_mnist_fast"   # the last version of it
NETWORKS = {"OneCycleNet": 7, "RotationNet": 35, "SchedulerNet": 7}   # and the degrees that it is rotated by
GOALS = {"99.0": ("StridedNet", 1, None), "99.4": ("StridedNet", 2, None),   # by the recipe of 12_fastest
         "99.6": ("DeepStridedNet", 6, Augment(rotation=8, shift=1.5, scale=0.08))}
THIRD = 20_000   # images: a third of an epoch, for what is measured of every network
START, END = "<!-- measured -->", "<!-- /measured -->"   # the page's tables stand between them


# ---------------------------------------------------------------- what is measured, each in a process

def usual(network):
    """Train an epoch with torchvision's data set, PIL, a DataLoader and float32; return its seconds."""
    device, turn = pick_device(), NETWORKS[network]
    rotated = transforms.Compose([transforms.RandomRotation((-turn, turn), fill=(0,)),
                                  transforms.ToTensor(), transforms.Normalize((mnist.MEAN,), (mnist.STD,))])
    images = DataLoader(Mnist(mnist.root(), transform=rotated), 128, shuffle=True, num_workers=2)
    net = getattr(model, network)().to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    start = time.perf_counter()
    hits = 0
    for x, y in images:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        log_probabilities = net(x)
        loss = F.nll_loss(log_probabilities, y)
        loss.backward()
        optimizer.step()
        hits += (log_probabilities.argmax(1) == y).sum().item()
        loss.item()   # for the bar that such a loop shows
    return {"seconds": time.perf_counter() - start}


class Mnist(torchvision.datasets.MNIST):
    """torchvision's data set with the images of `lab.data`, whose archives torchvision may refuse."""
    _check_exists = lambda self: True
    _load_data = lambda self: mnist.load()[0]


def ours(network, count=60_000, autocast=True):
    """Train an epoch on the first `count` images with `fit`; return its seconds."""
    data = load_mnist(pick_device())
    train = Split(*(part[:count] for part in data.train))
    net = getattr(model, network)().to(train.labels.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    history = fit(net, data.unscored()._replace(train=train), optimizer, epochs=1, batch_size=128,
                  augment=Augment(rotation=NETWORKS.get(network, 8)), autocast=autocast)
    return {"seconds": history.last.seconds}


def layers(network, kind):
    """Train a third of an epoch in float32 with the layers of `kind`: "faster", or "torch.nn" for its own."""
    own = {layer: layer for layer in FASTER} if kind == "torch.nn" else {}
    with mock.patch.dict(FASTER, own):
        return ours(network, THIRD, autocast=False)


def last_version(seed):
    """Train the last version of train_mnist_fast, rebuilt in PyTorch; return seconds and test accuracy."""
    data = load_mnist(pick_device())
    set_seed(seed)
    images, labels = data.train
    net = nn.Sequential(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
                        nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
                        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)).to(labels.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, cycle_momentum=False,
                                                    total_steps=-(-len(labels) // 256))
    start = time.perf_counter()
    order = torch.randperm(len(labels), device=labels.device)
    for x, y in zip(images[order].split(256), labels[order].split(256)):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        scheduler.step()
    if not x.is_cpu:
        torch.accelerator.synchronize()
    return {"seconds": time.perf_counter() - start, "accuracy": evaluate(net, data.test).accuracy}


def goal(name, seed):
    """Train the fastest network to a goal by the recipe of 12_fastest; return seconds and test accuracy."""
    (network, epochs, augment), data = GOALS[name], load_mnist(pick_device())
    set_seed(seed)
    net = getattr(model, network)().to(data.train.labels.device)
    optimizer, scheduler = one_cycle(net, len(data.train.labels), epochs, 512, lr=0.04, muon_lr=0.15)
    smoothed = lambda log_probabilities, labels: (
        F.nll_loss(log_probabilities, labels).lerp(-log_probabilities.mean(), 0.1))
    history = fit(net, data.unscored(), optimizer, scheduler, epochs, 512, augment, autocast=True,
                  loss=smoothed)
    return {"seconds": sum(epoch.seconds for epoch in history),
            "accuracy": score_once(history, net, data.test, autocast=True)}


MEASURES = {measure.__name__: measure for measure in (usual, ours, layers, last_version, goal)}


# ---------------------------------------------------------------- one run

def apart(measure, *arguments):
    """Run `measure` in a process of its own; return its figures and, on a CPU, `cold`: its seconds."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--measure", measure, json.dumps(arguments)],
                          check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    if pick_device().type == "cpu":
        result["cold"] = time.perf_counter() - start
    print(measure, *arguments, {name: round(value, 2) for name, value in result.items()}, flush=True)
    return result


def quietly(measure, *arguments):
    """Return what `measure` returns, on a GPU the second time, without its lines and bars."""
    with contextlib.redirect_stdout(io.StringIO()) as nowhere, contextlib.redirect_stderr(nowhere):
        if pick_device().type != "cpu":
            MEASURES[measure](*arguments)
        return MEASURES[measure](*arguments)


def compared(networks, sides, repeats):
    """Return {network: {side: seconds of each run}}, the sides, {side: (measure, *arguments)}, in turns."""
    seconds = {network: {side: [] for side in sides} for network in networks}
    for _ in range(repeats):
        for network in networks:
            for side, (measure, *arguments) in sides.items():
                seconds[network][side].append(apart(measure, network, *arguments)["seconds"])
    return seconds


def measure_all(repeats=3, seeds=range(10)):
    """Return every figure of this machine."""
    epochs = compared(NETWORKS, {"usual": ["usual"], "ours": ["ours"]}, repeats)
    goals = {name: [] for name in (LAST, *GOALS)}
    for seed in seeds:
        goals[LAST].append(apart("last_version", seed))
        for name in GOALS:
            goals[name].append(apart("goal", name, seed))
    figures = {**environment(), "torchvision": torchvision.__version__, "epochs": epochs, "goals": goals}
    if pick_device().type == "cpu":   # elsewhere there are no faster layers
        networks = [name for name in vars(model) if name.endswith("Net") and name != "DigitNet"]
        kinds = {kind: ["layers", kind] for kind in ("torch.nn", "faster")}
        figures["layers"] = compared(networks, kinds, repeats)
    return figures


# ---------------------------------------------------------------- the page

def page(text, measured):
    """Return the page `text` with the tables of all machines in `measured` between its marks."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return "\n\n".join([before + START, *(section(*machine) for machine in measured.items()), END + after])


def section(machine, m):
    """Write what was measured on a machine, "cpu" or another, as a section of Markdown."""
    parts = [f"## On a {'CPU' if machine == 'cpu' else 'GPU'}",
             f"{m['device']}; Python {m['python']}, torch {m['torch']}, torchvision {m['torchvision']}.",
             beside("one epoch", m["epochs"], "usual", "ours", digits=1),
             table(["training", "seeds", "seconds", f"/ {LAST}", "cold start, s", "accuracy"],
                   [goal_line(name, m["goals"]) for name in m["goals"]])]
    if "layers" in m:
        parts.append(beside(f"{THIRD:,} images", m["layers"], "torch.nn", "faster", digits=2))
    return "\n\n".join(parts)


def beside(what, compared, first, second, digits):
    """Write a table of both sides' median seconds for each network, and how many times the second's."""
    medians = {network: [statistics.median(sides[side]) for side in (first, second)]
               for network, sides in compared.items()}
    return table([what, f"{first}, s", f"{second}, s", f"{first} / {second}"],
                 [[network, f"{slow:.1f}", f"{fast:.1f}", f"**{slow / fast:.{digits}f}**"]
                  for network, (slow, fast) in medians.items()])


def goal_line(name, goals):
    """Return the line of a goal, or of the last version of train_mnist_fast, in the table of times."""
    seconds, accuracies = median(goals[name], "seconds"), [run["accuracy"] for run in goals[name]]
    cold = f"{median(goals[name], 'cold'):.1f}" if "cold" in goals[name][0] else "-"
    return [name if name == LAST else f"ours, to {name} %", len(accuracies), f"{seconds:.2f}",
            f"{seconds / median(goals[LAST], 'seconds'):.2f}", cold,
            f"{statistics.mean(accuracies):.3f} ± {statistics.stdev(accuracies):.3f}"]


def median(runs, figure):
    """Return the median of a figure over runs."""
    return statistics.median(run[figure] for run in runs)


def table(head, lines):
    """Write a table of Markdown: the first column left, the others right."""
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [head, rule, *lines])


def picture(goals):
    """Return a figure of test accuracy over seconds of training, a point for each seed."""
    from plots import COLOURS, plt  # here, for it would count in every cold start

    figure, axis = plt.subplots(figsize=(8, 5))
    for (name, runs), colour, marker in zip(goals.items(), COLOURS, "so^D"):
        axis.plot([run["seconds"] for run in runs], [run["accuracy"] for run in runs], marker, color=colour,
                  label=f"{name}, last version" if name == LAST else f"ours, to {name} %")
    axis.set(xlabel="seconds of training", ylabel="test accuracy, %", xlim=(0, None))
    axis.legend(loc="lower right")
    return figure


def main():
    parser = argparse.ArgumentParser(description="Measure how fast training is, and print the tables.")
    parser.add_argument("--record", action="store_true", help="keep what is measured, in benchmarks/")
    parser.add_argument("--page", action="store_true", help="measure nothing: write tables and picture anew")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)   # what `apart` asks a process for
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(quietly(options.measure[0], *json.loads(options.measure[1]))))
        return
    measured = json.loads((HERE / "measured.json").read_text())
    if not options.page:
        mnist.load()   # or say what is missing: the digits sample would measure nothing
        figures = measure_all()
        machine = "cpu" if pick_device().type == "cpu" else figures["device"]
        measured[machine] = figures
        print(section(machine, figures))
    if options.record or options.page:
        (HERE / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
        (HERE / "README.md").write_text(page((HERE / "README.md").read_text(), measured))
        picture(measured["cpu"]["goals"]).savefig(HERE / "benchmark.png", dpi=100)


if __name__ == "__main__":
    main()
