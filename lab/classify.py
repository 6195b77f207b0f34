"""Read a digit from any picture: bring it into MNIST's form, then through a network with recorded weights.

`python run.py --predict IMAGE` is the way in.
"""

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from lab.mnist import MEAN, STD
from lab.records import RESULTS

DIGIT = 20          # pixels: MNIST's digits fill a box of 20 x 20, their centre of mass in the middle
LARGEST = 10_000    # pixels to a side: more is no picture of a digit


class ClassifyError(Exception):
    """There is no picture of a digit there, or no weights to read it with."""


def load_weights(net):
    """Return `net` with its recorded weights, in eval mode. Raises ClassifyError."""
    name = type(net).__name__
    path = RESULTS / f"{name}.pt"
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise ClassifyError(f"no weights results/{path.name}; the notebook of {name} has them") from None
    except Exception as error:   # whatever a truncated or foreign file makes torch.load raise
        raise ClassifyError(f"results/{path.name} has no weights of {name}: {type(error).__name__}") from None
    return net.eval()


def read_picture(path):
    """Return the picture in file `path` as ink (H, W), from 0 for paper to 1. Raises ClassifyError."""
    try:
        with Image.open(path) as picture:
            if max(picture.size) > LARGEST:
                raise ClassifyError(f"{path} has {picture.width:,} x {picture.height:,} pixels;"
                                    f" make it smaller than {LARGEST:,} a side")
            picture = ImageOps.exif_transpose(picture).convert("RGBA")   # as a camera was held
    except FileNotFoundError:
        raise ClassifyError(f"there is no file {path}") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClassifyError(f"{path} is no picture that can be read ({error})") from None
    paper = Image.new("RGBA", picture.size, "white")   # where the picture is transparent
    grey = pil_to_tensor(Image.alpha_composite(paper, picture).convert("L"))[0] / 255
    rim = torch.cat([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).median()   # the paper, light or dark
    ink = (grey - rim).abs()
    if ink.max() < 0.1:
        raise ClassifyError(f"{path} is empty: nothing in it stands out from its rim")
    return ink / ink.max()


def as_mnist(ink):
    """Return ink (H, W) as a normalised image (1, 1, 28, 28), the digit in a box of 20 x 20, centred.

    So MNIST was made (LeCun et al., Gradient-based learning applied to document recognition, 1998).
    """
    rows, columns = ((ink > 0.3).any(dim).nonzero().flatten() for dim in (1, 0))   # what is fainter is shade
    digit = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    digit = torch.where(digit > 0.1, digit, 0)
    height, width = digit.shape
    size = [max(1, round(side * DIGIT / max(height, width))) for side in (height, width)]
    digit = F.interpolate(digit[None, None], size, mode="bilinear", antialias=True)[0, 0]
    digit = digit / digit.max()
    image = torch.zeros(28, 28)
    centre = [(digit.sum(1 - dim) @ torch.arange(float(size[dim])) / digit.sum()).item() for dim in (0, 1)]
    corner = [round(13.5 - place) for place in centre]
    top, left = (min(max(place, 0), 28 - side) for place, side in zip(corner, size))
    image[top:top + size[0], left:left + size[1]] = digit
    return ((image - MEAN) / STD)[None, None]


@torch.no_grad()
def classify(net, path):
    """Return the probabilities (10,) of the digits for the picture in file `path`. Raises ClassifyError."""
    return load_weights(net)(as_mnist(read_picture(path)))[0].exp()


def answer(probabilities):
    """Say in a line which digit it is and how sure the network is."""
    sure, digits = probabilities.sort(descending=True)
    return f"{digits[0]}, {100 * sure[0]:.1f} % sure; else {digits[1]}, {100 * sure[1]:.1f} %"
