"""Which kernels pools have, to be compiled beforehand."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

import torch

from ..dynamics.pool.windows import MOST, Windows, pooled
from ..neuron.prebuilt import Wanted

__all__ = ["POOLS", "of_pools", "windows_of"]

POOLS = ("2", "3,2,1", "3,1,1")
"""The pools of usual networks, as `windows_of` reads them."""

_WIDE = (torch.float32, torch.float64)
"""The dtypes of which there are kernels."""


def windows_of(told: str) -> Windows:
    """The windows of a pool that is told by its size, stride and padding, of which the later may be left out.

    >>> windows_of("2")
    Windows(size=(2, 2), stride=(2, 2), padding=(0, 0))
    >>> windows_of("3,2,1")
    Windows(size=(3, 3), stride=(2, 2), padding=(1, 1))
    """
    numbers = [int(part) if part.isdecimal() else -1 for part in told.split(",")]
    size, stride, padding = (*numbers, numbers[0], 0)[:3] if len(numbers) == 1 else (*numbers, 0)[:3]
    windows = Windows((size, size), (stride, stride), (padding, padding))
    if len(numbers) > 3 or not windows.fit(size, size) or size * size > MOST:
        raise ValueError(
            f"A pool is given as size, stride and padding, such as 2 or 3,2,1, with at most {MOST} values in a window, "
            f"and half a window of padding; not by {told!r}."
        )
    return windows


def of_pools(pools: Collection[Windows], dtypes: Collection[torch.dtype]) -> Iterator[Wanted]:
    """The kernels of pools, forwards and backwards."""
    for windows in pools:
        numbers = windows.size[0], windows.stride[0], windows.padding[0]
        yield Wanted(f"MaxPool2d{numbers}", partial(_ask, windows, dtypes))


def _ask(windows: Windows, dtypes: Collection[torch.dtype]) -> None:
    for dtype in dtypes:
        if dtype in _WIDE:
            pooled(torch.ones(1, 1, *windows.size, dtype=dtype), windows)
