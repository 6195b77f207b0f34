"""Measure how fast training is, and write benchmarks/README.md, its picture and its numbers.

    python benchmarks/benchmark.py      about half an hour on two cores

Every figure is measured in this one run. What is compared runs in turns, each time in a process
of its own: so neither side finds the other's memory, and a cold start is one. Figures of other
machines in benchmarks/measured.json stay.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import resource
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import model
import utils
from lab import mnist
from lab.device import half_precision, half_type
from lab.layers import FASTER
from utils import MEAN, STD, Augment, Split, fit, load_mnist, one_cycle, pick_device, score_once, set_seed

HERE = Path(__file__).resolve().parent
NETWORKS = {"OneCycleNet": 7, "RotationNet": 35, "SchedulerNet": 7}   # and the degrees that it is rotated by
GOALS = {"99.0": ("StridedNet", 1, None), "99.4": ("StridedNet", 2, None),   # by the recipe of 12_fastest
         "99.6": ("DeepStridedNet", 6, Augment(rotation=8, shift=1.5, scale=0.08))}
BATCH, CYCLE, SMOOTHING = 512, {"lr": 0.04, "muon_lr": 0.15}, 0.1
SEEDS = range(10)
THIRD = 20_000   # images: a third of an epoch, for what is measured of every network


# ---------------------------------------------------------------- what is measured, each in a process

def usual(network):
    """Train and score one epoch as most notebooks do; return the seconds of training.

    torchvision's data set, PIL transforms, a DataLoader with two workers, torch.nn's layers, float32.
    """
    from torch.utils.data import DataLoader
    from torchvision import transforms

    device, turn = pick_device(), NETWORKS[network]
    normal = [transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]
    rotated = transforms.Compose([transforms.RandomRotation((-turn, turn), fill=(0,)), *normal])
    training = torchvision.datasets.MNIST(mnist.root(), train=True, transform=rotated)
    images = DataLoader(training, 128, shuffle=True, num_workers=2)
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


def ours(network, count=60_000, batch_size=128, epochs=1, autocast=True):
    """Train epochs with `fit`; return the seconds of the last one and the peak memory in MB after each."""
    data = load_mnist(pick_device())
    train = Split(*(torch.cat([part] * -(-count // len(part)))[:count] for part in data.train))
    net = getattr(model, network)().to(train.labels.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    augment, memory = Augment(rotation=NETWORKS.get(network, 8)), []
    for _ in range(epochs):
        history = fit(net, data.unscored()._replace(train=train), optimizer, epochs=1, batch_size=batch_size,
                      augment=augment, autocast=autocast)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"seconds": history.last.seconds, "memory": memory}


def layers(network, kind):
    """Train a third of an epoch in float32 with the faster layers, or, where `kind` says so, torch.nn's."""
    with mock.patch.object(utils, "faster", utils.faster if kind == "faster" else contextlib.nullcontext):
        return ours(network, THIRD, autocast=False)


def with_faster_layers():
    """List the names of the networks in which `fit` puts faster layers."""
    networks = [kind for kind in vars(model).values() if isinstance(kind, type)
                and issubclass(kind, model.DigitNet) and kind is not model.DigitNet]
    return [kind.__name__ for kind in dict.fromkeys(networks)   # some have a second name
            if any(type(layer) in FASTER for layer in kind().modules())]


