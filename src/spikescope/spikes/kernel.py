"""Packing by a kernel of the CPU, which reads the spikes once, and checks and packs them on the way."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..dynamics.native import threads_for
from ..toolchain.compiler import CompileError, compiler, load

__all__ = ["pack_rows"]

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
#include <cstdint>
#include <cstring>
using word = WORD;
constexpr word one = ONE;
constexpr long B = 4096;  // spikes that a thread takes at a time

// Eight bytes of 0 and 1 as the bits of one: byte i goes to bit 56 + i of the product, and nothing meets.
static inline uint8_t bits_of(const uint8_t* fired) {
  uint64_t eight;
  std::memcpy(&eight, fired, 8);
  return (uint8_t)((eight * 0x0102040810204080ull) >> 56);
}

// Whether all are 0 (of either sign) or 1.
extern "C" int pack(const word* __restrict x, uint8_t* __restrict out, long rows, long columns, int threads) {
  const long width = (columns + 7) / 8, parts = (columns + B - 1) / B;
  int odd = 0;
  #pragma omp parallel for num_threads(threads) schedule(static) reduction(|: odd) if(threads > 1)
  for (long task = 0; task < rows * parts; task++) {
    const long row = task / parts, from = task % parts * B;
    const long e = columns - from < B ? columns - from : B;
    const word* __restrict s = x + row * columns + from;
    alignas(64) uint8_t fired[B];
    word other = 0;
    for (long i = 0; i < e; i++) {
      fired[i] = s[i] == one;
      other |= s[i] == one ? word(0) : word(s[i] << 1);
    }
    for (long i = e; i < (e + 7) / 8 * 8; i++) fired[i] = 0;
    for (long i = 0; i < (e + 7) / 8; i++) out[row * width + from / 8 + i] = bits_of(fired + 8 * i);
    odd |= other != 0;
  }
  return odd;
}
"""


@cache
def _kernel(dtype: torch.dtype) -> Any:
    word, one = WORDS[dtype]
    try:
        kernel = load(SOURCE.replace("WORD", word).replace("ONE", one)).pack
    except CompileError:  # NumPy packs as well, and slower
        return None
    kernel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_int]
    return kernel


def pack_rows(spikes: Tensor, rows: int, columns: int) -> Tensor | None:
    """The bits of spikes split into equal rows; None for other values, or where there is no kernel for them."""
    plain = type(spikes) is Tensor and spikes.device.type == "cpu" and spikes.dtype in WORDS
    if not plain or not spikes.is_contiguous() or spikes.numel() < SMALL or compiler() is None:
        return None
    kernel = _kernel(spikes.dtype)
    if kernel is None:
        return None
    bits = torch.empty(rows, -(-columns // 8), dtype=torch.uint8, device="cpu")
    threads = threads_for(spikes.numel())
    odd = kernel(spikes.data_ptr(), bits.data_ptr(), rows, columns, threads)
    return None if odd else bits
