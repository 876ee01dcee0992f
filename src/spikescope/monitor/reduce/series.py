"""One number per step of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ...spikes.bits import row_counts
from .core import OWN, SPAN, Reducer, Span
from .count import check_whole_counts
from .pieces import Pieces, join, whole
from .squares import squares_and_sizes

__all__ = ["GradientNorm", "RateOverTime"]

EXACT_SIZE = 1 << 20
"""Values of a step up to which float32 adds whole numbers, up to 16 spikes each, without rounding."""


class Series(NamedTuple):
    """Sums `[T, 2]` of each step of the span: of the signal, and of how many values."""

    span: Annotated[Span, SPAN]
    pieces: Annotated[Pieces, OWN]


class StepReducer(Reducer, abstract=True):
    """Base of the reducers of each step by itself. Runs merge along the batch step by step, whatever their lengths."""

    Summary = Series

    def after(self, a: Series, b: Series) -> Series:
        return Series(a.span.then(b.span), join(a.pieces, b.pieces))

    def beside(self, a: Series, b: Series) -> Series:
        if a.span == b.span:
            return Series(a.span, (whole(a.pieces) + whole(b.pieces),))
        span = Span(min(a.span.start, b.span.start), max(a.span.stop, b.span.stop))
        sums = whole(a.pieces).new_zeros(span.stop - span.start, 2)
        for held in (a, b):
            sums[held.span.start - span.start : held.span.stop - span.start] += whole(held.pieces)
        return Series(span, (sums,))


@dataclass(frozen=True)
class RateOverTime(StepReducer):
    """Spikes per neuron in each step `[T]`, over all samples: the population rate. It grows with the longest run.

    >>> course = RateOverTime()
    >>> course.result(course.measure(torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]))).tolist()
    [0.5, 1.0]
    """

    taps = ("packed",)

    def chunk(self, x: Tensor, start: int) -> Series:
        size = math.prod(x.shape[1:])
        quick = x.dtype in (torch.float16, torch.bfloat16, torch.float32) and size <= EXACT_SIZE
        sums = x.reshape(len(x), size).sum(1, dtype=torch.float32 if quick else torch.float64)
        return _series(sums.double(), x, start)

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Series:
        return _series(row_counts(taps["packed"]).double(), x, start)

    def result(self, a: Series) -> Tensor:
        spikes, seen = whole(a.pieces).unbind(1)
        check_whole_counts("RateOverTime", spikes)
        return spikes / seen


@dataclass(frozen=True)
class GradientNorm(StepReducer):
    r"""The L2 norm of a gradient in each step `[T]`, over all samples and neurons: its course in time.

    It grows with the longest run.

    $$\lVert g_t \rVert = \sqrt{\sum_{n, i} g_{t, n, i}^2}$$

    >>> norm = GradientNorm()
    >>> norm.result(norm.measure(torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]]))).tolist()
    [5.0, 2.0]
    """

    signals = ("grad_output", "grad_input")
    instead = "Of any signal 'norm' tells the L2 norm over all steps."

    def chunk(self, x: Tensor, start: int) -> Series:
        return Series(Span(start, start + x.shape[0]), (squares_and_sizes(x),))

    def result(self, a: Series) -> Tensor:
        squares, seen = whole(a.pieces).unbind(1)
        return torch.where(seen > 0, squares.sqrt(), math.nan)


def _series(sums: Tensor, x: Tensor, start: int) -> Series:
    seen = torch.full_like(sums, math.prod(x.shape[1:]))
    return Series(Span(start, start + len(x)), (torch.stack((sums, seen), 1),))
