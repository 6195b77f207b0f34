"""The page to draw on: its arithmetic against PyTorch's, in a browser, and what it says of a drawn digit."""

import base64
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch

import model
from lab import classify, mnist, page
from lab.records import ROOT
from utils import MEAN, STD, load_mnist

PAGE = ROOT / "page"
NAMES = "MostAccurateNet", "AccurateNet", "SmallNet", "TinyNet", "LightNet"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium here")


@pytest.fixture(scope="module")
def nets():
    return {name: classify.load_weights(getattr(model, name)()) for name in NAMES}


def dom(address):
    """Return what a page has become once its scripts have run."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def computed(tmp_path, script, **values):
    """Run a script beside the page's own, with arrays as base64, and return what it puts into `result`."""
    for name in ("weights.js", "network.js"):
        shutil.copy(PAGE / name, tmp_path)
    packed = {name: base64.b64encode(np.asarray(value, "<f4").tobytes()).decode()
              for name, value in values.items()}
    (tmp_path / "check.html").write_text(f"""<body><script src="weights.js"></script>
        <script src="network.js"></script><script>
        const values = {json.dumps(packed)}; let result; {script}
        document.body.textContent = JSON.stringify(result);</script></body>""")
    body = re.search("<body>(.*)</body>", dom(f"file://{tmp_path}/check.html"), re.S)[1]
    return json.loads(html.unescape(body))


# ---------------------------------------------------------------- arithmetic

@pytest.mark.slow
@in_a_browser
def test_the_networks_compute_what_pytorch_does(tmp_path, nets):
    """200 test digits, every network, within 1e-4."""
    if not mnist.at_hand():
        pytest.skip("no MNIST here")
    images = load_mnist().test.images[:200]
    result = computed(tmp_path, """
        const pixels = numbers(values.images), networks = unpack(NETWORKS);
        result = {};
        for (const [name, network] of Object.entries(networks)) {
          result[name] = Array.from({length: 200}, (_, i) =>
            forward(network, pixels.subarray(i * 784, (i + 1) * 784)).probabilities);
        }""", images=images * STD + MEAN)
    assert list(result) == list(NAMES)
    for name, net in nets.items():
        with torch.no_grad():
            expected = net(images).exp()
        assert (torch.tensor(result[name]) - expected).abs().max() < 1e-4, name


@pytest.mark.slow
@in_a_browser
def test_a_drawing_is_brought_into_the_form_that_predict_brings_it_into(tmp_path):
    draw = np.random.default_rng(0)
    drawings = np.zeros((6, 90, 90), "float32")
    for drawing in drawings:   # a few soft bars
        for _ in range(3):
            top, left, height, width = draw.integers(5, 45, 4)
            drawing[top:top + height, left:left + width] = draw.uniform(0.2, 1)
    result = computed(tmp_path, """
        const pixels = numbers(values.drawings);
        result = Array.from({length: 6}, (_, i) => [...mnistForm(Array.from({length: 90}, (_, y) =>
          Float64Array.from(pixels.subarray(i * 8100 + y * 90, i * 8100 + (y + 1) * 90))))]);""",
                      drawings=drawings)
    for here, drawing in zip(result, drawings):
        expected = classify.as_mnist(torch.from_numpy(drawing))[0, 0] * STD + MEAN
        assert np.abs(np.reshape(here, (28, 28)) - expected.numpy()).max() < 1e-4


@pytest.mark.slow
@in_a_browser
def test_an_answer_takes_less_than_a_frame_of_twenty_milliseconds(tmp_path):
    """Of a drawing as large as the page's, by the slowest network; the fastest of twenty."""
    drawing = np.zeros((280, 280), "float32")
    drawing[60:220, 130:150] = 1
    result = computed(tmp_path, """
        const network = unpack(NETWORKS).MostAccurateNet, pixels = numbers(values.drawing);
        const ink = Array.from({length: 280}, (_, y) =>
          Float64Array.from(pixels.subarray(y * 280, y * 280 + 280)));
        result = Array.from({length: 20}, () => {
          const start = performance.now();
          forward(network, mnistForm(ink));
          return performance.now() - start;
        });""", drawing=drawing)
    assert 0 < min(result) < 20


