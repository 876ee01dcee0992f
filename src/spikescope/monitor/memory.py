"""How much a recorder may keep, what it does then, and the records themselves."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..errors import check_choice
from ..spikes import CompressedSpikes, PackedSpikes

__all__ = ["Budget", "BudgetError", "Moment", "Records", "budget", "nbytes"]

_UNITS = {"": 1, "k": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_POLICIES = ("error", "drop oldest", "every n-th", "spill")


class BudgetError(MemoryError):
    """A recorder has reached its budget."""


def nbytes(value: Any) -> int:
    """The size of the tensors and arrays in a value; anything else counts 64 bytes.

    >>> nbytes((torch.zeros(3), {"a": torch.zeros(2, dtype=torch.uint8)}, 1))
    78
    """
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (np.ndarray, PackedSpikes, CompressedSpikes)):
        return value.nbytes
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return 64
    return sum(nbytes(item) for item in value)


@dataclass(frozen=True)
class Budget:
    """The bytes that a recorder may hold, and what it does when they are used up.

    - `limit`: bytes, a text such as `'64 MB'` (1 kB = 1024 bytes), or `'unlimited'`.
    - `policy`: `'error'` stops recording, and reading tells so; `'drop oldest'` keeps what came last;
      `'every n-th'` keeps every 2nd, 4th, 8th ... call of each module, so that the whole run is covered evenly;
      `'spill'` moves what is over the limit to files, and reads it from there.
    - `folder`: of `'spill'`: where each recorder makes a folder of its own, see `monitor.open_records`; closing the
      recorder writes the rest there. None takes a temporary one, which goes away with the records.

    >>> Budget("64 MB", "drop oldest").bytes
    67108864
    """

    limit: int | str = "1 GB"
    policy: str = "error"
    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_choice("Budget", "policy", self.policy, _POLICIES)
        if self.bytes is not None and self.bytes < 1:
            raise ValueError(f"Budget: the limit must be at least 1 byte or 'unlimited', but got {self.limit!r}.")
        if self.policy == "spill" and self.bytes is None:
            raise ValueError("Budget: an unlimited budget leaves nothing to spill; give a limit such as '64 MB'.")
        if self.policy != "spill" and self.folder is not None:
            raise ValueError(f"Budget: only the policy 'spill' has a folder, but got {self.policy!r}.")

    @property
    def bytes(self) -> int | None:
        """The limit as a number; None without a limit."""
        if self.limit == "unlimited":
            return None
        if isinstance(self.limit, int) and not isinstance(self.limit, bool):
            return self.limit
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", str(self.limit))
        if found is None:
            raise ValueError(
                f"Budget: the limit must be a number of bytes, a text such as '64 MB', or 'unlimited', "
                f"but got {self.limit!r}."
            )
        return int(float(found[1]) * _UNITS[found[2]])


def budget(given: Budget | int | str) -> Budget:
    """A budget from itself or from its limit."""
    return given if isinstance(given, Budget) else Budget(given)


class Moment(NamedTuple):
    """Where a record belongs."""

    name: str  # of the module
    call: int  # of the module since the monitor was attached or cleared, from 0
    run: int  # how many sequences began before: a reset closes one
    start: int | None  # the first time step since the reset; None where time is unknown, as of gradients
    stop: int | None  # after the last
    batch: int | None  # samples
    scale: float = 1.0  # what a gradient was divided by, see GradScaler


class Records(list[Any]):
    """The values of a recorder in the order in which they came, within a budget.

    A list to read, to slice and to clear; what may be in it is the recorder's affair. `moments` says of each value
    where it belongs. A copy of records, and what is saved of them, is a plain list.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.budget = budget
        self.moments: list[Moment] = []
        self.nbytes = 0
        self.dropped = 0
        self.stride = 1  # of the policy 'every n-th'

    def keep(self, value: Any, moment: Moment) -> None:
        """Take a value, by the rules of the budget."""
        if moment.call % self.stride:
            self.dropped += 1
            return
        size, limit = nbytes(value), self.budget.bytes
        if limit is not None and self.nbytes + size > limit:
            self._make_room(size, limit, moment.call)
            if moment.call % self.stride:
                self.dropped += 1
                return
        super().append(value)
        self.moments.append(moment)
        self.nbytes += size

    def _make_room(self, size: int, limit: int, call: int) -> None:
        if self.budget.policy == "error" or size > limit:
            raise self._full(size, limit)
        if self.budget.policy == "drop oldest":
            count, freed = 0, 0
            while self.nbytes + size - freed > limit:
                freed += nbytes(self[count])
                count += 1
            super().__delitem__(slice(count))
            del self.moments[:count]
            self.dropped += count
            self.nbytes -= freed
            return
        last = max(call, *(moment.call for moment in self.moments))
        while self.nbytes + size > limit and self.stride <= last:
            self.stride *= 2
            self._thin()
        if self.nbytes + size > limit and call % self.stride == 0:  # first calls alone, of many modules
            raise self._full(size, limit)

    def _full(self, size: int, limit: int) -> BudgetError:
        return BudgetError(
            f"The records hold {self.nbytes:,} bytes and {size:,} more would be over the budget of {limit:,}. "
            "Give a larger budget, or 'unlimited', record a subset or a summary, or choose the policy "
            "'drop oldest', 'every n-th' or 'spill'."
        )

    def _thin(self) -> None:
        """Keep one call in `stride` of each module."""
        kept = [i for i, moment in enumerate(self.moments) if moment.call % self.stride == 0]
        values, moments = [self[i] for i in kept], [self.moments[i] for i in kept]
        self.dropped += len(self) - len(kept)
        super().__setitem__(slice(None), values)
        self.moments[:] = moments
        self.nbytes = sum(map(nbytes, values))

    def of(self, name: str) -> list[Any]:
        """The records of one module."""
        return [value for value, moment in zip(self, self.moments, strict=True) if moment.name == name]

    def close(self) -> None:
        """No more will come; what is there stays."""

    def clear(self) -> None:
        super().clear()
        self.moments.clear()
        self.nbytes, self.dropped, self.stride = 0, 0, 1

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Records are written by their monitor alone. Make a list of your own with list(records).")

    append = extend = insert = pop = remove = reverse = sort = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
