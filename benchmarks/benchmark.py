"""Measure how fast training is, and write benchmarks/README.md, its picture and its numbers.

    python benchmarks/benchmark.py      about 15 minutes on two cores

Every figure is measured in this one run. What is compared runs in turns, each time in a process
of its own: so neither side finds the other's memory, and a cold start is one. Figures of other
machines in benchmarks/measured.json stay.
"""

import argparse
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

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import mnist
import model
import utils
from utils import MEAN, STD, Augment, Split, evaluate, fit, load_mnist, pick_device, set_seed

NETWORKS = {"OneCycleNet": 7, "RotationNet": 35, "SchedulerNet": 7}   # and the degrees that each is rotated by
ROAD = {"99.0": ("StridedNet", 1, None), "99.4": ("StridedNet", 3, Augment(rotation=8, shift=1.5, scale=0.08))}
SEEDS = range(10)


# ---------------------------------------------------------------- what is measured, each in a process of its own

def usual(network):
    """Train and score one epoch as most notebooks do; return the seconds of training.

    torchvision's data set, PIL transforms, a DataLoader with two workers, torch.nn's layers, float32.
    """
    from torch.utils.data import DataLoader
    from torchvision import transforms

    device, turn = pick_device(), NETWORKS[network]
    normal = [transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))]
    rotated = transforms.Compose([transforms.RandomRotation((-turn, turn), fill=(0,)), *normal])
    images = DataLoader(torchvision.datasets.MNIST(mnist.root(), train=True, transform=rotated), 128, shuffle=True, num_workers=2)
    net = torch_layers(getattr(model, network)()).to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
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


def torch_layers(net):
    """Return `net` with torch.nn's own batch norm and dropout in place of ours."""
    for module in list(net.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(layer.num_features))
            if isinstance(layer, nn.Dropout):
                setattr(module, name, nn.Dropout(layer.p))
    return net


