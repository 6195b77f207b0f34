"""Solutions, usual mistakes and strange answers go through the checks, and so do the notebooks' solutions."""

import ast
import re
from contextlib import redirect_stdout
from fractions import Fraction
from io import StringIO

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from scipy import stats
from torch import nn, optim
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

import exercises
from lab import data
from lab.publish import names, read
from model import LightNet
from utils import count_parameters

CHECKS = {name: check for name, check in vars(exercises).items() if hasattr(check, "mistakes")}
every_exercise = pytest.mark.parametrize("name", CHECKS)
five, first, second = (getattr(exercises, name).double().numpy() for name in ("FIVE", "FIRST", "SECOND"))
UP_AND_DOWN = np.array([-1, 1])
student = lambda x, t, ddof=1: np.mean(x) + t * np.std(x, ddof=ddof) / len(x) ** 0.5 * UP_AND_DOWN
turned = lambda x, a: x.numpy() @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def printed(function, *arguments):
    """Return the lines that a function prints."""
    with redirect_stdout(StringIO()) as output:
        function(*arguments)
    return output.getvalue().split("\n")[:-1]


def rates(scheduler, steps, **settings):
    """Return the rates that a scheduler of PyTorch gives: the first one, and that after each of `steps`."""
    scheduler = scheduler(optim.SGD([torch.zeros(1)], lr=1), **settings)
    scheduler.optimizer.step()
    rate = lambda _: scheduler.optimizer.param_groups[0]["lr"]
    return [rate(None), *(rate(scheduler.step(*step)) for step in steps)]


SOLUTIONS = {
    "one_output": 0.8, "guess_loss": 2.3, "empty_paper": -0.42, "guess_among": np.exp(5.26),
    "light_parameters": count_parameters(LightNet()), "linear_head": count_parameters(nn.Linear(192, 10)),
    "heads": [2890, 90], "separable_parameters": [594, count_parameters(nn.Conv2d(18, 24, 3, bias=False))],
    "reliability": [0.96, 4 / 5], "news": bool(stats.ttest_rel(first, second).pvalue < 0.05),
    "mean_interval": student(five, stats.t.ppf(0.975, 4)),
    "paired_interval": student(second - first, stats.t.ppf(0.975, 9)).round(2),
    "plateau": [rates(ReduceLROnPlateau, zip(exercises.ACCURACIES), mode="max", factor=0.5,
                      patience=patience).index(0.5) for patience in (3, 1)],
    "one_cycle": rates(OneCycleLR, [()] * 99, max_lr=0.005, total_steps=100, pct_start=0.2,
                       final_div_factor=1e4).__getitem__,
    "convolution": lambda x, w: [[(x[i:i + 3, j:j + 3] * w).sum() for j in range(3)] for i in range(3)],
    "dropout": lambda x, p: x * (torch.rand_like(x) >= p) / (1 - p),
    "global_average": lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    "batch_norm": nn.BatchNorm2d(3, affine=False), "rotation": lambda x, a: turned(x, np.radians(a)),
    "smoothed_loss": lambda x, y: F.cross_entropy(x, torch.tensor(y), label_smoothing=0.1),
    "separable": lambda x, d, p: F.conv2d(x[None], p[:, :, None, None] * d)[0]}
MISTAKES = [   # made otherwise than in exercises.py: name, a part of the sentence, answer
    ("one_output", "7 is too large", "7"), ("mean_interval", "n - 1", student(five, 2.776, ddof=0)),
    ("paired_interval", "seeds", 0.05 + 2.262 * np.hypot(stats.sem(first), stats.sem(second)) * UP_AND_DOWN),
    ("convolution", "shape (1, 3, 3)", lambda x, w: F.conv2d(x[None], w[None, None])),
    ("batch_norm", "each image", F.instance_norm), ("batch_norm", "is nan", lambda x: x * np.nan),
    ("dropout", "keeps", lambda x, p: x * (torch.rand_like(x) < p) / (1 - p)),
    ("dropout", "same mask", lambda x, p: x * (torch.rand_like(x[:1]) > p) / (1 - p)),
    ("dropout", "zeros is 0,", lambda x, p: 1 * x), ("dropout", "returns (64", lambda x, p: x[..., 0]),
    ("smoothed_loss", "nine", lambda x, y: -sum((0.9 if i == y else 0.1 / 9) * x[i] for i in range(10)))]
