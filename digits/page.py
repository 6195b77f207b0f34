"""The page to draw on: the networks' weights in a form that a browser reads.

`python run.py --page` writes page/weights.js from results/. Batch norm is folded into the convolution before
it, and dropout does nothing in use.
"""

import base64
import copy
import json

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from digits.classify import NETWORKS, recorded
from lab.analysis import count_parameters
from lab.record import over_seeds

KINDS = {nn.ReLU: "relu", nn.SiLU: "silu", nn.MaxPool2d: "max", nn.AvgPool2d: "average"}


def layers_of(net):
    """Return the layers of a network in eval mode as a browser reads them: a list of dicts."""
    found = []
    layers = [layer for layer in copy.deepcopy(net.layers).double().modules()
              if not list(layer.children()) and not isinstance(layer, nn.Dropout)]
    for before, layer, after in zip([None, *layers], layers, [*layers[1:], None]):
        if isinstance(layer, nn.Conv2d):
            layer = fuse_conv_bn_eval(layer, after) if isinstance(after, nn.BatchNorm2d) else layer
            bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
            found.append({"kind": "convolution", "inputs": layer.in_channels, "outputs": layer.out_channels,
                          "kernel": layer.kernel_size[0], "stride": layer.stride[0],
                          "padding": layer.padding[0], "groups": layer.groups,
                          "weights": _base64(layer.weight), "bias": _base64(bias)})
        elif type(layer) in KINDS:
            size = {"size": layer.kernel_size} if hasattr(layer, "kernel_size") else {}
            found.append({"kind": KINDS[type(layer)], **size})
        elif not (isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d)):   # that is folded
            raise TypeError(f"the page cannot compute a {type(layer).__name__}")
    return found


def _base64(tensor):
    return base64.b64encode(tensor.detach().float().numpy().astype("<f4").tobytes()).decode()


def weights(test):
    """Return the text of page/weights.js, with how well the networks read `test`, MNIST's test set."""
    made = {}
    for network, (notebook, run) in NETWORKS.items():
        net = recorded(network)
        accuracies = over_seeds(notebook, run, "test")
        about = (f"{count_parameters(net):,} parameters; such networks read {accuracies.mean():.2f} % of"
                 f" MNIST's test images on average over {len(accuracies)} seeds. {reliability(net, test)}")
        made[network.__name__] = {"about": about, "layers": layers_of(net)}
    return f"const NETWORKS = {json.dumps(made, ensure_ascii=False)};\n"


@torch.no_grad()
def reliability(net, test, sure=0.99):
    """Say how often `net` is right where it is `sure`, and where it is not."""
    confidence, digits = torch.cat([net(images) for images in test.images.split(500)]).exp().max(1)
    above, right = confidence >= sure, (digits == test.labels).double()
    return (f"Of those for which this one gives {100 * sure:.0f} % or more, {100 * right[above].mean():.2f} %"
            f" are what it says; of the others {100 * right[~above].mean():.0f} %.")
