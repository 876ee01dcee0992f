"""A pool by the kernels of `dynamics.pool` where these can run, and by PyTorch elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..dynamics import Windows, has_pool, pooled

__all__ = ["FastMaxPool2d"]


class FastMaxPool2d(nn.MaxPool2d):
    """PyTorch's pool, with the same values and gradients in less time and memory."""

    def forward(self, x: Tensor) -> Any:
        """One step `[N, C, H, W]` or `[C, H, W]`."""
        if torch.compiler.is_compiling() or not has_pool(x):
            return super().forward(x)
        windows = _windows(self)
        y = None if windows is None else pooled(x, windows)
        return super().forward(x) if y is None else y


def _windows(layer: nn.MaxPool2d) -> Windows | None:
    """The windows, if they have no gaps, and their values are all that is asked for."""
    size, stride, padding, dilation = map(_pair, (layer.kernel_size, layer.stride, layer.padding, layer.dilation))
    if size is None or stride is None or padding is None or dilation != (1, 1):
        return None
    return None if layer.ceil_mode or layer.return_indices else Windows(size, stride, padding)


def _pair(size: Any) -> tuple[int, int] | None:
    """Rows and columns; None for what PyTorch has words for."""
    both = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    both = both * 2 if len(both) == 1 else both
    return both if len(both) == 2 and all(type(held) is int for held in both) else None
