"""The outputs of a network in a call, as values `[T, N, *]`: the neurons that ran tell which axis is time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..warn import warn

__all__ = ["Course", "outcomes"]


class Course(NamedTuple):
    """How the values of a layer lay in a call."""

    steps: int
    samples: int
    axes: int


def outcomes(out: Any, course: Course | None) -> Iterator[tuple[str, Tensor]]:
    """Each tensor or number that a network gave, `[T, N, *]`, with the words that lead to it.

    What begins with the axes `[T, N]` of the layer that began last is a sequence, and so is `[N, T, *]` of as many axes
    as that has, of which time is brought to the front. Anything else is one value of each sample, `[1, N, *]`, as a
    mean or a loss is. So is what has fewer axes than the layer, where T is N.

    >>> [(name, list(held.shape)) for name, held in outcomes((torch.ones(5, 3), torch.ones(4, 5, 3)), Course(4, 5, 3))]
    [('output[0]', [1, 5, 3]), ('output[1]', [4, 5, 3])]
    """
    for path, held in _leaves(out, "output"):
        if isinstance(held, Tensor):
            yield path, _timed(held, course)
        elif isinstance(held, Real):
            yield path, torch.tensor([[float(held)]], dtype=torch.float64, device="cpu")
        elif held is not None:
            warn(
                f"compare: {path} of the network is {type(held).__name__} and is not compared. Have the network give "
                "tensors, numbers, or tuples, lists, dicts and dataclasses of these."
            )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        parts = [(f"[{key!r}]", held) for key, held in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = [(f".{name}", getattr(value, name)) for name in value._fields]
    elif isinstance(value, (tuple, list)):
        parts = [(f"[{i}]", held) for i, held in enumerate(value)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        yield path, value
        return
    for name, held in parts:
        yield from _leaves(held, path + name)


def _timed(value: Tensor, course: Course | None) -> Tensor:
    if course is not None and value.ndim > 1:
        ahead, times = tuple(value.shape[:2]), (course.steps, course.samples)
        if course.axes == 2 and value.ndim == 2 and ahead[0] == course.steps:  # a sequence without samples
            return value
        as_many = value.ndim >= max(3, course.axes)  # of fewer axes, an axis of channels may be as long as time is
        if ahead == times and (as_many or course.steps != course.samples):
            return value
        if ahead == times[::-1] and as_many:
            return value.transpose(0, 1)
    return value.reshape(1, *(value.shape if value.ndim > 1 else (value.numel(), 1)))
