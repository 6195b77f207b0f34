"""MNIST's digits as pictures that people take: disguises of their ink, (28, 28), from 0 to 1."""

import numpy as np
from PIL import Image
from skimage import filters, morphology, transform

ROWS, COLUMNS = np.mgrid[-1:1:300j, -1:1:300j]   # the places on a page of 300 x 300
EDGE = np.maximum(abs(ROWS), abs(COLUMNS))
UNDERLINE = (abs(ROWS - 0.69) < 0.02) & (abs(COLUMNS) < 0.45)
RULES = 0.7 * ((np.arange(300) + 20) % 40 < 2)[:, None]
NOISE = np.random.default_rng(0).normal(0, 1, ROWS.shape)
SPECKS = morphology.dilation(np.random.default_rng(0).random(ROWS.shape) < 0.0005, np.ones((3, 3)))
TURNED = Image.Exif()
TURNED[0x0112] = 6   # the file says that the camera was held on its side


def page(digit, side=300, size=180, top=60, left=60):
    """Return the ink of a page of `side` x `side` with a digit, enlarged to `size`."""
    ink = np.zeros((side, side))
    ink[top:top + size, left:left + size] = np.clip(transform.resize(digit, (size, size), order=3), 0, 1)
    return ink


def grey(ink, paper=235, dark=30):
    """Return a picture of ink of one grey on paper of another, both from 0 to 255; they may be maps."""
    return Image.fromarray(np.clip(paper + np.clip(ink, 0, 1) * (dark - paper), 0, 255).astype("uint8"))


def on_a_desk(ink):
    """Return a page that lies askew on a dark desk."""
    ink = transform.resize(ink, (220, 220))
    paper, ink = (transform.rotate(np.pad(part, 40), 8) for part in (np.ones_like(ink), ink))
    return grey(ink, 60 + paper * 175, 35)


def from_the_side(ink):
    """Return a page that was photographed from one side."""
    seen = [[1.41, 0.16, -44], [0.06, 1.41, -16], [0.0004, 0.0009, 1]]   # from here to the page
    return grey(transform.warp(ink, np.array(seen)))


DISGUISES = {   # how the file ends; the picture of digit d, or of p, its page; perhaps options of `save`
    "light on dark": ("png", lambda d, p: grey(p, 20, 240)),
    "black on transparent": ("png", lambda d, p: Image.merge("LA", (grey(p, 0, 0), grey(p, 0, 255)))),
    "light ink on transparent": ("png", lambda d, p: Image.merge("LA", (grey(p, 255, 255), grey(p, 0, 255)))),
    "16 bits": ("png", lambda d, p: Image.fromarray((60_000 - 40_000 * p).astype("uint16"))),
    "float TIFF": ("tiff", lambda d, p: Image.fromarray((1 - p).astype("float32"))),
    "CMYK": ("jpg", lambda d, p: grey(p).convert("CMYK")),
    "palette": ("gif", lambda d, p: grey(p).convert("P")),
    "camera turned": ("jpg", lambda d, p: grey(np.rot90(p)), {"exif": TURNED}),
    "poor JPEG": ("jpg", lambda d, p: grey(p), {"quality": 10}),
    "noise": ("png", lambda d, p: grey(p, 200 + 25 * NOISE, 80 + 25 * NOISE)),
    "lit from one side, pencil": ("png", lambda d, p: grey(p, 205 - 35 * COLUMNS, 90)),
    "dark corners": ("png", lambda d, p: grey(p, 235 - 55 * (ROWS ** 2 + COLUMNS ** 2), 40)),
    "dark frame": ("png", lambda d, p: grey(p, np.where(EDGE > 0.83, 40, 235))),
    "drawn box": ("png", lambda d, p: grey(page(d, size=110, top=95, left=95) + (abs(EDGE - 0.46) < 0.014))),
    "underlined": ("png", lambda d, p: grey(page(d, top=50) + UNDERLINE)),
    "specks": ("png", lambda d, p: grey(p + SPECKS)),
    "thin pen": ("png", lambda d, p: grey(morphology.erosion(p, morphology.disk(4)))),
    "blurred": ("png", lambda d, p: grey(filters.gaussian(p, 5))),
    "faint": ("png", lambda d, p: grey(p, 220, 180)),
    "colours": ("png", lambda d, p: Image.merge("RGB", (grey(p), grey(p, 220, 60), grey(p, 160, 180)))),
    "small, in a corner": ("png", lambda d, p: grey(page(d, 600, 90, 480, 30))),
    "cut out": ("png", lambda d, p: grey(transform.resize(d[3:25, 3:25], (150, 150)))),
    "half in shadow": ("png", lambda d, p: grey(p, 230 - 70 / (1 + np.exp(12 * (ROWS + COLUMNS))), 40)),
    "page askew on a desk": ("png", lambda d, p: on_a_desk(p)),
    "photographed from the side": ("jpg", lambda d, p: from_the_side(p)),
    "school book with a margin": ("png", lambda d, p: grey(p + RULES + (abs(COLUMNS + 0.76) < 0.01))),
    "ruled, noisy, unevenly lit": ("png", lambda d, p: grey(p + RULES, 203 - 33 * COLUMNS + 8 * NOISE, 50)),
    "tiny": ("png", lambda d, p: grey(d)),
}
