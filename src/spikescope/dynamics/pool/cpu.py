"""The pool of a CPU. PyTorch's takes images in order value by value, with a place of eight bytes for each it gives.

What is kept for the backward pass is the place in the window of each largest value, in one byte; the input is not.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import OF_POOL
from ...internals import LeanFunction, is_plain
from ...toolchain.compiler import function
from ..cpp.native import threads_for
from ..saved import save, saved
from .sizes import Windows

__all__ = ["TYPES", "Largest", "has_pool", "largest_of", "pool"]

TYPES = {torch.float32: ("float", "int32_t"), torch.float64: ("double", "int64_t")}
"""Of the values, with the integers that are as wide: a vector of the one then chooses in a vector of the other."""

SMALL = 1 << 14
"""Values under which loading a kernel for the first time is not worth it."""

_OWNER = "MaxPool2d"

_HELD = 1 << 12  # values of windows that are held at once: of each of its rows, and in each order


def has_pool(x: Tensor) -> bool:
    """Whether this lies on a CPU and is large enough."""
    return x.device.type == "cpu" and x.numel() >= SMALL


def pool(x: Tensor, windows: Windows) -> Tensor | None:
    """The largest value of each window of `[N, C, H, W]`, which lies in order; None where there is no kernel."""
    kernels = _kernels(x.dtype, windows)
    if kernels is None:
        return None
    y: Tensor = _Pool.apply(x, windows, kernels)
    return y


class _Pool(LeanFunction):
    """The pool and its gradient as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: Windows, kernels: _Kernels) -> Tensor:
        y = x.new_empty((*x.shape[:2], *windows.number(*x.shape[2:])))
        place = torch.empty(y.shape, dtype=torch.uint8, device=x.device) if ctx.needs_input_grad[0] else None
        _run(kernels[0], (x, y, place), x.shape, y)
        save(ctx, place)
        ctx.windows, ctx.kernels, ctx.shape = windows, kernels, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor, None, None]:
        (place,) = saved(ctx, _OWNER, OF_POOL)
        if torch.is_grad_enabled() or not is_plain(place, gy):
            return _by_pytorch(gy, place, ctx.windows, ctx.shape), None, None
        gx = gy.new_empty(ctx.shape)
        _run_by_places(ctx.kernels[1], (gy.contiguous(), place.contiguous(), gx), ctx.shape, gy)
        return gx, None, None


def _run(kernel: Callable[..., Any], tensors: Sequence[Tensor | None], shape: torch.Size, y: Tensor) -> Any:
    addresses = [0 if each is None else each.data_ptr() for each in tensors]
    return kernel(*addresses, shape[0] * shape[1], *shape[2:], *y.shape[2:], threads_for(shape.numel()))


def _run_by_places(kernel: Callable[..., Any], tensors: Sequence[Tensor], shape: torch.Size, y: Tensor) -> None:
    """Run a kernel that goes by places; RuntimeError where one of them is outside."""
    if _run(kernel, tensors, shape, y):
        raise RuntimeError(
            f"A hook on saved tensors gave {_OWNER} other values than it took: they say where in its window the "
            "largest value was, and have to come back as they were."
        )


def _by_pytorch(gy: Tensor, place: Tensor, windows: Windows, shape: torch.Size) -> Tensor:
    """The same gradient by an operation that has a derivative of its own."""
    (_, width), (down, across), (above, left) = windows
    rows, columns = (torch.arange(n, device=gy.device) for n in gy.shape[-2:])
    row = (rows * down - above).unsqueeze(1) + place // width
    at = row * shape[3] + columns * across - left + place % width
    settings = (windows.size, windows.stride, windows.padding, (1, 1), False)
    found: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(gy, gy.new_empty(shape), *settings, at)
    return found


class Largest(NamedTuple):
    """Where in an image the largest value of each window was."""

    place: Tensor
    windows: Windows
    shape: torch.Size

    def gather(self, x: Tensor) -> Tensor:
        """The values at these places of an image of that shape, which lies in order."""
        kernels = _kernels(x.dtype, self.windows)
        assert kernels is not None
        y = torch.empty(self.place.shape, dtype=x.dtype, device=x.device)
        _run_by_places(kernels[2], (x, self.place, y), self.shape, y)
        return y


def largest_of(node: object) -> Largest | None:
    """Where the node of the graph that a pool has left found its values; None for other nodes."""
    held: Any = node if isinstance(node, _Pool._backward_cls) else None
    return None if held is None else Largest(saved(held, _OWNER, OF_POOL)[0], held.windows, held.shape)


_Kernels = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


@cache
def _kernels(dtype: torch.dtype, windows: Windows) -> _Kernels | None:
    """Forwards, backwards, and values at places, for windows of a kind."""
    real, place = TYPES[dtype]
    names = ("KH", "KW", "SH", "SW", "PH", "PW", "MOST")
    most = min(512, _HELD // max(windows.size))
    sizes = (*windows.size, *windows.stride, *windows.padding, most)
    constants = ", ".join(f"{name} = {size}" for name, size in zip(names, sizes, strict=True))
    head = f"#include <stdint.h>\nusing real = {real};\nusing place = {place};\nconstexpr long {constants};\n"
    parts = "overlapping.h" if windows.size[0] > windows.stride[0] else "apart.h", "unpool.h"
    source = head + "".join(resources.files(__package__).joinpath(part).read_text() for part in parts)
    given = (*[ctypes.c_void_p] * 3, *[ctypes.c_long] * 5, ctypes.c_int)
    found = [each for name in ("pool", "unpool", "gather") if (each := function(source, name, *given)) is not None]
    return (found[0], found[1], found[2]) if len(found) == 3 else None
