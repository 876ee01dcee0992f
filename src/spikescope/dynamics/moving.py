"""Numbers that change from call to call: compiled code hands them over as tensors, a kernel takes them as numbers.

In the key of such a call the letter of the number is 'm', and the tensor stands among those of the fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .key import kinds_of, with_kinds

__all__ = ["Settled", "handed_over", "has_moving", "settled"]


class Settled(NamedTuple):
    """A call in which every number is one again."""

    key: str
    tensors: list[Tensor]
    numbers: list[float]
    places: list[int]  # of the tensors among all that were handed over

    @property
    def kinds(self) -> str:
        """A letter for each number of the equations."""
        return kinds_of(self.key)


def has_moving(key: str) -> bool:
    """Whether a number of the key is told by a tensor.

    >>> has_moving("form|form|nms"), has_moving("form|form|nns")
    (True, False)
    """
    return "m" in kinds_of(key)


def handed_over(key: str, tensors: Sequence[Tensor], numbers: Sequence[Any]) -> tuple[str, list[Tensor], list[float]]:
    """Key, tensors and numbers of a call, with the numbers that tensors tell among the tensors."""
    letters: list[str] = []
    together: list[Tensor] = []
    left: list[float] = []
    own, held = iter(numbers), iter(tensors)
    for kind in kinds_of(key):
        value = next(own) if kind == "n" else next(held)
        if not isinstance(value, Tensor):
            left.append(value)
        else:
            together.append(value)
        letters.append("m" if kind == "n" and isinstance(value, Tensor) else kind)
    return with_kinds(key, "".join(letters)), together, [*left, *own]


def settled(key: str, tensors: Sequence[Tensor], numbers: Sequence[float]) -> Settled:
    """The inverse of `handed_over`, in an operator: it has the tensors of the call itself."""
    kinds = kinds_of(key)
    own, together, left, places = iter(numbers), [], [], []
    held = iter(enumerate(tensors))
    for kind in kinds:
        if kind == "n":
            left.append(next(own))
            continue
        place, value = next(held)
        if kind == "m":
            left.append(value.item())
        else:
            together.append(value)
            places.append(place)
    return Settled(with_kinds(key, kinds.replace("m", "n")), together, [*left, *own], places)
