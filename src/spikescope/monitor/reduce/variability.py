"""Statistics across trials and across neurons: the Fano factor, and synchrony."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ...analysis.formulas import chi, fano, spread, synchrony_sums
from ...errors import check_whole
from .core import OPEN_OWN, OPEN_SUM, SPAN, SUM, Reducer, Span
from .count import check_whole_counts
from .cpp.crowd import crowd_sums
from .tally import summing_dtype
from .trains import check_samples

__all__ = ["Fano", "Synchrony"]


@dataclass(frozen=True)
class Fano(Reducer):
    r"""The Fano factor of each neuron `[*F]`: the variance of its spike counts over trials, divided by their mean.

    $$F = \frac{\frac{1}{n} \sum_k (C_k - \bar C)^2}{\bar C}$$

    - `window`: steps of a trial; windows lie end to end from the start of the run, and each window of each sample is a
      trial. One that its run does not fill is left out. None: each run of each sample is one trial.

    NaN for a neuron that never fired. A signal that does not sum up to whole numbers is a ValueError, as in `Count`.
    Fano, Phys. Rev. 72, 26 (1947); `fanofactor` of Elephant.

    >>> train = torch.tensor([1.0, 1, 0, 0, 1, 1, 0, 0]).view(8, 1, 1)  # counts of two steps: 2, 0, 2, 0
    >>> fano = Fano(window=2)
    >>> fano.result(fano.measure(train)).tolist()
    [1.0]
    """

    window: int | None = None

    class Summary(NamedTuple):
        span: Annotated[Span, SPAN]
        head: Annotated[Tensor, OPEN_OWN]  # counts before the first border of a window inside the span, [N, *F]
        tail: Annotated[Tensor, OPEN_OWN]  # counts after the last
        trials: Annotated[int, SUM]
        total: Annotated[Tensor, SUM]  # float64, whole, as all counts here
        squares: Annotated[Tensor, SUM]

    def __post_init__(self) -> None:
        if self.window is not None:
            object.__setattr__(self, "window", check_whole("Fano", "window", self.window))

    def chunk(self, x: Tensor, start: int) -> Summary:
        span, width = Span(start, start + len(x)), self.window or sys.maxsize
        border = self._border(start)
        head = min(len(x), border - start)
        whole = max(0, span.stop - border) // width
        stop = head + whole * width
        trials = _counts(x[head:stop].reshape(whole, width if whole else 0, *x.shape[1:]), 1).flatten(0, 1)
        ends = _counts(x[:head], 0), _counts(x[stop:], 0)
        return self.Summary(span, *ends, len(trials), trials.sum(0), (trials * trials).sum(0))

    def after(self, a: Summary, b: Summary) -> Summary:
        span = a.span.then(b.span)
        check_samples("Fano", a.head, b.head)
        a_inside = a.span.stop < self._border(a.span.start)  # no border of a window inside
        b_inside = b.span.stop < self._border(b.span.start)
        joint = (a.head if a_inside else a.tail) + b.head
        head = joint if a_inside else a.head
        if b_inside and not a_inside:
            return self._replaced(a, b, span, head, joint)
        done = not a_inside and self._border(b.span.start) != b.span.start
        made = self._replaced(a, b, span, head, b.tail)
        return self._add(made, joint) if done else made

    def close(self, a: Summary) -> Summary:
        if self.window is None and a.span.stop > a.span.start:
            a = self._add(a, a.head + a.tail)
        return a._replace(span=Span(0, 0), head=a.head[:0], tail=a.tail[:0])

    def result(self, a: Summary) -> Tensor:
        a = self.close(a)
        if not a.trials:
            return torch.full_like(a.total, math.nan, dtype=torch.float64)
        check_whole_counts("Fano", a.total)
        check_whole_counts("Fano", a.squares)  # a half and a half are whole together
        return fano(spread(a.trials, a.total.long(), a.squares.long()))

    def _border(self, start: int) -> int:
        """The first border of a window at or after a step."""
        return -(-start // self.window) * self.window if self.window else 0 if start == 0 else sys.maxsize

    def _replaced(self, a: Summary, b: Summary, span: Span, head: Tensor, tail: Tensor) -> Summary:
        return self.Summary(span, head, tail, a.trials + b.trials, a.total + b.total, a.squares + b.squares)

    def _add(self, a: Summary, counts: Tensor) -> Summary:
        """The summary with one more trial of each sample."""
        return a._replace(
            trials=a.trials + len(counts),
            total=a.total + counts.sum(0),
            squares=a.squares + (counts * counts).sum(0),
        )


@dataclass(frozen=True)
class Synchrony(Reducer):
    r"""How much the M neurons of a sample act together: $\chi$, 1 if all alike, about $1/\sqrt{M}$ if independent.

    $$\chi^2 = \frac{\mathrm{Var}_t\left(\frac{1}{M} \sum_i x_i(t)\right)}{\frac{1}{M} \sum_i \mathrm{Var}_t(x_i)}$$

    Both variances are taken over the run of each sample and averaged over samples before they are divided.
    The signal is spikes or potentials; where nothing changes in time, $\chi$ is NaN.

    Golomb, *Neuronal synchrony measures*, Scholarpedia 2(1):1347 (2007).

    >>> chi = Synchrony()
    >>> chi.result(chi.measure(torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]], [[1.0, 1.0]]])))
    1.0
    >>> chi.result(chi.measure(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])))
    0.0
    """

    class Summary(NamedTuple):
        span: Annotated[Span, SPAN]
        sums: Annotated[Tensor, OPEN_SUM]  # over time, of each neuron of each open sample, [N, M]
        squares: Annotated[Tensor, OPEN_SUM]  # and of all of its neurons, [N]
        crowd: Annotated[Tensor, OPEN_SUM]  # the sum over neurons, squared, [N]
        together: Annotated[Tensor, SUM]  # of closed samples: both variances, each times M squared
        single: Annotated[Tensor, SUM]

    def chunk(self, x: Tensor, start: int) -> Summary:
        sums, squares, course = crowd_sums(x) or _crowd_sums(x)
        none = sums.new_zeros(())
        return self.Summary(Span(start, start + len(x)), sums, squares, (course * course).sum(1), none, none)

    def close(self, a: Summary) -> Summary:
        steps = a.span.stop - a.span.start
        if steps:
            together, single = synchrony_sums(a.sums, a.squares, a.crowd, steps)
            a = a._replace(together=a.together + together, single=a.single + single)
        return a._replace(span=Span(0, 0), sums=a.sums[:0], squares=a.squares[:0], crowd=a.crowd[:0])

    def result(self, a: Summary) -> float:
        closed = self.close(a)
        return chi(closed.together, closed.single)


def _crowd_sums(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `crowd_sums` gives, a step at a time."""
    size = math.prod(x.shape[2:])
    sums = x.new_zeros((x.shape[1], size), dtype=torch.float64)
    squares, course = sums.new_zeros(x.shape[1]), sums.new_zeros(x.shape[1], len(x))
    for t, step in enumerate(x.reshape(len(x), x.shape[1], size)):
        values = step.double()
        sums += values
        squares += (values * values).sum(1)
        course[:, t] = values.sum(1)
    return sums, squares, course


def _counts(x: Tensor, axis: int) -> Tensor:
    """The spikes along an axis of time, float64."""
    return x.sum(axis, dtype=summing_dtype(x, x.shape[axis])).double()
