"""Quantiles of a bounded random sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import check_number, check_whole
from .core import OWN, Reducer

__all__ = ["Quantile"]


class Sample(NamedTuple):
    """Values, each with the priority that was drawn for it; those with the smallest stay."""

    values: Annotated[Tensor, OWN]
    priorities: Annotated[Tensor, OWN]
    seen: Annotated[int, OWN]


@dataclass(frozen=True)
class Quantile(Reducer):
    """Quantiles of all values, from a random sample of at most `capacity` of them.

    - `q`: one quantile or several, from 0 to 1; those between two values are interpolated linearly.
    - `capacity`: up to as many values the quantiles are exact.
    - `seed`: of the reducer's own generator; the random numbers of a program are left alone.

    Each value has the same chance to be in the sample, however the run was cut: every value draws a priority, and those
    with the smallest stay. Only the priorities that can stay are drawn: of n exponential ones the i-th smallest is the
    sum of $E_j / (n - j + 1)$, j to i (Rényi, *On the theory of order statistics*, 1953).

    >>> quantile = Quantile(q=(0.5, 0.75))
    >>> quantile.result(quantile.measure(torch.tensor([[[4.0, 1.0, 3.0, 2.0, 5.0]]]))).tolist()
    [3.0, 4.0]
    """

    q: float | tuple[float, ...] = (0.01, 0.25, 0.5, 0.75, 0.99)
    capacity: int = 4096
    seed: int = 0
    _generator: np.random.Generator = field(init=False, repr=False, compare=False)

    Summary = Sample

    def __post_init__(self) -> None:
        given: Any = self.q
        given = given.tolist() if isinstance(given, (Tensor, np.ndarray)) else given
        held = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
        if not held:
            raise ValueError("Quantile: q must be at least one number from 0 to 1, but got none.")
        for q in held:
            check_number("Quantile", "q", q, least=0, most=1)
        object.__setattr__(self, "q", held)
        object.__setattr__(self, "capacity", check_whole("Quantile", "capacity", self.capacity))
        object.__setattr__(self, "_generator", np.random.default_rng(self.seed))

    def chunk(self, x: Tensor, start: int) -> Sample:
        size = x.numel()
        kept = min(size, self.capacity)
        gaps = self._generator.exponential(size=kept) / (size - np.arange(kept))
        places = self._generator.choice(size, kept, replace=False) if kept else np.zeros(0, np.int64)
        values = x.flatten()[torch.from_numpy(places).to(x.device)].double()
        return Sample(values, torch.from_numpy(gaps.cumsum()).to(x.device), size)

    def after(self, a: Sample, b: Sample) -> Sample:
        values, priorities = torch.cat((a.values, b.values)), torch.cat((a.priorities, b.priorities))
        if len(values) > self.capacity:
            first = priorities.topk(self.capacity, largest=False).indices
            values, priorities = values[first], priorities[first]
        return Sample(values, priorities, a.seen + b.seen)

    def beside(self, a: Sample, b: Sample) -> Sample:
        return self.after(a, b)

    def result(self, a: Sample) -> Tensor:
        q = torch.tensor(self.q, dtype=torch.float64, device=a.values.device)
        return a.values.quantile(q) if len(a.values) else torch.full_like(q, torch.nan)
