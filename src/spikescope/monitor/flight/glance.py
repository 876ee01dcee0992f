"""What is asked of all tensors of a step: whether bytes hold a spike, whether numbers are finite.

On a CPU one call of a kernel answers for all of them, which takes less than a sum of PyTorch for each. What the kernel
does not know is left to PyTorch.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ...dynamics.native import threads_for
from ...internals import is_plain
from ...toolchain.compiler import function

__all__ = ["Answer", "Glance", "fired"]

Answer = float | Tensor
"""A number; of what lies on another device a tensor of one element there, for which nobody waits."""

KINDS = {torch.uint8: 1, torch.float16: 2, torch.bfloat16: 3, torch.float32: 4, torch.float64: 5}
"""What the kernel knows: bytes, and numbers by where their exponent lies."""

KNOWN = {kind: 1.0 if kind == 1 else math.nan for kind in KINDS.values()}
"""What is answered of each of these where it is so."""

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

static bool any_odd(const char* x, long n, long kind, long threads) {
  const long blocks = (n + B - 1) / B;
  int found = 0;
  if (threads < 2) {
    for (long i = 0; i < blocks && !found; i++) found = odd_block(x, i * B, least(n - i * B, B), kind);
    return found;
  }
  #pragma omp parallel for num_threads(threads) schedule(static) reduction(|: found)
  for (long i = 0; i < blocks; i++) found |= odd_block(x, i * B, least(n - i * B, B), kind);
  return found;
}

// Of each of `count` runs of memory [address, numbers, kind, threads]: in place of the address, what was found.
extern "C" void look(long* A, long count) {
  for (long at = 0; at < count; at++, A += 4)
    A[0] = A[2] == 1 ? any((const uint8_t*)A[0], A[1]) : any_odd((const char*)A[0], A[1], A[2], A[3]);
}
"""


@cache
def _looking() -> Any:
    return function(SOURCE, "look", ctypes.c_void_p, ctypes.c_long)


class Glance:
    """Looks at tensors by name: of bytes, whether one is not 0, of numbers, whether one is not finite.

    - `lasting`: tensors that every call looks at. While they stay where they are nothing else is asked of them.

    A call gives the names of those of which it is so, with 1 for bytes and something that is not finite for numbers; of
    others there may be 0, or a sum. One that overflows is not finite either: whoever goes by the answer looks for the
    place.

    >>> glance = Glance({"weight": torch.ones(2) / 0})
    >>> glance({"bits": torch.tensor([0, 4], dtype=torch.uint8), "sound": torch.ones(2)})
    {'weight': nan, 'bits': 1.0}
    """

    def __init__(self, lasting: Mapping[Any, Tensor] | None = None) -> None:
        self._lasting = dict(lasting or {})
        self._own = [held for held in self._lasting.values() if type(held) in (Tensor, nn.Parameter)]
        self._known: list[Any] | None = None
        self._names: list[Any] = []  # of the lasting ones that the kernel looks at
        self._others: list[Any] = []
        self._runs = array("q")

    def __call__(self, asked: Mapping[Any, Tensor]) -> dict[Any, Answer]:
        now = [(held.data_ptr(), held.dtype, held.numel()) for held in self._own]
        if now != self._known:
            self._look_anew()
            self._known = now
        kernel: Any = _looking() if is_plain(*asked.values()) else None
        found = {name: _alone(self._lasting[name]) for name in self._others}
        names, runs = self._names[:], self._runs[:]
        for name, held in asked.items():
            run = None if kernel is None else _run(held)
            if run is None:
                found[name] = _alone(held)
            else:
                names.append(name)
                runs.extend(run)
        if names:
            _looking()(runs.buffer_info()[0], len(names))
            told = runs[::4]
            if any(told):
                kinds = runs[2::4]
                found.update((name, KNOWN[kind]) for name, odd, kind in zip(names, told, kinds, strict=True) if odd)
        return found

    def _look_anew(self) -> None:
        self._names, self._others, self._runs = [], [], array("q")
        for name, held in self._lasting.items():
            run = _run(held) if is_plain(held) and _looking() is not None else None
            if run is None:
                self._others.append(name)
            else:
                self._names.append(name)
                self._runs.extend(run)


def _run(x: Tensor) -> tuple[int, int, int, int] | None:
    """What the kernel is told of a tensor; None of one that it does not know, or that has no memory."""
    kind = KINDS.get(x.dtype)
    if kind is None or not (x.is_cpu and x.is_contiguous() and (there := x.data_ptr())):
        return None
    count = x.numel()
    return there, count, kind, threads_for(count) if count >= LARGE else 1


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
