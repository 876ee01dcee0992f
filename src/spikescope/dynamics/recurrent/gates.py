"""The gates of a layer as its equations take them: all in one tensor, or each in one of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

__all__ = ["Apart", "Gates", "Joined"]

Function = Callable[[Tensor], Tensor]


class Gates(Protocol):
    """Values of several gates of the same units."""

    def __add__(self, other: Self) -> Self: ...

    def some(self, first: int, end: int) -> Self:
        """The gates from `first` to before `end`."""

    def one(self, place: int) -> Tensor:
        """The gate at a place."""

    def through(self, *functions: Function) -> Sequence[Tensor]:
        """Each gate through its function."""


@dataclass(frozen=True)
class Joined:
    """Gates side by side on the last axis: so PyTorch computes on all of them at once."""

    values: Tensor
    units: int

    def __add__(self, other: Joined) -> Joined:
        return Joined(self.values + other.values, self.units)

    def some(self, first: int, end: int) -> Joined:
        return Joined(self.values[..., first * self.units : end * self.units], self.units)

    def one(self, place: int) -> Tensor:
        return self.some(place, place + 1).values

    def through(self, *functions: Function) -> Sequence[Tensor]:
        if all(function is functions[0] for function in functions):
            return functions[0](self.values).chunk(len(functions), -1)
        return [function(self.one(place)) for place, function in enumerate(functions)]


@dataclass(frozen=True)
class Apart:
    """A tensor a gate: so a kernel sees them."""

    values: Sequence[Tensor]

    def __add__(self, other: Apart) -> Apart:
        return Apart([a + b for a, b in zip(self.values, other.values, strict=True)])

    def some(self, first: int, end: int) -> Apart:
        return Apart(self.values[first:end])

    def one(self, place: int) -> Tensor:
        return self.values[place]

    def through(self, *functions: Function) -> Sequence[Tensor]:
        return [function(held) for function, held in zip(functions, self.values, strict=True)]
