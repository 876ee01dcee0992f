"""Statistics of single spike trains: the intervals between spikes, and the time of the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ...analysis.formulas import spread
from .core import OPEN_MIN, OPEN_OWN, SPAN, SUM, Reducer, Span
from .cpp.trains import first_steps, interval_sums

__all__ = ["FirstSpike", "FirstSpikeLatency", "InterSpikeInterval", "Intervals", "IsiCv"]

NEVER = 2**40
"""The step of a first spike that has not come."""


class Intervals(NamedTuple):
    """What `InterSpikeInterval` results in, of each neuron `[*F]`."""

    number: Tensor
    mean: Tensor
    cv: Tensor


class FirstSpike(NamedTuple):
    """What `FirstSpikeLatency` results in, of each neuron `[*F]`."""

    mean: Tensor
    fired: Tensor


class IntervalSums(NamedTuple):
    """Sums over the intervals, and where the open trains stand."""

    span: Annotated[Span, SPAN]
    first: Annotated[Tensor, OPEN_OWN]  # step of the first and last spike of each open train, [N, *F]
    last: Annotated[Tensor, OPEN_OWN]
    number: Annotated[Tensor, SUM]  # of the intervals, int64
    total: Annotated[Tensor, SUM]
    squares: Annotated[Tensor, SUM]


class IntervalReducer(Reducer, abstract=True):
    """Base of what follows from the intervals between the spikes of each train: write `result`."""

    Summary = IntervalSums

    def chunk(self, x: Tensor, start: int) -> IntervalSums:
        if (sums := interval_sums(x, start, NEVER)) is not None:
            return IntervalSums(Span(start, start + len(x)), *sums)
        made = x.new_zeros((3, *x.shape[2:]), dtype=torch.int64)
        first = x.new_full(x.shape[1:], NEVER, dtype=torch.int64)
        last = -first
        for t, step in enumerate(x, start):
            fired = step != 0
            interval = torch.where(fired & (first != NEVER), t - last, 0)
            made += torch.stack(((interval > 0).sum(0), interval.sum(0), (interval * interval).sum(0)))
            first = torch.where(fired & (first == NEVER), t, first)
            last = torch.where(fired, t, last)
        return IntervalSums(Span(start, start + len(x)), first, last, *made)

    def after(self, a: IntervalSums, b: IntervalSums) -> IntervalSums:
        span = a.span.then(b.span)
        check_samples(type(self).__name__, a.first, b.first)
        across = torch.where((a.first != NEVER) & (b.first != NEVER), b.first - a.last, 0)
        return self.Summary(
            span,
            torch.minimum(a.first, b.first),
            torch.maximum(a.last, b.last),
            a.number + b.number + (across > 0).sum(0),
            a.total + b.total + across.sum(0),
            a.squares + b.squares + (across * across).sum(0),
        )

    def close(self, a: IntervalSums) -> IntervalSums:
        return a._replace(span=Span(0, 0), first=a.first[:0], last=a.last[:0])


@dataclass(frozen=True)
class InterSpikeInterval(IntervalReducer):
    r"""The intervals between successive spikes of a train in steps: their number, mean and coefficient of variation.

    $$\mathrm{CV} = \frac{\sqrt{\frac{1}{n} \sum_k (I_k - \bar I)^2}}{\bar I}$$

    Of each neuron `[*F]`, over the intervals of all its samples; none reaches across a reset. The mean of a neuron
    without intervals is NaN, and so is its CV. Any value but 0 is a spike.

    Gerstner et al., *Neuronal Dynamics* (2014), section 7.3; `isi` and `cv` of Elephant.

    >>> train = torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1)  # intervals 1 and 3: mean 2, deviation 1
    >>> isi = InterSpikeInterval()
    >>> isi.result(isi.measure(train))
    Intervals(number=tensor([2]), mean=tensor([2.], dtype=torch.float64), cv=tensor([0.5000], dtype=torch.float64))
    """

    def result(self, a: IntervalSums) -> Intervals:
        mean, variance = spread(a.number, a.total, a.squares)
        return Intervals(a.number, mean, variance.sqrt() / mean)


@dataclass(frozen=True)
class IsiCv(IntervalReducer):
    """The coefficient of variation of the intervals alone, see `InterSpikeInterval`: of each neuron `[*F]`, float64.

    >>> cv = IsiCv()
    >>> cv.result(cv.measure(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1)))
    tensor([0.5000], dtype=torch.float64)
    """

    def result(self, a: IntervalSums) -> Tensor:
        mean, variance = spread(a.number, a.total, a.squares)
        return variance.sqrt() / mean


@dataclass(frozen=True)
class FirstSpikeLatency(Reducer):
    """The step of the first spike of a run, counted from 0: its mean over samples, and the share of them that fired.

    Of each neuron `[*F]`. The mean is over the samples that fired; NaN where none did. Any value but 0 is a spike.

    >>> latency = FirstSpikeLatency()
    >>> latency.result(latency.measure(torch.tensor([[[0.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]]))).mean.tolist()
    [nan, 1.0]
    """

    class Summary(NamedTuple):
        span: Annotated[Span, SPAN]
        first: Annotated[Tensor, OPEN_MIN]  # of each open train, [N, *F]
        total: Annotated[Tensor, SUM]  # of the closed ones, int64
        fired: Annotated[Tensor, SUM]
        trains: Annotated[int, SUM]

    def chunk(self, x: Tensor, start: int) -> Summary:
        first = first_steps(x, start, NEVER)
        if first is None:
            first = x.new_full(x.shape[1:], NEVER, dtype=torch.int64)
            if len(x):
                fired, place = (x != 0).to(torch.uint8).max(0)
                first = torch.where(fired > 0, place + start, first)
        none = first.new_zeros(first.shape[1:])
        return self.Summary(Span(start, start + len(x)), first, none, none, 0)

    def close(self, a: Summary) -> Summary:
        fired = a.first != NEVER
        total = a.total + torch.where(fired, a.first, 0).sum(0)
        return self.Summary(Span(0, 0), a.first[:0], total, a.fired + fired.sum(0), a.trains + len(a.first))

    def result(self, a: Summary) -> FirstSpike:
        closed = self.close(a)
        return FirstSpike(closed.total.double() / closed.fired, closed.fired.double() / closed.trains)


def check_samples(owner: str, a: Tensor, b: Tensor) -> None:
    """Refuse to join the trains of other samples along time."""
    if a.shape != b.shape:
        raise ValueError(
            f"{owner} cannot go on in time from {len(a)} samples to {len(b)}: a merge along time joins chunks of the "
            "same samples. Merge other samples along the batch, and close() a run before the next."
        )
