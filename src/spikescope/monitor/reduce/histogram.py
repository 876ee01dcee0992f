"""Histograms: counts in fixed bins, with what lies outside them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from ...errors import check_bound
from .core import SUM, Reducer
from .cpp.bins import bin_counts, bounds_of

__all__ = ["Bins", "Histogram", "LogBins", "LogHistogram"]


class Binned(NamedTuple):
    """Counts below the edges, in the bins, above the edges, of NaN, and of exact zeros, int64."""

    counts: Annotated[Tensor, SUM]
    nan: Annotated[Tensor, SUM]
    zeros: Annotated[Tensor, SUM]


class Bins(NamedTuple):
    """What `Histogram` results in; bin i reaches from edge i to before edge i + 1, the last includes its end."""

    counts: Tensor
    edges: Tensor
    below: int
    above: int
    nan: int


class LogBins(NamedTuple):
    """What `LogHistogram` results in: the bins of the magnitudes; `below` leaves out the exact zeros."""

    counts: Tensor
    edges: Tensor
    zeros: int
    below: int
    above: int
    nan: int


@dataclass(frozen=True)
class Histogram(Reducer):
    """Counts in bins with fixed edges, as in `numpy.histogram`, and how many values lie outside.

    - `edges`: at least two, rising.

    >>> histogram = Histogram((0.0, 0.5, 1.0))
    >>> found = histogram.result(histogram.measure(torch.tensor([[[0.25, 0.5, 1.0, 1.5, -0.5]]])))
    >>> found.counts, found.below, found.above, found.nan
    (tensor([1, 2]), 1, 1, 0)
    """

    edges: tuple[float, ...]

    Summary = Binned
    example = {"edges": (-1.0, -0.3, 0.2, 1.0)}

    def __post_init__(self) -> None:
        given: Any = self.edges
        given = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
        for edge in given:
            check_bound("Histogram", "edges", edge)
        held = tuple(float(edge) for edge in given)
        if len(held) < 2 or not all(a < b for a, b in itertools.pairwise(held)) or not math.isfinite(sum(held)):
            raise ValueError(f"Histogram: edges must be at least two finite, rising numbers, but got {held}.")
        object.__setattr__(self, "edges", held)

    def chunk(self, x: Tensor, start: int) -> Binned:
        return binned(x, self.edges)

    def result(self, a: Binned) -> Bins:
        below, *_, above = a.counts.tolist()
        nan = int(a.nan)
        edges = torch.tensor(self.edges, dtype=torch.float64, device="cpu")
        return Bins(a.counts[1:-1], edges, below, above - nan, nan)


@dataclass(frozen=True)
class LogHistogram(Reducer):
    """Counts of the magnitudes in bins of equal width on a logarithmic axis; exact zeros are counted by themselves.

    - `low`, `high`: the outer edges as powers of ten, whole numbers.
    - `per_decade`: bins for each power of ten.

    >>> histogram = LogHistogram(low=-2, high=1, per_decade=1)
    >>> found = histogram.result(histogram.measure(torch.tensor([[[0.0, -0.05, 0.5, 2.0, 20.0, 0.001]]])))
    >>> found.counts, found.zeros, found.below, found.above
    (tensor([1, 1, 1]), 1, 1, 1)
    """

    low: int = -12
    high: int = 4
    per_decade: int = 4

    Summary = Binned

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("low", "high", "per_decade")}
        if not all(isinstance(number, Integral) and not isinstance(number, bool) for number in given.values()):
            raise TypeError("LogHistogram: low, high and per_decade must be whole numbers: -6 stands for 1e-6.")
        if self.low >= self.high or self.per_decade < 1:
            raise ValueError(
                f"LogHistogram: low must be under high and per_decade at least 1, but got low={self.low}, "
                f"high={self.high}, per_decade={self.per_decade}."
            )
        for name, number in given.items():
            object.__setattr__(self, name, int(number))

    @property
    def edges(self) -> tuple[float, ...]:
        """The edges of the bins."""
        steps = range(self.low * self.per_decade, self.high * self.per_decade + 1)
        return tuple(10 ** (step / self.per_decade) for step in steps)

    def chunk(self, x: Tensor, start: int) -> Binned:
        return binned(x, self.edges, magnitudes=True)

    def result(self, a: Binned) -> LogBins:
        below, *_, above = a.counts.tolist()
        nan, zeros = int(a.nan), int(a.zeros)
        edges = torch.tensor(self.edges, dtype=torch.float64, device="cpu")
        return LogBins(a.counts[1:-1], edges, zeros, below - zeros, above - nan, nan)


def binned(x: Tensor, edges: tuple[float, ...], magnitudes: bool = False) -> Binned:
    """The counts of one chunk; the entry before the first bin is below, the one after the last is above or NaN."""
    if (counts := bin_counts(x, edges, magnitudes)) is not None:
        return Binned(counts[:-2], counts[-2], counts[-1])
    values = x.flatten()
    if values.dtype != torch.float64:
        small = values.dtype in (torch.float16, torch.bfloat16, torch.float32)
        values = values.to(torch.float32 if small else torch.float64)
    if magnitudes:
        values = values.abs()
    places = torch.bucketize(values, bounds_of(edges, values.dtype).to(x.device), right=True)
    counts = torch.bincount(places, minlength=len(edges) + 1)
    return Binned(counts, (values != values).sum(), (values == 0).sum())
