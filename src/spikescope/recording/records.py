"""Records, where each belongs, and how they are kept within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self, SupportsIndex

import torch
from torch import Tensor

from ..form import mapped
from .budget import UNLIMITED, Budget, BudgetError, device_of, nbytes
from .free_memory import Room

__all__ = ["Moment", "Records"]


class Moment(NamedTuple):
    """Where a record belongs."""

    name: str  # of the module
    call: int  # of the module since the monitor was attached or cleared, from 0
    run: int  # how many sequences began before: a reset closes one
    start: int | None  # the first time step since the reset; None where time is unknown, as of gradients
    stop: int | None  # after the last
    batch: int | None  # samples
    scale: float = 1.0  # what a gradient was divided by, see GradScaler


class _New(NamedTuple):
    """A value that somebody puts among the records."""

    value: Any


class Records(list[Any]):
    """The values of a recorder in the order in which they came, within a budget.

    A list like any other. Whatever is done to it, `moments` says of each value where it belongs (None of one that
    somebody put in), and `by_name`, which the owner may fill, where the values of each module stand. A copy of records,
    and what is saved of them, is a plain list.
    """

    def __init__(self, budget: Budget = UNLIMITED, values: Iterable[Any] = ()) -> None:
        super().__init__(values)
        self.budget = budget
        self.moments: list[Moment | None] = list(values.moments) if isinstance(values, Records) else [None] * len(self)
        self.by_name: dict[str, list[int]] = {}
        self.nbytes = sum(map(nbytes, self))
        self.dropped = 0
        self.stride = 1  # of the policy 'every n-th'
        self._room = Room()

    @classmethod
    def restored(cls, values: Iterable[Any], moments: Iterable[Moment | None]) -> Self:
        """Records as they were."""
        made = cls(values=values)
        made.moments[:] = moments
        return made

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
        if limit is None:
            self._room.check(self.nbytes, device_of(value))

    def _make_room(self, size: int, limit: int, call: int) -> None:
        if self.budget.policy == "error" or size > limit:
            raise self._full(size, limit)
        if self.budget.policy == "drop oldest":
            count, freed = 0, 0
            while self.nbytes + size - freed > limit:
                freed += nbytes(self[count])
                count += 1
            del self[:count]
            self.dropped += count
            return
        last = max(call, *(moment.call for moment in self.moments if moment is not None))
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
        kept = [i for i, moment in enumerate(self.moments) if moment is None or moment.call % self.stride == 0]
        self.dropped += len(self) - len(kept)
        self._arrange(kept)

    def of(self, name: str) -> list[Any]:
        """The records of one module."""
        return [value for value, moment in zip(self, self.moments, strict=True) if moment and moment.name == name]

    def close(self) -> None:
        """No more will come; what is there stays."""

    def clear(self) -> None:
        self._arrange([])
        self.dropped, self.stride = 0, 1

    def _arrange(self, order: Sequence[int | _New]) -> None:
        """Put the values at these positions, and new ones, in this order."""
        values = [held.value if isinstance(held, _New) else self[held] for held in order]
        moments = [None if isinstance(held, _New) else self.moments[held] for held in order]
        places: dict[int, list[int]] = {}
        for place, held in enumerate(order):
            if not isinstance(held, _New):
                places.setdefault(held, []).append(place)
        super().__setitem__(slice(None), values)
        self.moments[:] = moments
        for positions in self.by_name.values():
            positions[:] = sorted(place for held in positions for place in places.get(held, ()))
        self.nbytes = sum(map(nbytes, values))

    def _change(self, change: Callable[[list[Any]], object]) -> None:
        """Have the same done to the values as `change` does to a list of their positions."""
        order: list[Any] = list(range(len(self)))
        change(order)
        self._arrange(order)

    def append(self, value: Any) -> None:
        super().append(value)
        self.moments.append(None)
        self.nbytes += nbytes(value)

    def extend(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.append(value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = self[index]
        del self[index]
        return value

    def __delitem__(self, key: SupportsIndex | slice) -> None:
        if isinstance(key, slice) or self.by_name:
            self._change(lambda held: held.__delitem__(key))
            return
        self.nbytes -= nbytes(self[key])  # often many are taken, one by one
        super().__delitem__(key)
        del self.moments[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        new: Any = [_New(held) for held in value] if isinstance(key, slice) else _New(value)
        self._change(lambda held: held.__setitem__(key, new))

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]  # as for every list
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex) -> Self:
        self._change(lambda held: held.__imul__(times))
        return self

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._change(lambda held: held.insert(index, _New(value)))

    def remove(self, value: Any) -> None:
        del self[self.index(value)]

    def reverse(self) -> None:
        self._change(list.reverse)

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        self._change(lambda held: held.sort(key=lambda i: self[i] if key is None else key(self[i]), reverse=reverse))

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (mapped(Tensor.detach, list(self)),)


torch.serialization.add_safe_globals([list])  # what was saved of records is read by `torch.load` as it is