STRANGE = ["ninety", b"9", {}, {1}, 1j, object(), [], [1, 2, 3], [[1, 2], [3]], np.array("a"), 10 ** 400, -9,
           np.nan, torch.zeros(2, device="meta"), torch.zeros(3, 0), nn.Linear(2, 2), nn.Linear, lambda: 1,
           lambda *x: "a", lambda *x: x, lambda *x: 1 / 0, lambda *x: [[1], [2, 3]], lambda *x: F.relu,
           lambda *x: torch.full((7, 7), np.nan)]


@every_exercise
def test_a_solution_is_right_and_every_mistake_has_a_sentence_of_its_own(name):
    check = CHECKS[name]
    assert printed(check, SOLUTIONS[name]) == ["right"] and len(check.mistakes) >= 3 - 2 * (name == "news")
    assert sum((printed(check, mistake) for mistake in check.mistakes.values()), []) == [*check.mistakes]
    assert all(part in printed(check, mistake)[0] for one, part, mistake in MISTAKES if one == name)


@every_exercise
def test_any_other_answer_gets_one_sentence_and_the_random_stream_stays(name):
    check, solution, before = CHECKS[name], SOLUTIONS[name], torch.get_rng_state()
    for answer in STRANGE:
        assert len(printed(check, answer)) == 1 and printed(check, answer) != ["right"], answer
    for answer in (None, ..., (None, ...), *[lambda *x: None, lambda *x: ...] * callable(solution)):
        assert exercises.NOT_YET in printed(check, answer)[0]
    if not callable(solution):
        for form in float, str, Fraction, np.float64, lambda x: torch.tensor([x], requires_grad=True):
            assert printed(check, *map(form, np.ravel(solution).astype(float))) == ["right"], form
    elif name != "one_cycle":   # whose function gets no tensor
        assert "changes" in printed(check, lambda x, *others: (solution(x, *others), x.add_(1))[0])[0]
    assert torch.equal(before, torch.get_rng_state())


def test_the_patch_is_of_a_digit():
    if data.at_hand():
        assert torch.equal(data.load()[1][0][0, 8:13, 17:22].div(25.5).round() / 10, exercises.PATCH)


def by_hand(notebook):
    """Return what the checks in the section "By hand" print for the solutions that are folded before them."""
    code, inside = "", False
    for cell in notebook.cells:
        for line in map(ast.unparse, ast.parse(cell.source).body) if cell.cell_type == "code" else ():
            if line.startswith(("import ", "from ")) or inside and line.startswith("exercises."):
                code += f"{line}\n"
        for part in re.split(r"^(?=## )", cell.source, flags=re.M) if cell.cell_type == "markdown" else ():
            inside = part.startswith("## By hand") or inside and not part.startswith("## ")
            folded = "".join(re.findall(r"<details>.*?</details>", part, re.S)) if inside else ""
            code += "".join(re.findall(r"```python\n(.*?)```", folded, re.S))
    return printed(exec, code, {})


@pytest.mark.parametrize("name", names())
def test_the_solutions_of_a_notebook_are_right(name):
    if any("## By hand" in cell.source for cell in read(name).cells):
        assert {*by_hand(read(name))} == {"right"}


def test_the_solutions_of_a_notebook_are_judged():
    text = "## By hand\n<details><summary>It</summary>\n\n```python\nsizes = 2880, 80\n```\n\n</details>"
    cells = [new_markdown_cell(text), new_code_cell("import exercises\nsizes = None\nexercises.heads(sizes)")]
    assert by_hand(new_notebook(cells=cells)) == ["the biases are missing"]
