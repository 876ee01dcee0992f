"""What is asked of all tensors of a step: whether bytes hold a spike, whether numbers are finite.

On a CPU one call of a kernel answers for all of them, which takes less than a sum of PyTorch for each; a copy is looked
at while it is made. What the kernel does not know is left to PyTorch.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ...dynamics.entry import given
from ...dynamics.native import threads_for
from ...internals import is_plain
from ...toolchain.compiler import function

__all__ = ["Answer", "Lasting", "copied", "fired", "glance"]

Answer = float | Tensor
"""A number; of what lies on another device a tensor of one element there, for which nobody waits."""

KINDS = {torch.uint8: 1, torch.float16: 2, torch.bfloat16: 3, torch.float32: 4, torch.float64: 5}
"""What the kernel knows: bytes, and numbers by where their exponent lies."""

FEW = 1 << 12
"""Of the values of a last step, those that are asked first whether there is a spike."""

LARGE = 1 << 18
"""Numbers from which on threads share the work."""

SOURCE = """
#include <cstdint>
#include <cstring>
constexpr long B = 4096;  // numbers, or bytes, that are looked at before what was found is

// Whether all bits of an exponent are set, as those of NaN and of infinity are.
template <class W> static bool odd(const W* x, long n, W exponent) {
  W found = 0;
  for (long i = 0; i < n; i++) found |= (x[i] & exponent) == exponent;
  return found;
}

static bool odd_block(const char* x, long from, long n, long kind) {
  switch (kind) {
    case 2: return odd((const uint16_t*)x + from, n, (uint16_t)0x7C00);
    case 3: return odd((const uint16_t*)x + from, n, (uint16_t)0x7F80);
    case 4: return odd((const uint32_t*)x + from, n, (uint32_t)0x7F800000);
    default: return odd((const uint64_t*)x + from, n, (uint64_t)0x7FF0000000000000);
  }
}

static long size_of(long kind) { return kind == 1 ? 1 : kind < 4 ? 2 : kind == 4 ? 4 : 8; }
static long least(long a, long b) { return a < b ? a : b; }

// Whether one is not 0; a network that fires does so in its last step at the latest.
static bool any(const uint8_t* x, long n) {
  while (n > 0) {
    const long e = least(n, B);
    uint8_t found = 0;
    n -= e;
    for (long i = 0; i < e; i++) found |= x[n + i];
    if (found) return true;
  }
  return false;
}

// Of each of `count` runs of memory [address, numbers, kind, threads]: in place of the address, what was found.
extern "C" void look(long* A, long count) {
  for (long at = 0; at < count; at++, A += 4) {
    const char* x = (const char*)A[0];
    const long n = A[1], kind = A[2], blocks = (n + B - 1) / B;
    int found = 0;
    if (kind == 1) {
      found = any((const uint8_t*)x, n);
    } else {
      #pragma omp parallel for num_threads(A[3]) schedule(static) reduction(|: found) if(A[3] > 1)
      for (long i = 0; i < blocks; i++)
        if (!found) found |= odd_block(x, i * B, least(n - i * B, B), kind);
    }
    A[0] = found;
  }
}

