"""Pictures of digits: brought into MNIST's form, read by the recorded weights; and what is no picture."""

import pytest
import torch
from PIL import Image

import classify
import run
import utils
from classify import ClassifyError, as_mnist, read_picture
from utils import MEAN, STD


def stroke(height=60, width=20, side=200, top=30, left=150):
    """A picture's ink with one upright bar."""
    ink = torch.zeros(side, side)
    ink[top:top + height, left:left + width] = 1
    return ink


def save(ink, path, dark_on_light=True, mode="L", **options):
    pixels = ((1 - ink if dark_on_light else ink) * 255).byte().numpy()
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def test_brought_into_mnists_form():
    image = as_mnist(stroke())
    assert image.shape == (1, 1, 28, 28)
    ink = image[0, 0] * STD + MEAN
    ink = torch.where(ink > 0.01, ink, 0)
    rows, columns = (ink.sum(dim).nonzero().flatten() for dim in (1, 0))
    assert len(rows) == 20 and 6 <= len(columns) <= 8   # 60 x 20 becomes 20 x 7
    for sums in (ink.sum(0), ink.sum(1)):
        assert abs((sums @ torch.arange(28.0)) / sums.sum() - 13.5) <= 0.5


@pytest.mark.parametrize("place", [(0, 0), (30, 150), (139, 179)])
@pytest.mark.parametrize("scale", [1, 3])
def test_place_and_size_do_not_matter(place, scale):
    moved = as_mnist(stroke(60 * scale, 20 * scale, 200 * scale, place[0] * scale, place[1] * scale))
    assert torch.allclose(moved, as_mnist(stroke()), atol=0.15)


@pytest.mark.parametrize("mode, name", [("L", "a.png"), ("RGB", "a.jpg"), ("RGBA", "a.png"), ("1", "a.png"), ("P", "a.gif"), ("RGB", "a.bmp")])
@pytest.mark.parametrize("dark_on_light", [True, False])
def test_dark_or_light_in_any_format(tmp_path, mode, name, dark_on_light):
    ink = read_picture(save(stroke(), tmp_path / name, dark_on_light, mode))
    assert torch.allclose(ink, stroke(), atol=0.1)


def test_what_is_transparent_is_paper(tmp_path):
    picture = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (20, 10, 30, 40))
    picture.save(tmp_path / "a.png")
    ink = read_picture(tmp_path / "a.png")
    assert ink[25, 25] == 1 and ink[0, 0] == 0


def test_as_a_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6   # turned by a quarter
    path = save(stroke(60, 20), tmp_path / "a.jpg", exif=exif)
    ink = read_picture(path) > 0.5
    assert ink.any(0).sum() > ink.any(1).sum()


def test_what_is_no_picture_is_said(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("not a picture")
    whole = save(stroke(), tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[:len(whole) // 2])
    save(torch.zeros(30, 30), tmp_path / "white.png")
    for name, message in (("missing.png", "there is no file .*missing.png"), ("text.png", "text.png is no picture that can be read"),
                          ("half.png", "half.png is no picture"), (".", "no picture that can be read"),
                          ("white.png", "white.png is empty: nothing in it stands out")):
        with pytest.raises(ClassifyError, match=message):
            read_picture(tmp_path / name)
    monkeypatch.setattr(classify, "LARGEST", 100)
    with pytest.raises(ClassifyError, match="has 200 x 200 pixels; make it smaller"):
        read_picture(tmp_path / "whole.png")


@pytest.mark.parametrize("content, message", [(None, "no weights results/TinyNet.pt"), (b"x", "results/TinyNet.pt has no weights of TinyNet")])
def test_missing_or_broken_weights_are_said(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(classify, "RESULTS", tmp_path)
    if content:
        (tmp_path / "TinyNet.pt").write_bytes(content)
    with pytest.raises(ClassifyError, match=message):
        classify.load_net("TinyNet")


class Acts:
    def __reduce__(self):
        return print, ("executed",)


def test_no_pickle_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classify, "RESULTS", tmp_path)
    torch.save({"layers.0.0.weight": Acts()}, tmp_path / "TinyNet.pt")
    with pytest.raises(ClassifyError, match="has no weights of TinyNet: UnpicklingError"):
        classify.load_net("TinyNet")
    assert "executed" not in capsys.readouterr().out


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(classify, "RESULTS", tmp_path)
    torch.save(classify.model.SmallNet().state_dict(), tmp_path / "TinyNet.pt")
    with pytest.raises(ClassifyError, match="has no weights of TinyNet"):
        classify.load_net("TinyNet")


def test_on_the_command_line(tmp_path, capsys):
    assert run.main(["--predict", str(save(stroke(), tmp_path / "a.png"))]) == 0
    assert capsys.readouterr().out.startswith("1, ")
    assert run.main(["--predict", str(tmp_path / "b.png")]) == 1
    assert capsys.readouterr().err == f"--predict: there is no file {tmp_path / 'b.png'}\n"


@pytest.mark.parametrize("name, label", [(name, label) for name, record in run.records().items()
                                         for label, row in record["sweeps"].items() if row["once"] and row["target"]])
def test_the_recorded_weights_misread_what_the_record_says(name, label):
    """Image for image: the accuracy of seed 0 is theirs."""
    if not utils.mnist.at_hand():
        pytest.skip("no MNIST here")
    test = utils.load_mnist().test
    wrong = utils.predict(classify.load_net(label), test.images).argmax(1) != test.labels
    assert wrong.nonzero().flatten().tolist() == run.records()[name]["sweeps"][label]["wrong"]["0"]


@pytest.mark.parametrize("dark_on_light", [True, False])
def test_test_images_as_pictures_are_read(tmp_path, dark_on_light):
    """MNIST's digits, enlarged, moved into a corner and saved as PNG, are still read."""
    if not utils.mnist.at_hand():
        pytest.skip("no MNIST here")
    test, hits = utils.load_mnist().test, 0
    for image, label in zip(test.images[:100], test.labels):
        ink = torch.nn.functional.interpolate((image * STD + MEAN)[None], size=150, mode="bilinear")[0, 0]
        picture = torch.zeros(400, 300)
        picture[240:390, 20:170] = ink.clamp(0, 1)
        hits += classify.classify(save(picture, tmp_path / "a.png", dark_on_light)).argmax() == label
    assert hits >= 98
