"""Questions to any network, answered by following one image through the functions that it calls.

Layers and functional calls count alike, and what a network builds but does not use does not count. The
network itself, its mode and the random streams stay as they are.
"""

import copy
import inspect
import io
import re
from collections import namedtuple
from contextlib import redirect_stdout

import torch
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.overrides import TorchFunctionMode

IMAGE = (1, 28, 28)   # channels, height, width


def _copy(net):
    """Copy `net` to the CPU, in float32 and eval mode, with the activations that it may keep."""
    kept = {id(value): value.detach() for module in net.modules() for value in vars(module).values()
            if isinstance(value, torch.Tensor) and not value.is_leaf}
    lazy = {id(value): UninitializedBuffer() for value in net.buffers() if is_lazy(value)}
    return copy.deepcopy(net, kept | lazy).cpu().float().eval()   # neither can be copied as it is


def count_parameters(net, size=IMAGE):
    """Count the trainable numbers of `net`; lazy layers take their sizes from an image of `size`."""
    if any(is_lazy(p) for p in net.parameters()):
        net = _copy(net)
        with torch.no_grad():
            net(torch.zeros(1, *size))
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def summary(net, size=IMAGE):
    """Print torchsummary's table of `net`, and a line below it where its total is not the true one.

    Raises TypeError where an inner module returns something else than tensors: torchsummary cannot show it.
    """
    import torchsummary  # here, so that training does not need it

    table, net = io.StringIO(), _copy(net)
    try:
        with torch.random.fork_rng(devices=[]), redirect_stdout(table), torch.no_grad():
            net(torch.zeros(1, *size))   # lazy layers get their sizes
            net.apply = lambda hook: [hook(module) for module in net.modules()]   # a shared layer's hook once
            torchsummary.summary(net, size, device="cpu")
    except AttributeError as error:
        raise TypeError("torchsummary cannot show a module that returns something else than tensors"
                        f" ({error}); count_parameters, check and print(net) can") from None
    print(table.getvalue(), end="")
    shown = re.search(r"Total params: ([\d,]+)", table.getvalue())[1]
    counted = f"{sum(p.numel() for p in net.parameters()):,}"
    if shown != counted:
        print("The total above is torchsummary's, which counts a shared layer each time and no bare"
              f" parameter; there are {counted} parameters.")


def show_source(*parts, mark=()):
    """Print the source of classes and functions; lines that use one of the names in `mark` begin with ">"."""
    used = re.compile(rf"(?<![\w-])({'|'.join(mark)})\b")   # "pool", but not in "max-pool"
    for number, part in enumerate(parts):
        print("\n" * (number > 0), end="")
        for line in inspect.getsource(part).splitlines():
            print(">" if mark and used.search(line) else " ", line)


class Table(list):
    """A list of named tuples that prints as an aligned table."""
    def __repr__(self):
        rows = [[name.replace("_", " ") for name in self[0]._fields], *self]
        first, *widths = [max(len(str(value)) for value in column) for column in zip(*rows, strict=True)]
        line = "  ".join([f"{{:<{first}}}", *(f"{{:>{width}}}" for width in widths)])
        return "\n".join(line.format(*row) for row in rows)


# Squares are given by their side; `jump` is the distance, in input pixels, between neighbouring outputs.
Field = namedtuple("Field", "layer kernel stride padding output jump receptive_field")


def receptive_field(net, size=IMAGE):
    """List kernel, stride, padding, output size, jump and receptive field of every call that has a kernel.

    As they run on one image of `size`. Branches that meet are counted together. A linear layer, a mean over
    the map and an adaptive pool count as a kernel over all that they see. Raises ValueError for other than
    squares and, with the name of the function, for what cannot be counted; the gradient has the last word.
    Arithmetic: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.
    """
    trace, net = _trace(net, size), _copy(net)
    if trace.refusal:
        raise ValueError(f"the receptive field cannot be counted: {trace.refusal}")
    if not trace.rows:
        raise ValueError("the network has no layer with a kernel over a map (N, C, H, W)")
    _check_by_gradient(net, size, trace)
    return trace.rows


class Check(namedtuple("Check", "parameters max_parameters batch_norm dropout head")):
    """What `check` found out: `batch_norm` counts layers, `dropout` has the rate of each of its layers."""

    always_dropped = ()   # rates of the dropout that acts in evaluation too

    def __repr__(self):
        limit = "within" if self.parameters <= self.max_parameters else "OVER"
        norm = f"{self.batch_norm} layers" if self.batch_norm else "none"
        rates = ", ".join(map(str, sorted(set(self.dropout))))
        dropout = f"{len(self.dropout)} layers, p = {rates}" if rates else "none"
        if self.always_dropped:
            dropout += f"; {len(self.always_dropped)} of them STAY ON in evaluation"
        return (f"parameters           {self.parameters:,} ({limit} {self.max_parameters:,})\n"
                f"batch normalisation  {norm}\n"
                f"dropout              {dropout}\n"
                f"head                 {self.head}")


