"""A part of what a module gives: some of its neurons, of the samples, of the time steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import index
from typing import Any

import torch
from torch import Tensor

from ...errors import check_whole

__all__ = ["Subset", "every", "first", "random_choice"]

Index = slice | tuple[int, ...] | Tensor | Callable[[int], Tensor | slice] | None
Steps = slice | Callable[[int], bool] | None


def every(n: int, offset: int = 0) -> slice:
    """One in `n`.

    >>> every(3)
    slice(0, None, 3)
    """
    n, offset = check_whole("every", "n", n), check_whole("every", "offset", offset, 0)
    return slice(offset, None, n)


def first(n: int) -> slice:
    """The first `n`."""
    return slice(0, check_whole("first", "n", n), 1)


@dataclass(frozen=True)
class _Random:
    k: int
    seed: int

    def __call__(self, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randperm(size, generator=generator, device="cpu")[: self.k].sort().values


def random_choice(k: int, seed: int = 0) -> Callable[[int], Tensor]:
    """`k` at random, the same for the same seed and size, in ascending order."""
    return _Random(check_whole("random_choice", "k", k), seed)


@dataclass(frozen=True, eq=False)
class Subset:
    """Which neurons, samples and time steps; None stands for all.

    - `neurons`: of the flattened axes of a sample: a slice, indices, a mask, or a function of their number that
      gives one of these. A choice of neurons gives `[N, k]` per step.
    - `samples`: of the batch, likewise.
    - `time`: a slice of the steps since the last reset, or a predicate of the step. A gradient monitor, which does not
      know how many came before, counts from the start of each call; `record(..., to=path)` finds the steps.

    >>> part = Subset(neurons=first(2), time=every(2))
    >>> part.take(torch.arange(12.0).view(3, 1, 2, 2), range(4, 7))  # the steps 4, 5 and 6
    tensor([[[0., 1.]],
    <BLANKLINE>
            [[8., 9.]]])
    """

    neurons: Index = None
    samples: Index = None
    time: Steps = None
    everything: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        nothing = self.neurons is None and self.samples is None and self.time is None
        object.__setattr__(self, "everything", nothing)
        if self.time is not None and not callable(self.time):
            if not isinstance(self.time, slice):
                raise TypeError(
                    "Subset: time must be a slice, as every(n) and first(n) give, or a predicate, "
                    f"but got {self.time!r}."
                )
            object.__setattr__(self, "time", slice(*map(_whole, (self.time.start, self.time.stop, self.time.step))))
            if any(bound is not None and bound < 0 for bound in (self.time.start, self.time.stop, self.time.step)):
                raise ValueError(f"Subset: time counts forwards from the last reset, but got {self.time}.")
            if self.time.step == 0:
                raise ValueError(f"Subset: the step of time must be at least 1, but got {self.time}.")

    def wants(self, step: int) -> bool:
        """Whether this step since the reset is one of the subset."""
        if self.time is None:
            return True
        if not isinstance(self.time, slice):
            return bool(self.time(step))
        start, stride = self.time.start or 0, self.time.step or 1
        return start <= step and (self.time.stop is None or step < self.time.stop) and (step - start) % stride == 0

    def take(self, value: Tensor, steps: range | None) -> Tensor | None:
        """The part of `[T, N, *]`, or of one step `[N, *]` where `steps` is None; None if no step is wanted."""
        if steps is not None and self.time is not None:
            wanted = [i for i, step in enumerate(steps) if self.wants(step)]
            if not wanted:
                return None
            value = value[wanted]
        batch = 0 if steps is None else 1
        if self.samples is not None:
            value = _picked(value, batch, self.samples)
        if self.neurons is not None:
            value = value.flatten(batch + 1) if value.ndim > batch + 1 else value.unsqueeze(-1)
            value = _picked(value, batch + 1, self.neurons)
        return value


def _whole(bound: Any) -> int | None:
    """A bound of a slice as Python's own number, whoever's it is: it goes into the head of a recording in words."""
    try:
        return None if bound is None else index(bound)
    except TypeError:
        raise TypeError(f"Subset: the bounds of time are whole numbers, but got {bound!r}.") from None


def _picked(value: Tensor, axis: int, given: Index) -> Tensor:
    """The elements of one axis."""
    size = value.shape[axis]
    if callable(given) and not isinstance(given, Tensor):
        given = given(size)
    if isinstance(given, slice):
        start, stop, step = given.indices(size)
        if step == 1:
            return value.narrow(axis, start, max(0, stop - start))
        return value[(slice(None),) * axis + (given,)]
    chosen = given if isinstance(given, Tensor) else torch.as_tensor(given, device="cpu")
    if chosen.dtype is torch.bool:
        chosen = chosen.flatten()
        if chosen.numel() != size:
            raise ValueError(f"Subset: a mask of {chosen.numel()} elements does not fit an axis of {size}.")
        chosen = chosen.nonzero().squeeze(1)
    elif not chosen.numel():
        chosen = chosen.long()  # torch takes an empty list for real numbers
    elif chosen.is_floating_point():
        raise TypeError(f"Subset: indices are whole numbers, but got {chosen.tolist()}.")
    outside = chosen[(chosen < -size) | (chosen >= size)]
    if outside.numel():
        raise IndexError(f"Subset: the index {int(outside[0])} is not in an axis of {size} elements.")
    return value.index_select(axis, (chosen % max(1, size)).to(value.device))
