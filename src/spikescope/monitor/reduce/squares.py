"""Sums of squares in float64: one pass over what is in memory, which takes as long as reading it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...dynamics.cpp.native import threads_for
from ...internals import is_plain
from ...toolchain.compiler import function
from ...toolchain.declared import declare

__all__ = ["step_squares"]

BLOCK = 1 << 14
"""Values that are summed by themselves, so that the sum is the same whatever the number of threads."""

LANES = 32
"""Sums side by side in a block: to wait for one addition before the next would take eight times as long."""

SOURCE = f"""
extern "C" void squares(const float* x, long steps, long size, double* sums, int threads) {{
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
}}
"""
declare("reducers", SOURCE)


@cache
def _kernel() -> Callable[..., Any] | None:
    addresses = ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_int
    return function(SOURCE, "squares", *addresses)


def step_squares(x: Tensor) -> Tensor:
    """The sum of squares of each step, `[T]`, in float64.

    >>> step_squares(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    tensor([25.,  4.], dtype=torch.float64)
    """
    x = x.detach()
    plain = x.device.type == "cpu" and x.dtype is torch.float32 and is_plain(x)
    kernel = _kernel() if plain and x.numel() else None
    if kernel is None:
        return torch.stack([_squares(step.flatten()) for step in x]) if len(x) else x.new_zeros(0, dtype=torch.float64)
    x = _in_order(x)
    size = x.numel() // len(x)
    sums = torch.empty(len(x), -(-size // BLOCK), dtype=torch.float64, device="cpu")
    kernel(x.data_ptr(), len(x), size, sums.data_ptr(), threads_for(x.numel()))
    return sums.sum(1)


def _in_order(x: Tensor) -> Tensor:
    """The values of each step in one run of memory, in whatever order they are there."""
    axes = sorted(range(1, x.ndim), key=x.stride, reverse=True)
    return x.permute(0, *axes).contiguous()


def _squares(values: Tensor) -> Tensor:
    """The sum of squares of values, converted a block at a time: that stays in the cache."""
    sums = [torch.dot(block, block) for block in map(Tensor.double, values.split(BLOCK))]
    return torch.stack(sums).sum()
