"""Sums of squares in float64: one pass over what is in memory, which takes as long as reading it."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...dynamics.cpp.borrowed import header
from ...dynamics.cpp.native import threads_for
from ...dynamics.cpp.squares import squares_in
from ...internals import is_plain
from ...toolchain.compiler import function
from ...toolchain.declared import declare

__all__ = ["knowing", "squares_and_sizes", "step_squares"]

BLOCK = 1 << 14
"""Values that are summed by themselves, so that the sum is the same whatever the number of threads."""

SOURCE = f"""
{header("math.h")}
{header("squares.h")}
extern "C" void of_steps(const float* x, long T, long n, double* sums, int threads) {{
  const long B = {BLOCK}, blocks = (n + B - 1) / B;
  #pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if(threads > 1)
  for (long t = 0; t < T; t++) for (long b = 0; b < blocks; b++) {{
    const long e = n - b * B < B ? n - b * B : B;
    sums[(2 + b) * T + t] = squares(x + t * n + b * B, e);
  }}
  add_squares(sums, blocks, T, n);
}}
"""
declare("reducers", SOURCE)


@cache
def _kernel() -> Callable[..., Any] | None:
    return function(SOURCE, "of_steps", ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_int)


def step_squares(x: Tensor) -> Tensor:
    """The sum of squares of each step, `[T]`, in float64.

    >>> step_squares(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    tensor([25.,  4.], dtype=torch.float64)
    """
    return squares_and_sizes(x)[:, 0]


def squares_and_sizes(x: Tensor) -> Tensor:
    """Of each step the sum of squares and how many they are, `[T, 2]`, in float64.

    >>> squares_and_sizes(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    tensor([[25.,  2.],
            [ 4.,  2.]], dtype=torch.float64)
    """
    known = getattr(_told, "known", None)
    if known is not None and known.is_of(x):
        return known.squares
    x = x.detach()
    values, steps = x.numel(), x.shape[0]
    kernel = _kernel() if x.is_cpu and x.dtype is torch.float32 and values and is_plain(x) else None
    if kernel is None:
        told = [_squares(step.flatten()) for step in x]
        made = torch.stack(told) if told else x.new_zeros(0, dtype=torch.float64)
        return torch.stack((made, torch.full_like(made, math.prod(x.shape[1:]))), 1)
    if not x.is_contiguous():
        x = _in_order(x)
    size = values // steps
    sums = torch.empty(2 + -(-size // BLOCK), steps, dtype=torch.float64, device="cpu")
    kernel(x.data_ptr(), steps, size, sums.data_ptr(), threads_for(values))
    return squares_in(sums)


class _Known(NamedTuple):
    """A gradient as it was when its squares were told: of a sequence, or of a single step."""

    grad: Tensor
    version: int
    squares: Tensor

    def is_of(self, x: Tensor) -> bool:
        """Whether `x` is that gradient, with an axis of time."""
        grad, steps = self.grad, len(self.squares)
        if steps == 1 and x.ndim == grad.ndim + 1:
            grad = grad.unsqueeze(0)
        of = x.data_ptr(), x.shape, x.stride(), x._version
        return of == (grad.data_ptr(), grad.shape, grad.stride(), self.version) and len(x) == steps


_told = threading.local()


def knowing(take: Callable[[Any], None], grad: Any, squares: Tensor | None) -> None:
    """Have a gradient taken, of which `squares_and_sizes` knows the result meanwhile, if it is told."""
    if squares is None:
        take(grad)
        return
    _told.known = _Known(grad, grad._version, squares)
    try:
        take(grad)
    finally:
        _told.known = None


def _in_order(x: Tensor) -> Tensor:
    """The values of each step in one run of memory, in whatever order they are there."""
    axes = sorted(range(1, x.ndim), key=x.stride, reverse=True)
    return x.permute(0, *axes).contiguous()


def _squares(values: Tensor) -> Tensor:
    """The sum of squares of values, converted a block at a time: that stays in the cache."""
    sums = [torch.dot(block, block) for block in map(Tensor.double, values.split(BLOCK))]
    return torch.stack(sums).sum()
