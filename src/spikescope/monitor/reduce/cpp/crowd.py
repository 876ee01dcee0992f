"""Sums over the time of each neuron, and over the neurons at each time, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ....dynamics.cpp.native import threads_for
from ....toolchain.declared import declared
from .common import DTYPES, NUMBER, PLACE, THREADS, columns, kernel_for, of_values

__all__ = ["crowd_sums", "source"]

BLOCK = 1024
"""Neurons that a thread takes at a time."""

SOURCE = f"""
constexpr long PART = {BLOCK}, L = 8;

// Of each neuron [N, M] the sum over time; of each block of neurons of a sample the sum of all squares, [N, blocks],
// and that of each step, [N, blocks, T].
extern "C" void crowd(const io* X, long T, long N, long M, double* sums, double* squares, double* steps, int threads) {{
  const long blocks = (M + PART - 1) / PART;
  #pragma omp parallel for collapse(2) schedule(static) num_threads(threads) if(threads > 1)
  for (long n = 0; n < N; n++) for (long b = 0; b < blocks; b++) {{
    const long o = b * PART, e = M - o < PART ? M - o : PART;
    alignas(64) double own[PART] = {{}}, p[L] = {{}};
    alignas(64) real held[PART];
    for (long t = 0; t < T; t++) {{
      const real* x = values(X + (t * N + n) * M + o, e, held);
      alignas(64) double q[L] = {{}};
      long i = 0;
      for (; i + L <= e; i += L) {{
        #pragma omp simd
        for (long j = 0; j < L; j++) {{
          const double v = x[i + j];
          own[i + j] += v;
          p[j] += v * v;
          q[j] += v;
        }}
      }}
      for (; i < e; i++) own[i] += x[i], p[i % L] += (double)x[i] * x[i], q[i % L] += x[i];
      double all = 0;
      for (long j = 0; j < L; j++) all += q[j];
      steps[(n * blocks + b) * T + t] = all;
    }}
    double all = 0;
    for (long j = 0; j < L; j++) all += p[j];
    squares[n * blocks + b] = all;
    memcpy(sums + n * M + o, own, e * sizeof(double));
  }}
}}
"""


@declared("reducers", DTYPES)
def source(dtype: torch.dtype) -> str:
    """The text of the kernel."""
    return of_values(SOURCE, dtype)


def crowd_sums(x: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Of a signal `[T, N, *F]` of M neurons, in float64: the sum over time of each neuron `[N, M]`, of all squares
    `[N]`, and over the neurons at each step `[N, T]`. None where there is no kernel.

    >>> [sums.tolist() for sums in crowd_sums(torch.tensor([[[1.0, 1.0]], [[0.0, 2.0]]]))]
    [[[1.0, 3.0]], [6.0], [[2.0, 2.0]]]
    """
    kernel = kernel_for(x, source, "crowd", PLACE, NUMBER, NUMBER, NUMBER, PLACE, PLACE, PLACE, THREADS)
    if kernel is None:
        return None
    x = x.contiguous()
    steps, samples, size = len(x), x.shape[1], columns(x)
    blocks = -(-size // BLOCK)
    sums = torch.empty(samples, size, dtype=torch.float64, device="cpu")
    squares, course = sums.new_empty(samples, blocks), sums.new_empty(samples, blocks, steps)
    places = sums.data_ptr(), squares.data_ptr(), course.data_ptr()
    kernel(x.data_ptr(), steps, samples, size, *places, threads_for(x.numel()))
    return sums, squares.sum(1), course.sum(1)
