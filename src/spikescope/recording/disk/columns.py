"""Kernels of the CPU for a run whose tiles are cut along its neurons alone: from rows to tiles and back, with sums.

A row is what one step and sample take; a tile has a part of each row, and a checksum behind it. Without a compiler, and
for what is small, `grid.py` does the same by NumPy and zlib, a few times slower and with the interpreter held.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...toolchain.compiler import function
from ...toolchain.declared import declare

__all__ = ["STRIDE", "join_tiles", "make_tiles"]

STRIDE = 0x9E3779B1
"""What the sums of neighbouring tiles begin from lies so far apart: no tile fits in the place of another."""

SMALL = 1 << 14
"""Bytes under which loading a kernel for the first time is not worth it."""

SOURCE = """
#include <stdint.h>
#include <string.h>
#ifdef __PCLMUL__
#include <wmmintrin.h>
#endif

// CRC-32 as zlib has it: eight bytes at a time by eight tables.
struct Tables {
  uint32_t of[8][256];
  Tables() {
    for (uint32_t byte = 0; byte < 256; byte++) {
      uint32_t sum = byte;
      for (int bit = 0; bit < 8; bit++) sum = sum & 1 ? 0xEDB88320u ^ sum >> 1 : sum >> 1;
      of[0][byte] = sum;
    }
    for (int table = 1; table < 8; table++)
      for (int byte = 0; byte < 256; byte++)
        of[table][byte] = of[table - 1][byte] >> 8 ^ of[0][of[table - 1][byte] & 255];
  }
};
static const Tables tables;

static inline uint32_t of_word(uint64_t word) {
  const uint32_t (*of)[256] = tables.of;
  return of[7][word & 255] ^ of[6][word >> 8 & 255] ^ of[5][word >> 16 & 255] ^ of[4][word >> 24 & 255]
       ^ of[3][word >> 32 & 255] ^ of[2][word >> 40 & 255] ^ of[1][word >> 48 & 255] ^ of[0][word >> 56];
}

#ifdef __PCLMUL__
// Products of polynomials move 16 bytes over 64, or over 16, without changing what the sum will be: the factors are
// x^544, x^480, x^160 and x^96 modulo that of CRC-32, bits reversed. What is left of all is 16 bytes (Gopal et al.,
// Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, Intel 2009).
static inline __m128i moved(__m128i x, __m128i by) {
  return _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11));
}

static inline long folded(const uint8_t* at, long size, uint32_t& sum) {
  if (size < 64) return 0;
  const __m128i over_four = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
  const __m128i over_one = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
  __m128i x[4];
  for (int k = 0; k < 4; k++) x[k] = _mm_loadu_si128((const __m128i*)(at + 16 * k));
  x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128(int(sum)));
  long i = 64;
  for (; i + 64 <= size; i += 64)
    for (int k = 0; k < 4; k++)
      x[k] = _mm_xor_si128(moved(x[k], over_four), _mm_loadu_si128((const __m128i*)(at + i + 16 * k)));
  for (int k = 1; k < 4; k++) x[k] = _mm_xor_si128(moved(x[k - 1], over_one), x[k]);
  uint64_t left[2];
  memcpy(left, &x[3], 16);
  sum = of_word(left[1] ^ of_word(left[0]));
  return i;
}
#else
static inline long folded(const uint8_t*, long, uint32_t&) { return 0; }
#endif

static uint32_t sum_of(const uint8_t* at, long size, uint32_t seed) {
  uint32_t sum = ~seed;
  long i = folded(at, size, sum);
  for (; i + 8 <= size; i += 8) {
    uint64_t word;
    memcpy(&word, at + i, 8);
    sum = of_word(word ^ sum);
  }
  for (; i < size; i++) sum = tables.of[0][(sum ^ at[i]) & 255] ^ sum >> 8;
  return ~sum;
}

// Few bytes, as two words that may overlap.
static inline void copy(uint8_t* to, const uint8_t* from, long size) {
  if (size >= 8 && size <= 16) {
    uint64_t low, high;
    memcpy(&low, from, 8);
    memcpy(&high, from + size - 8, 8);
    memcpy(to, &low, 8);
    memcpy(to + size - 8, &high, 8);
  } else if (size >= 4 && size < 8) {
    uint32_t low, high;
    memcpy(&low, from, 4);
    memcpy(&high, from + size - 4, 4);
    memcpy(to, &low, 4);
    memcpy(to + size - 4, &high, 4);
  } else if (size < 4) {
    for (long i = 0; i < size; i++) to[i] = from[i];
  } else {
    memcpy(to, from, size);
  }
}

extern "C" void cut(const uint8_t* rows, uint8_t* tiles, long count, long height, long row, long width, uint32_t seed) {
  const long size = height * width;
  for (long number = 0; number < count; number++) {
    uint8_t* tile = tiles + number * (size + 4);
    for (long y = 0; y < height; y++) copy(tile + y * width, rows + y * row + number * width, width);
    const uint32_t sum = sum_of(tile, size, seed + uint32_t(number) * STRIDE);
    memcpy(tile + size, &sum, 4);
  }
}

// The number of the first tile that is not as it was written, or -1.
extern "C" long join(const uint8_t* tiles, uint8_t* rows, long count, long height, long row, long width,
                     uint32_t seed) {
  const long size = height * width;
  for (long number = 0; number < count; number++) {
    const uint8_t* tile = tiles + number * (size + 4);
    uint32_t written;
    memcpy(&written, tile + size, 4);
    if (written != sum_of(tile, size, seed + uint32_t(number) * STRIDE)) return number;
    for (long y = 0; y < height; y++) copy(rows + y * row + number * width, tile + y * width, width);
  }
  return -1;
}
""".replace("STRIDE", f"{STRIDE}u")


declare("tiles", SOURCE)


@cache
def _kernel(name: str) -> Callable[..., Any] | None:
    place, number = ctypes.c_void_p, ctypes.c_long
    found = function(SOURCE, name, place, place, number, number, number, number, ctypes.c_uint32)
    if found is not None:
        found.restype = number  # type: ignore[attr-defined]  # of ctypes
    return found


def make_tiles(rows: NDArray[np.uint8], tiles: NDArray[np.uint8], width: int, seed: int) -> bool:
    """Fill `tiles`, `[count, height * width + 4]`, from the first bytes of `rows`, `[height, row]`; whether it did.

    - `width`: the bytes of a row that a tile has. `seed`: what the sum of the first tile begins from.
    """
    cut = _usable("cut", tiles)
    if cut is None or rows.strides[1] != 1:
        return False
    cut(rows.ctypes.data, tiles.ctypes.data, len(tiles), len(rows), rows.strides[0], width, seed)
    return True


def join_tiles(tiles: NDArray[np.uint8], rows: NDArray[np.uint8], width: int, seed: int) -> int | None:
    """Fill the first bytes of `rows` from `tiles`: -1, or the number of a tile that is not as it was written.

    None where nothing was done.
    """
    join = _usable("join", tiles)
    if join is None:
        return None
    wrong: int = join(tiles.ctypes.data, rows.ctypes.data, len(tiles), len(rows), rows.strides[0], width, seed)
    return wrong


def _usable(name: str, tiles: NDArray[np.uint8]) -> Callable[..., Any] | None:
    if tiles.size < SMALL or sys.byteorder != "little" or not tiles.flags.c_contiguous:
        return None
    return _kernel(name)
