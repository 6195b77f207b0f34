"""The page to draw on, in a browser: its arithmetic against PyTorch's, and what it says of a drawn digit.

One browser opens a copy of the page, in which SCRIPT draws, presses keys and computes; the tests look at
what it found.
"""

import html
import json
import re
import shutil
import subprocess

import pytest
import torch
from torch import nn

from digits import page
from digits.classify import NETWORKS, as_mnist, recorded
from lab.data import MEAN, STD, at_hand, digits_sample
from lab.record import ROOT
from model import DigitNet
from utils import load_mnist

PAGE = ROOT / "page"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCRIPT = """
  const answer = () => element("answer").textContent;
  const press = key => {
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    return answer();
  };
  const point = (kind, x, y, isPrimary = true) => {   // x and y: shares of the square's sides
    const box = drawing.getBoundingClientRect();
    drawing.dispatchEvent(new PointerEvent(kind, {clientX: box.left + x * box.width,
                                                  clientY: box.top + y * box.height, isPrimary}));
  };

  const found = {asked: answer(), maps: document.querySelectorAll("#maps canvas").length};
  point("pointerdown", 0.3, 0.22);
  point("pointermove", 0.7, 0.22);
  const drawn = drawing.toDataURL();
  point("pointerdown", 0.2, 0.5, false);
  point("pointermove", 0.8, 0.5, false);
  found.second_finger = drawing.toDataURL() !== drawn;
  point("pointermove", 0.48, 0.84);
  point("pointerup", 0.48, 0.84);
  found.stroke = answer();
  document.querySelectorAll("#digits button")[4].click();
  found.button = answer();
  found.keys = [..."0123456789"].map(press);
  element("network").value = "LightNet";
  element("network").dispatchEvent(new Event("change"));
  found.moved = ["1", "ArrowLeft", "ArrowRight", "ArrowRight", "Delete", "8"].map(press);
  found.forms = DRAWINGS.map(drawing => [...mnistForm(drawing)]);
  found.probabilities = Object.fromEntries(Object.entries(networks).map(([name, network]) =>
    [name, IMAGES.map(image => forward(network, image).probabilities)]));
"""


@pytest.fixture(scope="module")
def pixels():
    """Images (10, 1, 28, 28) in [0, 1] to read, and, enlarged, to draw."""
    return digits_sample()[1][0][:10]


def enlarged(pixels):
    """Return images as drawings (10, 84, 84)."""
    return pixels[:, 0].repeat_interleave(3, 1).repeat_interleave(3, 2)


@pytest.fixture(scope="module")
def found(tmp_path_factory, pixels):
    """What SCRIPT found on the page that was opened with ?digit=3."""
    if not BROWSER:
        pytest.skip("no Chromium here")
    index = shutil.copytree(PAGE, tmp_path_factory.mktemp("site") / "page") / "index.html"
    index.write_text(index.read_text("utf-8").replace("</body>", f"""<script>
        const DRAWINGS = {enlarged(pixels).tolist()}, IMAGES = {pixels.flatten(1).tolist()};
        try {{ {SCRIPT} document.body.textContent = JSON.stringify(found); }}
        catch (error) {{ document.body.textContent = error.stack; }}</script></body>"""), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               f"--user-data-dir={index.parent.parent / 'profile'}", "--dump-dom", f"file://{index}?digit=3"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    text = html.unescape(re.search("<body>(.*)</body>", shown, re.S)[1])
    assert text.startswith("{"), f"the page's script stopped: {text}"
    return json.loads(text)


def test_the_networks_compute_what_pytorch_does(found, pixels):
    assert list(found["probabilities"]) == [network.__name__ for network in NETWORKS]
    for network in NETWORKS:
        with torch.no_grad():
            expected = recorded(network)((pixels - MEAN) / STD).exp()
        here = torch.tensor(found["probabilities"][network.__name__])
        assert (here - expected).abs().max() < 1e-4, f"{network.__name__}: page/network.js, or digits/page.py"


def test_a_drawing_is_brought_into_the_form_that_predict_brings_it_into(found, pixels):
    for here, drawing in zip(found["forms"], enlarged(pixels), strict=True):
        expected = as_mnist(drawing).flatten() * STD + MEAN
        assert (torch.tensor(here) - expected).abs().max() < 1e-4


def test_a_drawn_digit_is_read(found):
    for digit, answer in zip([*range(10), 3, 4, 7],
                             [*found["keys"], found["asked"], found["button"], found["stroke"]], strict=True):
        assert answer.startswith(f"It reads {digit}, with a probability of ")
    assert found["maps"] > 50 and not found["second_finger"]


def test_the_keyboard_draws_moves_and_clears(found):
    """The answer of the network without a head changes when a drawing moves by two pixels."""
    drawn, left, back, right, cleared, other = found["moved"]
    assert drawn == back and drawn.startswith("It reads 1,") and right.startswith("It reads 2,")
    assert left.startswith("It reads 0,") and left.endswith(", moved by pixels: 2 left.")
    assert cleared == "Draw something." and other.startswith("It reads 8,")


def test_it_is_small_and_asks_for_nothing_from_elsewhere():
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 400_000
    for path in PAGE.glob("*.*"):
        assert not re.search(r"https?://|@import|fetch\(|XMLHttp", path.read_text("utf-8")), path.name


@pytest.mark.parametrize("layer", [nn.Linear(2, 2), nn.BatchNorm2d(1)])   # the latter after no convolution
def test_a_layer_that_the_page_cannot_compute_is_refused(layer):
    with pytest.raises(TypeError, match=f"the page cannot compute a {type(layer).__name__}"):
        page.layers_of(DigitNet(nn.Sequential(nn.ReLU(), layer)))


@pytest.mark.slow
def test_the_page_has_the_weights_that_are_recorded():
    if not at_hand():
        pytest.skip("no MNIST here")
    same = page.weights(load_mnist().test) == (PAGE / "weights.js").read_text("utf-8")
    assert same, "page/weights.js is not what results/ gives: run `python run.py --page`"
