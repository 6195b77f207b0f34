"""The networks. Training is in `utils.py`, pictures are in `plots.py`.

What can be asked of any network (`count_parameters`, `summary`, `receptive_field`, `check`) and
`show_source`, which prints classes, are in `lab/analysis.py` and can be imported from `utils`.

The comment beside a layer is the shape of its output, channels x height x width, and its receptive
field: the side of the square of input pixels that one output depends on. Beside a line with `*` they
are those of the last layer. For networks that take numbers of channels, or `make`, the function that
builds their blocks, they hold for the defaults.
"""

from functools import partial

import torch.nn.functional as F
from torch import nn

IMAGE = (1, 28, 28)   # channels, height, width


def sequence(*layers):
    """Return a network that runs `layers` one after the other; a None among them stands for no layer."""
    return nn.Sequential(*[layer for layer in layers if layer is not None])


def block(inputs, outputs, kernel=3, stride=1, padding=0, norm=False, dropout=0, activation=nn.ReLU):
    """Return a convolution and an activation, with batch norm and dropout where asked for."""
    return sequence(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
                    nn.BatchNorm2d(outputs) if norm else None, activation(),
                    nn.Dropout(dropout) if dropout else None)


def norm_last_block(inputs, outputs, kernel=3, padding=0, dropout=0):
    """Return a convolution, ReLU and only then batch norm, with dropout where asked for."""
    return sequence(nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
                    nn.ReLU(), nn.BatchNorm2d(outputs), nn.Dropout(dropout) if dropout else None)


def depthwise(channels, padding=0):
    """Return a 3x3 convolution of each channel by itself."""
    return nn.Conv2d(channels, channels, 3, padding=padding, groups=channels, bias=False)


def separable_block(inputs, outputs, padding=0, activation=nn.SiLU, filters=None):
    """Return a 3x3 convolution of each channel by itself, a 1x1 one that mixes them, batch norm, activation.

    Howard et al., MobileNets, 2017, without the batch norm between the two convolutions. `filters` is a
    `depthwise` layer to use in place of a new one: blocks that are given the same one share it.
    """
    return nn.Sequential(filters or depthwise(inputs, padding), nn.Conv2d(inputs, outputs, 1, bias=False),
                         nn.BatchNorm2d(outputs), activation())


