"""What a kernel is asked of runs of memory, a row each."""

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
