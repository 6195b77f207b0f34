"""Read the digits in any picture: bring each into MNIST's form, then through networks with recorded weights.

`python run.py --predict IMAGE` is the way in.
"""

import torch
from scipy.ndimage import center_of_mass
from torch.nn import functional as F

from digits import ink
from lab.data import MEAN, STD
from lab.record import RecordError, load_weights
from model import AccurateNet, LightNet, MostAccurateNet, SmallNet, TinyNet

NETWORKS = {   # whose weights: the notebook and the run that made them
    MostAccurateNet: ("14_most_accurate", "MostAccurateNet, test set"),
    AccurateNet: ("14_most_accurate", "AccurateNet, test set"),
    SmallNet: ("13_smallest", "SmallNet, test set"),
    TinyNet: ("13_smallest", "TinyNet, test set"),
    LightNet: ("2_light", "LightNet"),   # on the page alone, to show what a network without a head does
}
READERS = [network for network in NETWORKS if network is not LightNet]
DIGIT = 20   # pixels: MNIST's digits fill a box of 20 x 20, their centre of mass in the middle
SURE = 0.8   # below this confidence no digit is named: most scribbles and letters lie there, and few digits
# A digit is read in these changed forms as well, for what is none is often read otherwise when it is moved.
# In degrees, pixels right and down, scale.
VIEWS = [(angle, *move, 1) for angle in (-10, 0, 10) for move in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))]
VIEWS += [(0, 0, 0, 0.87), (0, 0, 0, 1.15)]


class ClassifyError(Exception):
    """There are no weights to read it with."""


def recorded(network):
    """Return one of NETWORKS with its recorded weights, in eval mode. Raises ClassifyError."""
    net = network()
    try:
        net.load_state_dict(load_weights(*NETWORKS[network]))
    except (RecordError, RuntimeError) as error:   # many lines, for those of another network
        raise ClassifyError(f"no weights of {network.__name__}: {str(error).splitlines()[0]};"
                            " `git checkout results/weights` brings them back") from None
    return net.eval().to(memory_format=torch.channels_last)   # the faster layout


def as_mnist(ink):
    """Return the ink (H, W) of a digit as a normalised image (1, 1, 28, 28), in a box of 20 x 20, centred.

    So MNIST was made (LeCun et al., Gradient-based learning applied to document recognition, 1998).
    """
    rows, columns = ((ink > 0.3).any(dim).nonzero().flatten() for dim in (1, 0))   # what is fainter is shade
    digit = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    digit = torch.where(digit > 0.1, digit, 0)
    size = height, width = [max(1, round(side * DIGIT / max(digit.shape))) for side in digit.shape]
    digit = F.interpolate(digit[None, None], size, mode="bilinear", antialias=True)[0, 0]
    top, left = (min(max(round(13.5 - centre), 0), 28 - side)
                 for centre, side in zip(center_of_mass(digit.numpy()), size))
    image = torch.zeros(28, 28)
    image[top:top + height, left:left + width] = digit / digit.max()
    return ((image - MEAN) / STD)[None, None]


@torch.no_grad()
def over_views(nets, images):
    """Return probabilities (N, 10) of normalised images (N, 1, 28, 28): means over `nets` and over VIEWS.

    So they are high where all agree.
    """
    from torchvision.transforms.functional import InterpolationMode, affine  # here, for it takes seconds

    views = torch.cat([affine(images, angle, move, scale, [0], InterpolationMode.BILINEAR, [-MEAN / STD])
                       for angle, *move, scale in VIEWS])
    mean = sum(net(views).exp() for net in nets) / len(nets)
    return mean.unflatten(0, (len(VIEWS), len(images))).mean(0)


def classify(path):
    """Return the probabilities (N, 10) of the N digits in the picture at `path`, from left to right.

    Raises ClassifyError for weights, digits.ink.PictureError for the picture.
    """
    digits = torch.cat([as_mnist(torch.from_numpy(part).float()) for part in ink.digits_in(path)])
    return over_views([recorded(network) for network in READERS], digits)


def answer(probabilities):
    """Say in a line for each of the `probabilities` (N, 10) which digit it is, or that it may be none."""
    said = []
    for (best, second), (digit, other) in zip(*(values.tolist() for values in probabilities.topk(2))):
        said.append(f"{digit}, {100 * best:.0f} % sure; else {other}, {100 * second:.0f} %"
                    if best >= SURE else
                    f"this may be no digit; if it is one, then {digit}, {100 * best:.0f} % sure")
    return "\n".join([f"{len(said)} digits, from left to right:", *said] if len(said) > 1 else said)
