"""How far spike trains are from each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ShapeError, check_bound, check_choice, check_tensor, dims
from .spike_loss import widened

__all__ = ["van_rossum_distance"]


def van_rossum_distance(x_seq: Tensor, y_seq: Tensor, tau: float, reduction: str = "mean") -> Tensor:
    r"""The squared van Rossum distance $D^2$ of spike trains: that of the trains behind an exponential synapse.

    $$D^2 = \frac 1\tau \int_0^\infty \Big(\sum_u (x_u - y_u)\, e^{-(t - u)/\tau}\, [t \ge u]\Big)^2 dt
      = \frac 12 \sum_{t,u} (x_t - y_t)\,(x_u - y_u)\, e^{-|t - u|/\tau}$$

    in closed form, after the last step too. A spike more or less is 1/2, one that is $\delta$ steps late is
    $1 - e^{-\delta/\tau}$, two trains far apart are half the number of their spikes. It is differentiable, and takes
    values between 0 and 1 as parts of a spike.

    - `x_seq`, `y_seq`: `[T, N, *]`, of the same shape; one of them may be a target without gradient.
    - `tau`: the time constant in steps, above 0. Short: coincidences count. Long: the numbers of spikes do.
    - `reduction`: `'mean'` or `'sum'` over all trains, or `'none'`: `[N, *]`.

    The result is float32 at least. van Rossum, *A novel spike distance* (Neural Computation 2001).

    >>> x_seq, y_seq = torch.tensor([[[1.0]], [[0.0]]]), torch.tensor([[[0.0]], [[1.0]]])  # one step late
    >>> van_rossum_distance(x_seq, y_seq, tau=2.0)  # 1 - e^-0.5
    tensor(0.3935)
    """
    owner = "van_rossum_distance"
    check_tensor(owner, "x_seq", x_seq)
    check_tensor(owner, "y_seq", y_seq)
    check_choice(owner, "reduction", reduction, ("mean", "sum", "none"))
    if x_seq.shape != y_seq.shape or x_seq.ndim < 2:
        raise ShapeError(
            f"{owner} takes two sequences [T, N, *] of the same shape, but got {dims(x_seq.shape, 'TN')} and "
            f"{dims(y_seq.shape, 'TN')}."
        )
    check_bound(owner, "tau", tau, above=0)
    difference = widened(x_seq) - widened(y_seq)
    # the sum over u < t counts twice, u = t once
    squared = (difference * (_trace(difference, tau) - difference / 2)).sum(0)
    return squared if reduction == "none" else squared.sum() if reduction == "sum" else squared.mean()


def _trace(x_seq: Tensor, tau: float) -> Tensor:
    r"""$r_t = e^{-1/\tau} r_{t-1} + x_t$, in $\log_2 T$ rounds of doubling reach in place of T steps.

    >>> _trace(torch.tensor([1.0, 0.0, 1.0]), 1 / math.log(2))
    tensor([1.0000, 0.5000, 1.2500])
    """
    reach = 1
    while reach < len(x_seq):
        earlier = math.exp(-reach / tau) * x_seq[:-reach]
        x_seq = torch.cat((x_seq[:reach], x_seq[reach:] + earlier))
        reach *= 2
    return x_seq
