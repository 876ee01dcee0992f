"""Values counted in bins of any width, by a table of the first bits of a number."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ....dynamics.cpp.native import threads_for
from ....toolchain.declared import declared
from .common import DTYPES, NUMBER, PLACE, THREADS, in_any_order, kernel_for, of_values

__all__ = ["bin_counts", "source"]

MOST = 4
"""Edges between two numbers of the same first bits up to which they are looked for one after the other."""

LANES = 8
"""Counts of each bin: to add to one that was just added to would wait for it."""

SOURCE = """
constexpr long LANES = MANY;
typedef WORD __attribute__((may_alias)) bits;
typedef uWORD unsigned_bits;
constexpr bits sign = (bits)((unsigned_bits)1 << (8 * sizeof(real) - 1)), infinite = INFINITY_BITS;

// From the first bits of numbers to their bins.
template <int most> static void found(uint16_t* __restrict keys, const real* __restrict held, long e,
    const uint16_t* __restrict table, const real* __restrict bounds) {
  for (long i = 0; i < e; i++) {
    long bin = table[keys[i]];
    for (int m = 0; m < most; m++) bin += held[i] >= bounds[bin];
    keys[i] = (uint16_t)bin;
  }
}

// Adds to `counts`, one a bin and one each for what is below and above, and to those of NaN and of zeros. A number lies
// in the bin of the least one with its first 16 bits, or up to `most` bins above it; `bounds` ends with NaN.
// `work` is 0, and has LANES counts of each bin for each thread.
extern "C" void bins(const io* X, long n, const uint16_t* __restrict table, const real* __restrict bounds, long size,
    long most, int magnitudes, int64_t* work, int64_t* counts, int threads) {
  const bits mask = magnitudes ? ~sign : ~(bits)0;
  long begun = 0;
  #pragma omp parallel num_threads(threads) if(threads > 1)
  {
  long place;
  #pragma omp critical
  place = begun++;
  int64_t* __restrict mine = work + place * LANES * size;
  int64_t odd = 0, none = 0;
  #pragma omp for schedule(static)
  for (long o = 0; o < n; o += SIZE) {
    const long e = n - o < SIZE ? n - o : SIZE;
    alignas(64) real held[SIZE];
    alignas(64) uint16_t keys[SIZE];
    const real* x = values(X + o, e, held);
    const bits* in = (const bits*)x;
    bits* masked = (bits*)held;
    bits nans = 0, zeros = 0;
    #pragma omp simd reduction(+ : nans, zeros)
    for (long i = 0; i < e; i++) {
      const bits size = in[i] & ~sign;
      nans += size > infinite;
      zeros += size == 0;
    }
    #pragma omp simd
    for (long i = 0; i < e; i++) masked[i] = in[i] & mask;
    #pragma omp simd
    for (long i = 0; i < e; i++) keys[i] = (uint16_t)((unsigned_bits)masked[i] >> (8 * sizeof(real) - 16));
    odd += nans, none += zeros;
    if (nans) for (long i = 0; i < e; i++) if (held[i] != held[i]) keys[i] = 0x7fff;
    if (most < 2) found<1>(keys, held, e, table, bounds);
    else found<MOST_BINS>(keys, held, e, table, bounds);
    long i = 0;  // a loop by itself: with the one before in one it takes twice as long
    for (; i + LANES <= e; i += LANES)
      for (long j = 0; j < LANES; j++) mine[size * j + keys[i + j]]++;
    for (; i < e; i++) mine[keys[i]]++;
  }
  #pragma omp critical
  {
    for (long k = 0; k < LANES * size; k++) counts[k % size] += mine[k];
    counts[size] += odd, counts[size + 1] += none;
  }
  }
}
"""


class Table(NamedTuple):
    """For each 16 first bits of a number the bin of the least number with them."""

    bins: Tensor  # uint16, as int16
    bounds: Tensor  # of the bins, and NaN behind
    most: int  # bins that numbers with the same first bits may lie apart


@declared("reducers", DTYPES)
def source(dtype: torch.dtype) -> str:
    """The text of the kernel."""
    word, infinity = ("int64_t", "0x7FF0000000000000") if dtype is torch.float64 else ("int32_t", "0x7F800000")
    text = (
        SOURCE.replace("WORD", word)
        .replace("INFINITY_BITS", infinity)
        .replace("MOST_BINS", str(MOST))
        .replace("MANY", str(LANES))
    )
    return of_values(text, dtype)


@lru_cache(32)
def _table(edges: tuple[float, ...], real: torch.dtype) -> Table:
    bounds = bounds_of(edges, real)
    wide, width = (torch.int64, 48) if real is torch.float64 else (torch.int32, 16)
    first = torch.arange(1 << 16, device="cpu").to(torch.int64) << width
    last = first + (1 << width) - 1
    ends = torch.stack((first, last))
    ends = torch.where(ends >= 1 << (width + 15), ends - (1 << (width + 16)), ends) if wide is torch.int32 else ends
    numbers = ends.to(wide).view(real)
    infinite = torch.full_like(numbers, torch.inf).copysign(numbers)
    numbers = torch.where(numbers.isnan(), infinite, numbers)
    low, high = torch.bucketize(numbers.sort(0).values, bounds, right=True)
    low[0x7FFF] = len(edges)  # NaN counts as above
    most = int((high - low).max())
    return Table(low.to(torch.int16), torch.cat((bounds, bounds.new_full((1,), torch.nan))), most)


def bounds_of(edges: tuple[float, ...], real: torch.dtype) -> Tensor:
    """The first number of a dtype at or above each edge, which parts the values as the edge does; the last bin has its
    end.
    """
    exact = torch.tensor(edges, dtype=torch.float64, device="cpu")
    infinity = torch.full_like(exact, torch.inf)
    exact[-1] = torch.nextafter(exact, infinity)[-1]
    bounds = exact.to(real)
    short = bounds.double() < exact
    return torch.where(short, torch.nextafter(bounds, infinity.to(real)), bounds)


def bin_counts(x: Tensor, edges: tuple[float, ...], magnitudes: bool = False) -> Tensor | None:
    """How many values are below the edges, in each bin, above or NaN; and how many are NaN, and how many zero.

    None where there is no kernel for the signal or for these edges.

    >>> bin_counts(torch.tensor([0.0, 0.25, -1.0, 7.0]), (0.0, 0.5, 1.0))
    tensor([1, 2, 0, 1, 0, 1])
    """
    given = PLACE, NUMBER, PLACE, PLACE, NUMBER, NUMBER, THREADS, PLACE, PLACE, THREADS
    kernel = kernel_for(x, source, "bins", *given)
    if kernel is None:
        return None
    table = _table(edges, torch.float64 if x.dtype is torch.float64 else torch.float32)
    if table.most > MOST or len(edges) >= 1 << 15:
        return None
    x, size = in_any_order(x), len(edges) + 1
    counts, threads = torch.zeros(size + 2, dtype=torch.int64, device="cpu"), threads_for(x.numel())
    work = torch.zeros(threads, LANES * size, dtype=torch.int64, device="cpu")
    places = table.bins.data_ptr(), table.bounds.data_ptr()
    to = work.data_ptr(), counts.data_ptr()
    kernel(x.data_ptr(), x.numel(), *places, size, table.most, magnitudes, *to, threads)
    return counts
