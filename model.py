"""The networks, and what can be asked of any network.

In this order: the shared block, the networks of the ladder from the heaviest to the last step,
those of the other references, the fast ones, the small and the accurate ones, then `count_parameters`, `summary`,
`receptive_field` and `check`. Data and training live in `utils.py`, pictures in `plots.py`,
batch norm and dropout in `layers.py`.

The ladder is that of reference B (see README): `Model1` to `Model3` are its names.
Shapes beside the layers are channels x height x width of the layer's output, and the side
of the square of input pixels that one of its values depends on (its receptive field).
"""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from layers import BatchNorm2d, Dropout

IMAGE = (1, 28, 28)   # channels, height, width


# ---------------------------------------------------------------- networks

def block(inputs, outputs, kernel=3, stride=1, padding=0, norm=False, dropout=0, activation=nn.ReLU):
    """Return a convolution without bias, batch norm where asked for, the activation, and dropout where asked for."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), activation()]
    if norm:
        layers.insert(1, BatchNorm2d(outputs))
    if dropout:
        layers.append(Dropout(dropout))
    return nn.Sequential(*layers)


def norm_last_block(inputs, outputs, kernel=3, padding=0, dropout=0):
    """Return a convolution without bias, ReLU, batch norm, and dropout where asked for."""
    layers = [nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False), nn.ReLU(), BatchNorm2d(outputs)]
    if dropout:
        layers.append(Dropout(dropout))
    return nn.Sequential(*layers)


def separable_block(inputs, outputs, padding=0, activation=nn.SiLU):
    """Return a 3x3 convolution of each channel by itself and a 1x1 one that mixes them, both without bias, batch norm, the activation.

    Howard et al., MobileNets, 2017, without the batch norm between the two.
    """
    return nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=padding, groups=inputs, bias=False),
                         nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs), activation())


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
    """The skeleton: convolutions, one max-pool and nothing else."""

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


class LightNet(DigitNet):
    """The same idea with 34 times fewer parameters, and no head."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1,  8),                          #  8 x 26 x 26    3
            block( 8, 12),                          # 12 x 24 x 24    5
            block(12,  8, kernel=1),                #  8 x 24 x 24    5
            nn.MaxPool2d(2),                        #  8 x 12 x 12    6
            block( 8, 12),                          # 12 x 10 x 10   10
            block(12, 12),                          # 12 x  8 x  8   14
            block(12, 12),                          # 12 x  6 x  6   18
            block(12, 12),                          # 12 x  4 x  4   22
        ))


class BatchNormNet(DigitNet):
    """Batch norm after every convolution."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1,  8, norm=True),               #  8 x 26 x 26    3
            block( 8, 12, norm=True),               # 12 x 24 x 24    5
            block(12,  8, norm=True, kernel=1),     #  8 x 24 x 24    5
            nn.MaxPool2d(2),                        #  8 x 12 x 12    6
            block( 8, 12, norm=True),               # 12 x 10 x 10   10
            block(12, 12, norm=True),               # 12 x  8 x  8   14
            block(12, 12, norm=True),               # 12 x  6 x  6   18
            block(12, 12, norm=True),               # 12 x  4 x  4   22
        ))


class DropoutNet(DigitNet):
    """Dropout of 0.25 after the max-pool."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1,  8, norm=True),               #  8 x 26 x 26    3
            block( 8, 12, norm=True),               # 12 x 24 x 24    5
            block(12,  8, norm=True, kernel=1),     #  8 x 24 x 24    5
            nn.MaxPool2d(2),                        #  8 x 12 x 12    6
            Dropout(0.25),
            block( 8, 12, norm=True),               # 12 x 10 x 10   10
            block(12, 12, norm=True),               # 12 x  8 x  8   14
            block(12, 12, norm=True),               # 12 x  6 x  6   18
            block(12, 12, norm=True),               # 12 x  4 x  4   22
        ))