class DigitNet(nn.Module):
    """Base of all networks: `layers`, flattened, through `head` where there is one, into log-softmax.

    Takes float images (N, 1, 28, 28), returns log-probabilities (N, outputs). Raises
    ValueError for any other shape and TypeError for any other dtype.
    """
    def __init__(self, layers, head=None):
        super().__init__()
        self.layers, self.head = layers, head

    def forward(self, x):
        if x.ndim != 4 or x.shape[1:] != IMAGE:
            raise ValueError(f"expected images of shape (N, 1, 28, 28), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"expected floating-point images, got {x.dtype}")
        x = self.layers(x).flatten(1)
        x = self.head(x) if self.head else x
        return F.log_softmax(x.float(), dim=1)   # in fp32 under autocast too


class Baseline(DigitNet):
    """The skeleton has convolutions, one max-pool and nothing else."""
    def __init__(self):
        super().__init__(nn.Sequential(
            block(  1,  32),                        #  32 x 26 x 26    3
            block( 32,  64),                        #  64 x 24 x 24    5
            block( 64, 128),                        # 128 x 22 x 22    7
            nn.MaxPool2d(2),                        # 128 x 11 x 11    8
            block(128,  32, kernel=1),              #  32 x 11 x 11    8
            block( 32,  64),                        #  64 x  9 x  9   12
            block( 64, 128),                        # 128 x  7 x  7   16
            block(128,  10, kernel=1),              #  10 x  7 x  7   16
            nn.Conv2d(10, 10, 7, bias=False),       #  10 x  1 x  1   28
        ))


def light_layers(norm=False, norm_1x1=True, dropout=0, pool=False):
    """Return the layers that the networks from LightNet to SchedulerNet share.

    `norm` puts batch norm after the convolutions, after the 1x1 convolution only with `norm_1x1`.
    `dropout` is the rate after the max-pool. `pool` adds global average pooling.
    """
    return sequence(
        block( 1,  8, norm=norm),                           #  8 x 26 x 26    3
        block( 8, 12, norm=norm),                           # 12 x 24 x 24    5
        block(12,  8, norm=norm and norm_1x1, kernel=1),    #  8 x 24 x 24    5
        nn.MaxPool2d(2),                                    #  8 x 12 x 12    6
        nn.Dropout(dropout) if dropout else None,
        block( 8, 12, norm=norm),                           # 12 x 10 x 10   10
        block(12, 12, norm=norm),                           # 12 x  8 x  8   14
        block(12, 12, norm=norm),                           # 12 x  6 x  6   18
        block(12, 12, norm=norm),                           # 12 x  4 x  4   22
        nn.AvgPool2d(4) if pool else None,                  # 12 x  1 x  1   28
    )


class LightNet(DigitNet):
    """It has 34 times fewer parameters than Baseline, and no head: its output is the last map itself."""
    def __init__(self):
        super().__init__(light_layers())


class BatchNormNet(DigitNet):
    """Batch norm follows every convolution."""
    def __init__(self):
        super().__init__(light_layers(norm=True))


class DropoutNet(DigitNet):
    """Dropout of 0.25 follows the max-pool."""
    def __init__(self):
        super().__init__(light_layers(norm=True, dropout=0.25))


class GapNet(DigitNet):
    """Global average pooling turns each channel of the last map into one number."""
    def __init__(self):
        super().__init__(light_layers(norm=True, dropout=0.25, pool=True))


class SchedulerNet(DigitNet):
    """Dropout is 0.1, the 1x1 convolution has no batch norm; training has rotated digits and a scheduler."""
    def __init__(self):
        super().__init__(light_layers(norm=True, norm_1x1=False, dropout=0.1, pool=True))


class OneCycleNet(DigitNet):
    """It has padded convolutions, two max-pools, and a 1x1 convolution with pooling as its head."""
    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1,  8, padding=1, norm=True),                #  8 x 28 x 28    3
            block( 8, 16, padding=1, norm=True),                # 16 x 28 x 28    5
            nn.MaxPool2d(2),                                    # 16 x 14 x 14    6
            block(16, 16, padding=1, norm=True),                # 16 x 14 x 14   10
            block(16, 16, padding=1, norm=True),                # 16 x 14 x 14   14
            nn.MaxPool2d(2),                                    # 16 x  7 x  7   16
            block(16, 16, padding=1, norm=True, dropout=0.1),   # 16 x  7 x  7   24
            nn.Conv2d(16, 10, 1, bias=False),                   # 10 x  7 x  7   24
            nn.AdaptiveAvgPool2d(1),                            # 10 x  1 x  1   48
        ))


class RotationNet(DigitNet):
    """It has nine convolutions of few channels, and dropout of 0.05 after every block."""
    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1,  4, norm=True, dropout=0.05),             #  4 x 26 x 26    3
            block( 4,  4, norm=True, dropout=0.05),             #  4 x 24 x 24    5
            block( 4,  8, norm=True, dropout=0.05),             #  8 x 22 x 22    7
            nn.MaxPool2d(2),                                    #  8 x 11 x 11    8
            block( 8,  8, norm=True, dropout=0.05, kernel=1),   #  8 x 11 x 11    8
            block( 8, 16, norm=True, dropout=0.05),             # 16 x  9 x  9   12
            block(16, 16, norm=True, dropout=0.05),             # 16 x  7 x  7   16
            block(16, 16, norm=True, dropout=0.05, padding=1),  # 16 x  7 x  7   20
            block(16, 16, norm=True, dropout=0.05, padding=1),  # 16 x  7 x  7   24
            nn.Conv2d(16, 10, 1, bias=False),                   # 10 x  7 x  7   24
            nn.AvgPool2d(7),                                    # 10 x  1 x  1   36
        ))


