"""Counts of a kernel, a byte a neuron and sample, added up over the samples in place by one call.

An operation of PyTorch that comes once a step finds its code and its tables out of the caches: the sum and the addition
take longer to begin than to run.
"""

from __future__ import annotations

import ctypes
from array import array
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ....dynamics.cpp.native import threads_for
from ....internals import is_plain
from ....toolchain.compiler import function
from ....toolchain.declared import declare

__all__ = ["Adder", "adder_of"]

SOURCE = """
#include <cstring>
constexpr long B = 2048;  // neurons of a block: threads share these

// A job: the counts, the sums, samples, neurons, the samples whose bytes add up without overflowing, threads.
extern "C" void add_counts(const long* A) {
  const long samples = A[2], n = A[3], few = A[4], threads = A[5];
  #pragma omp parallel for schedule(static) num_threads(threads) if(threads > 1)
  for (long start = 0; start < n; start += B) {
    const long size = n - start < B ? n - start : B;
    int* __restrict sums = (int*)A[1] + start;
    alignas(64) unsigned char bytes[B];
    for (long first = 0; first < samples; first += few) {
      const long last = first + few < samples ? first + few : samples;
      memset(bytes, 0, sizeof bytes);
      for (long sample = first; sample < last; sample++) {
        const unsigned char* count = (const unsigned char*)A[0] + sample * n + start;
        for (long i = 0; i < size; i++) bytes[i] += count[i];
      }
      for (long i = 0; i < size; i++) sums[i] += bytes[i];
    }
  }
}
"""
declare("reducers", SOURCE)


@cache
def _adding() -> Any:
    """What does the job at an address; None where there is no compiler."""
    return function(SOURCE, "add_counts", ctypes.c_void_p)


class Adder:
    """Adds counts that lie like the first ones, `[N, *F]` of runs of so many steps, to `spikes`, `[*F]`."""

    def __init__(self, add: Any, spikes: Tensor, count: Tensor, steps: int) -> None:
        self._like = count.shape, count.stride(), count.dtype, count.device, steps
        samples, neurons = len(count), spikes.numel()
        few = max(1, 255 // max(1, steps))
        self._add, self._spikes, self.seen = add, spikes, steps * samples
        self._job = array("q", [0, spikes.data_ptr(), samples, neurons, few, threads_for(count.numel())])
        self._address = self._job.buffer_info()[0]

    def fits(self, count: Tensor, steps: int) -> bool:
        """Whether counts are like the first ones."""
        return (count.shape, count.stride(), count.dtype, count.device, steps) == self._like and is_plain(count)

    def __call__(self, count: Tensor) -> None:
        self._job[0] = count.data_ptr()
        self._add(self._address)


def adder_of(spikes: Tensor, count: Tensor, steps: int) -> Adder | None:
    """The adder of counts like these; None for what is left to PyTorch."""
    if not (count.dtype is torch.uint8 and spikes.dtype is torch.int32 and count.is_cpu and count.numel()):
        return None
    lies_alike = count[0].stride() == spikes.stride() and (len(count) == 1 or count.stride(0) == spikes.numel())
    add = _adding() if lies_alike and is_plain(count, spikes) else None
    return None if add is None else Adder(add, spikes, count, steps)
