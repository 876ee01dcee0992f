"""One sample through a normalisation of PyTorch, in any order of memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..internals import is_undisturbed

__all__ = ["strided_alike"]


def strided_alike(norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a normalisation of PyTorch gives for a batch `[N, C, *]`, with the right gradients for one sample too.

    The stride of an axis of one entry may be anything. Where that of N is not the size of a sample, with channels last
    in memory, PyTorch on a CPU takes an input and a gradient of two orders for those of one: gradients are wrong. Under
    transforms of `torch.func` and modes that see each operation nothing is changed, and they still are.
    """
    if x.ndim < 4 or len(x) != 1 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return norm(x)
    if not is_undisturbed(in_backward=True):  # a graph of operations is made, or values are stand-ins
        return norm(x)
    y = norm(_with_stride_of_sample(x))
    if y.requires_grad:
        y.register_hook(_with_stride_of_sample)
    return y


def _with_stride_of_sample(x: Tensor) -> Tensor:
    return x if x.is_contiguous() or x.stride(0) == x[0].numel() else x.contiguous()