class DropoutEverywhereNet(DigitNet):
    """Dropout of 0.05 follows every batch norm, the last one included."""
    def __init__(self, dropout=0.05):
        super().__init__(nn.Sequential(
            norm_last_block( 1,  8, padding=1, dropout=dropout),            #  8 x 28 x 28    3
            norm_last_block( 8, 16, dropout=dropout),                       # 16 x 26 x 26    5
            nn.MaxPool2d(2),                                                # 16 x 13 x 13    6
            norm_last_block(16,  8, kernel=1, padding=1, dropout=dropout),  #  8 x 15 x 15    6
            norm_last_block( 8, 16, dropout=dropout),                       # 16 x 13 x 13   10
            norm_last_block(16, 32, dropout=dropout),                       # 32 x 11 x 11   14
            norm_last_block(32, 32, dropout=dropout),                       # 32 x  9 x  9   18
            norm_last_block(32, 10, dropout=dropout),                       # 10 x  7 x  7   22
            nn.AvgPool2d(5),                                                # 10 x  1 x  1   30
        ))


class FullyConnectedNet(DigitNet):
    """Its head is a linear layer over the whole last map."""
    def __init__(self, pool=False):
        super().__init__(sequence(
            norm_last_block( 1,  8),                            #  8 x 26 x 26    3
            norm_last_block( 8, 16),                            # 16 x 24 x 24    5
            nn.MaxPool2d(2),                                    # 16 x 12 x 12    6
            nn.Dropout(0.25),
            norm_last_block(16, 32, kernel=1),                  # 32 x 12 x 12    6
            norm_last_block(32, 16),                            # 16 x 10 x 10   10
            norm_last_block(16,  8, dropout=0.25),              #  8 x  8 x  8   14
            norm_last_block( 8, 16, kernel=1, dropout=0.25),    # 16 x  8 x  8   14
            norm_last_block(16,  8, dropout=0.25),              #  8 x  6 x  6   18
            nn.AvgPool2d(6) if pool else None,                  #  8 x  1 x  1   28
        ), head=nn.Linear(8 if pool else 8 * 6 * 6, 10))


class PooledHeadNet(FullyConnectedNet):
    """The last map is averaged before the linear layer, which saves a quarter of the parameters."""
    def __init__(self):
        super().__init__(pool=True)


class StridedNet(DigitNet):
    """A crop and a stride in the first convolution make the maps small; most weights are in the head."""
    def __init__(self, hidden=128, crop=True):
        side = 4 if crop else 5
        super().__init__(sequence(
            nn.ZeroPad2d(-2) if crop else None,      #  1 x 24 x 24, without the empty rim
            block(1, 16, kernel=6, stride=2),        # 16 x 10 x 10    6
            nn.Conv2d(16, 32, 3, bias=False),        # 32 x  8 x  8   10
            nn.MaxPool2d(2),                         # 32 x  4 x  4   12
            nn.BatchNorm2d(32), nn.ReLU(),           # after the max-pool, for a quarter of the work
            nn.Flatten(), nn.Linear(32 * side * side, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, 10),
        ))


class DeepStridedNet(DigitNet):
    """It sees the whole image, and has one convolution more."""
    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1, 16, kernel=6, stride=2, norm=True),   # 16 x 12 x 12    6
            block(16, 32, norm=True),                       # 32 x 10 x 10   10
            nn.Conv2d(32, 64, 3, bias=False),               # 64 x  8 x  8   14
            nn.MaxPool2d(2),                                # 64 x  4 x  4   16
            nn.BatchNorm2d(64), nn.ReLU(),
            nn.Flatten(), nn.Linear(1024, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Linear(128, 10),
        ))


