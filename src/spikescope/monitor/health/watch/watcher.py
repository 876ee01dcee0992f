"""What a watcher has seen, told to other processes and joined with what these have seen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from torch import Tensor

from .nonfinite import Place

__all__ = ["Rule", "Watcher", "by_name", "earliest", "either", "first", "least", "longest", "most", "total", "union"]

Rule = Callable[[list[Any]], Any]
"""One attribute of all processes, by rank, as one: what one process would hold that had seen all samples."""


class Watcher:
    """Base of what watches: each attribute is joined over processes by a rule, or stays that of the process.

    - `joins`: to an attribute its rule; None where it is a watcher, or a dict of them, that joins by itself.
    - `stays`: the attributes that no judge reads, or that all processes have alike, as modules.
    """

    joins: ClassVar[Mapping[str, Rule | None]] = {}
    stays: ClassVar[frozenset[str]] = frozenset()

    def told(self) -> dict[str, Any]:
        """What it has seen as plain values, with tensors on the CPU."""
        return {name: _told(getattr(self, name)) for name in self.joins}

    def joined(self, parts: list[dict[str, Any]]) -> Self:
        """A copy that has seen what those of all processes have told, by rank."""
        made = copy.copy(self)
        for name, rule in self.joins.items():
            values = [part[name] for part in parts]
            setattr(made, name, _joined(getattr(self, name), values) if rule is None else rule(values))
        return made


def _told(value: Any) -> Any:
    if isinstance(value, Watcher):
        return value.told()
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: _told(held) for name, held in value.items()}
    return copy.copy(value)


def _joined(own: Any, values: list[Any]) -> Any:
    if isinstance(own, Watcher):
        return own.joined(values)
    return {name: held.joined([value[name] for value in values]) for name, held in own.items()}


def by_name(rule: Rule) -> Rule:
    """Dicts, whose values are joined by a rule, of the processes that have one.

    >>> by_name(total)([{"a": 1}, {"b": 2}, {"a": 3}])
    {'a': 4, 'b': 2}
    """

    def join(values: list[Any]) -> dict[str, Any]:
        names = dict.fromkeys(name for held in values for name in held)
        return {name: rule([held.get(name) for held in values]) for name in names}

    return join


def total(values: list[Any]) -> Any:
    """The sum, of lists entry by entry."""
    held = _there(values)
    return list(map(sum, zip(*held, strict=True))) if isinstance(held[0], list) else sum(held)


def least(values: list[Any]) -> Any:
    """The least."""
    return min(_there(values))


def most(values: list[Any]) -> Any:
    """The largest: of what each process counts alike, such as calls."""
    return max(_there(values))


def either(values: list[Any]) -> Any:
    """Whether any is true, of tensors of one shape entry by entry; None where there is none."""
    found = None
    for held in _there(values):
        if found is None or not isinstance(held, Tensor) or held.shape == found.shape:
            found = held if found is None else found | held
    return found


def first(values: list[Any]) -> Any:
    """That of the first process that has any."""
    return next(iter(held for held in values if held is not None and held != []), values[0])


def union(values: list[Any]) -> set[Any]:
    """What is in any."""
    return set().union(*values)


def longest(values: list[Any]) -> list[float]:
    """Of lists that are alike but for their length the longest one; where they differ, the larger numbers."""
    held: list[list[float]] = sorted(_there(values), key=len)
    return [max(row[at] for row in held if at < len(row)) for at in range(len(held[-1]))]


def earliest(values: list[Any]) -> tuple[int, Place] | None:
    """Of pairs of a call, or run, and a place in it, the first one, with the rank on which it was."""
    found = [(held[0], held[1].step, rank, held[1]) for rank, held in enumerate(values) if held is not None]
    if not found:
        return None
    when, _, rank, place = min(found, key=lambda held: held[:3])
    return when, place._replace(rank=rank)


def _there(values: Iterable[Any]) -> list[Any]:
    return [held for held in values if held is not None]