// Copies rows of numbers [from, to, rows, bytes from row to row, numbers of a row, kind, threads]. Whether one is odd.
extern "C" int copy(const long* A) {
  const char* from = (const char*)A[0];
  char* to = (char*)A[1];
  const long n = A[4], kind = A[5], size = size_of(kind), parts = (n + B - 1) / B;
  int found = 0;
  #pragma omp parallel for num_threads(A[6]) schedule(static) reduction(|: found) if(A[6] > 1)
  for (long task = 0; task < A[2] * parts; task++) {
    const long row = task / parts, at = task % parts * B, e = least(n - at, B);
    std::memcpy(to + (row * n + at) * size, from + row * A[3] + at * size, e * size);
    found |= odd_block(to + row * n * size, at, e, kind);
  }
  return found;
}
"""


@cache
def _looking() -> Any:
    return function(SOURCE, "look", ctypes.c_void_p, ctypes.c_long)


@cache
def _copying() -> Any:
    return function(SOURCE, "copy", ctypes.c_char_p)


def glance(asked: Mapping[Any, Tensor]) -> dict[Any, Answer]:
    """Of bytes 1 where one is not 0, else 0; of numbers something that is not finite where one of them is not.

    A sum that overflows is not finite either: whoever goes by the answer looks for the place.

    >>> glance({"bits": torch.tensor([0, 4], dtype=torch.uint8), "sound": torch.ones(2), "odd": torch.ones(2) / 0})
    {'bits': 1.0, 'sound': 0.0, 'odd': nan}
    """
    kernel: Any = _looking() if is_plain(*asked.values()) else None
    found: dict[Any, Answer] = {}
    names, runs = [], array("q")
    for name, held in asked.items():
        run = None if kernel is None else _run(held)
        if run is None:
            found[name] = _alone(held)
        else:
            names.append((name, 1.0 if held.dtype is torch.uint8 else math.nan))
            runs.extend(run)
    if names:
        kernel(runs.buffer_info()[0], len(names))
        found.update((name, yes if odd else 0.0) for (name, yes), odd in zip(names, runs[::4], strict=True))
    return found


def _run(x: Tensor) -> tuple[int, int, int, int] | None:
    """What the kernel is told of a tensor; None of one that it does not know, or that has no memory."""
    kind = KINDS.get(x.dtype)
    if kind is None or not (x.is_cpu and x.is_contiguous() and (there := x.data_ptr())):
        return None
    count = x.numel()
    return there, count, kind, threads_for(count) if count >= LARGE else 1


class Lasting:
    """Tensors that stay where they are, to be looked at again and again: only where they are is asked first."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors, self._own = tensors, [held for held in tensors if type(held) in (Tensor, nn.Parameter)]
        self._known: list[Any] | None = None
        self._places: list[int] = []  # of those that the kernel looks at
        self._others: list[int] = []
        self._runs = array("q")

    def odd(self) -> dict[int, Answer]:
        """By place what `glance` answers, of all that hold a number that is not finite, and maybe of others."""
        now = [(held.data_ptr(), held.dtype, held.numel()) for held in self._own]
        if now != self._known:
            self._look_anew()
            self._known = now
        found = {place: _alone(self._tensors[place]) for place in self._others}
        if self._places:
            runs = self._runs[:]
            _looking()(runs.buffer_info()[0], len(self._places))
            found.update((place, math.nan) for place, odd in zip(self._places, runs[::4], strict=True) if odd)
        return found

    def _look_anew(self) -> None:
        self._places, self._others, self._runs = [], [], array("q")
        for place, held in enumerate(self._tensors):
            run = _run(held) if is_plain(held) and _looking() is not None else None
            if run is None:
                self._others.append(place)
            else:
                self._places.append(place)
                self._runs.extend(run)


def _alone(x: Tensor) -> Answer:
    """The answer of PyTorch; of what was expanded, of what it was expanded from."""
    x = x.detach()
    for axis in range(x.ndim):
        if x.stride(axis) == 0:
            x = x.narrow(axis, 0, 1)
    told = x.any() if x.dtype is torch.uint8 else x.sum()
    if not told.is_cpu:
        return told
    return (0.0 if told.isfinite() else math.nan) if told.dtype.is_floating_point else float(told)


def fired(x: Tensor) -> Answer:
    """Whether there is a spike among numbers: on a CPU the first few of the last step tell most."""
    if not x.is_cpu:
        return x.any()
    return float(bool(x[-1:].flatten()[:FEW].any()) or bool(x.any()))


def copied(x: Tensor) -> tuple[Tensor, bool | None]:
    """A copy `[t, n, *]` of what may be part of something larger; whether all is finite, where that was looked at.

    >>> copied(torch.tensor([[1.0], [math.nan]]))[1] in (False, None)
    True
    """
    kind, shape = KINDS.get(x.dtype, 1), x.shape
    rows = _rows(shape, x.stride()) if kind > 1 and x.is_cpu and is_plain(x) and not x.is_neg() else None
    if rows is None or (kernel := _copying()) is None or not (there := x.data_ptr()):
        return x.detach().clone(), None
    made = torch.empty_like(x)
    count, stride, length = rows
    threads = threads_for(count * length) if count * length >= LARGE else 1
    return made, not kernel(_copy(there, made.data_ptr(), count, stride * made.itemsize, length, kind, threads))


_copy = given(7)


def _rows(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int] | None:
    """How many runs of memory a tensor is, one for each entry of its first axis, from where to where, and how long."""
    length = 1
    for size, stride in zip(shape[:0:-1], strides[:0:-1], strict=True):
        if stride != length and size > 1:
            return None
        length *= size
    return (shape[0], strides[0], length) if shape else None