class SmallNet(DigitNet):
    """Separable convolutions replace all 3x3 convolutions but the first."""
    def __init__(self, first=10, second=18, width=24, make=separable_block, activation=nn.SiLU):
        super().__init__(nn.Sequential(
            block(1, first, norm=True, activation=activation),      # 10 x 26 x 26    3
            make(first, second, activation=activation),             # 18 x 24 x 24    5
            nn.MaxPool2d(2),                                        # 18 x 12 x 12    6
            make(second, width, activation=activation),             # 24 x 10 x 10   10
            make(width, width, activation=activation),              # 24 x  8 x  8   14
            nn.MaxPool2d(2),                                        # 24 x  4 x  4   16
            make(width, width, padding=1, activation=activation),   # 24 x  4 x  4   24
            nn.Conv2d(width, 10, 1),                                # 10 x  4 x  4   24
            nn.AvgPool2d(4),                                        # 10 x  1 x  1   36
        ))


class TinyNet(DigitNet):
    """It has five narrow separable blocks and one max-pool."""
    def __init__(self, first=7, width=10, blocks=5):
        super().__init__(nn.Sequential(
            block(1, first, norm=True, activation=nn.SiLU),                #  7 x 26 x 26    3
            separable_block(first, width),                                 # 10 x 24 x 24    5
            separable_block(width, width),                                 # 10 x 22 x 22    7
            nn.MaxPool2d(2),                                               # 10 x 11 x 11    8
            *[separable_block(width, width) for _ in range(blocks - 2)],   # 10 x  5 x  5   20
            nn.Conv2d(width, 10, 1),                                       # 10 x  5 x  5   20
            nn.AvgPool2d(15 - 2 * blocks),                                 # 10 x  1 x  1   28
        ))


class SharedNet(DigitNet):
    """Its five separable blocks share one 3x3 convolution; each mixes the channels in its own way."""
    def __init__(self):
        mix = partial(separable_block, 10, 10, filters=depthwise(10))
        super().__init__(nn.Sequential(
            block(1, 10, norm=True, activation=nn.SiLU),        # 10 x 26 x 26    3
            mix(),                                              # 10 x 24 x 24    5
            mix(),                                              # 10 x 22 x 22    7
            nn.MaxPool2d(2),                                    # 10 x 11 x 11    8
            mix(),                                              # 10 x  9 x  9   12
            mix(),                                              # 10 x  7 x  7   16
            mix(),                                              # 10 x  5 x  5   20
            nn.Conv2d(10, 10, 1, bias=False),                   # 10 x  5 x  5   20
            nn.AvgPool2d(5),                                    # 10 x  1 x  1   28
        ))


class AccurateNet(DigitNet):
    """It has six wider separable blocks, and the max-pool follows the first of them."""
    def __init__(self, first=12, width=32, make=separable_block, activation=nn.SiLU):
        super().__init__(nn.Sequential(
            block(1, first, norm=True, activation=activation),      # 12 x 26 x 26    3
            make(first, width, activation=activation),              # 32 x 24 x 24    5
            nn.MaxPool2d(2),                                        # 32 x 12 x 12    6
            make(width, width, activation=activation),              # 32 x 10 x 10   10
            make(width, width, activation=activation),              # 32 x  8 x  8   14
            make(width, width, activation=activation),              # 32 x  6 x  6   18
            make(width, width, activation=activation),              # 32 x  4 x  4   22
            make(width, width, activation=activation),              # 32 x  2 x  2   26
            nn.Conv2d(width, 10, 1),                                # 10 x  2 x  2   26
            nn.AvgPool2d(2),                                        # 10 x  1 x  1   28
        ))


class MostAccurateNet(AccurateNet):
    """It has the layers of AccurateNet, with 16 and 48 channels in place of 12 and 32."""
    def __init__(self):
        super().__init__(first=16, width=48)


# Reference B's names. It calls two networks "Model2"; the one with batch norm has only ours.
Model1, Model2, Model2b, Model2c, Model3 = Baseline, LightNet, DropoutNet, GapNet, SchedulerNet
