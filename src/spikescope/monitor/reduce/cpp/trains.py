"""The spikes of each train in one pass: their intervals, the first of them, whether there are any."""

from __future__ import annotations

import torch
from torch import Tensor

from ....dynamics.cpp.native import threads_for
from ....toolchain.declared import declared
from .common import DTYPES, NUMBER, PLACE, THREADS, columns, kernel_for, of_bits

__all__ = ["first_steps", "has_fired", "interval_sums", "source"]

LONGEST = 46_340
"""Steps of a chunk up to which 32 bits hold the squares of all intervals of a train."""

SOURCE = """
constexpr long B = 1024;  // neurons that a thread takes at a time

static inline bool is_spike(word x) { return (word)(2 * x) != 0; }

static inline void mark(const word* __restrict x, int32_t* __restrict first, int32_t t, long e) {
  #pragma omp simd
  for (long i = 0; i < e; i++) first[i] = is_spike(x[i]) ? t : first[i];
}

// Of each train [N, M] the steps of the first and of the last spike; of each neuron [M], summed up over samples, the
// number, the sum and the sum of squares of the intervals. Of a train without spikes `never` and `-never`.
extern "C" void intervals(const word* X, long T, long N, long M, int64_t start, int64_t never, int64_t* first,
    int64_t* last, int64_t* made, int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (long o = 0; o < M; o += B) {
    const long e = M - o < B ? M - o : B;
    alignas(64) int32_t begun[B], before[B], number[B], squares[B];
    int64_t* __restrict numbers = made + o, * __restrict totals = made + M + o, * __restrict all = made + 2 * M + o;
    for (long n = 0; n < N; n++) {
      for (long i = 0; i < e; i++) begun[i] = before[i] = -1, number[i] = squares[i] = 0;
      for (int32_t t = 0; t < T; t++) {
        const word* __restrict x = X + (t * N + n) * M + o;
        #pragma omp simd
        for (long i = 0; i < e; i++) {
          const int32_t fired = is_spike(x[i]) ? -1 : 0;
          const int32_t again = fired & ~(before[i] >> 31), gap = again & (t - before[i]);
          number[i] -= again;
          squares[i] += gap * gap;
          begun[i] = fired & (begun[i] >> 31) ? t : begun[i];
          before[i] = fired ? t : before[i];
        }
      }
      int64_t* __restrict f = first + n * M + o, * __restrict l = last + n * M + o;
      #pragma omp simd
      for (long i = 0; i < e; i++) {
        f[i] = begun[i] < 0 ? never : start + begun[i];
        l[i] = begun[i] < 0 ? -never : start + before[i];
        numbers[i] += number[i];
        totals[i] += before[i] - begun[i];
        all[i] += squares[i];
      }
    }
  }
}

// Of each of M trains the step of the first spike.
extern "C" void firsts(const word* X, long T, long M, int64_t start, int64_t never, int64_t* first, int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (long o = 0; o < M; o += B) {
    const long e = M - o < B ? M - o : B;
    alignas(64) int32_t begun[B];
    for (long i = 0; i < e; i++) begun[i] = -1;
    for (int32_t t = T - 1; t >= 0; t--) mark(X + t * M + o, begun, t, e);
    for (long i = 0; i < e; i++) first[o + i] = begun[i] < 0 ? never : start + begun[i];
  }
}

// Of each of M columns whether there is a spike in one of the rows.
extern "C" void fired(const word* X, long rows, long M, uint8_t* any, int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (long o = 0; o < M; o += B) {
    const long e = M - o < B ? M - o : B;
    alignas(64) word found[B] = {};
    for (long t = 0; t < rows; t++) {
      const word* __restrict x = X + t * M + o;
      #pragma omp simd
      for (long i = 0; i < e; i++) found[i] |= x[i];
    }
    for (long i = 0; i < e; i++) any[o + i] = is_spike(found[i]);
  }
}
"""


@declared("reducers", DTYPES)
def source(dtype: torch.dtype) -> str:
    """The text of the kernels: what is a spike is any number but 0, of either sign."""
    return of_bits(SOURCE, dtype)


def interval_sums(x: Tensor, start: int, never: int) -> tuple[Tensor, ...] | None:
    """Of a signal `[T, N, *F]` the steps of the first and last spike of each train `[N, *F]`, `never` and `-never`
    where there are none; and the number, the sum and the sum of squares of the intervals of each neuron `[*F]`.

    None where there is no kernel for it.
    """
    shape = NUMBER, NUMBER, NUMBER, NUMBER, NUMBER
    kernel = (
        kernel_for(x, source, "intervals", PLACE, *shape, PLACE, PLACE, PLACE, THREADS)
        if 0 < len(x) <= LONGEST
        else None
    )
    if kernel is None:
        return None
    x = x.contiguous()
    first, last = (torch.empty(x.shape[1:], dtype=torch.int64, device="cpu") for _ in range(2))
    made = torch.zeros(3, *x.shape[2:], dtype=torch.int64, device="cpu")
    steps, samples, size = len(x), x.shape[1], columns(x)
    places = first.data_ptr(), last.data_ptr(), made.data_ptr()
    kernel(x.data_ptr(), steps, samples, size, start, never, *places, threads_for(x.numel()))
    return first, last, *made


def first_steps(x: Tensor, start: int, never: int) -> Tensor | None:
    """The step of the first spike of each train `[N, *F]`, `never` where there is none.

    None where there is no kernel for it.
    """
    kernel = kernel_for(x, source, "firsts", PLACE, NUMBER, NUMBER, NUMBER, NUMBER, PLACE, THREADS)
    if kernel is None:
        return None
    x = x.contiguous()
    first = torch.empty(x.shape[1:], dtype=torch.int64, device="cpu")
    kernel(x.data_ptr(), len(x), first.numel(), start, never, first.data_ptr(), threads_for(x.numel()))
    return first


def has_fired(x: Tensor) -> Tensor | None:
    """Whether each neuron `[*F]` has fired, as 0 and 1 in uint8; None where there is no kernel for it."""
    kernel = kernel_for(x, source, "fired", PLACE, NUMBER, NUMBER, PLACE, THREADS)
    if kernel is None:
        return None
    x = x.contiguous()
    fired = torch.empty(x.shape[2:], dtype=torch.uint8, device="cpu")
    kernel(x.data_ptr(), x.shape[0] * x.shape[1], fired.numel(), fired.data_ptr(), threads_for(x.numel()))
    return fired
