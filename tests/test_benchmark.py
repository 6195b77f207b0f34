"""The benchmark's parts, on small data; and its page, which is the one that its numbers give."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import model
import run
from benchmarks import benchmark


@pytest.fixture
def small(tiny, monkeypatch):
    monkeypatch.setattr(benchmark, "load_mnist", lambda device: tiny._replace(name="MNIST"))


def test_the_page_is_the_one_of_the_numbers():
    measured = json.loads((benchmark.HERE / "measured.json").read_text())
    assert (benchmark.HERE / "README.md").read_text() == benchmark.page(measured)


def test_a_gpu_gets_its_column():
    measured = json.loads((benchmark.HERE / "measured.json").read_text())
    cpu = measured["cpu"]
    assert "not measured" in benchmark.page({"cpu": cpu})
    page = benchmark.page({"NVIDIA T4": cpu, "cpu": cpu})
    assert "not measured" not in page and "GPU: NVIDIA T4." in page


def test_the_usual_layers_are_pytorchs():
    net = benchmark.torch_layers(model.RotationNet())
    kinds = {type(layer) for layer in net.modules() if isinstance(layer, (nn.BatchNorm2d, nn.Dropout))}
    assert kinds == {nn.BatchNorm2d, nn.Dropout}
    assert model.count_parameters(net) == model.count_parameters(model.RotationNet())


def test_bytes_are_those_of_what_goes_in_and_comes_out():
    x = torch.zeros(1000)
    with benchmark.Bytes() as moved:
        (x.view(10, 100) + x.view(10, 100)).view(-1)
    assert moved.total == 3 * 4000


@pytest.mark.parametrize("measure", [lambda: benchmark.step8(0), lambda: benchmark.road("99.0", 0), lambda: benchmark.road("99.4", 0, False)])
def test_time_to_accuracy(small, measure):
    result = measure()
    assert result["seconds"] > 0 and 0 <= result["accuracy"] <= 100


def test_an_epoch_of_ours_and_where_its_time_goes(small):
    result = benchmark.ours("StridedNet", count=640, batch_size=64, epochs=2)
    assert result["seconds"] > 0 and len(result["memory"]) == 2
    assert sum(benchmark.profile("SchedulerNet").values()) == pytest.approx(100)
    assert benchmark.limits("OneCycleNet")["flops"] > 1e11


def test_without_mnist_nothing_is_measured(no_mnist):
    done = subprocess.run([sys.executable, benchmark.__file__], capture_output=True, text=True, cwd=run.ROOT)
    assert done.returncode == 1 and "no MNIST" in done.stderr
