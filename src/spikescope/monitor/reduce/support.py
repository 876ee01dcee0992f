"""Where the surrogate lets a gradient through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from ...dynamics import support_tap
from ...errors import check_number
from .core import SUM, Reducer
from .cpp.inside import number_inside

__all__ = ["SupportShare"]


@dataclass(frozen=True, eq=False)
class SupportShare(Reducer):
    """The share of potentials before the reset (the signal `h`) at which the surrogate passes a gradient on.

    - `low`, `high`: the ends of the support, `low <= h - v_threshold <= high`; infinite ends are allowed.
    - `v_threshold`: a number or a tensor that broadcasts to `[N, *F]`.

    `SupportShare.of(surrogate, v_threshold, share)` finds the support of a surrogate.

    >>> inside = SupportShare(low=-0.5, high=0.5)
    >>> inside.result(inside.measure(torch.tensor([[[0.25, 0.75, 1.5, 2.0]]])))
    0.5
    """

    low: float
    high: float
    v_threshold: float | Tensor = 1.0

    class Summary(NamedTuple):
        inside: Annotated[Tensor, SUM]
        seen: Annotated[int, SUM]

    signals = ("h",)
    example = {"low": -0.5, "high": 0.5}

    def __post_init__(self) -> None:
        check_number("SupportShare", "low", self.low)
        check_number("SupportShare", "high", self.high)
        if not isinstance(self.v_threshold, Tensor):
            check_number("SupportShare", "v_threshold", self.v_threshold)
        if not self.low < self.high:
            raise ValueError(f"SupportShare: low must be under high, but got low={self.low} and high={self.high}.")

    @classmethod
    def of(cls, surrogate_function: Any, v_threshold: float | Tensor = 1.0, share: float = 0.1) -> SupportShare:
        """Of a surrogate: where its gradient is above `share` of its maximum, which must be one interval.

        >>> inside = SupportShare.of(spikescope.surrogate.PiecewiseQuadratic(alpha=1.0), share=0.25)
        >>> round(inside.low, 4), round(inside.high, 4)  # 1 - abs(x) > 1/4
        (-0.75, 0.75)
        """
        if not 0 <= share < 1:
            raise ValueError(f"SupportShare.of: share must be from 0 to below 1, but got {share}.")
        p = surrogate_function.params()
        low, high = support(lambda x: surrogate_function.gradient(p, x), share, type(surrogate_function).__name__)
        return cls(low, high, v_threshold)

    @property
    def taps(self) -> tuple[str, ...]:
        """The tap of a kernel that counts for these very numbers; none where the threshold is a tensor."""
        if isinstance(self.v_threshold, Tensor):
            return ()
        return (support_tap(self.v_threshold, self.low, self.high),)

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Summary:
        return self.Summary(taps[self.taps[0]].sum(), x.numel())

    def chunk(self, x: Tensor, start: int) -> Summary:
        threshold = self.v_threshold
        if isinstance(threshold, Tensor):
            threshold = threshold.detach().to(x.device)
        elif (found := number_inside(x, threshold, self.low, self.high)) is not None:
            return self.Summary(torch.tensor(found, device="cpu"), x.numel())
        off = (x if x.is_floating_point() else x.double()) - threshold
        return self.Summary(((off >= self.low) & (off <= self.high)).sum(), x.numel())

    def result(self, a: Summary) -> float:
        return a.inside.item() / a.seen if a.seen else math.nan


def marked(surrogate_function: Any) -> tuple[Any, ...]:
    """What is the same of two surrogates only where their gradients are: the class, and the values of the fields."""
    values = (
        (held.dtype, held.item()) if isinstance(held, Tensor) and held.numel() == 1 else held
        for held in surrogate_function.params()
    )
    marks = (id(held) if type(held).__hash__ is None else held for held in values)
    return (type(surrogate_function), surrogate_function.gradient, *marks)


def support(gradient: Callable[[Tensor], Tensor], share: float, name: str) -> tuple[float, float]:
    """The ends of the one interval where a gradient is above a share of its maximum, by scanning and bisection."""
    half = torch.logspace(-4, 4, 4001, dtype=torch.float64, device="cpu")
    grid = torch.cat((-half.flip(0), half.new_zeros(1), half))
    slopes = gradient(grid).detach().expand_as(grid)
    least = share * slopes.max().item()
    inside = (slopes > least).nonzero().flatten()
    if not len(inside) or inside[-1] - inside[0] + 1 != len(inside):
        raise ValueError(
            f"SupportShare.of: the gradient of {name} is above {share:g} of its maximum in several places, or nowhere. "
            "Give SupportShare the interval to count, with low and high."
        )

    def end(last: int, beyond: int) -> float:
        if not 0 <= beyond < len(grid):
            return math.copysign(math.inf, grid[last].item())
        within, without = grid[last], grid[beyond]
        for _ in range(60):
            middle = (within + without) / 2
            if gradient(middle).item() > least:
                within = middle
            else:
                without = middle
        return within.item()

    return end(int(inside[0]), int(inside[0]) - 1), end(int(inside[-1]), int(inside[-1]) + 1)
