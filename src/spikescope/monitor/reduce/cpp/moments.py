"""Central sums of the values of a signal, block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from ....dynamics.cpp.native import threads_for
from ....toolchain.declared import declared
from .common import DTYPES, NUMBER, PLACE, SIZE, THREADS, in_any_order, kernel_for, of_values

__all__ = ["central_sums", "joined", "source"]

SOURCE = """
constexpr long L = 8;  // sums side by side

// Of each block the number of values, their mean, and the sums of the second to fourth powers of what they are off it.
extern "C" void moments(const io* X, long n, double* sums, int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (long o = 0; o < n; o += SIZE) {
    const long e = n - o < SIZE ? n - o : SIZE;
    alignas(64) real held[SIZE];
    const real* x = values(X + o, e, held);
    const double first = (x[0] - x[0] == 0) ? (double)x[0] : 0;  // of equal values the mean is the very value
    alignas(64) double a[4 * L] = {}, p[L] = {}, q[L] = {}, r[L] = {};
    long i = 0;
    for (; i + 4 * L <= e; i += 4 * L) {
      #pragma omp simd
      for (long j = 0; j < 4 * L; j++) a[j] += (double)x[i + j] - first;
    }
    for (; i < e; i++) a[i % L] += (double)x[i] - first;
    double total = 0;
    for (long j = 0; j < 4 * L; j++) total += a[j];
    const double mean = first + total / e;
    for (i = 0; i + L <= e; i += L) {
      #pragma omp simd
      for (long j = 0; j < L; j++) {
        const double off = (double)x[i + j] - mean, square = off * off;
        p[j] += square;
        q[j] += square * off;
        r[j] += square * square;
      }
    }
    for (; i < e; i++) {
      const double off = (double)x[i] - mean, square = off * off;
      p[i % L] += square;
      q[i % L] += square * off;
      r[i % L] += square * square;
    }
    double* s = sums + o / SIZE * 5;
    s[0] = e, s[1] = mean, s[2] = s[3] = s[4] = 0;
    for (long j = 0; j < L; j++) s[2] += p[j], s[3] += q[j], s[4] += r[j];
  }
}
"""


@declared("reducers", DTYPES)
def source(dtype: torch.dtype) -> str:
    """The text of the kernel."""
    return of_values(SOURCE, dtype)


def central_sums(x: Tensor) -> Tensor:
    """Of blocks of the values, `[blocks, 5]` in float64: how many, their mean, and the central sums M2, M3 and M4.

    >>> central_sums(torch.tensor([1.0, 1.0, 1.0, 5.0]))
    tensor([[ 4.,  2., 12., 24., 84.]], dtype=torch.float64)
    """
    kernel = kernel_for(x, source, "moments", PLACE, NUMBER, PLACE, THREADS)
    if kernel is None:
        size = SIZE if x.device.type == "cpu" else 1 << 22  # on a GPU every operation is a launch
        return torch.stack([_sums(block.double()) for block in x.flatten().split(size)])
    x = in_any_order(x)
    sums = torch.empty(-(-x.numel() // SIZE), 5, dtype=torch.float64, device="cpu")
    kernel(x.data_ptr(), x.numel(), sums.data_ptr(), threads_for(x.numel()))
    return sums


def _sums(values: Tensor) -> Tensor:
    """The row of one block, which has at least one value."""
    first = torch.where(values[0].isfinite(), values[0], 0.0)
    mean = first + (values - first).mean()
    off = values - mean
    square = off * off
    seen = torch.full_like(mean, len(values))
    return torch.stack((seen, mean, square.sum(), torch.dot(square, off), torch.dot(square, square)))


def joined(sums: Tensor) -> Tensor:
    """The sums of all blocks together, `[5]`.

    >>> joined(torch.tensor([[2.0, 1.0, 0.0, 0.0, 0.0], [2.0, 3.0, 8.0, 0.0, 32.0]], dtype=torch.float64))
    tensor([ 4.,  2., 12., 24., 84.], dtype=torch.float64)
    """
    seen, means, m2, m3, m4 = sums.unbind(1)
    first = torch.where(means[0].isfinite(), means[0], 0.0)
    whole = seen.sum()
    mean = first + (seen * (means - first)).sum() / whole
    d = means - mean
    nd2 = seen * d * d
    moved3 = m3 + 3 * d * m2 + nd2 * d
    moved4 = m4 + 4 * d * m3 + d * d * (6 * m2 + nd2)
    return torch.stack((whole, mean, (m2 + nd2).sum(), moved3.sum(), moved4.sum()))