def ours(network, count=60_000, batch_size=128, epochs=1, autocast=True):
    """Train `epochs` epochs with our engine; return the seconds of the last one and the peak memory in MB after each."""
    data = load_mnist(pick_device())
    train = Split(*(torch.cat([part] * -(-count // 60_000))[:count] for part in data.train))
    net = getattr(model, network)().to(train.labels.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    augment, memory, seconds = Augment(rotation=NETWORKS.get(network, 8)), [], []
    for _ in range(epochs):
        seconds.append(fit(net, data._replace(train=train), optimizer, epochs=1, batch_size=int(batch_size), augment=augment,
                           autocast=autocast, graphs=True, quiet=True).last.seconds)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"seconds": seconds[-1], "memory": memory}


def step8(seed):
    """Train train_mnist_fast's last step, from its published facts, as plain PyTorch; return seconds and test accuracy."""
    data = load_mnist(pick_device())
    set_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
                        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)).to(data.train.labels.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=-(-len(data.train.labels) // 256), cycle_momentum=False)
    start = time.perf_counter()
    order = torch.randperm(len(data.train.labels), device=data.train.labels.device)
    for x, y in zip(data.train.images[order].split(256), data.train.labels[order].split(256)):
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


def road(goal, seed, autocast=True):
    """Train the fastest network to `goal`; return seconds and test accuracy."""
    network, epochs, augment = ROAD[goal]
    swept = utils.sweep(getattr(model, network), load_mnist(pick_device()), [seed], epochs, augment=augment, autocast=autocast)
    return {"seconds": swept.seconds[seed], "accuracy": swept.accuracies[seed]}


def limits(network):
    """Return operations and bytes of one training step, and what the device does of either in a second."""
    from torch.utils.flop_counter import FlopCounterMode

    data = load_mnist(pick_device())
    device = data.train.labels.device
    net = getattr(model, network)().to(device, memory_format=torch.channels_last)
    x, y = data.train.images[:128], data.train.labels[:128]
    with FlopCounterMode(display=False) as flops, Bytes() as moved, utils.half_precision(device):
        F.nll_loss(net(x), y).backward()
    dtype = utils.half_type(device) or torch.float32
    a, from_here = torch.randn(2048, 2048, device=device).to(dtype), torch.empty(64 * 2**20, dtype=torch.uint8, device=device)
    there = torch.empty_like(from_here)
    return {"flops": flops.get_total_flops() * 60_000 / 128, "bytes": moved.total * 60_000 / 128,
            "flops_per_second": 2 * 2048**3 / timed(lambda: a @ a),
            "bytes_per_second": 2 * len(there) / timed(lambda: there.copy_(from_here))}   # read and written


class Bytes(torch.utils._python_dispatch.TorchDispatchMode):
    """Adds up the bytes of all tensors that go into and come out of the operations run under it, views left out."""

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


KINDS = {"convolution": "convolution", "batch_norm": "batch norm", "Normalise": "batch norm", "addcmul": "batch norm",
         "pool": "pooling", "threshold": "ReLU", "clamp_min": "ReLU", "Optimizer": "optimizer", "grid_sampler": "augmentation",
         "addmm": "augmentation", "index": "shuffle"}


def profile(network):
    """Return the share of the operators' own time, in percent, by kind of work."""
    data = load_mnist(pick_device())
    data = data._replace(train=Split(*(part[:16_384] for part in data.train)), test=None)
    net = getattr(model, network)().to(data.train.labels.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    epoch = lambda: fit(net, data, optimizer, epochs=1, augment=Augment(rotation=7), autocast=True, quiet=True)
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
    code = ("import time; a = time.perf_counter(); import torch, torchvision; b = time.perf_counter(); import utils;"
            "print(b - a, time.perf_counter() - b)")
    runs = [list(map(float, subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, check=True, capture_output=True,
                                           text=True).stdout.split())) for _ in range(5)]
    return {"torch": statistics.median(a for a, _ in runs), "utils": statistics.median(b for _, b in runs)}


MEASURES = {f.__name__: f for f in (usual, ours, step8, road, limits, profile, imports)}


def apart(measure, *arguments):
    """Run `measure` in a process of its own; return what it returns, with `cold`, the seconds of the whole process."""
    command = [sys.executable, __file__, "--measure", measure, json.dumps(arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(os.environ, TQDM_DISABLE="1"))
    result = {**json.loads(done.stdout.splitlines()[-1]), "cold": time.perf_counter() - start}
    print(measure, *arguments, {key: round(value, 2) for key, value in result.items() if isinstance(value, float)}, flush=True)
    return result


# ---------------------------------------------------------------- one run

def measure_all(repeats=3, seeds=SEEDS):
    """Return every figure of this machine."""
    epochs = {network: {"usual": [], "ours": []} for network in NETWORKS}
    for _ in range(repeats):
        for network, sides in epochs.items():
            for side, seconds in sides.items():
                seconds.append(apart(side, network)["seconds"])
    goals = {"step 8": [], "99.0": [], "99.4": []}
    for seed in seeds:
        goals["step 8"].append(apart("step8", seed))
        for goal in ROAD:
            goals[goal].append(apart("road", goal, seed))
    float32 = [apart("road", "99.4", seed, False) for seed in list(seeds)[:3]]
    growth = {count: [] for count in (15_000, 30_000, 60_000, 240_000)}
    for _ in range(repeats):
        for count, runs in growth.items():
            runs.append(apart("ours", "StridedNet", count, 256))
    return {
        "torch": torch.__version__, "torchvision": torchvision.__version__, "python": platform.python_version(),
        "threads": torch.get_num_threads(), "processor": processor(),
        "epochs": epochs, "goals": goals, "float32": float32,
        "growth": {count: {"seconds": statistics.median(run["seconds"] for run in runs),
                           "memory": max(run["memory"][-1] for run in runs)} for count, runs in growth.items()},
        "batches": {size: apart("ours", "StridedNet", 60_000, size)["seconds"] for size in (32, 64, 128, 256, 512, 1024)},
        "memory": apart("ours", "StridedNet", 60_000, 256, 6)["memory"],
        "limits": {network: apart("limits", network) for network in NETWORKS},
        "profile": {network: apart("profile", network) for network in NETWORKS},
        "imports": imports(),
    }


def processor():
    """Return the kind of device and processor, no name of a machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


# ---------------------------------------------------------------- the page

def page(measured):
    """Write benchmarks/README.md from the figures of all devices, the newest machine's in full."""
    device, m = list(measured.items())[-1]
    median = lambda runs, key="seconds": statistics.median(run[key] for run in runs)
    gpu = next((kind for kind in measured if not kind.startswith("cpu")), None)
    g = measured.get(gpu)
    lines = ["# How fast it is", "",
             "Written by `python benchmarks/benchmark.py`: every figure was measured in one run, what is compared in turns, "
             "medians unless said otherwise. Absolute seconds differ from machine to machine; the ratios differ less.", "",
             f"Machine: {m['processor']}, {m['threads']} threads; Python {m['python']}, torch {m['torch']}, "
             f"torchvision {m['torchvision']}. GPU: {gpu or 'not measured'}.", "",
             "![Seconds per epoch and time to accuracy](benchmark.png)", "",
             "## Seconds per epoch", "",
             "Training alone, 60,000 images, batch 128, rotated. *Usual*: torchvision's data set, PIL transforms, a DataLoader "
             "with two workers, torch.nn's layers in NCHW, float32. *Ours*: `fit` with `autocast=True`.", "",
             "| network | usual, s | ours, s | usual / ours | on a GPU |", "|---|--:|--:|--:|--:|"]
    for network, sides in m["epochs"].items():
        usual, ours = (statistics.median(sides[side]) for side in ("usual", "ours"))
        there = f"{statistics.median(g['epochs'][network]['usual']) / statistics.median(g['epochs'][network]['ours']):.1f}" if g else "not measured"
        lines.append(f"| {network} | {usual:.1f} | {ours:.1f} | **{usual / ours:.1f}** | {there} |")
    lines += ["", "## Time to accuracy", "",
              "Seconds of training, data in memory; from a cold start with Python, torch and the data to load. "
              "*Step 8* is the last step of tuomaso/train_mnist_fast, rebuilt from its published facts in plain PyTorch. "
              "Test accuracy in %, mean and standard deviation over the seeds, in turns. The recipe is that of "
              "[11_fastest](../notebooks/11_fastest.ipynb), seeds 0 and up.", "",
              "| run | seeds | training, s | / step 8 | cold start, s | accuracy | on a GPU, s |", "|---|--:|--:|--:|--:|--:|--:|"]
    for goal, runs in m["goals"].items():
        accuracies = [run["accuracy"] for run in runs]
        there = f"{median(g['goals'][goal]):.2f}" if g else "not measured"
        lines.append(f"| {goal if 'step' in goal else f'ours, to {goal} %'} | {len(runs)} | {median(runs):.2f} "
                     f"| {median(runs) / median(m['goals']['step 8']):.2f} | {median(runs, 'cold'):.1f} "
                     f"| {statistics.mean(accuracies):.3f} +- {statistics.stdev(accuracies):.3f} | {there} |")
    half, full = m["goals"]["99.4"][:len(m["float32"])], m["float32"]
    error = statistics.stdev(a["accuracy"] - b["accuracy"] for a, b in zip(half, full)) / len(full) ** 0.5
    lines += ["", f"16 bits against 32: the run to 99.4 % over {len(full)} seeds, under autocast "
              f"{statistics.mean(r['accuracy'] for r in half):.2f} % in {median(half):.2f} s, in float32 "
              f"{statistics.mean(r['accuracy'] for r in full):.2f} % in {median(full):.2f} s; "
              f"the standard error of the difference is {error:.2f} points.", "",
              "## Share of the limit", "",
              "Floating-point operations of one epoch, counted, and what a matrix product of 2048 x 2048 would need for as many; "
              "bytes that go into and come out of the operations, and what copying as many would take.", "",
              "| network | TFLOP | at the rate of a matrix product, s | share | GB moved | as a copy, s | an epoch takes, s |",
              "|---|--:|--:|--:|--:|--:|--:|"]
    for network, limit in m["limits"].items():
        ours = statistics.median(m["epochs"][network]["ours"])
        product, copy = limit["flops"] / limit["flops_per_second"], limit["bytes"] / (limit["bytes_per_second"] / 2)
        lines.append(f"| {network} | {limit['flops'] / 1e12:.2f} | {product:.2f} | {100 * product / ours:.0f} % "
                     f"| {limit['bytes'] / 1e9:.0f} | {copy:.1f} | {ours:.1f} |")
    lines += ["", "## What the time is", ""]
    for network, shares in m["profile"].items():
        told = ", ".join(f"{kind} {share:.0f} %" for kind, share in shares.items() if isinstance(share, float) and kind != "cold" and share >= 1)
        lines.append(f"- {network}: {told}.")
    lines += ["", "The maps are small and have 4 to 16 channels: a convolution fills neither the vector units nor, many times an "
              "epoch, the time it takes to start it, and all the rest moves memory. No loader is left, and no conversion.", "",
              "## Growth", "", "StridedNet, one augmented epoch, batch 256 where it is not the batch that grows.", "",
              "| images | seconds | of 60,000's share | peak memory, MB |", "|--:|--:|--:|--:|"]
    one = m["growth"]["60000"]["seconds"] / 60_000
    for count, run in m["growth"].items():
        lines.append(f"| {int(count):,} | {run['seconds']:.1f} | {run['seconds'] / (one * int(count)):.2f} | {run['memory']:,.0f} |")
    lines += ["", "| batch size | " + " | ".join(m["batches"]) + " |", "|---|" + "--:|" * len(m["batches"]),
              "| seconds | " + " | ".join(f"{seconds:.1f}" for seconds in m["batches"].values()) + " |", "",
              f"Peak memory of the process after each of {len(m['memory'])} epochs, in MB: "
              + ", ".join(f"{memory:,.0f}" for memory in m["memory"]) + ".", "",
              f"`import torch, torchvision` takes {m['imports']['torch']:.2f} s, `import utils` {m['imports']['utils']:.2f} s more."]
    return "\n".join(lines) + "\n"


def picture(m):
    """Return the PNG of seconds per epoch, usual beside ours, and time against accuracy, a point per seed."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from plots import BLUE, GREEN, GREY, ORANGE

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for place, (side, colour) in enumerate((("usual", GREY), ("ours", BLUE))):
        seconds = [statistics.median(sides[side]) for sides in m["epochs"].values()]
        bars = left.bar([i + 0.4 * place for i in range(len(seconds))], seconds, 0.38, color=colour, label=side)
        left.bar_label(bars, fmt="%.1f")
    left.set_xticks([i + 0.2 for i in range(len(NETWORKS))], NETWORKS, fontsize=11)
    left.set(ylabel="seconds", title="one epoch of training")
    left.legend(frameon=False)
    for (goal, runs), colour, marker in zip(m["goals"].items(), (GREY, ORANGE, GREEN), "so^"):
        label = "train_mnist_fast, step 8" if "step" in goal else f"ours, to {goal} %"
        right.plot([run["seconds"] for run in runs], [run["accuracy"] for run in runs], marker, color=colour, label=label)
    right.set(xlabel="seconds of training", ylabel="test accuracy, %", title="time to accuracy, a point per seed", xlim=(0, None))
    right.grid(alpha=0.3)
    right.legend(loc="lower left", fontsize=11, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, dpi=100)
    return png.getvalue()


def main():
    parser = argparse.ArgumentParser(description="Measure speed; write benchmarks/README.md, benchmark.png and measured.json.")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)   # what a process of its own is asked for
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page and the picture anew")
    options = parser.parse_args()
    if options.measure:
        name, arguments = options.measure
        print(json.dumps(MEASURES[name](*json.loads(arguments))))
        return
    kept = HERE / "measured.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    if not options.page:
        if not mnist.at_hand():
            sys.exit("no MNIST here and no network to fetch it from: the digits sample would measure nothing")
        key = torch.cuda.get_device_name() if torch.cuda.is_available() else pick_device().type
        measured.pop(key, None)   # the newest comes last
        measured[key] = json.loads(json.dumps(measure_all()))
    from run import write   # here, for it would count in every cold start

    write({kept: (json.dumps(measured, indent=1) + "\n").encode(),
               HERE / "README.md": page(measured).encode(),
               HERE / "benchmark.png": picture(list(measured.values())[-1])})
    print(f"wrote {HERE.name}/README.md, benchmark.png and measured.json")


if __name__ == "__main__":
    main()
