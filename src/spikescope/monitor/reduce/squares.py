"""Sums of squares in float64: one pass over what is in memory, which takes as long as reading it."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...dynamics.cpp.native import threads_for
from ...internals import is_plain
from ...toolchain.compiler import function
from ...toolchain.declared import declare

__all__ = ["squares_and_sizes", "step_squares"]

BLOCK = 1 << 14
"""Values that are summed by themselves, so that the sum is the same whatever the number of threads."""

LANES = 32
"""Sums side by side in a block: to wait for one addition before the next would take eight times as long."""

SOURCE = f"""
extern "C" void squares(const float* x, long steps, long size, double* sums, double* out, int threads) {{
  const long B = {BLOCK}, L = {LANES}, blocks = (size + B - 1) / B;
  #pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if(threads > 1)
  for (long t = 0; t < steps; t++) for (long b = 0; b < blocks; b++) {{
    const float* from = x + t * size + b * B;
    const long e = size - b * B < B ? size - b * B : B;
    alignas(64) double lanes[L] = {{}};
    long i = 0;
    for (; i + L <= e; i += L) {{
      #pragma omp simd
      for (long j = 0; j < L; j++) lanes[j] += (double)from[i + j] * (double)from[i + j];
    }}
    for (; i < e; i++) lanes[i % L] += (double)from[i] * (double)from[i];
    double sum = 0;
    for (long j = 0; j < L; j++) sum += lanes[j];
    sums[t * blocks + b] = sum;
  }}
  for (long t = 0; t < steps; t++) {{
    double sum = 0;
    for (long b = 0; b < blocks; b++) sum += sums[t * blocks + b];
    out[2 * t] = sum, out[2 * t + 1] = size;
  }}
}}
"""
declare("reducers", SOURCE)


@cache
def _kernel() -> Callable[..., Any] | None:
    addresses = ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
    return function(SOURCE, "squares", *addresses)


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
    sums = torch.empty(steps * -(-size // BLOCK), dtype=torch.float64, device="cpu")
    out = torch.empty(steps, 2, dtype=torch.float64, device="cpu")
    kernel(x.data_ptr(), steps, size, sums.data_ptr(), out.data_ptr(), threads_for(values))
    return out


def _in_order(x: Tensor) -> Tensor:
    """The values of each step in one run of memory, in whatever order they are there."""
    axes = sorted(range(1, x.ndim), key=x.stride, reverse=True)
    return x.permute(0, *axes).contiguous()


def _squares(values: Tensor) -> Tensor:
    """The sum of squares of values, converted a block at a time: that stays in the cache."""
    sums = [torch.dot(block, block) for block in map(Tensor.double, values.split(BLOCK))]
    return torch.stack(sums).sum()
