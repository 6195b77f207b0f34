"""Read the digits in any picture: bring each into MNIST's form, then through networks with recorded weights.

`python run.py --predict IMAGE` is the way in.
"""

import torch
from torch.nn import functional as F

from lab import ink
from lab.mnist import MEAN, STD
from lab.records import RESULTS

DIGIT = 20         # pixels: MNIST's digits fill a box of 20 x 20, their centre of mass in the middle
SURE = 0.8         # below this confidence no digit is named; notebook 10 shows how many test images lie there
EMPTY = -MEAN / STD
# A digit is read in these changed forms as well, for what is none is often read otherwise when it is moved.
# In degrees, pixels right and down, scale.
VIEWS = [(angle, *move, 1) for angle in (-10, 0, 10) for move in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))]
VIEWS += [(0, 0, 0, 0.87), (0, 0, 0, 1.15)]


class ClassifyError(Exception):
    """There are no weights to read it with."""


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
    return net.eval().to(memory_format=torch.channels_last)   # the faster layout


def as_mnist(ink):
    """Return the ink (H, W) of a digit as a normalised image (1, 1, 28, 28), in a box of 20 x 20, centred.

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
def over_views(nets, images):
    """Return probabilities (N, 10) of normalised images (N, 1, 28, 28): means over `nets` and over VIEWS.

    So they are high where all agree. notebooks/10_dropout_everywhere.ipynb shows how far they can be trusted.
    """
    from torchvision.transforms.functional import InterpolationMode, affine  # here, for it takes seconds

    views = torch.cat([affine(images, angle, [right, down], scale, [0], InterpolationMode.BILINEAR, [EMPTY])
                       for angle, right, down, scale in VIEWS])
    mean = sum(net(views).exp() for net in nets) / len(nets)
    return mean.unflatten(0, (len(VIEWS), len(images))).mean(0)


def classify(nets, path):
    """Return the probabilities (N, 10) of the N digits in the picture at `path`, from left to right.

    Raises ClassifyError for weights, lab.ink.PictureError for the picture.
    """
    nets = [load_weights(net) for net in nets]
    digits = torch.cat([as_mnist(torch.from_numpy(part).float()) for part in ink.digits_in(path)])
    return over_views(nets, digits)


def answer(probabilities):
    """Say in a line which digits they are and how sure that is, or that it may be no digit."""
    said = []
    for each in probabilities:
        sure, digits = each.sort(descending=True)
        said.append(f"{digits[0]}, {100 * sure[0]:.0f} % sure; else {digits[1]}, {100 * sure[1]:.0f} %"
                    if sure[0] >= SURE else
                    f"this may be no digit; if it is one, then {digits[0]}, {100 * sure[0]:.0f} % sure")
    if len(said) == 1:
        return said[0]
    return "\n".join([f"{len(said)} digits, from left to right:", *said])
