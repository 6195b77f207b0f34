"""The page to draw on: the networks' weights in a form that a browser reads.

`python run.py --page` writes page/weights.js from results/. Batch norm is folded into the convolution before
it, and dropout does nothing in use.
"""

import base64
import json

import torch
from torch import nn

from lab import records
from lab.classify import load_weights

KINDS = {nn.ReLU: "relu", nn.SiLU: "silu", nn.MaxPool2d: "max", nn.AvgPool2d: "average"}


def layers_of(net):
    """Return the layers of a network in eval mode as a browser reads them: a list of dicts."""
    found = []
    for layer in net.layers.modules():
        if isinstance(layer, nn.Conv2d):
            found.append({"kind": "convolution", "inputs": layer.in_channels, "outputs": layer.out_channels,
                          "kernel": layer.kernel_size[0], "stride": layer.stride[0],
                          "padding": layer.padding[0], "groups": layer.groups,
                          "weights": layer.weight.detach().double(),
                          "bias": torch.zeros(layer.out_channels).double() if layer.bias is None
                          else layer.bias.detach().double()})
        elif isinstance(layer, nn.BatchNorm2d):   # folded into the convolution before it
            scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
            before = found[-1]
            before["weights"] = (before["weights"] * scale[:, None, None, None]).detach()
            before["bias"] = ((before["bias"] - layer.running_mean) * scale + layer.bias).detach()
        elif type(layer) in KINDS:
            size = {"size": layer.kernel_size} if hasattr(layer, "kernel_size") else {}
            found.append({"kind": KINDS[type(layer)], **size})
        elif list(layer.children()) or isinstance(layer, nn.Dropout):
            continue
        else:
            raise TypeError(f"the page cannot compute a {type(layer).__name__}")
    return [{name: _base64(value) if isinstance(value, torch.Tensor) else value
             for name, value in layer.items()} for layer in found]


def _base64(tensor):
    return base64.b64encode(tensor.float().numpy().astype("<f4").tobytes()).decode()


def weights(networks, test):
    """Return the text of page/weights.js, for networks with recorded weights and the test images."""
    tested, made = records.runs().dropna(subset="test"), {}
    for net in map(load_weights, networks):
        name = type(net).__name__
        ours = tested[(tested["network"] == name) & tested["run"].str.startswith(name)]
        made[name] = {"about": f"{ours['parameters'].iloc[0]:,.0f} parameters; such networks read"
                               f" {ours['test'].mean():.2f} % of MNIST's test images on average over"
                               f" {len(ours)} seeds. {reliability(net, test)}",
                      "layers": layers_of(net)}
    return f"const NETWORKS = {json.dumps(made, ensure_ascii=False)};\n"


@torch.no_grad()
def reliability(net, test, sure=0.99):
    """Say how often `net` is right where it is `sure`, and where it is not."""
    confidence, digits = torch.cat([net(images) for images in test.images.split(500)]).exp().max(1)
    above, right = confidence >= sure, (digits == test.labels).double()
    return (f"Of those for which this one gives {100 * sure:.0f} % or more, {100 * right[above].mean():.2f} %"
            f" are what it says; of the others {100 * right[~above].mean():.0f} %.")
