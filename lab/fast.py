"""What makes a training fast: layers, the layout of memory, memory that is kept, and 16 bits.

PyTorch's CPU kernels normalise a few channels value by value and draw dropout's numbers one
after the other; in a small network that is most of the training. What is here computes the
same in a few operations on whole maps. On a GPU, in eval mode and in any other memory layout
torch.nn's own code runs. Networks are written with torch.nn's layers: only `utils.fit` puts in the
faster ones, for the time of a training.
"""

import ctypes
import sys
from contextlib import contextmanager

import torch
from torch import nn
from torch.autograd.function import once_differentiable


@contextmanager
def channels_last(net):
    """Let the weights of `net` lie in the layout in which convolutions are fast; afterwards as before."""
    strides = [(tensor, tensor.stride()) for tensor in (*net.parameters(), *net.buffers())]
    try:
        yield net.to(memory_format=torch.channels_last)   # the parameters stay the same objects
    finally:
        for tensor, stride in strides:
            tensor.data = _laid_out(tensor.data, stride)
            if tensor.grad is not None:
                tensor.grad = _laid_out(tensor.grad, stride)


@contextmanager
def training(net, optimizer=None):
    """Let `net` train with the faster layers, in channels_last, and with memory that is kept.

    Afterwards, whatever happens, all of it is as before, but for the values that the training gave to the
    parameters. The state of the `optimizer`, which may be used before and after, has the parameters' layout
    all the time: fused optimizers go through both in the order of memory.
    """
    swapped = [(module, type(module)) for module in net.modules() if _has_faster(module)]
    try:
        _keep_memory(32 * 2**20, 2**30)
        with channels_last(net):
            _lay_out_state(optimizer)
            for module, kind in swapped:
                module.__class__ = FASTER[kind]
            yield
    finally:
        for module, kind in swapped:
            module.__class__ = kind
        _lay_out_state(optimizer)
        _keep_memory(32 * 2**20, 64 * 2**20)   # where glibc's own adjustment ends


def _has_faster(module):
    """Say whether a faster layer does all that `module` does: a subclass may do more, and so may options."""
    if type(module) is nn.BatchNorm2d:
        return module.affine and module.track_running_stats and module.momentum is not None
    return type(module) is nn.Dropout and not module.inplace


def _lay_out_state(optimizer):
    for parameter, state in optimizer.state.items() if optimizer else ():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = _laid_out(value, parameter.stride())


def _laid_out(tensor, stride):
    if tensor.stride() == stride:
        return tensor
    return tensor.new_empty_strided(tensor.shape, stride).copy_(tensor)


def _keep_memory(largest, kept):
    """Have glibc keep up to `kept` bytes of freed memory, in blocks up to `largest`, for the next batch.

    Page faults cost up to a third of an epoch.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, largest)   # M_MMAP_THRESHOLD
        libc.mallopt(-1, kept)      # M_TRIM_THRESHOLD


def half_type(device):
    """Return bfloat16 where `device` computes in it natively, else None."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or
                                           torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if native else None


def half_precision(device, wanted=True):
    """Return the autocast context of `device`: bfloat16 where it is `wanted` and native, else no change."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and half_type(device) is not None)


class FastBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of maps (N, C, H, W) with weights and statistics (Ioffe and Szegedy, 2015, section 3)."""

    def forward(self, x):
        slow = (x.is_cpu and x.is_contiguous(memory_format=torch.channels_last)
                and self.weight.dtype == torch.float32 and self.num_features % 16)   # 16: it fills a vector
        values = x.numel() // self.num_features   # of each channel
        if not (self.training and slow and values > 1):   # torch.nn refuses a single value
            return super().forward(x)
        y, mean, var = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * values / (values - 1), self.momentum)   # unbiased, as torch.nn's
            self.num_batches_tracked += 1
        return y


class _Normalise(torch.autograd.Function):
    """y = weight * (x - mean) / std + bias per channel, and its gradient.

    In channels_last the channels of one line of pixels lie side by side: a map is a matrix of N * H rows
    with W * C columns, whose sums, and vectors applied to all rows, the CPU vectorises.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        rows = _rows(x)
        columns = torch.batch_norm_update_stats(rows, None, None, 0)
        mean, var = (v.float().view(-1, x.shape[1]) for v in columns)
        mean, var = mean.mean(0), var.mean(0) + mean.var(0, correction=0)   # of all columns of a channel
        std = (var + eps).sqrt()
        scale = weight / std
        ctx.save_for_backward(x, mean, std, scale)
        ctx.mark_non_differentiable(mean, var)
        scales, shifts = _columns(x, scale, bias - mean * scale)
        y = torch.empty_like(x)
        torch.addcmul(shifts, rows, scales, out=_rows(y))
        return y, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, *_):
        x, mean, std, scale = ctx.saved_tensors
        rows, grads = _rows(x), _rows(grad.contiguous(memory_format=torch.channels_last))
        sums = torch.stack([grads.sum(0), (grads * rows).sum(0)]).float()
        grad_sum, product = sums.view(2, -1, x.shape[1]).sum(1)
        weight_grad = (product - mean * grad_sum) / std
        values = x.numel() // x.shape[1]
        slope = scale * weight_grad / std / values
        scales, slopes, shifts = _columns(x, scale, -slope, slope * mean - scale * grad_sum / values)
        x_grad = torch.empty_like(x)
        torch.addcmul(shifts, grads, scales, out=_rows(x_grad)).addcmul_(rows, slopes)
        return x_grad, weight_grad, grad_sum, None


def _rows(x):
    """View channels_last maps (N, C, H, W) as a matrix (N * H, W * C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 1).flatten(1)


def _columns(x, *vectors):
    """Repeat each vector of a number per channel (C,) for every column (W * C,), in the precision of `x`."""
    return torch.stack(vectors).to(x.dtype).repeat(1, x.shape[3])


class FastDropout(nn.Dropout):
    """Dropout (Srivastava et al., 2014) with few draws.

    A value's random number is the product, modulo 2^32, of an odd one of its image and one of its place in
    the map: multiply-shift hashing (Dietzfelbinger et al., Closest-pair problem, 1997).
    """

    def forward(self, x):
        bound = round(self.p * 2**32) - 2**31   # a random number below it drops its value
        if not (self.training and x.is_cpu and abs(bound) < 2**31):
            return super().forward(x)
        image = torch.empty(len(x), *[1] * (x.ndim - 1), dtype=torch.int32).random_(-2**31, 2**31) | 1
        place = torch.empty_like(x[:1], dtype=torch.int32).random_(-2**31, 2**31)
        kept = (image * place).clamp_(bound - 1, bound).sub_(bound - 1)   # 1 or 0, faster than a comparison
        return x * kept.to(x.dtype).mul_(1 / (1 - self.p))


FASTER = {nn.BatchNorm2d: FastBatchNorm2d, nn.Dropout: FastDropout}