def check(net, max_parameters=20_000, size=IMAGE):
    """Answer the graders' four questions for any module: parameters, batch norm, dropout and head.

    A convolution whose kernel covers its whole input map is a fully connected layer. Dropout that stays on in
    evaluation is named.
    """
    trace = _trace(net, size)
    parameters = count_parameters(net, size)
    answer = Check(parameters, max_parameters, trace.batch_norm, tuple(trace.dropout), trace.head)
    answer.always_dropped = tuple(trace.always_dropped)
    return answer


# ---------------------------------------------------------------- following an image

def _trace(net, size):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        net, image = _copy(net), torch.zeros(1, *size)
        net(image)   # lazy layers get their sizes
        with _Trace(image) as trace:
            net(image)
    return trace


# The pixels, from `first` to `last` along one axis, that the first position of a map depends on; the distance
# of its positions in pixels; the side of the map, 1 where all positions were brought together.
_Span = namedtuple("_Span", "first last jump side")

WINDOWS = {"conv2d": "Conv2d", "max_pool2d": "MaxPool2d", "avg_pool2d": "AvgPool2d"}
ADAPTIVE = {"adaptive_avg_pool2d": "AdaptiveAvgPool2d", "adaptive_max_pool2d": "AdaptiveMaxPool2d"}
WHOLE = {"linear": "Linear", "mean": "mean", "sum": "sum", "amax": "amax", "amin": "amin", "matmul": "matmul",
         "__matmul__": "matmul", "einsum": "einsum", "max": "max"}   # over all positions


