"""Pictures of digits: their ink, MNIST's form, read by the recorded weights; and what is no picture."""

import numpy as np
import pytest
import torch
from disguises import DISGUISES, grey, page
from PIL import Image, ImageDraw

import run
from digits import classify, ink
from digits.classify import NETWORKS, SURE, ClassifyError, as_mnist
from digits.ink import PictureError, digits_in
from lab.data import MEAN, STD, at_hand
from lab.record import load_weights, read_record
from model import SmallNet, TinyNet
from utils import load_mnist, predict


@pytest.fixture(scope="module")
def test():
    """MNIST's test set."""
    return load_mnist().test if at_hand() else pytest.skip("no MNIST here")


@pytest.fixture(scope="module")
def digits(test):
    """The ink (28, 28) of ten test images, from 0 to 1: a zero, a one, ... a nine."""
    places = [(test.labels == digit).nonzero()[5, 0] for digit in range(10)]
    return (test.images[places, 0] * STD + MEAN).clamp(0, 1).numpy()


@pytest.fixture
def read(tmp_path):
    """A function that returns the probabilities (N, 10) for a picture, saved as a file of a `kind`."""
    def read(picture, kind="png", **options):
        picture.save(tmp_path / f"a.{kind}", **options)
        return classify.classify(tmp_path / f"a.{kind}")
    return read


# ---------------------------------------------------------------- pictures

def stroke(height=60, width=20, side=200, top=30, left=150):
    """The ink of a picture with one upright bar."""
    ink = torch.zeros(side, side)
    ink[top:top + height, left:left + width] = 1
    return ink


def test_brought_into_mnists_form():
    image = as_mnist(stroke())[0, 0] * STD + MEAN
    image = torch.where(image > 0.01, image, 0)
    rows, columns = (image.sum(dim).nonzero().flatten() for dim in (1, 0))
    assert image.shape == (28, 28) and len(rows) == 20 and 6 <= len(columns) <= 8   # 60 x 20 becomes 20 x 7
    for sums in (image.sum(0), image.sum(1)):
        assert abs((sums @ torch.arange(28.0)) / sums.sum() - 13.5) <= 0.5
    moved = as_mnist(stroke(180, 60, 600, 417, 537))   # place and size do not matter
    assert torch.allclose(moved, as_mnist(stroke()), atol=0.15)


@pytest.mark.parametrize("paper, dark", [(235, 30), (20, 240)])
def test_the_ink_lies_where_it_was_drawn(tmp_path, paper, dark):
    both = torch.maximum(stroke(height=100, left=40, top=50), stroke(height=60, left=120, top=70))
    grey(both.numpy(), paper, dark).save(tmp_path / "a.png")
    for found, (top, bottom, left, right) in zip(digits_in(tmp_path / "a.png"),
                                                 ((50, 150, 40, 60), (70, 130, 120, 140)), strict=True):
        rows, columns = ((found > 0.5).any(axis).nonzero()[0] * 200 / ink.SIDE for axis in (1, 0))
        assert np.allclose([rows[0], rows[-1], columns[0], columns[-1]], [top, bottom, left, right], atol=2)


def test_what_is_no_picture_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(ink, "LARGEST", 200)
    grey(stroke(side=201).numpy()).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("not a picture")
    grey(np.zeros((30, 30))).save(tmp_path / "white.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "white.png").read_bytes()[:60])
    grey(np.random.default_rng(0).normal(0.5, 0.06, (200, 200))).save(tmp_path / "noise.png")
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    for name, message in (("missing.png", "there is no file .*missing.png"),
                          ("text.png", "text.png is no picture that can be read"),
                          ("half.png", "half.png is no picture"), (".", "no picture that can be read"),
                          ("white.png", "white.png is empty: nothing in it stands out"),
                          ("noise.png", "noise.png is empty"), ("glass.png", "glass.png is empty"),
                          ("huge.png", "huge.png has 201 x 201 pixels; make it smaller")):
        with pytest.raises(PictureError, match=message):
            digits_in(tmp_path / name)


# ---------------------------------------------------------------- networks

def test_missing_weights_and_those_of_another_network_are_said(monkeypatch):
    monkeypatch.setattr(classify, "load_weights", lambda notebook, run: SmallNet().state_dict())
    with pytest.raises(ClassifyError, match="no weights of TinyNet: Error.s. in loading.*git checkout"):
        classify.recorded(TinyNet)
    monkeypatch.setitem(NETWORKS, TinyNet, ("13_smallest", "gone"))
    monkeypatch.setattr(classify, "load_weights", load_weights)
    with pytest.raises(ClassifyError, match="no weights of TinyNet: .*'gone' of 13_smallest"):
        classify.recorded(TinyNet)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_recorded_weights_misread_what_the_record_says(network, test):
    """Image for image, or as many where no list was kept: that of LightNet, which was scored every epoch."""
    notebook, run = NETWORKS[network]
    record = read_record(notebook)
    wrong = predict(classify.recorded(network), test.images, batch_size=100).argmax(1) != test.labels
    if run in record.misread:
        assert wrong.nonzero().flatten().tolist() == record.misread[run][str(record.seed)]
    else:
        assert 100 * (~wrong).double().mean().item() == pytest.approx(record[run].last.accuracy, abs=0.011)


def test_what_is_said():
    sure, unsure = torch.full((10,), 0.01), torch.full((10,), 0.06)
    sure[3], sure[5], unsure[4] = 0.9, 0.02, 0.46
    assert classify.answer(sure[None]) == "3, 90 % sure; else 5, 2 %"
    assert classify.answer(unsure[None]) == "this may be no digit; if it is one, then 4, 46 % sure"
    both = classify.answer(torch.stack([sure, unsure]))
    assert both.startswith("2 digits, from left to right:\n3, 90 % sure") and both.count("\n") == 2


@pytest.mark.parametrize("chosen, least", [
    ("2", 1), pytest.param("0123456789", 9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", DISGUISES)
def test_disguised_digits_are_read(read, digits, name, chosen, least):
    """Each was read 10 of 10 when it was drawn, and the one that is cut out 9 of 10."""
    kind, disguise, *options = DISGUISES[name]
    hits = 0
    for digit in map(int, chosen):
        found = read(disguise(digits[digit], page(digits[digit])), kind, **dict(*options))
        hits += len(found) == 1 and found[0].argmax() == digit and found[0].max() >= SURE
    assert hits >= least


def test_on_the_command_line(tmp_path, capsys):
    grey(stroke().numpy()).save(tmp_path / "a.png")
    assert run.main(["--predict", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.startswith("1, ")
    assert run.main(["--predict", str(tmp_path / "b.png")]) == 1
    assert capsys.readouterr().err == f"run.py: there is no file {tmp_path / 'b.png'}\n"


def test_a_number_is_read_digit_by_digit(read, digits):
    pages = [page(digits[digit], 300, 100, 90, 5 + 95 * place) for place, digit in enumerate((2, 0, 7))]
    assert read(grey(np.max(pages, 0))).argmax(1).tolist() == [2, 0, 7]


def test_what_is_no_digit_is_often_said(read):
    """Scribbles, lines through twelve random places: 14 of 20 were refused when this was written."""
    refused = 0
    for seed in range(20):
        places = np.random.default_rng(seed).uniform(50, 250, (12, 2))
        picture = Image.new("L", (300, 300), 235)
        ImageDraw.Draw(picture).line([*map(tuple, places)], fill=20, width=10)
        refused += "may be no digit" in classify.answer(read(picture))
    assert refused >= 12
