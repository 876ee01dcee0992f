"""Checks of all tensors of a step at once: whether one of them holds a spike, and whether all numbers are finite.

One call of a kernel answers for all that lie on a device, which takes less than an operation of PyTorch for each; on a
CPU at once, on a GPU when it comes to it, and nobody waits. What no kernel knows is left to PyTorch.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Mapping
from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from ....dynamics.cpp.native import threads_for
from ....internals import is_plain, keys_of
from ....toolchain.compiler import function
from ....toolchain.declared import declare
from .gpu import Look, elsewhere, looks_here, programs_for, takes
from .pending import Answer, Late
from .table import FINITE, FIRED, VALUE, Table

__all__ = ["Glance", "Question"]

LARGE = 1 << 18
"""Numbers from which on threads share the work."""

SOURCE = """
#include <cstdint>
#include <cstring>
constexpr long B = 4096;  // numbers that are looked at before what was found is

static long least(long a, long b) { return a < b ? a : b; }

// Whether one has a bit of the mask: all but the sign. A network that fires does so in its last step at the latest.
template <class W> static bool fired(const void* memory, long n, W mask) {
  const W* x = (const W*)memory;
  while (n > 0) {
    const long e = least(n, B);
    W found = 0;
    n -= e;
    for (long i = 0; i < e; i++) found |= x[n + i] & mask;
    if (found) return true;
  }
  return false;
}

// Whether one has all bits of the mask: of its exponent, as NaN and infinity have.
template <class W> static bool odd_block(const W* x, long n, W mask) {
  W found = 0;
  for (long i = 0; i < n; i++) found |= (x[i] & mask) == mask;
  return found;
}

template <class W> static bool odd(const void* memory, long n, W mask, long threads) {
  const W* x = (const W*)memory;
  const long blocks = (n + B - 1) / B;
  int found = 0;
  if (threads < 2) {
    for (long i = 0; i < blocks && !found; i++) found = odd_block(x + i * B, least(n - i * B, B), mask);
    return found;
  }
  #pragma omp parallel for num_threads(threads) schedule(static) reduction(|: found)
  for (long i = 0; i < blocks; i++) found |= odd_block(x + i * B, least(n - i * B, B), mask);
  return found;
}

static bool found(const void* x, long n, long kind, long threads) {
  switch (kind) {
    case 1: return fired(x, n, (uint8_t)0xFF);
    case 2: return fired(x, n, (uint16_t)0x7FFF);
    case 3: return fired(x, n, (uint32_t)0x7FFFFFFF);
    case 4: return fired(x, n, (uint64_t)0x7FFFFFFFFFFFFFFF);
    case 5: return odd(x, n, (uint16_t)0x7C00, threads);
    case 6: return odd(x, n, (uint16_t)0x7F80, threads);
    case 7: return odd(x, n, (uint32_t)0x7F800000, threads);
    default: return odd(x, n, (uint64_t)0x7FF0000000000000, threads);
  }
}