# ---------------------------------------------------------------- the page

@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("wanted, digit", [*((digit, digit) for digit in range(10)), ("x", 7)])
def test_a_drawn_digit_is_read(wanted, digit):
    shown = dom(f"file://{PAGE}/index.html?digit={wanted}")
    assert re.search(rf"It reads {digit}, with a probability of ", shown)
    assert shown.count("<canvas") > 50   # the maps


def answers(tmp_path, script):
    """Return what the page answered at each `note()` of a script that runs after the page's own."""
    shutil.copytree(PAGE, tmp_path / "page")
    index = tmp_path / "page" / "index.html"
    index.write_text(index.read_text().replace("</body>", f"""<script>
        const noted = [], note = () => noted.push(element("answer").textContent);
        {script}
        document.body.textContent = JSON.stringify(noted);</script></body>"""))
    return json.loads(html.unescape(re.search("<body>(.*)</body>", dom(f"file://{index}"), re.S)[1]))


@pytest.mark.slow
@in_a_browser
def test_the_keyboard_draws_moves_and_clears(tmp_path):
    """The answer of the network without a head changes when a drawing moves by two pixels."""
    drawn, left, back, right, cleared, other = answers(tmp_path, """
        element("network").value = "LightNet";
        element("network").dispatchEvent(new Event("change"));
        for (const key of ["1", "ArrowLeft", "ArrowRight", "ArrowRight", "Delete", "8"]) {
          document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
          note();
        }""")
    assert drawn == back and drawn.startswith("It reads 1,") and right.startswith("It reads 2,")
    assert left.startswith("It reads 0,") and left.endswith(", moved by pixels: 2 left.")
    assert cleared == "Draw something." and other.startswith("It reads 8,")


@pytest.mark.slow
@in_a_browser
def test_a_stroke_takes_the_place_of_the_ready_made_digit(tmp_path):
    ready, stroke, second_finger, button = answers(tmp_path, """
        const box = drawing.getBoundingClientRect();
        const point = (kind, x, y, more) => drawing.dispatchEvent(new PointerEvent(kind, {
          clientX: box.left + x * box.width, clientY: box.top + y * box.height, isPrimary: true, ...more}));
        note();
        point("pointerdown", 0.5, 0.2);
        point("pointermove", 0.5, 0.8);
        point("pointerup", 0.5, 0.8);
        note();
        point("pointerdown", 0.2, 0.5, {isPrimary: false});
        point("pointermove", 0.8, 0.5, {isPrimary: false});
        read();
        note();
        document.querySelectorAll("#digits button")[4].click();
        note();""")
    assert ready.startswith("It reads 7,") and stroke.startswith("It reads 1,")
    assert second_finger == stroke and button.startswith("It reads 4,")


def test_it_is_small_and_asks_for_nothing_from_elsewhere():
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 400_000
    for path in PAGE.glob("*.*"):
        assert not re.search(r"https?://|@import|fetch\(|XMLHttp", path.read_text()), path.name


def test_a_layer_that_the_page_cannot_compute_is_refused():
    with pytest.raises(TypeError, match="the page cannot compute a Linear"):
        page.layers_of(model.DigitNet(torch.nn.Sequential(torch.nn.Linear(2, 2))))


@pytest.mark.slow
def test_run_py_writes_the_weights_that_are_published(tree, run_py, monkeypatch):
    if not mnist.at_hand():
        pytest.skip("no MNIST here")
    monkeypatch.setenv("MNIST_ROOT", str(mnist.root().resolve()))
    (tree / "page" / "weights.js").write_text("")
    assert run_py(tree, "--page")[0] == 0
    assert (tree / "page" / "weights.js").read_text() == (PAGE / "weights.js").read_text()


def test_the_page_is_made_from_mnist_alone(tree, run_py, no_mnist):
    status, _, errors = run_py(tree, "--page")
    assert status == 1 and errors.startswith("run.py: no MNIST here")
