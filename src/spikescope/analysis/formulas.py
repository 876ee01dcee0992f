"""Equations of spike trains from their sums, written once, for reducers that stream and for analyses afterwards."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Spread", "chi", "fano", "spread", "synchrony_sums"]

EPSILON = torch.finfo(torch.float64).eps
"""Times the sum of squares this bounds what rounding makes of a variance: up to there, nothing changes in time."""


class Spread(NamedTuple):
    """Mean and population variance of whole numbers."""

    mean: Tensor
    variance: Tensor


def spread(number: Tensor | int, total: Tensor, squares: Tensor) -> Spread:
    r"""Mean $\bar x = \frac 1n \sum x$ and variance $\frac 1n \sum x^2 - \bar x^2$ from whole sums; NaN where n = 0.

    The sums are moved to a whole number next to the mean first: there they are exact and small.

    >>> spread(2, torch.tensor(10**9 + 1), torch.tensor(10**18 // 2 + 10**9 + 1))  # of two numbers one apart
    Spread(mean=tensor(5.0000e+08, dtype=torch.float64), variance=tensor(0.2500, dtype=torch.float64))
    """
    n = torch.as_tensor(number, device=total.device)
    near = total // n.clamp(min=1)
    off = (total - n * near).double() / n
    moved = (squares - 2 * near * total + n * near * near).double() / n
    return Spread(near + off, (moved - off * off).clamp(min=0))


def fano(held: Spread) -> Tensor:
    r"""$F = \mathrm{Var}(C) / \bar C$ of the spike counts of trials; NaN where there are none."""
    if not isinstance(held, Spread):
        raise TypeError(
            f"fano takes the Spread of counts that spread() gives, but got {type(held).__name__}. Of spikes "
            "[T, N, *] it is fanofactor(spikes)."
        )
    return held.variance / held.mean


def synchrony_sums(sums: Tensor, squares: Tensor, crowd: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    r"""$M^2$ times both variances of `chi`, summed over samples.

    - `sums`: over time, of each of M neurons, `[N, M]`. `squares`: of all neurons, `[N]`. `crowd`: the sum over neurons
      at each step, squared, over time, `[N]`.

    A sample in which nothing changes in time counts as 0.
    """
    size = sums.shape[1]
    together = crowd / steps - (sums.sum(1) / steps) ** 2
    single = (squares / steps - ((sums / steps) ** 2).sum(1)) * size
    still = single <= EPSILON * size * squares
    return together.masked_fill(still, 0.0).sum(), single.masked_fill(still, 0.0).sum()


def chi(together: Tensor, single: Tensor) -> float:
    r"""$\chi = \sqrt{\mathrm{Var}_t(\frac 1M \sum_i x_i) / \frac 1M \sum_i \mathrm{Var}_t(x_i)}$; NaN where 0 / 0.

    >>> chi(torch.tensor(1.0), torch.tensor(4.0))
    0.5
    """
    above, below = max(together.item(), 0.0), single.item()
    return math.sqrt(above / below) if below > 0 else math.nan
