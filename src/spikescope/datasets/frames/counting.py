r"""Counting events into frames: by a loop in C++ that reads each column once, as it lies; else by NumPy.

The count at $(c, y, x)$ of a frame is its place $(c H + y) W + x$. Both ways refuse the same events, and count alike.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from ...toolchain.compiler import function
from ...toolchain.declared import declare
from ..events import Array, check_inside

__all__ = ["count_by_loop", "count_by_numpy", "count_frames"]

SMALL = 1 << 14
"""Events under which loading a kernel for the first time is not worth it."""

BLOCK = 1 << 16
"""Events that NumPy counts at once: what is between input and count stays in the processor's cache."""

KINDS = {
    f"{kind}{size}": number
    for number, (kind, size) in enumerate([(k, n) for k in "iu" for n in (1, 2, 4, 8)] + [("f", 4), ("f", 8)])
} | {"b1": 4}
"""The number that the kernel has for a type of a column; a truth value is an unsigned byte."""

SOURCE = """
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
constexpr long B = 512;  // events at a time, whose coordinates stay in the first-level cache

// Whether a coordinate is on the sensor.
template <class E> static inline bool inside(E v, uint64_t size) {
  if (std::is_floating_point<E>::value) return v >= 0 && v < E(size) && v == std::floor(v);
  else if (std::is_signed<E>::value) return uint64_t(int64_t(v)) < size;
  else return uint64_t(v) < size;
}

template <class E, bool PACKED> static inline bool widen(const char* s, long stride, long e, uint64_t size,
    uint32_t* __restrict out) {
  int all = 1;
  for (long i = 0; i < e; i++) {
    E v;
    std::memcpy(&v, s + i * (PACKED ? long(sizeof(E)) : stride), sizeof(E));
    all &= size ? inside(v, size) : 1;
    out[i] = size ? (inside(v, size) ? uint32_t(v) : 0) : uint32_t(v != 0);
  }
  return all;
}
template <class E> static bool read(const char* s, long stride, long e, uint64_t size, uint32_t* out) {
  return stride == long(sizeof(E)) ? widen<E, true>(s, stride, e, size, out) : widen<E, false>(s, stride, e, size, out);
}

using reader = bool (*)(const char*, long, long, uint64_t, uint32_t*);
static const reader readers[] = {read<int8_t>, read<int16_t>, read<int32_t>, read<int64_t>, read<uint8_t>,
    read<uint16_t>, read<uint32_t>, read<uint64_t>, read<float>, read<double>};

// Adds the events of each frame to it; at the first block with one that is not on the sensor it stops with 1.
extern "C" int count(const char* const* start, const long* stride, const int* kind, long H, long W, const long* left,
    const long* right, long frames, double* out) {
  for (long f = 0; f < frames; f++) {
    double* __restrict frame = out + f * 2 * H * W;
    for (long at = left[f]; at < right[f]; at += B) {
      const long e = right[f] - at < B ? right[f] - at : B;
      uint32_t x[B], y[B], p[B];
      if (!readers[kind[0]](start[0] + at * stride[0], stride[0], e, W, x)) return 1;
      if (!readers[kind[1]](start[1] + at * stride[1], stride[1], e, H, y)) return 1;
      readers[kind[2]](start[2] + at * stride[2], stride[2], e, 0, p);
      for (long i = 0; i < e; i++) p[i] = (p[i] * uint32_t(H) + y[i]) * uint32_t(W) + x[i];
      for (long i = 0; i < e; i++) frame[p[i]] += 1;
    }
  }
  return 0;
}
"""
declare("events", SOURCE)

_P, _L = ctypes.c_void_p, ctypes.c_long


@cache
def _kernel() -> Any:
    return function(SOURCE, "count", _P, _P, _P, _L, _L, _P, _P, _L, _P)


def count_frames(x: Array, y: Array, p: Array, H: int, W: int, left: Array, right: Array) -> Array:
    """Frames `[T, 2, H, W]` of the events from `left[j]` up to `right[j]`, as float64."""
    if len(x) >= SMALL and (frames := count_by_loop(x, y, p, H, W, left, right)) is not None:
        return frames
    return count_by_numpy(x, y, p, H, W, left, right)


def count_by_loop(x: Array, y: Array, p: Array, H: int, W: int, left: Array, right: Array) -> Array | None:
    """The same by the kernel; None where there is none, or where events are not on the sensor: NumPy has the words."""
    columns = [_taken(values) for values in (x, y, p)]
    if 2 * H * W >= 1 << 32 or any(values is None for values in columns) or _kernel() is None:
        return None
    left, right = (np.ascontiguousarray(side, np.int64) for side in (left, right))
    if not _all_events(left, right, len(x)):  # those between frames are not read, and checked nevertheless
        check_inside("x", x, W)
        check_inside("y", y, H)
    held = [values for values in columns if values is not None]
    frames = np.zeros([len(left), 2, H, W])
    wrong = _kernel()(
        (_P * 3)(*[values.ctypes.data for values in held]),
        (_L * 3)(*[values.strides[0] for values in held]),
        (ctypes.c_int * 3)(*[KINDS[values.dtype.str[1:]] for values in held]),
        H,
        W,
        left.ctypes.data,
        right.ctypes.data,
        len(left),
        frames.ctypes.data,
    )
    return None if wrong else frames


def _taken(values: Array) -> Array | None:
    """A column of a type that the kernel reads; None for another."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values if values.dtype.str[1:] in KINDS else None


def _all_events(left: Array, right: Array, number: int) -> bool:
    """Whether each event is in one frame."""
    return bool(left[0] == 0 and right[-1] == number and (left[1:] == right[:-1]).all())


def count_by_numpy(x: Array, y: Array, p: Array, H: int, W: int, left: Array, right: Array) -> Array:
    """The same by NumPy."""
    check_inside("x", x, W)
    check_inside("y", y, H)
    frames = np.zeros([len(left), 2 * H * W])
    place = np.empty(BLOCK, np.intp)
    if p.dtype.kind not in "biu" or (p.size and (p.max() > 1 or p.min() < 0)):
        p = p != 0
    for frame, start, end in zip(frames, left.tolist(), right.tolist(), strict=True):
        for at in range(start, end, BLOCK):
            part = slice(at, min(at + BLOCK, end))
            size = part.stop - at
            where = place[:size]
            np.multiply(p[part], H, out=where, dtype=np.intp, casting="unsafe")
            np.add(where, y[part], out=where, casting="unsafe")
            where *= W
            np.add(where, x[part], out=where, casting="unsafe")
            frame[:] += np.bincount(where, minlength=2 * H * W)
    return frames.reshape(len(left), 2, H, W)
