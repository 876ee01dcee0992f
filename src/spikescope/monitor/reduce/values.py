"""Statistics of any real signal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from .core import MAX, MIN, OWN, SPAN, SUM, Reducer, Span
from .cpp.moments import central_sums, joined
from .squares import step_squares

__all__ = ["Extent", "FoundNonFinite", "MinMax", "MomentValues", "Moments", "NonFinite", "Norm"]


class MomentValues(NamedTuple):
    """What `Moments` results in."""

    mean: float
    var: float
    skew: float
    kurtosis: float


class Extent(NamedTuple):
    """What `MinMax` results in."""

    min: float
    max: float


class FoundNonFinite(NamedTuple):
    """What `NonFinite` results in; `first_step` is -1 where all was finite."""

    found: bool
    number: int
    first_step: int


@dataclass(frozen=True)
class Moments(Reducer):
    r"""Mean, variance, skewness and excess kurtosis of all values, of the population (divided by n).

    $$\sigma^2 = \frac{M_2}{n} \qquad \gamma = \frac{M_3 / n}{\sigma^3} \qquad \kappa = \frac{M_4 / n}{\sigma^4} - 3
      \qquad M_k = \sum_i (x_i - \bar x)^k$$

    The central sums are taken and merged in float64, which stays exact where the mean is large beside the deviation.
    Skewness and kurtosis of a constant signal are NaN.

    Chan, Golub & LeVeque, *Algorithms for computing the sample variance* (1983); Pébay, *Formulas for robust, one-pass
    parallel computation of covariances and arbitrary-order statistical moments* (2008).

    >>> moments = Moments()
    >>> [round(value, 4) for value in moments.result(moments.measure(torch.tensor([[[1.0, 1.0, 1.0, 5.0]]])))]
    [2.0, 3.0, 1.1547, -0.6667]
    """

    class Summary(NamedTuple):
        seen: Annotated[int, OWN]
        sums: Annotated[Tensor, OWN]  # mean, M2, M3, M4

    def chunk(self, x: Tensor, start: int) -> Summary:
        if not x.numel():
            return self.Summary(0, torch.zeros(4, dtype=torch.float64, device=x.device))
        return self.Summary(x.numel(), joined(central_sums(x))[1:])

    def after(self, a: Summary, b: Summary) -> Summary:
        if not a.seen or not b.seen:
            return b if b.seen else a
        seen = a.sums.new_tensor([[a.seen], [b.seen]])
        sums = torch.cat((seen, torch.stack((a.sums, b.sums))), 1)
        return self.Summary(a.seen + b.seen, joined(sums)[1:])

    def beside(self, a: Summary, b: Summary) -> Summary:
        return self.after(a, b)

    def result(self, a: Summary) -> MomentValues:
        if not a.seen:
            return MomentValues(math.nan, math.nan, math.nan, math.nan)
        mean, m2, m3, m4 = a.sums.tolist()
        var = m2 / a.seen
        if var == 0:
            return MomentValues(mean, var, math.nan, math.nan)
        return MomentValues(mean, var, m3 / a.seen / var**1.5, m4 / a.seen / var**2 - 3)


@dataclass(frozen=True)
class MinMax(Reducer):
    """The smallest and the largest value. NaN anywhere makes both NaN.

    >>> extent = MinMax()
    >>> extent.result(extent.measure(torch.tensor([[[0.25, -1.5]]])))
    Extent(min=-1.5, max=0.25)
    """

    class Summary(NamedTuple):
        low: Annotated[Tensor, MIN]
        high: Annotated[Tensor, MAX]

    taps = ("range",)

    def chunk(self, x: Tensor, start: int) -> Summary:
        if not x.numel():
            return self._empty(x.device)
        low, high = x.aminmax()
        return self.Summary(low.double(), high.double())

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Summary:
        held = taps["range"]
        if not held.numel():
            return self._empty(held.device)
        return self.Summary(held[:, 0].amin(), held[:, 1].amax())

    def result(self, a: Summary) -> Extent:
        low, high = a.low.item(), a.high.item()
        return Extent(math.nan, math.nan) if low > high else Extent(low, high)

    def _empty(self, device: torch.device) -> Summary:
        infinity = torch.tensor(math.inf, dtype=torch.float64, device=device)
        return self.Summary(infinity, -infinity)


@dataclass(frozen=True)
class Norm(Reducer):
    """The L2 norm of all values, summed in float64.

    >>> norm = Norm()
    >>> norm.result(norm.measure(torch.tensor([[[3.0]], [[4.0]]])))
    5.0
    """

    class Summary(NamedTuple):
        squares: Annotated[Tensor, SUM]
        seen: Annotated[int, SUM]

    def chunk(self, x: Tensor, start: int) -> Summary:
        return self.Summary(step_squares(x.reshape(1, -1)).sum(), x.numel())

    def result(self, a: Summary) -> float:
        return math.sqrt(a.squares.item()) if a.seen else math.nan


@dataclass(frozen=True)
class NonFinite(Reducer):
    """Whether a value was infinite or NaN, how many were, and the first step of the run that held one.

    >>> check = NonFinite()
    >>> check.result(check.measure(torch.tensor([[[1.0]], [[float("nan")]], [[float("inf")]]])))
    FoundNonFinite(found=True, number=2, first_step=1)
    """

    NEVER = 2**62

    class Summary(NamedTuple):
        span: Annotated[Span, SPAN]
        number: Annotated[Tensor, SUM]
        first: Annotated[Tensor, MIN]

    def chunk(self, x: Tensor, start: int) -> Summary:
        span = Span(start, start + len(x))
        if x.device.type == "cpu" and _surely_finite(x):
            return self.Summary(span, x.new_zeros((), dtype=torch.int64), x.new_full((), self.NEVER, dtype=torch.int64))
        bad = (~x.isfinite()).reshape(len(x), math.prod(x.shape[1:])).sum(1)
        steps = torch.arange(start, start + len(x), device=x.device)
        never = torch.full((1,), self.NEVER, device=x.device)
        first = torch.cat((never, torch.where(bad > 0, steps, never))).min()
        return self.Summary(span, bad.sum(), first)

    def close(self, a: Summary) -> Summary:
        return a._replace(span=Span(0, 0))

    def result(self, a: Summary) -> FoundNonFinite:
        number = int(a.number)
        return FoundNonFinite(number > 0, number, int(a.first) if number else -1)


def _surely_finite(x: Tensor) -> bool:
    """Whether the sum is finite, which only finite values can have; it takes a thirtieth of looking at each."""
    if not (x.is_floating_point() or x.is_complex()):
        return True
    return bool(x.sum(dtype=torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else None).isfinite())