class GapNet(DigitNet):
    """Global average pooling at the end: a head, at last."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1,  8, norm=True),               #  8 x 26 x 26    3
            block( 8, 12, norm=True),               # 12 x 24 x 24    5
            block(12,  8, norm=True, kernel=1),     #  8 x 24 x 24    5
            nn.MaxPool2d(2),                        #  8 x 12 x 12    6
            Dropout(0.25),
            block( 8, 12, norm=True),               # 12 x 10 x 10   10
            block(12, 12, norm=True),               # 12 x  8 x  8   14
            block(12, 12, norm=True),               # 12 x  6 x  6   18
            block(12, 12, norm=True),               # 12 x  4 x  4   22
            nn.AvgPool2d(4),                        # 12 x  1 x  1   28
        ))


class SchedulerNet(DigitNet):
    """Dropout of 0.1, no batch norm on the 1x1 convolution, rotated digits and a scheduler."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1,  8, norm=True),               #  8 x 26 x 26    3
            block( 8, 12, norm=True),               # 12 x 24 x 24    5
            block(12,  8, kernel=1),                #  8 x 24 x 24    5
            nn.MaxPool2d(2),                        #  8 x 12 x 12    6
            Dropout(0.1),
            block( 8, 12, norm=True),               # 12 x 10 x 10   10
            block(12, 12, norm=True),               # 12 x  8 x  8   14
            block(12, 12, norm=True),               # 12 x  6 x  6   18
            block(12, 12, norm=True),               # 12 x  4 x  4   22
            nn.AvgPool2d(4),                        # 12 x  1 x  1   28
        ))


class OneCycleNet(DigitNet):
    """Padded convolutions, two max-pools and a 1x1 convolution as the head."""

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
    """Few channels, nine convolutions, dropout of 0.05 after every block."""

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
    """Dropout of 0.05 after every batch norm, that of the logits too."""

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
    """A linear layer over the whole last map as the head."""

    def __init__(self):
        super().__init__(nn.Sequential(
            norm_last_block( 1,  8),                            #  8 x 26 x 26    3
            norm_last_block( 8, 16),                            # 16 x 24 x 24    5
            nn.MaxPool2d(2),                                    # 16 x 12 x 12    6
            Dropout(0.25),
            norm_last_block(16, 32, kernel=1),                  # 32 x 12 x 12    6
            norm_last_block(32, 16),                            # 16 x 10 x 10   10
            norm_last_block(16,  8, dropout=0.25),              #  8 x  8 x  8   14
            norm_last_block( 8, 16, kernel=1, dropout=0.25),    # 16 x  8 x  8   14
            norm_last_block(16,  8, dropout=0.25),              #  8 x  6 x  6   18
        ), head=nn.Linear(8 * 6 * 6, 10))


class PooledHeadNet(DigitNet):
    """The same with the last map averaged before the linear layer: a quarter fewer parameters."""

    def __init__(self):
        super().__init__(nn.Sequential(
            norm_last_block( 1,  8),                            #  8 x 26 x 26    3
            norm_last_block( 8, 16),                            # 16 x 24 x 24    5
            nn.MaxPool2d(2),                                    # 16 x 12 x 12    6
            Dropout(0.25),
            norm_last_block(16, 32, kernel=1),                  # 32 x 12 x 12    6
            norm_last_block(32, 16),                            # 16 x 10 x 10   10
            norm_last_block(16,  8, dropout=0.25),              #  8 x  8 x  8   14
            norm_last_block( 8, 16, kernel=1, dropout=0.25),    # 16 x  8 x  8   14
            norm_last_block(16,  8, dropout=0.25),              #  8 x  6 x  6   18
            nn.AvgPool2d(6),                                    #  8 x  1 x  1   28
        ), head=nn.Linear(8, 10))


class StridedNet(DigitNet):
    """A stride in place of large maps, a wide head: the fastest to 99.0 and 99.4 %."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1, 16, kernel=6, stride=2, norm=True),   # 16 x 12 x 12    6
            nn.Conv2d(16, 24, 3, bias=False),               # 24 x 10 x 10   10
            nn.MaxPool2d(2),                                # 24 x  5 x  5   12
            BatchNorm2d(24), nn.ReLU(),                     # after the max-pool, for a quarter of the work
            nn.Flatten(),
            nn.Linear(600, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
            nn.Linear(256, 10),
        ))


class WideStridedNet(DigitNet):
    """The same with twice the channels in the second convolution."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block( 1, 16, kernel=6, stride=2, norm=True),   # 16 x 12 x 12    6
            nn.Conv2d(16, 48, 3, bias=False),               # 48 x 10 x 10   10
            nn.MaxPool2d(2),                                # 48 x  5 x  5   12
            BatchNorm2d(48), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(1200, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
            nn.Linear(256, 10),
        ))


