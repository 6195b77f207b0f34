"""MNIST's digits as pictures that people take: thirty disguises, each a function of ink (H, W) from 0 to 1.

Each draws with a generator of its own and returns a picture, or the picture and the options of its `save`.
"""

import numpy as np
from PIL import Image
from skimage import filters, morphology, transform


def page(digit, side=300, size=180, top=60, left=60):
    """Return a page of `side` x `side` with the 28 x 28 ink of `digit`, enlarged to `size`."""
    ink = np.zeros((side, side))
    ink[top:top + size, left:left + size] = np.clip(transform.resize(digit, (size, size), order=3), 0, 1)
    return ink


def grey(ink, paper=235.0, dark=30.0):
    """Return a picture of ink of one grey on paper of another; both may be maps."""
    return Image.fromarray(np.clip(paper + ink * (dark - paper), 0, 255).astype("uint8"))


def rgba(ink, colour, alpha):
    layers = [*(np.full_like(ink, part) for part in colour), alpha * 255]
    return Image.fromarray(np.dstack(layers).astype("uint8"), "RGBA")


def across(ink, low, high):
    """Return a map that goes from `high` at the left to `low` at the right."""
    return np.linspace(high, low, ink.shape[1])[None].repeat(len(ink), 0)


def lines(ink, every=40, thick=2, axis=0):
    """Return ink with rules `every` so many pixels."""
    ruled = ink.copy()
    for place in range(every // 2, ink.shape[axis], every):
        np.moveaxis(ruled, axis, 0)[place:place + thick] = np.maximum(
            np.moveaxis(ruled, axis, 0)[place:place + thick], 0.7)
    return ruled


def box(ink, low, high, thick=4):
    """Return ink with the outline of a square drawn around it."""
    drawn = ink.copy()
    for part in (slice(low, low + thick), slice(high - thick, high)):
        drawn[part, low:high] = drawn[low:high, part] = 1
    return drawn


def desk(ink, rim=25):
    """Return grey paper in a dark frame."""
    picture = np.asarray(grey(ink)).copy()
    picture[:rim] = picture[-rim:] = picture[:, :rim] = picture[:, -rim:] = 40
    return Image.fromarray(picture)


def underlined(ink):
    ink = ink.copy()
    ink[250:256, 50:250] = 1
    return ink


def noise(ink, sd, draw):
    return np.asarray(grey(ink, 200, 80), float) + draw.normal(0, sd, ink.shape)


def clipped(pixels):
    return Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))


def thick(digit, by):
    """Return a digit drawn with a thicker pen, or a thinner one where `by` is negative."""
    large = page(digit)
    step = morphology.dilation if by > 0 else morphology.erosion
    return step(large, morphology.disk(abs(by)))


def specks(ink, draw):
    ink = ink.copy()
    for row, column in draw.integers(5, 290, (40, 2)):
        ink[row:row + 3, column:column + 3] = 1
    return ink


def turned_camera(ink):
    exif = Image.Exif()
    exif[0x0112] = 6
    return grey(np.rot90(ink)), {"exif": exif}


def vignette(ink):
    rows, columns = np.mgrid[-1:1:300j, -1:1:300j]
    return 235 - 55 * (rows ** 2 + columns ** 2)


def shadow(ink):
    """Return paper half of which lies in a soft shadow."""
    return 230 - 70 / (1 + np.exp((np.mgrid[:300, :300].sum(0) - 280) / 12))


def tilted(ink, degrees=8, desk=60):
    """Return a page that lies askew on a dark desk."""
    paper, marks = np.full((220, 220), 1.0), transform.resize(ink, (220, 220))
    wide = [np.pad(part, 40) for part in (paper, marks)]
    paper, marks = (transform.rotate(part, degrees) for part in wide)
    return clipped(desk + paper * (235 - desk) - marks * 200)


def seen_askew(ink):
    """Return a page that was photographed from one side."""
    corners = np.array([[0, 0], [300, 0], [300, 300], [0, 300]], float)
    seen = np.array([[30, 10], [270, 0], [300, 300], [0, 280]], float)
    return grey(transform.warp(ink, transform.estimate_transform("projective", seen, corners)))


