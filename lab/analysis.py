"""Questions to any network, answered by following images through the functions that it calls.

Layers and functional calls count alike, and what a network builds but does not use does not count. A copy
is given the images, float32: the network itself, its mode and the random streams stay as they are.
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
from torch.utils._pytree import tree_leaves

IMAGE = (1, 28, 28)   # channels, height, width


def count_parameters(net, size=IMAGE):
    """Count the numbers in the parameters of `net`, frozen ones too; lazy layers see an image of `size`."""
    lazy = any(is_lazy(parameter) for parameter in net.parameters())
    return sum(parameter.numel() for parameter in (_Trace(net, size).net if lazy else net).parameters())


def summary(net, size=IMAGE):
    """Print torchsummary's table of `net`, and a line below it where its total is not the true one.

    Raises TypeError where an inner module returns something else than tensors: torchsummary cannot show it.
    """
    import torchsummary  # here, so that training does not need it
    table, net = io.StringIO(), _Trace(net, size).net
    net.apply = lambda hook: [hook(module) for module in net.modules()]   # a shared layer's hook once
    try:
        with torch.random.fork_rng(devices=[]), redirect_stdout(table), torch.no_grad():
            torchsummary.summary(net, size, device="cpu")
    except AttributeError as error:
        raise TypeError("torchsummary cannot show a module that returns something else than tensors"
                        f" ({error}); count_parameters, check and print(net) can") from None
    print(table.getvalue(), end="")
    if f"Total params: {count_parameters(net):,}\n" not in table.getvalue():
        print("The total above is torchsummary's, which counts a shared layer each time and no bare"
              f" parameter; there are {count_parameters(net):,} parameters.")


def show_source(*parts, mark=()):
    """Print the source of classes and functions; lines that use one of the names in `mark` begin with ">".

    Raises RuntimeError where a file was edited after its import: it is not what runs.
    """
    used = re.compile(rf"(?<![\w-])({'|'.join(mark)})\b")   # "pool", but not in "max-pool"
    for number, part in enumerate(parts):
        print("\n" * (number > 0), end="")
        for line in _source(part).splitlines():
            print(">" if mark and used.search(line) else " ", line)


def _source(part):
    """Return the source of a class or function, and see that its functions run as they stand there."""
    functions = map(inspect.unwrap, filter(inspect.isfunction, (part, *vars(part).values())))
    codes = [f.__code__ for f in functions if f.__code__.co_filename != "<string>"]   # a dataclass's own
    for code in codes:
        lines, end = inspect.findsource(code)
        found = [compile("".join(lines), code.co_filename, "exec")]
        for outer in found:   # it grows by the functions within
            found += [inner for inner in outer.co_consts if inspect.iscode(inner)]
        if code not in found:
            raise RuntimeError(f"{code.co_filename} was edited after its import: restart the kernel")
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):   # a class of a notebook's cell: only its functions know the cell
        if not codes:
            raise
        start = max(i for i in range(end) if re.match(rf"\s*class {part.__name__}\b", lines[i]))
        return "".join(inspect.getblock(lines[start:]))


class Table(list):
    """A list of named tuples that prints as an aligned table."""
    def __repr__(self):
        rows = [[name.replace("_", " ") for name in self[0]._fields], *[list(map(str, row)) for row in self]]
        first, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]) for row in rows)


# Squares are given by their side; `jump` is the distance, in input pixels, between neighbouring outputs.
Field = namedtuple("Field", "layer kernel stride padding output jump receptive_field")


@torch.enable_grad()
def receptive_field(net, size=IMAGE):
    """List kernel, stride, padding, output size, jump and receptive field of every call that has a kernel.

    As they run on images of `size`. Branches that meet are counted together. A linear layer, a mean over
    the map and an adaptive pool count as a kernel over all that they see. Raises ValueError for other than
    squares and, with the name of the function, for what cannot be counted; the gradient has the last word.
    Arithmetic: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.
    """
    trace = _Trace(net, size)
    counted, seen = trace.out.field.receptive_field, _seen_by_gradient(trace.images, trace.out)
    refusals = trace.refusals + ["no call has a kernel over a map (N, C, H, W)"] * (not trace.rows)
    if seen > counted:   # a call looks at other positions and leaves the size of the map
        refusals.append(f"by the gradient an output depends on {seen} x {seen} pixels, by kernels {counted}")
    if refusals:
        raise ValueError(f"the receptive field cannot be counted: {refusals[0]}")
    return trace.rows


def _seen_by_gradient(images, out):
    """Return the side of the square of pixels that the middle of the map `out` depends on, 0 of no map."""
    if out.shape[2:].numel() != out.field.output ** 2 or not out.requires_grad:
        return 0
    score = out[(..., *[side // 2 for side in out.shape[2:]])].flatten()
    score = score @ torch.linspace(-1, 2, len(score), dtype=score.dtype)   # a plain sum may be constant
    pixels = torch.autograd.grad(score, images, materialize_grads=True)[0].nonzero()[:, 2:]
    return (pixels.amax(0) - pixels.amin(0)).max().item() + 1 if len(pixels) else 0


class Check(namedtuple("Check", "parameters batch_normalisation dropout head")):
    """The answers of `check`, as texts."""
    def __repr__(self):
        return "\n".join(f"{name.replace('_', ' '):<21}{answer}" for name, answer in self._asdict().items())


def check(net, max_parameters=20_000, size=IMAGE):
    """Answer the graders' four questions for any module: parameters, batch norm, dropout and head.

    A convolution whose kernel covers its whole input map is a fully connected layer. Frozen parameters, and
    dropout that stays on in evaluation, are named.
    """
    trace = _Trace(net, size)
    counted = count_parameters(trace.net)
    frozen = sum(parameter.numel() for parameter in trace.net.parameters() if not parameter.requires_grad)
    norms = sum(name == "batch_norm" for name, _ in trace.calls)
    drops = [given for name, given in trace.calls if "dropout" in name and given.get("p", 0.5) > 0]
    rates = ", ".join(map(str, sorted({given.get("p", 0.5) for given in drops})))
    stay_on = sum(given.get("training", given.get("train", True)) for given in drops)
    parameters = f"{counted:,} ({'within' if counted <= max_parameters else 'OVER'} {max_parameters:,})"
    dropout = f"{len(drops)} layers, p = {rates}" if drops else "none"
    return Check(parameters + f"; {frozen:,} of them FROZEN" * (frozen > 0),
                 f"{norms} layers" if norms else "none",
                 dropout + f"; {stay_on} of them STAY ON in evaluation" * (stay_on > 0), trace.head)


# Calls that can bring all positions together; the order of arguments that may come without their names.
PRODUCTS = "linear", "matmul", "mm", "addmm", "einsum"
REDUCTIONS = "mean", "sum", "amax", "max"
ARGUMENTS = {"conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
             "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
             "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
             "dropout": ("input", "p", "training")}


class _Trace(TorchFunctionMode):
    """A copy of a network that ran on eight images, and its calls; a tensor has the `field` it depends on."""
    def __init__(self, net, size):
        super().__init__()
        hard = {id(x): UninitializedBuffer() if is_lazy(x) else x.detach() for module in net.modules()
                for x in (*vars(module).values(), *module.buffers())
                if isinstance(x, torch.Tensor) and (is_lazy(x) or not x.is_leaf)}   # to copy
        self.net = copy.deepcopy(net, hard).cpu().float().eval()
        self.calls, self.rows, self.refusals, self.head = [], Table(), [], "none"
        self.images = torch.randn(8, *size, dtype=torch.float32, generator=torch.Generator().manual_seed(0))
        try:
            inspect.signature(net.forward).bind(self.images)
        except TypeError as error:
            raise TypeError(f"{type(net).__name__} is given one argument, images: {error}") from None
        with torch.random.fork_rng(devices=[]), self:
            self.out = self.images.requires_grad_().clone()   # a network may change what it is given
            self.out.field = Field("image", 1, 1, 0, size[-1], 1, 1)
            self.net(self.out)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        given = dict(zip(ARGUMENTS.get(name, ("input", "dim")), args)) | (kwargs or {})
        self.calls.append((name, given))
        inputs = [x for x in tree_leaves((args, kwargs)) if hasattr(x, "field")]
        for made in [x for x in tree_leaves(out) if inputs and torch.is_tensor(x) and x.is_floating_point()]:
            made.field = self._field(name, inputs, given, made)
            self.out = made
        return out

    def _field(self, name, inputs, given, out):
        """Return the field of `out`; note a kernel and, where it brings the map together, the head."""
        x, side = max(inputs, key=lambda x: x.field.output), [1, *out.shape][-1]
        if len({branch.field.jump for branch in inputs if branch.field.output > 1}) > 1:
            self.refusals.append(f"{name} joins maps of different jumps")
        before = x.field._replace(receptive_field=max(branch.field.receptive_field for branch in inputs))
        stride, padding, dilation, width = 1, 0, 1, before.output
        if name in ("conv2d", "max_pool2d", "avg_pool2d"):
            kernel = tuple(given["weight"].shape[2:]) if name == "conv2d" else given["kernel_size"]
            stride = given.get("stride") or (1 if name == "conv2d" else kernel)
            padding, dilation = given.get("padding", 0), given.get("dilation", 1)
        elif name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            kernel = stride = {size for n in out.shape[-2:] for size in (width // n, -(-width // n))}
        elif name in PRODUCTS and (out.ndim < 4 or width == 1) or (
                name in REDUCTIONS and width > 1 and out.numel() < x.numel()
                and given.get("dim", given.get("axis")) not in (1, -3, (1,), [1])):   # of channels only
            kernel, side = width, 1
        elif name == "pad" and x.ndim == 4:
            return before._replace(output=side)
        else:   # elementwise, another shape of the same numbers, other channels
            same = out.numel() == x.numel() or out.ndim == x.ndim and out.shape[2:] == x.shape[2:]
            if width > 1 and not same:
                self.refusals.append(f"{name} makes {tuple(out.shape)} of {tuple(x.shape)}")
            return before
        asked = kernel, stride, padding, dilation, tuple(x.shape[2:]) if x.ndim == 4 else width
        sizes = [{size} if isinstance(size, (int, str)) else {*size} for size in asked]
        if any(len(size) > 1 for size in sizes) or sizes[-1] != {width}:
            self.refusals.append(f"{name} should have squares and a map of {width}, but kernel, stride,"
                                 f" padding, dilation and map are {asked}")
        kernel, stride, padding, dilation, _ = (size.pop() for size in sizes)
        kernel = dilation * (kernel - 1) + 1
        padding = {"same": (kernel - 1) // 2, "valid": 0}.get(padding, padding)
        self.rows.append(Field("".join(map(str.capitalize, name.split("_"))), kernel, stride, padding, side,
                               stride * before.jump, before.receptive_field + (kernel - 1) * before.jump))
        pooling = f"{'max' if 'max' in name else 'average'} pooling"
        if name in PRODUCTS or name == "conv2d" and side == 1 < width:
            self.head = "fully connected"
        elif side == 1 < width:
            over = f"{kernel} x {kernel} of {width} x {width} positions"
            self.head = f"{pooling} of {over}" if kernel < width else f"global {pooling}"
        return self.rows[-1]
