"""The table that a kernel of checks reads: a row for each tensor, with its address, its size and what is asked."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["FINITE", "FIRED", "VALUE", "Table"]

FIRED = {torch.uint8: 1, torch.bool: 1, torch.float16: 2, torch.bfloat16: 2, torch.float32: 3, torch.float64: 4}
"""Whether one is not 0: by how many bytes it has, for the sign alone is nothing."""

FINITE = {torch.float16: 5, torch.bfloat16: 6, torch.float32: 7, torch.float64: 8}
"""Whether one is not finite: by where its exponent lies."""

VALUE = {torch.float16: 9, torch.bfloat16: 10, torch.float32: 11, torch.float64: 12}
"""What the one number is: its bits."""

_DTYPES = {kind: dtype for dtype, kind in VALUE.items()}

_BYTES = {5: 2, 6: 2, 7: 4, 8: 8}  # of a number, where it is asked whether it is finite

LEAST = 1 << 18
"""Numbers that are looked at in one go: a fraction of a step of any network that has as many."""

WIDTH = 5
"""Of a row: address, numbers, kind, share of the work, and what was found."""


class Table:
    """Questions on one device.

    - `names`: whom a row is for. `rows`: their numbers, one after the other. `programs`: that share the work.
    """

    def __init__(self) -> None:
        self.names: list[Any] = []
        self.rows = array("q")
        self.programs = 0

    def copy(self) -> Table:
        """One to which more can be added."""
        made = Table()
        made.names, made.rows, made.programs = self.names[:], self.rows[:], self.programs
        return made

    def parts(self, turns: int) -> list[Table]:
        """The same questions in at most so many turns, each of about as many numbers: of finite ones, on the host.

        >>> table = Table()
        >>> table.names.append("weight")
        >>> table.rows.extend((64, 3 * LEAST + 1, 7, 1, 0))
        >>> [(part.names, [*part.rows]) for part in table.parts(2)] == [
        ...     (["weight"], [64, 3 * LEAST // 2 + 1, 7, 1, 0]),
        ...     (["weight"], [64 + 4 * (3 * LEAST // 2 + 1), 3 * LEAST // 2, 7, 1, 0]),
        ... ]
        True
        """
        total = sum(self.rows[1::WIDTH])
        size = -(-total // max(1, min(turns, total // LEAST)))
        made, room = [Table()], size
        for at, name in enumerate(self.names):
            address, count, kind, share, found = self.rows[WIDTH * at : WIDTH * (at + 1)]
            while count:
                if not room:
                    made.append(Table())
                    room = size
                taken = min(count, room)
                made[-1].names.append(name)
                made[-1].rows.extend((address, taken, kind, share, found))
                address, count, room = address + taken * _BYTES[kind], count - taken, room - taken
        return made

    def answers(self, rows: Sequence[int]) -> dict[Any, float]:
        """What was found, in rows that have come back: a number for each value, and each name of which it is so."""
        found = rows[WIDTH - 1 :: WIDTH]
        if not any(found):
            return {}
        told = zip(self.names, found, rows[2::WIDTH], strict=True)
        return {name: _number(bits, kind) for name, bits, kind in told if bits}


def _number(bits: int, kind: int) -> float:
    """What stands in the last place of a row as the answer."""
    if kind in _DTYPES:
        return float(torch.tensor([bits], device="cpu").view(_DTYPES[kind])[0])  # the lowest bits come first
    return math.nan if kind in FINITE.values() else 1.0
