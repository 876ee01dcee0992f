"""Which max pools the kernels take, and the kernel for each."""

from __future__ import annotations

import torch
from torch import Tensor

from ...internals import is_ordinary, is_undisturbed
from . import cpu, gpu
from .sizes import Windows

__all__ = ["MOST", "Windows", "has_pool", "pooled"]

MOST = 64
"""Values of a window, each of which has code of its own."""


def has_pool(x: Tensor) -> bool:
    """Whether there is a kernel where this tensor lies, and whether that is worth while."""
    return cpu.has_pool(x) or gpu.has_pool(x)


def pooled(x: Tensor, windows: Windows) -> Tensor | None:
    """The largest value of each window of a batch `[N, C, H, W]`; None for what is left to PyTorch.

    Kernels take what lies without gaps in memory, in no mode or transform; that of a GPU windows side by side alone.
    """
    if not (type(x) is Tensor and x.ndim == 4 and x.numel() and is_ordinary(x)):
        return None
    if not is_undisturbed(in_backward=True):  # a checkpoint wants to be given again what was kept before
        return None
    if not windows.fit(*x.shape[2:]) or windows.size[0] * windows.size[1] > MOST:
        return None
    if x.device.type == "cpu":
        return cpu.pool(x, windows) if x.dtype in cpu.TYPES and x.is_contiguous() else None
    without_gaps = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    taken = x.dtype in gpu.TYPES and windows.side_by_side and without_gaps
    return gpu.pool(x, windows.size) if taken else None
