"""Kernels of the CPU for spikes and bits: packing, which checks them, unpacking, and finding those in bits."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..dynamics.cpp.borrowed import header
from ..dynamics.cpp.native import threads_for
from ..internals import is_ordinary
from ..toolchain.compiler import CompileError, function, load, trouble
from ..toolchain.declared import declare, declared

__all__ = ["find_spikes", "may_pack", "pack_rows", "unpack_bytes"]

WORDS = {
    torch.float16: ("uint16_t", "0x3C00"),
    torch.bfloat16: ("uint16_t", "0x3F80"),
    torch.float32: ("uint32_t", "0x3F800000"),
    torch.float64: ("uint64_t", "0x3FF0000000000000"),
}
"""The dtypes that it takes: the integer of their size, and the number 1 in it."""

SMALL = 1 << 14
"""Spikes under which loading a kernel for the first time is not worth it."""

SOURCE = """
#include <stdint.h>
#include <string.h>
using word = WORD;
constexpr word one = ONE;
constexpr long B = 4096;  // spikes that a thread takes at a time

// The bits of as many of the spikes as there are whole vectors of; of what is no spike a bit stays in `other`.
template <class W> static inline long by_vectors(const W* s, long e, uint8_t* out, W& other) { return 0; }
#if defined __AVX512F__ && defined __has_builtin  // GCC before version 10 takes the loop without
#if __has_builtin(__builtin_ia32_cmpd512_mask)
static inline long by_vectors(const uint32_t* s, long e, uint8_t* out, uint32_t& other) {
  typedef int words __attribute__((vector_size(64), aligned(4), may_alias));
  words odd = {};
  long i = 0;
  for (; i + 16 <= e; i += 16) {
    const words found = *(const words*)(s + i), spike = words{} + int(one);
    const uint16_t fired = __builtin_ia32_cmpd512_mask(found, spike, 0, 0xffff);
    odd |= (found << 1) & (found != spike);
    memcpy(out + i / 8, &fired, 2);
  }
  for (long j = 0; j < 16; j++) other |= uint32_t(odd[j]);
  return i;
}
#endif
#elif defined __AVX2__ && defined __has_builtin
#if __has_builtin(__builtin_ia32_movmskps256)
static inline long by_vectors(const uint32_t* s, long e, uint8_t* out, uint32_t& other) {
  typedef int words __attribute__((vector_size(32), aligned(4), may_alias));
  typedef float floats __attribute__((vector_size(32)));
  words odd = {};
  const auto eight = [s, &odd](long i) {
    const words found = *(const words*)(s + i), fired = found == words{} + int(one);
    odd |= (found << 1) & ~fired;
    return (uint32_t)__builtin_ia32_movmskps256((floats)fired);
  };
  long i = 0;
  for (; i + 32 <= e; i += 32) {
    const uint32_t fired = eight(i) | eight(i + 8) << 8 | eight(i + 16) << 16 | eight(i + 24) << 24;
    memcpy(out + i / 8, &fired, 4);
  }
  for (long j = 0; j < 8; j++) other |= uint32_t(odd[j]);
  return i;
}
#endif
#endif

// Whether all are 0 (of either sign) or 1.
extern "C" int pack(const word* __restrict x, uint8_t* __restrict out, long rows, long columns, int threads) {
  const long width = (columns + 7) / 8, parts = (columns + B - 1) / B;
  int odd = 0;
  #pragma omp parallel for num_threads(threads) schedule(static) reduction(|: odd) if(threads > 1)
  for (long task = 0; task < rows * parts; task++) {
    if (odd) continue;
    const long row = task / parts, from = task % parts * B;
    const long e = columns - from < B ? columns - from : B;
    const word* __restrict s = x + row * columns + from;
    uint8_t* bits = out + row * width + from / 8;
    alignas(64) uint8_t fired[B];
    word other = 0;
    const long done = by_vectors(s, e, bits, other);
    for (long i = done; i < e; i++) {
      fired[i] = s[i] == one;
      other |= s[i] == one ? word(0) : word(s[i] << 1);
    }
    for (long i = e; i < (e + 7) / 8 * 8; i++) fired[i] = 0;
    for (long i = done / 8; i < (e + 7) / 8; i++) bits[i] = bits_of(fired + 8 * i);
    odd |= other != 0;
  }
  return odd;
}
"""


@declared("packing", dtypes=WORDS)
def _packing_text(dtype: torch.dtype) -> str:
    word, one = WORDS[dtype]
    return header("bits.h") + SOURCE.replace("WORD", word).replace("ONE", one)


@cache
def _kernel(dtype: torch.dtype) -> Any:
    try:
        kernel = load(_packing_text(dtype)).pack
    except CompileError:  # NumPy packs as well, and slower
        return None
    kernel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_int]
    return kernel


def may_pack(spikes: Tensor) -> bool:
    """Whether there is a kernel that packs them, or sees that they are no spikes."""
    plain = type(spikes) is Tensor and spikes.device.type == "cpu" and spikes.dtype in WORDS
    if not plain or not spikes.is_contiguous() or spikes.numel() < SMALL or trouble():
        return False
    return _kernel(spikes.dtype) is not None


def pack_rows(spikes: Tensor, rows: int, columns: int) -> Tensor | None:
    """The bits of spikes split into equal rows; None for other values, or where there is no kernel for them."""
    if not may_pack(spikes):
        return None
    kernel = _kernel(spikes.dtype)
    bits = torch.empty(rows, -(-columns // 8), dtype=torch.uint8, device="cpu")
    threads = threads_for(spikes.numel())
    odd = kernel(spikes.data_ptr(), bits.data_ptr(), rows, columns, threads)
    return None if odd else bits


UNPACKING = """
#include <stdint.h>
#include <string.h>
using word = WORD;

