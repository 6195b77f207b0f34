"""The benchmark's parts, on small data; and its page, which is the one that its numbers give."""

import json
import sys

import pytest
import torch

from benchmarks import benchmark
from lab import layers


@pytest.fixture
def small(tiny, monkeypatch):
    monkeypatch.setattr(benchmark, "load_mnist", lambda device: tiny._replace(name="MNIST"))
    monkeypatch.setattr(benchmark, "THIRD", 320)
    monkeypatch.setattr(benchmark, "BATCH", 64)


@pytest.fixture
def measured():
    return json.loads((benchmark.HERE / "measured.json").read_text())


def test_the_page_is_the_one_of_the_numbers(measured):
    assert (benchmark.HERE / "README.md").read_text() == benchmark.page(measured)


def test_the_shares_of_time_that_notebook_12_allows_are_kept(measured):
    goals = measured["cpu"]["goals"]
    for name, share in (("99.0", 0.2), ("99.4", 0.7), ("99.6", 5)):
        assert benchmark.median(goals[name]) / benchmark.median(goals["step 8"]) < share


def test_what_notebook_12_says_of_a_gpu_is_so(measured):
    goals = measured["NVIDIA H100 80GB HBM3"]["goals"]
    step8, *ours = (benchmark.median(goals[name]) for name in ("step 8", "99.0", "99.4"))
    assert ours == pytest.approx([step8, 2 * step8], rel=0.1)


def test_what_was_not_measured_is_not_shown(measured):
    cpu = {key: figures for key, figures in measured["cpu"].items() if key != "layers"}
    assert "What the faster layers gain" not in benchmark.page({"cpu": cpu})
    assert "A GPU was not measured." in benchmark.page({"cpu": cpu})
    assert "A GPU was not measured." not in benchmark.page({"cpu": cpu, "NVIDIA T4": cpu})


def test_a_page_is_made_of_a_whole_run(monkeypatch):
    asked, rates = [], {"flops": 1e12, "bytes": 1e10}
    figures = {"profile": {"convolution": 70.0, "cold": 9.0}, "limits": rates, "rates": rates}
    usual = {"seconds": 4.0, "cold": 9.0, "accuracy": 99.0, "memory": [1500.0] * 6}
    figures["warm"] = {"runs": [usual] * 3}
    apart = lambda measure, *of: asked.append((measure, *of)) or figures.get(measure, usual)
    monkeypatch.setattr(benchmark, "apart", apart)
    monkeypatch.setattr(benchmark, "imports", lambda: {"torch": 3.0, "utils": 0.5})
    made = json.loads(json.dumps(benchmark.measure_all(repeats=2, seeds=range(3))))
    page = benchmark.page({"cpu": made})
    assert "| TinyNet | 4.0 | 4.0 | **1.00** |" in page and "| step 8 | 3 | 4.00 | 1.00 | 9.0 |" in page
    turns = [call for call in asked if call[:2] == ("layers", "TinyNet")]
    assert turns == [("layers", "TinyNet", "torch.nn"), ("layers", "TinyNet", "faster")] * 2
    gpu = json.loads(json.dumps(benchmark.measure_gpu(seeds=range(3))))
    page = benchmark.page({"cpu": made, "NVIDIA T4": gpu})
    assert "| ours, to 99.4 % | 3 | 4.00 | 1.00 | 17.1 |" in page
    assert page.count("| SchedulerNet | 4.0 | 4.0 | **1.0** |") == 2
    assert {measure for measure, *_ in asked} == benchmark.MEASURES.keys()


def test_a_warm_run_is_made_once_before_it_is_measured(monkeypatch):
    made = []
    monkeypatch.setitem(benchmark.MEASURES, "goal", lambda *run: made.append(run) or {"seconds": 1.0})
    assert benchmark.warm("goal", ["99.0", 0], ["99.0", 1]) == {"runs": [{"seconds": 1.0}] * 2}
    assert made == [("99.0", 0), ("99.0", 0), ("99.0", 1)]


def test_what_the_faster_layers_gain_is_measured_with_and_without_them(small, monkeypatch):
    assert {"SchedulerNet", "TinyNet"} < set(benchmark.with_faster_layers())
    assert not {"Baseline", "LightNet", "DigitNet"} & set(benchmark.with_faster_layers())
    called, forward = [], layers.FastBatchNorm2d.forward
    monkeypatch.setattr(layers.FastBatchNorm2d, "forward", lambda *x: called.append(1) or forward(*x))
    assert benchmark.layers("SchedulerNet", "torch.nn")["seconds"] > 0 and not called
    assert benchmark.layers("SchedulerNet", "faster")["seconds"] > 0 and called


def test_bytes_are_those_of_what_goes_in_and_comes_out():
    x = torch.zeros(1000)
    with benchmark.Bytes() as moved:
        (x.view(10, 100) + x.view(10, 100)).view(-1)
    assert moved.total == 3 * 4000


@pytest.mark.parametrize("measure", [lambda: benchmark.step8(0), lambda: benchmark.goal("99.0", 0),
                                     lambda: benchmark.goal("99.4", 0, False),
                                     lambda: benchmark.goal("99.6", 0)])
def test_time_to_accuracy(small, measure):
    result = measure()
    assert result["seconds"] > 0 and 0 <= result["accuracy"] <= 100


def test_an_epoch_of_ours_and_where_its_time_goes(small):
    result = benchmark.ours("StridedNet", count=640, batch_size=64, epochs=2)
    assert result["seconds"] > 0 and len(result["memory"]) == 2
    assert sum(benchmark.profile("SchedulerNet").values()) == pytest.approx(100)
    assert benchmark.limits("OneCycleNet")["flops"] > 1e11 and min(benchmark.rates().values()) > 1e9


def test_without_mnist_nothing_is_measured(no_mnist, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmark.py"])
    with pytest.raises(SystemExit, match="no MNIST"):
        benchmark.main()
