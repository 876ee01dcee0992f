"""How many values lie in an interval."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ....dynamics.cpp.native import threads_for
from ....toolchain.declared import declared
from .common import NUMBER, PLACE, THREADS, in_any_order, kernel_for, of_values

__all__ = ["number_inside", "source"]

WIDE = (torch.float32, torch.float64)
"""The dtypes that it takes: differences of half precision are rounded in PyTorch's own way."""

SOURCE = """
extern "C" long inside(const io* X, long n, double threshold, double low, double high, int threads) {
  const real middle = (real)threshold, from = (real)low, to = (real)high;
  long sum = 0;
  #pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : sum) if(threads > 1)
  for (long o = 0; o < n; o += SIZE) {
    const long e = n - o < SIZE ? n - o : SIZE;
    int32_t found = 0;
    #pragma omp simd reduction(+ : found)
    for (long i = 0; i < e; i++) {
      const real off = X[o + i] - middle;
      found += (off >= from) & (off <= to);
    }
    sum += found;
  }
  return sum;
}
"""


@declared("reducers", WIDE)
def source(dtype: torch.dtype) -> str:
    """The text of the kernel."""
    return of_values(SOURCE, dtype)


def number_inside(x: Tensor, threshold: float, low: float, high: float) -> int | None:
    """How many values are at least `low` and at most `high` above a threshold, in the arithmetic of PyTorch.

    None where there is no kernel for them.

    >>> number_inside(torch.tensor([0.25, 0.75, 1.5, 2.0]), 1.0, -0.5, 0.5)
    2
    """
    given = PLACE, NUMBER, *[ctypes.c_double] * 3, THREADS
    kernel = kernel_for(x, source, "inside", *given) if x.dtype in WIDE else None
    if kernel is None:
        return None
    x = in_any_order(x)
    return int(kernel(x.data_ptr(), x.numel(), threshold, low, high, threads_for(x.numel())))
