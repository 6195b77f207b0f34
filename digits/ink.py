"""From the file of a picture to the ink of each digit in it.

The paper may be lit unevenly, ruled or transparent, light or dark, framed by a desk or a drawn box; the file
may have any depth of colour. What is found is the ink (H, W), from 0 for paper to 1, of every digit.
"""

import numpy as np
from PIL import Image, ImageOps
from skimage import filters, measure, morphology, transform

LARGEST = 10_000   # pixels to a side: more is no picture of a digit
SIDE = 240         # pixels: the longer side of a picture while it is worked on


class PictureError(Exception):
    """There is no picture of a digit there."""


def digits_in(path):
    """Return the ink (H, W) of each digit in the picture `path`, from left to right. Raises PictureError."""
    ink, mask = find_ink(read_grey(path), path)
    mask = clean(mask)
    if not mask.any():
        raise PictureError(f"{path} is empty: nothing in it looks like a stroke")
    reach = morphology.disk(2)   # the soft rim of the strokes
    return [ink * morphology.dilation(digit, reach) for digit in apart(mask)]


def read_grey(path):
    """Return the picture in `path` as grey (H, W), from 0 for black to 1 for white. Raises PictureError."""
    try:
        with Image.open(path) as picture:
            if max(picture.size) > LARGEST:
                raise PictureError(f"{path} has {picture.width:,} x {picture.height:,} pixels;"
                                   f" make it smaller than {LARGEST:,} a side")
            picture = ImageOps.exif_transpose(picture)   # as the camera was held
            if picture.mode[0] in "IF":   # 16 or 32 bits, or floats
                grey = np.asarray(picture, dtype=float)
                return grey / next((top for top in (1, 255, 65_535) if grey.max() <= top), grey.max())
            rgba = np.asarray(picture.convert("RGBA"), dtype=float) / 255
    except FileNotFoundError:
        raise PictureError(f"there is no file {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path} is no picture that can be read ({error})") from None
    grey, opaque = rgba[..., :3] @ (0.299, 0.587, 0.114), rgba[..., 3]
    paper = (grey * opaque).sum() < 0.5 * opaque.sum()   # dark ink on glass is laid on white, light on black
    return grey * opaque + paper * (1 - opaque)


def find_ink(grey, path):
    """Return the ink, from 0 to 1, and where there is some, (H, W). Raises PictureError if there is none."""
    scale = SIDE / max(grey.shape)
    size = [max(1, round(side * scale)) for side in grey.shape]
    grey = filters.gaussian(transform.resize(grey, size, order=1, anti_aliasing=scale < 1), 1)
    surface, noise = paper(grey)
    difference = grey - surface
    dark, light = (np.quantile(sign * difference, 0.999) for sign in (-1, 1))
    if max(dark, light) < max(0.06, 5 * noise):
        raise PictureError(f"{path} is empty: nothing in it stands out from the paper")
    ink = np.clip(-difference if dark > light else difference, 0, None)
    level = filters.threshold_otsu(ink)
    return np.clip(ink / np.quantile(ink[ink > level], 0.7), 0, 1), ink > level


def paper(grey):
    """Return the paper's grey everywhere, which may be lit from one side, and its noise.

    The grey is a polynomial of second degree in the place, fitted to the pixels that lie near it.
    """
    rows, columns = np.mgrid[-1:1:grey.shape[0] * 1j, -1:1:grey.shape[1] * 1j]
    terms = np.stack([np.ones_like(grey), rows, columns, rows * columns, rows ** 2, columns ** 2], -1)
    near = np.abs(grey - np.median(grey)) < 0.25
    for _ in range(6):
        surface = terms @ np.linalg.lstsq(terms[near], grey[near], rcond=None)[0]
        distance = np.abs(grey - surface)
        spread = 1.5 * np.median(distance[near])
        near = distance < max(0.03, 1.7 * spread)
    return surface, spread


def apart(mask):
    """Return a mask for each digit, from left to right: strokes that lie over each other are one digit."""
    columns = mask.any(0).nonzero()[0]
    gaps = (np.diff(columns) > 0.035 * SIDE).nonzero()[0] + 1
    digits = [mask & np.isin(np.arange(mask.shape[1]), part) for part in np.split(columns, gaps)]
    heights = [np.ptp(digit.any(1).nonzero()[0]) for digit in digits]
    return [digit for digit, height in zip(digits, heights) if height >= 0.5 * max(heights)]


# ---------------------------------------------------------------- what is ink and no digit

def clean(mask):
    """Return `mask` without ruled lines, frames, boxes, underlines and specks, if something else is left."""
    for axis in (0, 1):
        mask = _without_rules(mask, axis)
    labels = measure.label(mask, connectivity=2)
    regions = _larger(measure.regionprops(labels), 0.015)
    for unwanted in (_is_frame, _is_underline):
        kept = [region for region in regions if not unwanted(region, regions, mask.shape)]
        if sum(region.area for region in kept) > 15:
            regions = kept
    return np.isin(labels, [region.label for region in _larger(regions, 0.04)])


def _larger(regions, share):
    """Return the regions that are larger than this share of the largest."""
    largest = max((region.area for region in regions), default=0)
    return [region for region in regions if region.area > share * largest]


def _without_rules(mask, axis):
    """Remove thin lines that cross the picture along `axis`, and mend the strokes that cross them."""
    lines = np.moveaxis(mask, axis, 1)
    long = morphology.opening(lines, np.ones((1, lines.shape[1] // 2)))
    thick = morphology.opening(long, np.ones((round(0.045 * SIDE), 1)))   # a stroke, or a desk
    rules = morphology.dilation(long & ~thick, np.ones((3, 3))) & lines
    left = lines & ~rules
    if not rules.any() or left.sum() < 0.2 * rules.sum():
        return mask
    mended = morphology.closing(left, np.ones((13, 3))) & (left | morphology.dilation(rules, np.ones((3, 1))))
    return np.moveaxis(mended, 1, axis)


def _is_frame(region, regions, shape):
    """Tell whether a region is the desk around the page, or a box around others."""
    top, left, bottom, right = region.bbox
    height, width = region.image.shape
    others = [other.bbox for other in regions if other is not region and other.area > 0.03 * region.area]
    inside = any(top <= other[0] and left <= other[1] and other[2] <= bottom and other[3] <= right
                 for other in others)
    hollow = region.area_filled > 0.85 * height * width and region.area < 0.5 * region.area_filled
    sides = (top == 0) + (left == 0) + (bottom == shape[0]) + (right == shape[1])
    large = width > 0.9 * shape[1] or height > 0.9 * shape[0] or region.extent > 0.8
    return inside and hollow or bool(others) and sides >= 2 and large


def _is_underline(region, regions, shape):
    """Tell whether a region is a flat line below or above the others."""
    height, width = region.image.shape
    others = [other.bbox for other in regions if other is not region and other.area > 0.5 * region.area]
    if not others or width < 4 * height:
        return False
    first, last = min(other[0] for other in others), max(other[2] for other in others)
    return region.bbox[0] > first + 0.75 * (last - first) or region.bbox[2] < first