class SmallNet(DigitNet):
    """Separable convolutions in place of full ones."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block(1, 10, norm=True, activation=nn.SiLU),   # 10 x 26 x 26    3
            separable_block(10, 18),                       # 18 x 24 x 24    5
            nn.MaxPool2d(2),                               # 18 x 12 x 12    6
            separable_block(18, 24),                       # 24 x 10 x 10   10
            separable_block(24, 24),                       # 24 x  8 x  8   14
            nn.MaxPool2d(2),                               # 24 x  4 x  4   16
            separable_block(24, 24, padding=1),            # 24 x  4 x  4   24
            nn.Conv2d(24, 10, 1),                          # 10 x  4 x  4   24
            nn.AvgPool2d(4),                               # 10 x  1 x  1   36
        ))


class TinyNet(DigitNet):
    """Five narrow separable blocks and one max-pool."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block(1, 7, norm=True, activation=nn.SiLU),   #  7 x 26 x 26    3
            separable_block(7, 10),                       # 10 x 24 x 24    5
            separable_block(10, 10),                      # 10 x 22 x 22    7
            nn.MaxPool2d(2),                              # 10 x 11 x 11    8
            separable_block(10, 10),                      # 10 x  9 x  9   12
            separable_block(10, 10),                      # 10 x  7 x  7   16
            separable_block(10, 10),                      # 10 x  5 x  5   20
            nn.Conv2d(10, 10, 1),                         # 10 x  5 x  5   20
            nn.AvgPool2d(5),                              # 10 x  1 x  1   28
        ))


class AccurateNet(DigitNet):
    """Six wider separable blocks, the max-pool after the first."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block(1, 12, norm=True, activation=nn.SiLU),   # 12 x 26 x 26    3
            separable_block(12, 32),                       # 32 x 24 x 24    5
            nn.MaxPool2d(2),                               # 32 x 12 x 12    6
            separable_block(32, 32),                       # 32 x 10 x 10   10
            separable_block(32, 32),                       # 32 x  8 x  8   14
            separable_block(32, 32),                       # 32 x  6 x  6   18
            separable_block(32, 32),                       # 32 x  4 x  4   22
            separable_block(32, 32),                       # 32 x  2 x  2   26
            nn.Conv2d(32, 10, 1),                          # 10 x  2 x  2   26
            nn.AvgPool2d(2),                               # 10 x  1 x  1   28
        ))


class MostAccurateNet(DigitNet):
    """The same, wider still."""

    def __init__(self):
        super().__init__(nn.Sequential(
            block(1, 16, norm=True, activation=nn.SiLU),   # 16 x 26 x 26    3
            separable_block(16, 48),                       # 48 x 24 x 24    5
            nn.MaxPool2d(2),                               # 48 x 12 x 12    6
            separable_block(48, 48),                       # 48 x 10 x 10   10
            separable_block(48, 48),                       # 48 x  8 x  8   14
            separable_block(48, 48),                       # 48 x  6 x  6   18
            separable_block(48, 48),                       # 48 x  4 x  4   22
            separable_block(48, 48),                       # 48 x  2 x  2   26
            nn.Conv2d(48, 10, 1),                          # 10 x  2 x  2   26
            nn.AvgPool2d(2),                               # 10 x  1 x  1   28
        ))


# Reference B's names. It calls two networks "Model2"; the one with batch norm has only ours.
Model1, Model2, Model2b, Model2c, Model3 = Baseline, LightNet, DropoutNet, GapNet, SchedulerNet


# ---------------------------------------------------------------- questions to any network

def count_parameters(net):
    """Count the trainable numbers of `net`."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def _copy(net):
    """Copy `net` to the CPU, in float32 and eval mode: a forward pass leaves the original untouched."""
    return copy.deepcopy(net).cpu().float().eval()


def summary(net, size=IMAGE):
    """Print torchsummary's table of `net` for images of `size`; weights and random streams stay as they are.

    torchsummary runs a forward pass on random images: in training mode that would move the
    statistics of batch norm, and with them every figure of the training that follows.
    """
    import torchsummary   # here, so that training does not need it

    with torch.random.fork_rng(devices=[]):
        torchsummary.summary(_copy(net), size, device="cpu")


class Field(NamedTuple):
    """One row of `receptive_field`: all in pixels, squares given by their side."""
    layer: str
    kernel: int
    stride: int
    padding: int
    output: int            # side of the output map
    jump: int              # distance, in input pixels, between neighbouring outputs
    receptive_field: int


