"""The checks on a GPU: one kernel for all tensors, whose answers are fetched while the host goes on."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ....dynamics.triton import launch
from .pending import Coming
from .table import Table

__all__ = ["Look", "capturing", "elsewhere", "looks_here", "programs_for", "takes"]

PLACES = ("cuda", "xpu")
"""The devices with the kernel."""

SPAN = 1 << 12
"""Numbers that one program looks at."""

SOURCE = """import triton
import triton.language as tl


@triton.jit
def set_in(X, start, count, MASK: tl.constexpr, ALL: tl.constexpr, SPAN: tl.constexpr, BLOCK: tl.constexpr):
    found = tl.zeros([BLOCK], tl.int32)
    for at in range(0, tl.minimum(SPAN, count - start), BLOCK):
        i = start + at + tl.arange(0, BLOCK)
        held = tl.load(X + i, mask=i < count, other=0) & MASK
        if ALL:
            found |= (held == MASK).to(tl.int32)
        else:
            found |= (held != 0).to(tl.int32)
    return tl.max(found, axis=0).to(tl.int64)


@triton.jit
def look(A, rows, ROWS: tl.constexpr, SPAN: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, ROWS)
    first = tl.load(A + 5 * j + 3, mask=j < rows, other=1 << 62)
    A += 5 * (tl.sum((first <= program).to(tl.int32), axis=0) - 1)
    address = tl.load(A)
    count = tl.load(A + 1)
    kind = tl.load(A + 2)
    start = (program - tl.load(A + 3)) * SPAN
    found = count * 0
    if kind == 1:
        found = set_in(address.to(tl.pointer_type(tl.uint8)), start, count, 0xFF, False, SPAN, BLOCK)
    elif kind == 2:
        found = set_in(address.to(tl.pointer_type(tl.int16)), start, count, 0x7FFF, False, SPAN, BLOCK)
    elif kind == 3:
        found = set_in(address.to(tl.pointer_type(tl.int32)), start, count, 0x7FFFFFFF, False, SPAN, BLOCK)
    elif kind == 4:
        found = set_in(address.to(tl.pointer_type(tl.int64)), start, count, 0x7FFFFFFFFFFFFFFF, False, SPAN, BLOCK)
    elif kind == 5:
        found = set_in(address.to(tl.pointer_type(tl.int16)), start, count, 0x7C00, True, SPAN, BLOCK)
    elif kind == 6:
        found = set_in(address.to(tl.pointer_type(tl.int16)), start, count, 0x7F80, True, SPAN, BLOCK)
    elif kind == 7:
        found = set_in(address.to(tl.pointer_type(tl.int32)), start, count, 0x7F800000, True, SPAN, BLOCK)
    elif kind == 8:
        found = set_in(address.to(tl.pointer_type(tl.int64)), start, count, 0x7FF0000000000000, True, SPAN, BLOCK)
    elif kind <= 10:
        found = tl.load(address.to(tl.pointer_type(tl.int16))).to(tl.int64)
    elif kind == 11:
        found = tl.load(address.to(tl.pointer_type(tl.int32))).to(tl.int64)
    else:
        found = tl.load(address.to(tl.pointer_type(tl.int64)))
    if found != 0:
        tl.store(A + 4, found)
"""


@cache
def _kernel() -> Any:
    return launch.load(SOURCE).look


@cache
def _runs_on(kind: str) -> bool:
    """Whether a kernel can read its memory by an address: in Triton's interpreter that of the host alone."""
    return launch.interpreted() == (kind == "cpu") and launch.available() and launch.fault() is None


def elsewhere(x: Tensor) -> bool:
    """Whether a tensor lies where the host would have to wait for its values."""
    return not x.is_cpu or "cpu" in PLACES


def capturing(x: Tensor | None) -> bool:
    """Whether work on a tensor goes into a CUDA graph now, where CUDA refuses to say what is done."""
    return x is not None and x.is_cuda and torch.cuda.is_current_stream_capturing()


def looks_here() -> bool:
    """Whether the host looks at its own memory."""
    return "cpu" not in PLACES


def takes(x: Tensor) -> bool:
    """Whether there is a kernel where a tensor lies."""
    kind = x.device.type
    return kind in PLACES and _runs_on(kind)


def programs_for(count: int) -> int:
    """How many programs look at so many numbers."""
    return -(-count // SPAN)


class Look:
    """The questions of a table, asked of a device: a copy there, a kernel, and a copy back."""

    def __init__(self, device: torch.device, table: Table) -> None:
        self._table, rows = table, len(table.names)
        held = torch.frombuffer(table.rows, dtype=torch.int64)
        asked = held if device.type == "cpu" else held.pin_memory().to(device, non_blocking=True)
        size = max(8, 1 << (rows - 1).bit_length())
        launch.launch(_kernel(), device, table.programs, [asked, rows], ROWS=size, SPAN=SPAN)
        self._coming = Coming(asked)

    @property
    def there(self) -> bool:
        """Whether the answers have come."""
        return self._coming.there

    def values(self) -> dict[Any, float]:
        """The answers; waits for them."""
        return self._table.answers(self._coming.values())
