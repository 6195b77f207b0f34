"""The benchmark: what it measures runs on small data, and its page has the numbers of measured.json."""

import json

import pytest
import torch

from benchmarks import benchmark
from benchmarks.benchmark import HERE, LAST
from lab import fast
from utils import Split

MEASURED = json.loads((HERE / "measured.json").read_text())


def test_the_page_has_the_numbers_that_were_measured():
    text = (HERE / "README.md").read_text()
    assert benchmark.page(text, MEASURED) == text, "python benchmarks/benchmark.py --page writes them"


def test_what_notebook_12_says_of_the_benchmark_is_so():
    seconds = {machine: {name: benchmark.median(runs, "seconds") for name, runs in figures["goals"].items()}
               for machine, figures in MEASURED.items()}
    cpu, gpu = seconds["cpu"], seconds["NVIDIA H100 80GB HBM3"]
    assert all(cpu[name] < share * cpu[LAST] for name, share in (("99.0", 0.2), ("99.4", 0.7), ("99.6", 5)))
    assert [gpu["99.0"], gpu["99.4"]] == pytest.approx([gpu[LAST], 2 * gpu[LAST]], rel=0.1)


def test_all_is_measured_in_turns(sample, monkeypatch):
    calls, forward = [], fast.FastBatchNorm2d.forward
    data = sample._replace(train=Split(*(part[:600] for part in sample.train)))
    monkeypatch.setattr(fast.FastBatchNorm2d, "forward", lambda *x: calls.append("fast") or forward(*x))
    monkeypatch.setattr(benchmark, "THIRD", 128)
    monkeypatch.setattr(benchmark, "load_mnist", lambda device: data)
    pixels, labels = torch.zeros(128, 28, 28).byte(), torch.zeros(128)
    monkeypatch.setattr(benchmark.mnist, "load", lambda: [(pixels, labels)])
    monkeypatch.setattr(benchmark, "apart", lambda measure, *of: calls.append((measure, *of))
                        or {**benchmark.quietly(measure, *of), "cold": 9.0})
    figures = benchmark.measure_all(repeats=1, seeds=range(2))
    turns = [call for call in calls if call != "fast"]
    assert turns[:3] == [("usual", "OneCycleNet"), ("ours", "OneCycleNet"), ("usual", "RotationNet")]
    assert turns[6:10] == [("last_version", 0), *(("goal", name, 0) for name in ("99.0", "99.4", "99.6"))]
    assert turns[10] == ("last_version", 1)
    own, faster = (calls.index(("layers", "TinyNet", kind)) for kind in ("torch.nn", "faster"))
    assert own + 1 == faster and calls[faster + 1] == "fast"   # and none with torch.nn's
    assert "| train_mnist_fast | 2 |" in benchmark.section("cpu", json.loads(json.dumps(figures)))
