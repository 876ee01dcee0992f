"""Copying some samples of a sequence and checking in the same pass whether their numbers are finite."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from ....dynamics.cpp.borrowed import header
from ....toolchain.compiler import function
from ....toolchain.declared import declare

__all__ = ["copying"]

SOURCE = (
    f"""
{header("math.h")}
{header("stream.h")}"""
    + """
constexpr long B = 4096;  // numbers of a block: threads share these

// What is written here is read when something has gone wrong: it goes past the caches.
template <class W> static W piece(const long* A, long row, long start, long end, W mask) {
  typedef W lanes __attribute__((vector_size(32), aligned(sizeof(W)), may_alias));
  constexpr long L = sizeof(lanes) / sizeof(W);
  const W* __restrict x = (const W*)((const char*)A[0] + row * A[3]);
  W* __restrict y = (W*)A[1] + row * A[4];
  W odd = 0;
  long i = start;
  if (in_parts(y + start, L)) {
    lanes found = {};
    for (; i + L <= end; i += L) {
      const lanes now = *(const lanes*)(x + i);
      STORE((part*)(y + i), (part)now);
      found |= (lanes)((now & mask) == mask);
    }
    for (long k = 0; k < L; k++) odd |= found[k];
    settle();
  }
  for (; i < end; i++) {
    y[i] = x[i];
    odd |= (x[i] & mask) == mask;
  }
  return odd != 0;
}

template <class W> static long copied(const long* A, W mask) {
  const long rows = A[2], count = A[4], threads = A[6], blocks = (count + B - 1) / B;
  int odd = 0;
  if (threads < 2) {
    for (long row = 0; row < rows; row++) odd |= piece(A, row, 0, count, mask);
    return odd;
  }
  #pragma omp parallel for num_threads(threads) schedule(static) reduction(|: odd)
  for (long at = 0; at < rows * blocks; at++) {
    const long start = at % blocks * B;
    odd |= piece(A, at / blocks, start, start + B < count ? start + B : count, mask);
  }
  return odd;
}

// Whether a bit is set, looked for from the end: a network that fires does so in its last step at the latest.
static int any(const uint8_t* bits, long n) {
  for (; n >= 64; n -= 64) {
    uint64_t part[8], found = 0;
    __builtin_memcpy(part, bits + n - 64, 64);
    for (int i = 0; i < 8; i++) found |= part[i];
    if (found) return 1;
  }
  while (n > 0) if (bits[--n]) return 1;
  return 0;
}

// A job: where from, where to, rows, bytes from one to the next, numbers of a row, kind, threads, whether one is odd;
// then bits, if there are some, how many bytes, and whether one is set.
static void copy(long* A) {
  if (A[8]) A[10] = any((const uint8_t*)A[8], A[9]);
  switch (A[5]) {
    case 5: A[7] = copied(A, (uint16_t)0x7C00); break;
    case 6: A[7] = copied(A, (uint16_t)0x7F80); break;
    case 7: A[7] = copied(A, (uint32_t)0x7F800000); break;
    default: A[7] = copied(A, (uint64_t)0x7FF0000000000000);
  }
}

// Jobs that follow each other.
extern "C" void copy_all(long* A, long count) {
  for (; count > 0; count--, A += 11) copy(A);
}
"""
)
declare("flight", SOURCE)


@cache
def copying() -> Any:
    """What does so many jobs at an address; None where there is no compiler."""
    return function(SOURCE, "copy_all", ctypes.c_void_p, ctypes.c_long)