class _Trace(TorchFunctionMode):
    """Takes notes of the calls of PyTorch's functions, and of what every tensor depends on."""

    def __init__(self, image):
        super().__init__()
        self.rows, self.refusal = Table(), ""
        self.batch_norm, self.dropout, self.always_dropped, self.head = 0, [], [], "none"
        self.spans, self.kept = {id(image): _Span(0, 0, 1, image.shape[-1])}, [image]
        self.end = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "batch_norm":
            self.batch_norm += 1
        elif "dropout" in name:
            self._dropout(args, kwargs)
        results = out if isinstance(out, (tuple, list)) else [out]
        for result in results:
            if isinstance(result, torch.Tensor):
                self._follow(name, args, kwargs, result)
        return out

    def _dropout(self, args, kwargs):
        rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        if rate > 0:
            self.dropout.append(rate)
            if kwargs.get("training", args[2] if len(args) > 2 else True):
                self.always_dropped.append(rate)

    def _follow(self, name, args, kwargs, out):
        """Note what `out` depends on."""
        tensors = [x for arg in [*args, *kwargs.values()]
                   for x in (arg if isinstance(arg, (tuple, list)) else [arg]) if isinstance(x, torch.Tensor)]
        inputs = [(x, self.spans[id(x)]) for x in tensors if id(x) in self.spans]
        if not inputs or name in ("size", "__get__", "dim", "argmax"):
            return
        x, span = inputs[0]
        for _, other in inputs[1:]:   # branches that meet
            if other.jump != span.jump or other.side != span.side:
                self._refuse(f"{name} joins maps of {span.side} and {other.side} positions, {span.jump} and"
                             f" {other.jump} pixels apart")
            span = span._replace(first=min(span.first, other.first), last=max(span.last, other.last))
        self.spans[id(out)] = self._span(name, x, span, args, kwargs, out)
        self.kept.append(out)   # else another tensor could get its id
        self.end = out

    def _span(self, name, x, span, args, kwargs, out):
        is_map = x.ndim == 4 and x.shape[-1] == span.side and span.side > 1
        if name in WINDOWS and x.ndim == 4:
            return self._window(name, x, span, args, kwargs, out)
        if name in ADAPTIVE:
            return self._adaptive(name, span, out)
        if name == "pad" and is_map:
            padding = args[1] if len(args) > 1 else kwargs["pad"]
            if len(set(padding)) > 1:
                self._refuse(f"pad {tuple(padding)} is not the same on all sides")
            moved = padding[0] * span.jump
            return span._replace(first=span.first - moved, last=span.last - moved, side=out.shape[-1])
        if name in WHOLE and self._over_channels(x, args, kwargs):
            return span
        if name == "linear" or name in WHOLE and out.numel() < x.numel() and span.side > 1:
            return self._whole(name, span, out)
        if out.numel() == x.numel() or out.ndim == x.ndim and out.shape[2:] == x.shape[2:]:
            return span   # elementwise, another shape of the same numbers, or other channels
        if span.side == 1:
            return span
        self._refuse(f"{name} makes {tuple(out.shape)} of {tuple(x.shape)}")
        return span

    @staticmethod
    def _over_channels(x, args, kwargs):
        """Tell whether a mean or the like of a map (N, C, H, W) leaves its positions as they are."""
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        dims = [dims] if isinstance(dims, int) else dims
        return x.ndim == 4 and isinstance(dims, (list, tuple)) and all(dim % 4 < 2 for dim in dims)

    def _window(self, name, x, span, args, kwargs, out):
        """The span after a kernel that is moved over the map."""
        at = lambda place, key, usual: kwargs.get(key, args[place] if len(args) > place else usual)
        if name == "conv2d":
            kernel = tuple((args[1] if len(args) > 1 else kwargs["weight"]).shape[2:])
            stride, padding, dilation = at(3, "stride", 1), at(4, "padding", 0), at(5, "dilation", 1)
        else:
            kernel = at(1, "kernel_size", None)
            stride, padding = at(2, "stride", None) or kernel, at(3, "padding", 0)
            dilation = at(4, "dilation", 1) if name == "max_pool2d" else 1
        pairs = [(value, value) if isinstance(value, (int, str)) else tuple(value) * (3 - len(tuple(value)))
                 for value in (kernel, stride, padding, dilation)]
        if any(height != width for height, width in pairs) or x.shape[-1] != x.shape[-2]:
            self._refuse(f"expected a square kernel, stride, padding and map, got {WINDOWS[name]} with kernel"
                         f" {pairs[0]}, stride {pairs[1]}, padding {pairs[2]} on {tuple(x.shape)}")
        kernel, stride, padding, dilation = (pair[0] for pair in pairs)
        reach = dilation * (kernel - 1)
        padding = {"same": reach // 2, "valid": 0}.get(padding, padding)
        first = span.first - padding * span.jump
        last = first + span.last - span.first + reach * span.jump
        found = _Span(first, last, stride * span.jump, out.shape[-1])
        self._row(WINDOWS[name], reach + 1, stride, padding, found)
        if span.side > 1 and found.side == 1:
            self.head = "fully connected" if name == "conv2d" else "global average pooling"
            if name == "max_pool2d":
                self.head = "global max pooling"
            if name != "conv2d" and reach + 1 < span.side:   # it leaves a rim out
                self.head = (f"{self.head[7:]} of {reach + 1} x {reach + 1} of {span.side} x {span.side}"
                             " positions")
        return found

    def _adaptive(self, name, span, out):
        side = out.shape[-1]
        if span.side % side:
            self._refuse(f"{ADAPTIVE[name]} of {span.side} to {side} positions has kernels of several sizes")
        kernel = stride = max(1, span.side // side)
        found = _Span(span.first, span.last + (kernel - 1) * span.jump, stride * span.jump, side)
        self._row(ADAPTIVE[name], kernel, stride, 0, found)
        if side == 1 and span.side > 1:
            self.head = "global average pooling" if "avg" in name else "global max pooling"
        return found

    def _whole(self, name, span, out):
        """The span after a call that brings all positions together."""
        found = _Span(span.first, span.last + (span.side - 1) * span.jump, span.jump, 1)
        self._row(WHOLE[name], span.side, 1, 0, found)
        if name in ("linear", "matmul", "__matmul__", "einsum"):
            self.head = "fully connected"
        elif span.side > 1:
            self.head = f"global {'max' if 'max' in name else 'average'} pooling"
        return found

    def _row(self, layer, kernel, stride, padding, span):
        field = span.last - span.first + 1
        self.rows.append(Field(layer, kernel, stride, padding, span.side, span.jump, field))

    def _refuse(self, why):
        self.refusal = self.refusal or why


def _check_by_gradient(net, size, trace):
    """Raise ValueError where the middle of the last map depends on pixels outside the field that was counted.

    It finds functions that look at other positions without changing the size of the map.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.randn(8, *size, requires_grad=True)
    with torch.enable_grad(), _Trace(images) as again:
        net(images)
    out, span = again.end, again.spans[id(again.end)]
    middle = span.side // 2
    score = out[..., middle, middle] if out.ndim == 4 and out.shape[-1] == span.side > 1 else out
    if span.side > 1 and out.ndim != 4 or not score.requires_grad:
        return   # flattened maps: every entry has another field
    torch.autograd.backward(score.sum() if score.numel() == 1 else (score * torch.randn_like(score)).sum())
    seen = images.grad.abs().sum((0, 1))
    for pixels in (seen.sum(0).nonzero().flatten(), seen.sum(1).nonzero().flatten()):
        first, last = (end + middle * span.jump for end in (span.first, span.last))
        if len(pixels) and (pixels[0] < first or pixels[-1] > last):
            raise ValueError("the receptive field cannot be counted: by the gradient an output depends on"
                             f" pixels {pixels[0]} to {pixels[-1]}, by the kernels on {first} to {last}")