// Eight words for each byte, from a table of all bytes that the first cache holds.
extern "C" void unpack(const uint8_t* __restrict bits, word* __restrict out, long bytes, int threads) {
  alignas(64) word table[256][8];
  for (int byte = 0; byte < 256; byte++)
    for (int i = 0; i < 8; i++) table[byte][i] = byte >> i & 1 ? word(ONE) : word(0);
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long i = 0; i < bytes; i++) memcpy(out + 8 * i, table[bits[i]], sizeof table[0]);
}
"""


@declared("packing", dtypes=WORDS)
def _unpacking_text(dtype: torch.dtype) -> str:
    word, one = WORDS[dtype]
    return UNPACKING.replace("WORD", word).replace("ONE", one)


@cache
def _unpacking(dtype: torch.dtype) -> Callable[..., Any] | None:
    return function(_unpacking_text(dtype), "unpack", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_int)


def unpack_bytes(bits: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Zeros and ones for all bits, eight for each byte, `[rows, 8 * bytes]`; None where there is no kernel for them."""
    if torch.compiler.is_compiling() or type(bits) is not Tensor or not is_ordinary(bits):
        return None
    plain = bits.device.type == "cpu" and dtype in WORDS
    if not plain or not bits.is_contiguous() or 8 * bits.numel() < SMALL or (kernel := _unpacking(dtype)) is None:
        return None
    spikes = torch.empty(len(bits), 8 * bits.shape[1], dtype=dtype, device="cpu")
    if type(spikes) is not Tensor:  # a stand-in, under FakeTensorMode
        return None
    kernel(bits.data_ptr(), spikes.data_ptr(), bits.numel(), threads_for(spikes.numel()))
    return spikes


FINDING = """
#include <stdint.h>
#include <string.h>

// Visits the spikes of a row from left to right, and of a column from above, a cache line of columns at a time.
template <class F> static void visit(const uint8_t* bits, long rows, long width, F f) {
  for (long from = 0; from < width; from += 64)
    for (long row = 0; row < rows; row++)
      for (long at = from; at < width && at < from + 64; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bits + row * width + at, width - at < 8 ? width - at : 8);
        for (; word; word &= word - 1) f(row, 8 * at + __builtin_ctzll(word));
      }
}

// Adds the spikes of each train, which is a row or a column.
extern "C" void count(const uint8_t* bits, long rows, long width, int by_row, int64_t* counts) {
  if (by_row) visit(bits, rows, width, [=](long row, long) { counts[row]++; });
  else visit(bits, rows, width, [=](long, long column) { counts[column]++; });
}

// Writes the step of each spike; `next` says where that of the next spike of each train goes.
extern "C" void find(const uint8_t* bits, long rows, long width, int by_row, int64_t* next, int64_t* steps) {
  if (by_row) visit(bits, rows, width, [=](long row, long column) { steps[next[row]++] = column; });
  else visit(bits, rows, width, [=](long row, long column) { steps[next[column]++] = row; });
}
"""
declare("packing", FINDING)


@cache
def _finding() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    shared = ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_int
    count = function(FINDING, "count", *shared, ctypes.c_void_p)
    find = function(FINDING, "find", *shared, ctypes.c_void_p, ctypes.c_void_p)
    return None if count is None or find is None else (count, find)


def find_spikes(
    bits: NDArray[np.uint8], trains: int, by_row: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The train and the step of each spike of rows of bits, in the order of the trains, then of time.

    - `by_row`: whether a row is a train, else a step.

    None for few bits, or where there is no kernel.
    """
    if 8 * bits.size < SMALL or sys.byteorder != "little" or (kernels := _finding()) is None:
        return None
    count, find = kernels
    rows, width = bits.shape
    bits = np.ascontiguousarray(bits)
    counts = np.zeros(rows if by_row else 8 * width, dtype=np.int64)
    count(bits.ctypes.data, rows, width, by_row, counts.ctypes.data)
    following = np.cumsum(counts) - counts
    step = np.empty(counts.sum(), dtype=np.int64)
    find(bits.ctypes.data, rows, width, by_row, following.ctypes.data, step.ctypes.data)
    train = np.repeat(np.arange(trains, dtype=np.int64), counts[:trains])
    return train, step[: len(train)]  # what fills up a row comes last
