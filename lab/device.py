"""What a training takes from the machine: 16-bit numbers where they are native, and memory that is kept."""

import ctypes
import sys

import torch


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


def keep_memory():
    """Have the C library keep freed memory for the next batch: page faults cost up to a third of an epoch.

    For glibc; elsewhere it changes nothing.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 32 * 2**20)   # M_MMAP_THRESHOLD: blocks of up to 32 MB come from the heap,
        libc.mallopt(-1, 2**30)        # M_TRIM_THRESHOLD: of which up to 1 GB is not given back
