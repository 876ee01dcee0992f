"""The largest value of windows side by side, on a GPU: the values and gradients of PyTorch's pool, in fewer bytes.

PyTorch keeps for the backward pass where each largest value was, in eight bytes, and adds the gradients of windows that
could overlap. Windows side by side have each value once: the backward pass looks for the largest again, and writes each
gradient once. What is kept is the input, which the layer before has mostly kept as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from ...errors import OF_POOL
from ...internals import LeanFunction, is_plain
from ..saved import save, saved
from ..triton.arguments import blocks_of
from ..triton.launch import available, fault, launch, load

__all__ = ["TYPES", "has_pool", "pool"]

TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WARPS = 8  # so that a thread has one value, and neighbours read neighbours
_WIDE = 1 << 31


def has_pool(x: Tensor) -> bool:
    """Whether `pool` runs where this tensor lies: on a GPU, by Triton."""
    return x.is_cuda and _runs()


@cache
def _runs() -> bool:
    return available() and fault() is None


def pool(x: Tensor, window: tuple[int, int]) -> Tensor:
    """The largest value of each window of `[N, C, H, W]`; rows and columns that fill no window are left out."""
    y: Tensor = _Pool.apply(x, window)
    return y


class _Pool(LeanFunction):
    """The pool and its gradient as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[int, int]) -> Tensor:
        save(ctx, x)
        ctx.window = window
        N, C, H, W = x.shape
        y = torch.empty((N, C, H // window[0], W // window[1]), dtype=x.dtype, device=x.device, memory_format=_order(x))
        _launch("spikescope_pool", x, [x, y], y.numel(), window)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor, None]:
        (x,), window = saved(ctx, "MaxPool2d", OF_POOL), ctx.window
        if torch.is_grad_enabled() or not is_plain(x, gy):
            _, at = max_pool2d(x, window, return_indices=True)
            settings = (window, window, (0, 0), (1, 1), False)
            return torch.ops.aten.max_pool2d_with_indices_backward(gy, x, *settings, at), None
        x = x.contiguous(memory_format=_order(x))  # whoever keeps saved tensors elsewhere may lay them anew
        filled = x.shape[2] % window[0] == 0 and x.shape[3] % window[1] == 0  # no row or column is left out
        gx = torch.empty_like(x) if filled else torch.zeros_like(x)
        _launch("spikescope_unpool", x, [x, gy.contiguous(memory_format=_order(x)), gx], gy.numel(), window)
        return gx, None


def _order(x: Tensor) -> torch.memory_format:
    """Whether the values lie in the order of the axes or with the channels last; of one channel its stride tells."""
    last = x.is_contiguous(memory_format=torch.channels_last) and x.stride(1) == 1 and x.shape[2] * x.shape[3] > 1
    return torch.channels_last if last else torch.contiguous_format


def _launch(name: str, x: Tensor, tensors: Sequence[Tensor], n: int, window: tuple[int, int]) -> None:
    (height, width), inner = window, x.shape[1] if _order(x) is torch.channels_last else 1
    arguments = [*tensors, n, x.shape[2] // height, *x.shape[2:], inner]
    kernels = _kernels()
    real = kernels.tl.float64 if x.dtype is torch.float64 else kernels.tl.float32
    options = {"real": real, "KH": height, "KW": width, "WIDE": x.numel() >= _WIDE, "num_warps": _WARPS}
    launch(getattr(kernels, name), x.device, blocks_of(n), arguments, **options)


@cache
def _kernels() -> Any:
    return load(resources.files(__package__).joinpath("gpu.txt").read_text())
