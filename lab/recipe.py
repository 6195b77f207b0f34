"""What a training is: described from the objects that are about to be trained, and named by a digest.

Two trainings with the same description and the same seed are the same training.
"""

import hashlib
import inspect
import json
import zlib

import torch

SETTINGS = ("kernel_size", "stride", "padding", "padding_mode", "dilation", "groups", "ceil_mode", "p", "eps",
            "momentum", "affine", "track_running_stats", "negative_slope")   # of layers
RATES = "lr", "max_lr", "min_lr", "base_momentum", "max_momentum"   # of optimizers, some set by OneCycleLR
IMPLEMENTATION = "params", "fused", "foreach", "capturable", "differentiable"   # change no number


def describe(net, data, optimizer, scheduler, epochs, batch_size, augment, autocast, label_smoothing=0):
    """Describe a training that is about to start, as {what: text}."""
    return {
        **{f"layer {number}": text for number, text in enumerate(_layers(net, data.train.images[:1]), 1)},
        "data": _data(data),
        "optimizer": _optimizer(optimizer, net),
        "scheduler": _scheduler(scheduler),
        "epochs": str(epochs),
        "batch size": str(batch_size),
        "augmentation": _augmentation(augment),
        "16 bits": str(bool(autocast)),
        **({"label smoothing": _plain(float(label_smoothing))} if label_smoothing else {}),
    }


def digest(description):
    """Return the name of a description: eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:8]


def differences(recorded, here):
    """List in words what differs between two descriptions."""
    return [f"{what}: {recorded.get(what, 'none')} in the record, {here.get(what, 'none')} here"
            for what in {**recorded, **here} if recorded.get(what) != here.get(what)]


@torch.no_grad()
def _layers(net, image):
    """List the layers of `net` as they run on `image` (1, 1, H, W), with the sizes of their maps."""
    texts, training = [], net.training
    leaves = [layer for layer in net.modules() if not list(layer.children())]
    note = lambda layer, _, out: texts.append(_layer(layer, out))
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    try:
        with torch.random.fork_rng(devices=[]):   # looking must not change the training
            net.eval()(image)
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return texts


def _layer(layer, out):
    words = [type(layer).__name__, *(_size(parameter) for parameter in layer.parameters())]
    words += [f"{name} {_plain(getattr(layer, name))}" for name in SETTINGS if hasattr(layer, name)]
    return " ".join(words) + f" -> {_size(out[0])}"


def _size(tensor):
    return "x".join(map(str, getattr(tensor, "shape", ())))


def _data(data):
    """Name the training set, with what tells it from any other."""
    sums = [f"{zlib.crc32(part.cpu().contiguous().numpy()):08x}" for part in data.train]
    return f"{data.name}, {len(data.train.labels):,} images {sums[0]}, labels {sums[1]}"


def _augmentation(augment):
    """Name an augmentation; a function by its name and code, for its text holds an address."""
    code = getattr(augment, "__code__", None)
    if not code:
        return str(augment)
    return f"{augment.__qualname__} {zlib.crc32(repr((code.co_code, code.co_consts)).encode()):08x}"


def _optimizer(optimizer, net):
    """Name the class and, for each group of parameters, its rates and what is not the class's default."""
    usual, groups = inspect.signature(type(optimizer)).parameters, []
    size_of = lambda parameters: sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    for group in optimizer.param_groups:
        settings = [f"{name}={_plain(value)}" for name, value in group.items() if name in RATES or
                    name in usual and name not in IMPLEMENTATION and value != usual[name].default]
        if size_of(group["params"]) != size_of(net.parameters()):
            settings.insert(0, f"{size_of(group['params']):,} of the parameters")
        groups.append(" ".join(settings))
    return f"{type(optimizer).__name__} {'; '.join(groups)}"


def _scheduler(scheduler):
    """Name the class and the settings that PyTorch keeps, but for what it counts."""
    if scheduler is None:
        return "none"
    kept = {name.strip("_"): value for name, value in scheduler.state_dict().items()
            if not name.startswith("_") or name in ("_schedule_phases", "_anneal_func_type")}   # OneCycleLR's
    settings = " ".join(f"{name}={_plain(value)}" for name, value in sorted(kept.items()))
    return f"{type(scheduler).__name__} {settings}"


def _plain(value):
    """Write a setting so that every machine writes it alike: numbers with six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in value]
        return parts[0] if parts and len(set(parts)) == 1 else f"({', '.join(parts)})"
    if isinstance(value, dict):
        return f"({', '.join(f'{name}={_plain(part)}' for name, part in sorted(value.items()))})"
    return str(value)