def margin(ink):
    """Return ruled ink with the margin line of a school book."""
    ruled = lines(ink)
    ruled[:, 35:38] = 0.8
    return ruled


DISGUISES = {   # name: (function of a digit and a generator, how the file ends)
    "dark on light": (lambda d, draw: grey(page(d)), "png"),
    "light on dark": (lambda d, draw: grey(page(d), 20, 240), "png"),
    "black on transparent": (lambda d, draw: rgba(page(d), (0, 0, 0), page(d)), "png"),
    "light ink on transparent": (lambda d, draw: rgba(page(d), (255, 255, 255), page(d)), "png"),
    "16 bits": (lambda d, draw: Image.fromarray((60_000 - 40_000 * page(d)).astype("uint16")), "png"),
    "32 bits": (lambda d, draw: Image.fromarray((60_000 - 40_000 * page(d)).astype("int32")), "tiff"),
    "float TIFF": (lambda d, draw: Image.fromarray((1 - page(d)).astype("float32")), "tiff"),
    "CMYK": (lambda d, draw: grey(page(d)).convert("CMYK"), "jpg"),
    "grey with alpha": (lambda d, draw: grey(page(d)).convert("LA"), "png"),
    "palette": (lambda d, draw: grey(page(d)).convert("P"), "gif"),
    "1 bit": (lambda d, draw: grey(page(d)).convert("1"), "png"),
    "camera turned": (lambda d, draw: turned_camera(page(d)), "jpg"),
    "poor JPEG": (lambda d, draw: (grey(page(d)), {"quality": 10}), "jpg"),
    "noise": (lambda d, draw: clipped(noise(page(d), 12, draw)), "png"),
    "strong noise": (lambda d, draw: clipped(noise(page(d), 25, draw)), "png"),
    "lit from one side": (lambda d, draw: grey(page(d), across(page(d), 150, 240), 40), "png"),
    "lit from one side, pencil": (lambda d, draw: grey(page(d), across(page(d), 170, 240), 90), "png"),
    "dark corners": (lambda d, draw: grey(page(d), vignette(page(d)), 40), "png"),
    "blackboard, unevenly lit": (lambda d, draw: grey(page(d), across(page(d), 30, 90), 230), "png"),
    "ruled": (lambda d, draw: grey(lines(page(d))), "png"),
    "squared": (lambda d, draw: grey(lines(lines(page(d), 50, 1), 50, 1, axis=1)), "png"),
    "dark frame": (lambda d, draw: desk(page(d)), "png"),
    "drawn box": (lambda d, draw: grey(box(page(d, size=150, top=75, left=75), 50, 250)), "png"),
    "underlined": (lambda d, draw: grey(underlined(page(d, top=50))), "png"),
    "specks": (lambda d, draw: grey(specks(page(d), draw)), "png"),
    "thin pen": (lambda d, draw: grey(thick(d, -4)), "png"),
    "thick pen": (lambda d, draw: grey(thick(d, 4)), "png"),
    "blurred": (lambda d, draw: grey(filters.gaussian(page(d), 5)), "png"),
    "faint": (lambda d, draw: grey(page(d), 220, 180), "png"),
    "colours": (lambda d, draw: Image.fromarray(np.stack(
        [230 - 200 * page(d), 220 - 160 * page(d), 160 + 20 * page(d)], -1).astype("uint8")), "png"),
    "small, in a corner": (lambda d, draw: grey(page(d, 600, 90, 480, 30)), "png"),
    "cut out": (lambda d, draw: grey(transform.resize(d[3:25, 3:25], (150, 150))), "png"),
    "half in shadow": (lambda d, draw: grey(page(d), shadow(d), 40), "png"),
    "page askew on a desk": (lambda d, draw: tilted(page(d)), "png"),
    "photographed from the side": (lambda d, draw: seen_askew(page(d)), "jpg"),
    "school book with a margin": (lambda d, draw: grey(margin(page(d))), "png"),
    "ruled, noisy and lit from one side": (lambda d, draw: clipped(np.asarray(
        grey(lines(page(d)), across(page(d), 170, 235), 50), float) + draw.normal(0, 8, (300, 300))), "png"),
    "tiny": (lambda d, draw: grey(d), "png"),
}
