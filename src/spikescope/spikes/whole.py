"""Small whole multiples of a unit in a few bits each, as sums of spikes are: packing, which checks them, unpacking."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..dynamics.cpp.native import threads_for
from ..toolchain.compiler import function, trouble
from ..toolchain.declared import declared

__all__ = ["WIDTHS", "pack_whole", "unpack_whole"]

WIDTHS = 4, 8, 16
"""In how many bits a number can be kept; the first of two in a byte is in its lower half."""

SMALL = 1 << 14
"""Numbers under which loading a kernel for the first time is not worth it."""

SOURCE = """
#include <stdint.h>
#include <string.h>
using code = CODE;
constexpr long B = 1024;  // numbers that a thread takes at a time
constexpr float top = TOP;

// Whether some are no whole multiples of the unit up to the top, bit for bit: -0 is none.
extern "C" int pack(const float* __restrict X, uint8_t* __restrict out, float rate, float unit, long n, int threads) {
  int odd = 0;
  #pragma omp parallel for num_threads(threads) schedule(static) reduction(|: odd) if(threads > 1)
  for (long from = 0; from < n; from += B) {
    if (odd) continue;
    const long e = n - from < B ? n - from : B;
    alignas(64) code held[B] = {};
    uint32_t other = 0;
    for (long i = 0; i < e; i++) {
      float scaled = X[from + i] * rate;
      scaled = scaled > 0.f ? scaled : 0.f;
      scaled = scaled < top ? scaled : top;
      const int32_t whole = (int32_t)scaled;
      const float again = (float)whole * unit;
      uint32_t a, b;
      memcpy(&a, &again, 4);
      memcpy(&b, X + from + i, 4);
      other |= a ^ b;
      held[i] = (code)whole;
    }
    if (HALVES) {
      uint8_t* o = out + from / 2;
      for (long i = 0; i < (e + 1) / 2; i++) o[i] = (uint8_t)(held[2 * i] | held[2 * i + 1] << 4);
    } else memcpy(out + from * sizeof(code), held, e * sizeof(code));
    odd |= other != 0;
  }
  return odd;
}

extern "C" void unpack(const uint8_t* __restrict in, float* __restrict Y, float unit, long n, int threads) {
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long from = 0; from < n; from += B) {
    const long e = n - from < B ? n - from : B;
    alignas(64) code held[B];
    if (HALVES) {
      const uint8_t* o = in + from / 2;
      for (long i = 0; i < (e + 1) / 2; i++) held[2 * i] = o[i] & 15, held[2 * i + 1] = o[i] >> 4;
    } else memcpy(held, in + from * sizeof(code), e * sizeof(code));
    for (long i = 0; i < e; i++) Y[from + i] = (float)(int32_t)held[i] * unit;
  }
}
"""


@declared("packing", choices=WIDTHS)
def _text(width: int) -> str:
    code, halves = ("uint16_t", "false") if width == 16 else ("uint8_t", "true" if width == 4 else "false")
    return SOURCE.replace("CODE", code).replace("HALVES", halves).replace("TOP", f"{(1 << width) - 1}.f")


@cache
def _kernels(width: int) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """To pack and to unpack."""
    source = _text(width)
    rest = ctypes.c_long, ctypes.c_int
    pack = function(source, "pack", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, ctypes.c_float, *rest)
    unpack = function(source, "unpack", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, *rest)
    return None if pack is None or unpack is None else (pack, unpack)


def pack_whole(x: Tensor, width: int, unit: float) -> Tensor | None:
    """Bytes for all numbers of `x`, `width` bits for each; None where some are no whole multiples of `unit`.

    - `unit`: a power of two, so that nothing is rounded.

    None too where there is no kernel: for other than float32 without gaps on a CPU, for few numbers.
    """
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype is torch.float32 and x.is_contiguous()
    if not plain or x.numel() < SMALL or sys.byteorder != "little" or trouble() or (held := _kernels(width)) is None:
        return None
    packed = torch.empty(-(-x.numel() * width // 8), dtype=torch.uint8, device="cpu")
    odd = held[0](x.data_ptr(), packed.data_ptr(), 1 / unit, unit, x.numel(), threads_for(x.numel()))
    return None if odd else packed


def unpack_whole(packed: Tensor, width: int, unit: float) -> Tensor:
    """The numbers of bytes that `pack_whole` has made, or of some of them."""
    held = _kernels(width)
    assert held is not None
    x = torch.empty(packed.numel() * 8 // width, dtype=torch.float32, device="cpu")
    held[1](packed.data_ptr(), x.data_ptr(), unit, x.numel(), threads_for(x.numel()))
    return x