// Of each row of a table what was found, in its last place; and whether anything was.
extern "C" int look(long* A, long count) {
  int any = 0;
  for (long at = 0; at < count; at++, A += 5) any |= A[4] = found((const void*)A[0], A[1], A[2], A[3]);
  return any;
}
"""
declare("flight", SOURCE)


NOTHING: Mapping[Any, Any] = {}

_DTYPE = attrgetter("dtype")


@cache
def _looking() -> Any:
    return function(SOURCE, "look", ctypes.c_void_p, ctypes.c_long)


class Glance:
    """Looks at tensors by name: `fired`, whether one is not 0, and `finite`, whether all are.

    - `lasting`: tensors that are to be finite, which every call looks at. While they stay where they are nothing else
      is asked of them.
    - `turns`: how many calls it may take to look at all of them; of small ones, and on a GPU, each looks at all.

    A call gives numbers that may come late: 1 where there is a spike, something that is not finite where a value is
    not; where it is not so, none, 0 or a sum. One that overflows is not finite either: whoever goes by the answer looks
    for the place. `told` are numbers that are known, or tensors of one element, which come along.

    >>> glance = Glance({"weight": torch.ones(2) / 0})
    >>> glance(fired={"bits": torch.tensor([0, 4], dtype=torch.uint8)}, finite={"sound": torch.ones(2)}).values()
    {'weight': nan, 'bits': 1.0}
    """

    def __init__(self, lasting: Mapping[Any, Tensor] | None = None, turns: int = 1) -> None:
        self._lasting, self._most = dict(lasting or {}), turns
        self._parts: list[Table] = []  # of the table of the host
        self._next = 0
        self._own = [held for held in self._lasting.values() if type(held) in (Tensor, nn.Parameter)]
        self._known: list[Any] | None = None
        self._others: dict[Any, Tensor] = {}  # of the lasting ones, what no kernel looks at
        self._tables: dict[Any, Table] = {}

    def __call__(
        self,
        fired: Mapping[Any, Tensor] = NOTHING,
        finite: Mapping[Any, Tensor] = NOTHING,
        told: Mapping[Any, Answer] = NOTHING,
    ) -> Late:
        self._find()
        tables = self._tables
        if self._parts:
            tables[None] = self._part()
        answers: dict[Any, Answer] = {**told}
        for name, held in self._others.items():
            answers[name] = _alone(held, FINITE)
        numbers = {name: held for name, held in told.items() if isinstance(held, Tensor)}
        if fired or finite or numbers or any(place is not None for place in tables):
            tables = {place: table.copy() for place, table in tables.items()}
            plain = is_plain(*fired.values(), *finite.values(), *numbers.values())
            for kinds, asked in ((FIRED, fired), (FINITE, finite)):
                for name, held in (_put(tables, asked, kinds) if plain else asked).items():
                    answers[name] = _alone(held, kinds)
            left = _put(tables, numbers, VALUE) if plain and numbers else numbers
            answers.update((name, 0.0) for name in numbers if name not in left)  # until they come
        here = tables.get(None)
        if here is not None and _looking()(here.rows.buffer_info()[0], len(here.names)):
            answers.update(here.answers(here.rows))
        return Late(answers, [Look(place, table) for place, table in tables.items() if place is not None])

    def is_sound(self) -> bool:
        """Whether what is lasting lies on the host, where a kernel looks at it at once, and is found finite.

        Where it is not, the next call looks at the same.
        """
        self._find()
        parts = self._parts
        if self._others or not parts or len(self._tables) > 1:
            return False
        at = self._next
        part = self._part()
        if _looking()(part.rows.buffer_info()[0], len(part.names)):
            self._next = at
            return False
        return True

    def _find(self) -> None:
        """See whether all that is lasting stays where it was."""
        own = self._own
        now = [*map(Tensor.data_ptr, own), *map(Tensor.numel, own), *map(_DTYPE, own)]
        if now != self._known:
            self._tables, self._others = {}, {name: x for name, x in self._lasting.items() if not is_plain(x)}
            rest = {name: x for name, x in self._lasting.items() if name not in self._others}
            self._others |= _put(self._tables, rest, FINITE)
            self._known, self._next, here = now, 0, self._tables.get(None)
            self._parts = [] if here is None else here.parts(self._most)

    def _part(self) -> Table:
        """What is looked at in this turn."""
        part = self._parts[self._next]
        self._next = (self._next + 1) % len(self._parts)
        return part

    @property
    def turns(self) -> int:
        """How many calls it takes to look at all that is lasting."""
        return max(1, len(self._parts))


class Question:
    """What is asked of tensors that are alike, one after the other: of `kinds`, see `table`.

    >>> question = Question(torch.ones(3), FINITE)
    >>> question.is_of(torch.zeros(3)), question(torch.zeros(3)), question(torch.ones(3) / 0)
    (True, False, True)
    """

    def __init__(self, x: Tensor, kinds: Mapping[torch.dtype, int]) -> None:
        kind, count = kinds.get(x.dtype), x.numel()
        here = kind is not None and x.is_cpu and looks_here() and x.is_contiguous() and is_plain(x)
        self._look = _looking() if here else None
        self._alike = x.shape, x.dtype, keys_of(x)
        self._row = array("q", [0, count, kind or 0, threads_for(count) if count >= LARGE else 1, 0])
        self._address = self._row.buffer_info()[0]

    def is_of(self, x: Tensor) -> bool:
        """Whether a tensor is like these."""
        return (x.shape, x.dtype, keys_of(x)) == self._alike and x.is_contiguous()

    def __call__(self, x: Tensor) -> bool | None:
        """The answer for one of them; None where there is none at once."""
        if self._look is None or not (address := x.data_ptr()):
            return None
        self._row[0] = address
        return self._look(self._address, 1) != 0


def _put(tables: dict[Any, Table], asked: Mapping[Any, Tensor], kinds: Mapping[torch.dtype, int]) -> dict[Any, Tensor]:
    """Put a question of tensors into the tables of their devices; gives those that no kernel there knows."""
    here = kinds is not VALUE and looks_here() and _looking() is not None
    left = {}
    for name, x in asked.items():
        kind = kinds.get(x.dtype)
        if here and kind is not None and x.is_cpu and x.is_contiguous() and (address := x.data_ptr()):
            count = x.numel()
            table = tables.get(None) or tables.setdefault(None, Table())
            table.names.append(name)
            table.rows.extend((address, count, kind, threads_for(count) if count >= LARGE else 1, 0))
        elif kind is None or not _put_anywhere(tables, name, x, kind, here):
            left[name] = x
    return left


def _put_anywhere(tables: dict[Any, Table], name: Any, x: Tensor, kind: int, here: bool) -> bool:
    """The same of a tensor on any device and in any order of its axes; whether there is a kernel."""
    there, held = elsewhere(x), x if x.is_contiguous() else _in_one_run(x)
    if held is None or not (takes(x) if there else here) or not (address := held.data_ptr()):
        return False
    place, count = x.device if there else None, held.numel()
    table = tables.get(place) or tables.setdefault(place, Table())
    share = table.programs if there else threads_for(count) if count >= LARGE else 1
    table.names.append(name)
    table.rows.extend((address, count, kind, share, 0))
    table.programs += programs_for(count) if there else 0
    return True


def _in_one_run(x: Tensor) -> Tensor | None:
    """A tensor, or what it was expanded from, if that lies in one run of memory, in whatever order of its axes."""
    for axis in range(x.ndim):
        if x.stride(axis) == 0:
            x = x.narrow(axis, 0, 1)
    distance = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != distance:
            return None
        distance *= size
    return x


def _alone(x: Tensor, kinds: Mapping[torch.dtype, int]) -> Answer:
    """The answer of PyTorch; of what was expanded, of what it was expanded from."""
    x = x.detach()
    for axis in range(x.ndim):
        if x.stride(axis) == 0:
            x = x.narrow(axis, 0, 1)
    told = x.any() if kinds is FIRED else x.sum()
    if not told.is_cpu:
        return told
    return (0.0 if told.isfinite() else math.nan) if told.dtype.is_floating_point else float(told)
