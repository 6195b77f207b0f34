"""Pictures of digits: brought into MNIST's form, read by the recorded weights; and what is no picture."""

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import model
import run
from lab import classify, mnist, records
from lab.classify import ClassifyError, as_mnist, read_picture
from utils import MEAN, STD, load_mnist, predict


def stroke(height=60, width=20, side=200, top=30, left=150):
    """A picture's ink with one upright bar."""
    ink = torch.zeros(side, side)
    ink[top:top + height, left:left + width] = 1
    return ink


def save(ink, path, dark_on_light=True, mode="L", **options):
    pixels = ((1 - ink if dark_on_light else ink) * 255).byte().numpy()
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


# ---------------------------------------------------------------- pictures

def test_brought_into_mnists_form():
    ink = as_mnist(stroke())[0, 0] * STD + MEAN
    ink = torch.where(ink > 0.01, ink, 0)
    rows, columns = (ink.sum(dim).nonzero().flatten() for dim in (1, 0))
    assert ink.shape == (28, 28) and len(rows) == 20 and 6 <= len(columns) <= 8   # 60 x 20 becomes 20 x 7
    for sums in (ink.sum(0), ink.sum(1)):
        assert abs((sums @ torch.arange(28.0)) / sums.sum() - 13.5) <= 0.5


@pytest.mark.parametrize("scale", [1, 3])
def test_place_and_size_do_not_matter(scale):
    for top, left in ((0, 0), (30, 150), (139, 179)):
        moved = as_mnist(stroke(60 * scale, 20 * scale, 200 * scale, top * scale, left * scale))
        assert torch.allclose(moved, as_mnist(stroke()), atol=0.15)


@pytest.mark.parametrize("mode, name", [("L", "a.png"), ("RGB", "a.jpg"), ("RGBA", "a.png"), ("1", "a.png"),
                                        ("P", "a.gif"), ("RGB", "a.bmp")])
@pytest.mark.parametrize("dark_on_light", [True, False])
def test_dark_or_light_in_any_format(tmp_path, mode, name, dark_on_light):
    ink = read_picture(save(stroke(), tmp_path / name, dark_on_light, mode))
    assert torch.allclose(ink, stroke(), atol=0.1)


def test_what_is_transparent_is_paper_and_a_turned_camera_is_seen(tmp_path):
    picture = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (20, 10, 30, 40))
    picture.save(tmp_path / "a.png")
    ink = read_picture(tmp_path / "a.png")
    assert ink[25, 25] == 1 and ink[0, 0] == 0
    exif = Image.Exif()
    exif[0x0112] = 6   # turned by a quarter
    ink = read_picture(save(stroke(60, 20), tmp_path / "a.jpg", exif=exif)) > 0.5
    assert ink.any(0).sum() > ink.any(1).sum()


def test_what_is_no_picture_is_said(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("not a picture")
    whole = save(stroke(), tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[:len(whole) // 2])
    save(torch.zeros(30, 30), tmp_path / "white.png")
    for name, message in (("missing.png", "there is no file .*missing.png"),
                          ("text.png", "text.png is no picture that can be read"),
                          ("half.png", "half.png is no picture"), (".", "no picture that can be read"),
                          ("white.png", "white.png is empty: nothing in it stands out")):
        with pytest.raises(ClassifyError, match=message):
            read_picture(tmp_path / name)
    monkeypatch.setattr(classify, "LARGEST", 100)
    with pytest.raises(ClassifyError, match="has 200 x 200 pixels; make it smaller"):
        read_picture(tmp_path / "whole.png")


# ---------------------------------------------------------------- weights

class Acts:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("content, message", [
    (None, "no weights results/TinyNet.pt"), (b"x", "results/TinyNet.pt has no weights of TinyNet"),
    (model.SmallNet().state_dict(), "has no weights of TinyNet: RuntimeError"),       # another network's
    ({"layers.0.0.weight": Acts()}, "has no weights of TinyNet: UnpicklingError")])   # no pickle is loaded
def test_missing_or_broken_weights_are_said(tmp_path, monkeypatch, capsys, content, message):
    monkeypatch.setattr(classify, "RESULTS", tmp_path)
    if isinstance(content, bytes):
        (tmp_path / "TinyNet.pt").write_bytes(content)
    elif content:
        torch.save(content, tmp_path / "TinyNet.pt")
    with pytest.raises(ClassifyError, match=message):
        classify.load_weights(model.TinyNet())
    assert "executed" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def test():
    """MNIST's test set."""
    if not mnist.at_hand():
        pytest.skip("no MNIST here")
    return load_mnist().test


@pytest.mark.parametrize("name", sorted(path.stem for path in records.RESULTS.glob("*.pt")))
def test_the_recorded_weights_misread_what_the_record_says(name, test):
    """Image for image."""
    label = f"{name}, test set"
    record, = (record for record in records.read_all().values() if label in record.misread)
    net = classify.load_weights(getattr(model, name)()).to(memory_format=torch.channels_last)   # faster
    wrong = predict(net, test.images, batch_size=100).argmax(1) != test.labels
    assert wrong.nonzero().flatten().tolist() == record.misread[label][str(record.seed)]


# ---------------------------------------------------------------- the command

def test_on_the_command_line(tmp_path, capsys):
    assert run.main(["--predict", str(save(stroke(), tmp_path / "a.png"))]) == 0
    assert capsys.readouterr().out.startswith("1, ")
    assert run.main(["--predict", str(tmp_path / "b.png")]) == 1
    assert capsys.readouterr().err == f"run.py: there is no file {tmp_path / 'b.png'}\n"


@pytest.mark.parametrize("dark_on_light", [True, False])
def test_test_images_as_pictures_are_read(tmp_path, test, dark_on_light):
    """MNIST's digits, enlarged, moved into a corner and saved as PNG, are still read."""
    hits, net = 0, model.MostAccurateNet()
    for image, label in zip(test.images[:100], test.labels):
        picture = torch.zeros(400, 300)
        ink = F.interpolate((image * STD + MEAN)[None], size=150, mode="bilinear")[0, 0]
        picture[240:390, 20:170] = ink.clamp(0, 1)
        hits += classify.classify(net, save(picture, tmp_path / "a.png", dark_on_light)).argmax() == label
    assert hits >= 98