def step8(seed):
    """Train train_mnist_fast's last step, rebuilt in plain PyTorch; return seconds and test accuracy."""
    data = load_mnist(pick_device())
    set_seed(seed)
    images, labels = data.train
    net = nn.Sequential(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
                        nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
                        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)).to(labels.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=-(-len(labels) // 256),
                                                    cycle_momentum=False)
    start = time.perf_counter()
    order = torch.randperm(len(labels), device=labels.device)
    for x, y in zip(images[order].split(256), labels[order].split(256)):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        scheduler.step()
    if x.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    net.eval()
    with torch.no_grad():
        accuracy = 100 * (net(data.test.images).argmax(1) == data.test.labels).float().mean().item()
    return {"seconds": seconds, "accuracy": accuracy}


def goal(name, seed, autocast=True):
    """Train the fastest network to a goal by the recipe of 12_fastest; return seconds and test accuracy."""
    (network, epochs, augment), data = GOALS[name], load_mnist(pick_device())
    set_seed(seed)
    net = getattr(model, network)().to(data.train.labels.device)
    optimizer, scheduler = one_cycle(net, len(data.train.labels), epochs, BATCH, **CYCLE)
    history = fit(net, data.unscored(), optimizer, scheduler, epochs, BATCH, augment, autocast, SMOOTHING)
    return {"seconds": sum(epoch.seconds for epoch in history),
            "accuracy": score_once(history, net, data.test, autocast)}


def limits(network):
    """Return the operations of one training epoch, and the bytes that go into them and come out of them."""
    from torch.utils.flop_counter import FlopCounterMode

    data = load_mnist(pick_device())
    device = data.train.labels.device
    net = getattr(model, network)().to(device, memory_format=torch.channels_last)
    x, y = data.train.images[:128], data.train.labels[:128]
    with FlopCounterMode(display=False) as flops, Bytes() as moved, half_precision(device):
        F.nll_loss(net(x), y).backward()
    return {"flops": flops.get_total_flops() * 60_000 / 128, "bytes": moved.total * 60_000 / 128}


def rates():
    """Return the operations that a matrix product does in a second, and the bytes that a copy moves."""
    device = pick_device()
    a = torch.randn(2048, 2048, device=device).to(half_type(device) or torch.float32)
    from_here = torch.empty(64 * 2**20, dtype=torch.uint8, device=device)
    there = torch.empty_like(from_here)
    return {"flops": 2 * 2048**3 / timed(lambda: a @ a),
            "bytes": 2 * len(there) / timed(lambda: there.copy_(from_here))}   # read and written


class Bytes(torch.utils._python_dispatch.TorchDispatchMode):
    """Adds up the bytes of the tensors that go into and come out of the operations run under it but views."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = torch.utils._pytree.tree_leaves((args, kwargs, out))
            self.total += sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))
        return out


def timed(call, repeats=20):
    """Return the median seconds of a call."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


KINDS = {"convolution": "convolution", "batch_norm": "batch norm", "Normalise": "batch norm",
         "addcmul": "batch norm", "pool": "pooling", "threshold": "ReLU", "clamp_min": "ReLU",
         "grid_sampler": "augmentation", "addmm": "augmentation", "Optimizer": "optimizer",
         "index": "shuffle"}


def profile(network):
    """Return the share of the operators' own time, in percent, by kind of work."""
    data = load_mnist(pick_device())
    data = data.unscored()._replace(train=Split(*(part[:16_384] for part in data.train)))
    net = getattr(model, network)().to(data.train.labels.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    epoch = lambda: fit(net, data, optimizer, epochs=1, augment=Augment(rotation=7), autocast=True)
    epoch()
    with torch.profiler.profile() as profiled:
        epoch()
    shares = {}
    for event in profiled.key_averages():
        kind = next((kind for part, kind in KINDS.items() if part in event.key), "everything else")
        shares[kind] = shares.get(kind, 0) + (event.self_device_time_total or event.self_cpu_time_total)
    whole = sum(shares.values())
    return {kind: 100 * share / whole for kind, share in sorted(shares.items(), key=lambda item: -item[1])}


def imports():
    """Return the seconds of `import torch, torchvision` and of `import utils` after it."""
    code = ("import time; a = time.perf_counter(); import torch, torchvision; b = time.perf_counter();"
            "import utils; print(b - a, time.perf_counter() - b)")
    runs = [subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, check=True, capture_output=True,
                           text=True).stdout.split() for _ in range(5)]
    return {name: statistics.median(float(run[place]) for run in runs)
            for place, name in enumerate(("torch", "utils"))}


def warm(measure, *runs):
    """Return what `measure` gives for the arguments of each run, in one process, the first run twice.

    The first warms up: a GPU loads a kernel when it is first asked for.
    """
    MEASURES[measure](*runs[0])
    return {"runs": [MEASURES[measure](*arguments) for arguments in runs]}


MEASURES = {f.__name__: f for f in (warm, usual, ours, layers, step8, goal, limits, rates, profile)}


def apart(measure, *arguments):
    """Run `measure` in a process of its own; return its figures with `cold`, the seconds of the process."""
    command = [sys.executable, __file__, "--measure", measure, json.dumps(arguments)]
    start = time.perf_counter()
    environment = {**os.environ, "TQDM_DISABLE": "1", "FIT_MODE": ""}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result = {**json.loads(done.stdout), "cold": time.perf_counter() - start}
    figures = {key: round(value, 2) for key, value in result.items() if isinstance(value, float)}
    print(measure, *arguments, figures, flush=True)
    return result


# ---------------------------------------------------------------- one run

def measure_all(repeats=3, seeds=SEEDS):
    """Return every figure of this machine."""
    epochs = {network: {"usual": [], "ours": []} for network in NETWORKS}
    for _ in range(repeats):
        for network, sides in epochs.items():
            for side, seconds in sides.items():
                seconds.append(apart(side, network)["seconds"])
    gains = {network: {"torch.nn": [], "faster": []} for network in with_faster_layers()}
    for _ in range(repeats):
        for network, kinds in gains.items():
            for kind, seconds in kinds.items():
                seconds.append(apart("layers", network, kind)["seconds"])
    goals = {name: [] for name in ("step 8", *GOALS)}
    for seed in seeds:
        goals["step 8"].append(apart("step8", seed))
        for name in GOALS:
            goals[name].append(apart("goal", name, seed))
    float32 = [apart("goal", "99.4", seed, False) for seed in list(seeds)[:3]]
    growth = {count: [] for count in (15_000, 30_000, 60_000, 240_000)}
    for _ in range(repeats):
        for count, runs in growth.items():
            runs.append(apart("ours", "StridedNet", count, 256))
    return {
        "torch": torch.__version__, "torchvision": torchvision.__version__,
        "python": platform.python_version(), "threads": torch.get_num_threads(), "processor": processor(),
        "epochs": epochs, "layers": gains, "goals": goals, "float32": float32,
        "growth": {count: {"seconds": median(runs), "memory": max(run["memory"][-1] for run in runs)}
                   for count, runs in growth.items()},
        "batches": {size: apart("ours", "StridedNet", 60_000, size)["seconds"]
                    for size in (32, 64, 128, 256, 512, 1024)},
        "memory": apart("ours", "StridedNet", 60_000, 256, 6)["memory"],
        "rates": apart("rates"), "limits": {network: apart("limits", network) for network in NETWORKS},
        "profile": {network: apart("profile", network) for network in NETWORKS},
        "imports": imports(),
    }


def measure_gpu(repeats=3, seeds=SEEDS):
    """Return the figures of a GPU, fewer than those of a CPU and each from a process that is warm."""
    repeated = lambda measure, *runs: apart("warm", measure, *runs)["runs"]
    goals = {"step 8": repeated("step8", *([seed] for seed in seeds))}
    for name in ("99.0", "99.4"):
        goals[name] = repeated("goal", *([name, seed] for seed in seeds))
    ours = [run["seconds"] for run in repeated("ours", *[["SchedulerNet"]] * repeats)]
    return {
        "torch": torch.__version__, "torchvision": torchvision.__version__,
        "python": platform.python_version(), "processor": processor(), "goals": goals,
        "epochs": {"SchedulerNet": {"usual": [apart("usual", "SchedulerNet")["seconds"]], "ours": ours}},
    }


def processor():
    """Return the kind of device and processor, no name of a machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"


# ---------------------------------------------------------------- the page

PAGE = """# How fast it is

Written by `python benchmarks/benchmark.py`: what is compared was measured in turns, medians unless said
otherwise. Absolute seconds differ from machine to machine; the ratios differ less.

Machine: {processor}, {threads} threads; Python {python}, torch {torch}, torchvision {torchvision}.{gpu}

![Seconds per epoch and time to accuracy](benchmark.png)

## Seconds per epoch

Training alone, 60,000 images, batch 128, rotated. *Usual*: torchvision's data set, PIL transforms, a
DataLoader with two workers, layers in NCHW, float32. *Ours*: `fit` with `autocast=True`.

{epochs}

{layers}## Time to accuracy

Seconds of training, data in memory; from a cold start with Python, torch and the data to load. *Step 8* is
the last step of tuomaso/train_mnist_fast, rebuilt from its published facts in plain PyTorch. Test accuracy in
%, mean and standard deviation over the seeds, in turns. The recipe is that of
[12_fastest](../notebooks/12_fastest.ipynb), seeds 0 and up.

{goals}

16 bits against 32: the run to 99.4 % over {seeds} seeds, under autocast {in_16}, in
float32 {in_32}; the standard error of the difference is {error:.2f} points.

## Share of the limit

Floating-point operations of one epoch, counted, and what a matrix product of 2048 x 2048 would need for as
many; bytes that go into and come out of the operations, and what copying as many would take.

{limits}

## What the time is

{profile}

The maps are small and have 4 to 16 channels: a convolution fills neither the vector units nor, many times an
epoch, the time it takes to start it, and all the rest moves memory. No loader is left, and no conversion.

## Growth

StridedNet, one augmented epoch, batch 256 where it is not the batch that grows.

{growth}

{batches}

Peak memory of the process after each of six epochs, in MB: {memory}.

`import torch, torchvision` takes {imports[torch]:.2f} s, `import utils` {imports[utils]:.2f} s more.
{on_gpu}"""
GPU = """
## On a GPU

{processor}; Python {python}, torch {torch}, torchvision {torchvision}.
Fewer figures, and without the start of a process: a GPU loads each of its small programs when that is first
used, so all but *usual* are of a process that has trained once before.

{goals}

{epochs}

A batch of ours has 512 images, one of step 8 has 256; batch norm and Muon are ours alone. What each of them
costs on a GPU was not measured, nor were CUDA graphs and torch.compile.
"""
LAYERS = """## What the faster layers gain

`fit` trains with the batch norm and dropout of `lab/layers.py` in place of torch.nn's. Seconds for {count:,}
images, a third of an epoch, batch 128, float32, in turns; the networks of `model.py` that had such layers
when this was measured.

{table}

"""


def median(runs, key="seconds"):
    """Return the median of what runs took."""
    return statistics.median(run[key] for run in runs)


def table(head, lines):
    """Write a table of Markdown: the first column left, the others right."""
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [head, rule, *lines])


def beside(compared, first, second, digits):
    """Return a line for each network: what either side took, and how many times as long the first took."""
    medians = {network: [statistics.median(sides[side]) for side in (first, second)]
               for network, sides in compared.items()}
    return [[network, f"{slow:.1f}", f"{fast:.1f}", f"**{slow / fast:.{digits}f}**"]
            for network, (slow, fast) in medians.items()]


def goal_line(name, runs, step8, other):
    """Return the line of a goal in a table of times to accuracy; `other`: a time of another kind."""
    accuracies = [run["accuracy"] for run in runs]
    return [name if runs is step8 else f"ours, to {name} %", len(runs), f"{median(runs):.2f}",
            f"{median(runs) / median(step8):.2f}", f"{other:.1f}",
            f"{statistics.mean(accuracies):.3f} ± {statistics.stdev(accuracies):.3f}"]


def limit_line(network, limit, rates, ours):
    """Return the line of a network in the table of limits; `ours`: seconds of an epoch."""
    product, copy = limit["flops"] / rates["flops"], 2 * limit["bytes"] / rates["bytes"]
    return [network, f"{limit['flops'] / 1e12:.2f}", f"{product:.2f}", f"{100 * product / ours:.0f} %",
            f"{limit['bytes'] / 1e9:.0f}", f"{copy:.1f}", f"{ours:.1f}"]


def on_gpu(m):
    """Write the part of the page about a GPU."""
    batches = {"step 8": 60_000 / 256, **{name: GOALS[name][1] * 60_000 / BATCH for name in GOALS}}
    goals = table(["run", "seeds", "training, s", "/ step 8", "a batch, ms", "accuracy"],
                  [goal_line(name, runs, m["goals"]["step 8"], 1000 * median(runs) / batches[name])
                   for name, runs in m["goals"].items()])
    epochs = table(["network", "usual, s", "ours, s", "usual / ours"],
                   beside(m["epochs"], "usual", "ours", 1))
    return GPU.format(**{**m, "goals": goals, "epochs": epochs})


def page(measured):
    """Write benchmarks/README.md from the figures of the CPU, and of the GPUs that were measured."""
    m, gpus = measured["cpu"], [figures for kind, figures in measured.items() if kind != "cpu"]
    in_16, in_32 = m["goals"]["99.4"][:len(m["float32"])], m["float32"]
    gaps = [a["accuracy"] - b["accuracy"] for a, b in zip(in_16, in_32)]
    says = lambda runs: f"{statistics.mean(run['accuracy'] for run in runs):.2f} % in {median(runs):.2f} s"
    gains = beside(m.get("layers", {}), "torch.nn", "faster", 2)
    gains = table(["network", "torch.nn's, s", "faster, s", "torch.nn's / faster"], gains) if gains else ""
    shares = {network: ", ".join(f"{kind} {share:.0f} %" for kind, share in parts.items()
                                 if kind != "cold" and share >= 1) for network, parts in m["profile"].items()}
    one = m["growth"]["60000"]["seconds"] / 60_000
    values = dict(
        m, gpu="" if gpus else " A GPU was not measured.", on_gpu="".join(map(on_gpu, gpus)),
        epochs=table(["network", "usual, s", "ours, s", "usual / ours"],
                     beside(m["epochs"], "usual", "ours", 1)),
        layers=LAYERS.format(count=THIRD, table=gains) if gains else "",
        goals=table(["run", "seeds", "training, s", "/ step 8", "cold start, s", "accuracy"],
                    [goal_line(name, runs, m["goals"]["step 8"], median(runs, "cold"))
                     for name, runs in m["goals"].items()]),
        seeds=len(gaps), in_16=says(in_16), in_32=says(in_32),
        error=statistics.stdev(gaps) / len(gaps) ** 0.5,
        limits=table(["network", "TFLOP", "at the rate of a matrix product, s", "share", "GB moved",
                      "as a copy, s", "an epoch takes, s"],
                     [limit_line(network, limit, m["rates"], statistics.median(m["epochs"][network]["ours"]))
                      for network, limit in m["limits"].items()]),
        profile="\n".join(f"- {network}: {told}." for network, told in shares.items()),
        growth=table(["images", "seconds", "of 60,000's share", "peak memory, MB"],
                     [[f"{int(count):,}", f"{run['seconds']:.1f}",
                       f"{run['seconds'] / (one * int(count)):.2f}", f"{run['memory']:,.0f}"]
                      for count, run in m["growth"].items()]),
        batches=table(["batch size", *m["batches"]],
                      [["seconds", *(f"{seconds:.1f}" for seconds in m["batches"].values())]]),
        memory=", ".join(f"{memory:,.0f}" for memory in m["memory"]))
    return PAGE.format(**values)


def picture(m):
    """Return the PNG of seconds per epoch, usual beside ours, and time against accuracy, a point per seed."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from plots import BLUE, GREEN, GREY, ORANGE, PURPLE

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for place, (side, colour) in enumerate((("usual", GREY), ("ours", BLUE))):
        seconds = [statistics.median(sides[side]) for sides in m["epochs"].values()]
        places = [i + 0.4 * place for i in range(len(seconds))]
        bars = left.bar(places, seconds, 0.38, color=colour, label=side)
        left.bar_label(bars, fmt="%.1f")
    left.set_xticks([i + 0.2 for i in range(len(NETWORKS))], NETWORKS, fontsize=11)
    left.set(ylabel="seconds", title="one epoch of training")
    left.legend(loc="upper center", ncols=2, frameon=False)
    left.margins(y=0.15)
    for (name, runs), colour, marker in zip(m["goals"].items(), (GREY, ORANGE, GREEN, PURPLE), "so^D"):
        label = "train_mnist_fast, step 8" if "step" in name else f"ours, to {name} %"
        right.plot([run["seconds"] for run in runs], [run["accuracy"] for run in runs], marker, color=colour,
                   label=label)
    right.set(xlabel="seconds of training", ylabel="test accuracy, %", xlim=(0, None),
              title="time to accuracy, a point per seed")
    right.grid(alpha=0.3)
    right.legend(loc="lower right", fontsize=11, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, dpi=100)
    return png.getvalue()


def main():
    parser = argparse.ArgumentParser(
        description="Measure speed; write benchmarks/README.md, benchmark.png and measured.json.")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)   # what `apart` asks a process for
    parser.add_argument("--page", action="store_true",
                        help="measure nothing: write the page and the picture anew")
    options = parser.parse_args()
    if options.measure:
        name, arguments = options.measure
        with contextlib.redirect_stdout(io.StringIO()):   # what `fit` prints
            result = MEASURES[name](*json.loads(arguments))
        print(json.dumps(result))
        return
    kept = HERE / "measured.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    if not options.page:
        if not mnist.at_hand():
            sys.exit("no MNIST here and no network to fetch it from: the digits sample would measure nothing")
        on_gpu = torch.cuda.is_available()
        key = torch.cuda.get_device_name() if on_gpu else pick_device().type
        measured[key] = json.loads(json.dumps(measure_gpu() if on_gpu else measure_all()))
    from lab.publish import write  # here, for it would count in every cold start

    write({kept: (json.dumps(measured, indent=1) + "\n").encode(),
           HERE / "README.md": page(measured).encode(),
           HERE / "benchmark.png": picture(measured["cpu"])})
    print(f"wrote {HERE.name}/README.md, benchmark.png and measured.json")


if __name__ == "__main__":
    main()