class Table(list):
    """A list of named tuples that prints as an aligned table."""

    def __repr__(self):
        rows = [[name.replace("_", " ") for name in self[0]._fields], *([str(v) for v in row] for row in self)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join([row[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(row[1:], widths[1:]))])
                 for row in rows]
        return "\n".join(lines)


def receptive_field(net, size=IMAGE):
    """List kernel, stride, padding, output size, jump and receptive field of every layer that has a kernel.

    For networks whose layers follow one another; computed from the modules as they run on one
    image of `size`. A linear layer and an adaptive pool count as a kernel over all that they see.
    Arithmetic: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.
    Raises ValueError for a kernel, stride or padding that is not square.
    """
    calls = []   # (layer, input, output) as they run
    net = _copy(net)
    for layer in net.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, x, y: calls.append((layer, x[0].shape, y.shape)))
    with torch.no_grad():
        net(torch.zeros(1, *size))

    rows, jump, field, side = Table(), 1, 1, size[-1]
    for layer, x, y in calls:
        if isinstance(layer, nn.Linear):
            kernel, stride, padding, output = side, 1, 0, 1
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            output = y[-1]
            stride = side // output
            kernel, padding = side - (output - 1) * stride, 0
        elif hasattr(layer, "kernel_size"):
            kernel, stride, dilation = (_square(getattr(layer, name, 1), layer) for name in ("kernel_size", "stride", "dilation"))
            kernel, output = dilation * (kernel - 1) + 1, y[-1]
            padding = {"same": (kernel - 1) // 2, "valid": 0}.get(layer.padding, layer.padding)
            padding = _square(padding, layer)
        else:
            continue
        field += (kernel - 1) * jump
        jump *= stride
        side = output
        rows.append(Field(type(layer).__name__, kernel, stride, padding, output, jump, field))
    return rows


def _square(value, layer):
    """Return the one number that `value`, a number or a pair, stands for."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if pair[0] != pair[1]:
        raise ValueError(f"expected a square kernel, stride and padding, got {layer}")
    return pair[0]


class Check(NamedTuple):
    """What `check` found out."""
    parameters: int
    max_parameters: int
    batch_norm: int     # layers
    dropout: tuple      # rates, one per layer
    head: str           # "global average pooling", "fully connected" or "none"

    @property
    def within_limit(self):
        return self.parameters <= self.max_parameters

    def __repr__(self):
        dropout = f"{len(self.dropout)} layers, p = {', '.join(map(str, sorted(set(self.dropout))))}"
        return "\n".join([
            f"parameters           {self.parameters:,} ({'within' if self.within_limit else 'OVER'} {self.max_parameters:,})",
            f"batch normalisation  {f'{self.batch_norm} layers' if self.batch_norm else 'none'}",
            f"dropout              {dropout if self.dropout else 'none'}",
            f"head                 {self.head}"])


def check(net, max_parameters=20_000, size=IMAGE):
    """Answer the graders' four questions for any module: parameters, batch norm, dropout, GAP or fully connected.

    Looks at what one forward pass calls, so functional layers count and layers that are built
    but never used do not. A convolution whose kernel covers its whole input map is a fully
    connected layer.
    """
    with torch.no_grad(), _Calls() as calls:
        _copy(net)(torch.zeros(1, *size))
    return Check(count_parameters(net), max_parameters, calls.batch_norm, tuple(calls.dropout), calls.head)


class _Calls(TorchFunctionMode):
    """Takes notes of the calls of PyTorch's functions that `check` asks about."""

    def __init__(self):
        super().__init__()
        self.batch_norm, self.dropout, self.head = 0, [], "none"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        x = args[0] if args else None
        if name == "batch_norm":
            self.batch_norm += 1
        elif name in ("dropout", "dropout2d"):
            p = (kwargs or {}).get("p", args[1] if len(args) > 1 else 0.5)
            self.dropout += [p] if p > 0 else []
        elif name == "linear":
            self.head = "fully connected"
        elif name in ("avg_pool2d", "adaptive_avg_pool2d", "mean", "conv2d") and x.ndim == 4:
            if x.shape[-1] > 1 and out.ndim >= 2 and out.numel() == out.shape[0] * out.shape[1]:   # a map becomes one value
                self.head = "fully connected" if name == "conv2d" else "global average pooling"
        return out
