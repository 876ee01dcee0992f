"""What networks that 0.0.0.0.4 converted consist of besides: a max-pool of spikes, and a mean over the steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...base import MemoryModule
from ...errors import ShapeError, check_bound, check_floating, check_switches, dims
from ...neuron.core import wide

__all__ = ["AccuLayer", "MaxPool2d"]


class _Accumulating(MemoryModule):
    """A sum `v` over the steps; with a `momentum` $m$ a running mean, $v_t = m\\, v_{t-1} + (1 - m)\\, x_t$."""

    v: Any

    def __init__(self, momentum: float | None) -> None:
        super().__init__()
        if momentum is not None:
            check_bound(type(self).__name__, "momentum", momentum, least=0, most=1)
        self.momentum = momentum
        self.register_memory("v", 0.0)

    def _accumulated(self, x: Tensor) -> Tensor:
        check_floating(type(self).__name__, x)
        before, m = self.fitting("v", x.shape), self.momentum
        held: Tensor = before + wide(x) if m is None else m * before + (1 - m) * wide(x)
        self.v = held
        return held


class MaxPool2d(_Accumulating):
    """A max-pool that in each window lets through the spikes of the input that leads, by its sum or running mean.

    - The arguments of `torch.nn.MaxPool2d`, without indices. `momentum`: that of the mean; None for the sum.

    Rueckauer et al., *Conversion of continuous-valued deep networks to efficient event-driven networks for image
    classification* (Frontiers in Neuroscience 2017), section 2.2.6.

    >>> pool = MaxPool2d((1, 2))
    >>> [pool(torch.tensor(x).view(1, 1, 1, 2)).item() for x in ([1.0, 0.0], [0.0, 1.0], [0.0, 1.0])]
    [1.0, 0.0, 1.0]
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        momentum: float | None = None,
    ) -> None:
        super().__init__(momentum)
        check_switches("MaxPool2d", return_indices=return_indices, ceil_mode=ceil_mode)
        if return_indices:
            raise ValueError("MaxPool2d of ann2snn gives spikes alone. Leave return_indices out.")
        self.pool = nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices=True, ceil_mode=bool(ceil_mode))

    def single_step_forward(self, dv: Tensor) -> Tensor:
        """`[N, C, H, W]`."""
        check_floating("MaxPool2d", dv)
        if dv.ndim not in (3, 4):
            raise ShapeError(f"MaxPool2d takes a step [N, C, H, W], but got {dims(dv.shape)}.")
        v = self._accumulated(dv)
        largest, place = self.pool(v)
        leads = torch.zeros_like(v).flatten(-2).scatter_(-1, place.flatten(-2), (largest != 0).to(v.dtype).flatten(-2))
        spikes: Tensor = self.pool(dv * leads.view_as(v).to(dv.dtype))[0]
        return spikes


class AccuLayer(_Accumulating):
    """The mean of the input over the steps so far, or with a `momentum` its running mean.

    >>> mean = AccuLayer()
    >>> [mean(torch.tensor([x])).item() for x in (1.0, 0.0)]
    [1.0, 0.5]
    """

    t: float

    def __init__(self, momentum: float | None = None) -> None:
        super().__init__(momentum)
        self.register_memory("t", 0.0)

    def single_step_forward(self, spk: Tensor) -> Tensor:
        """One step `[N, *]`."""
        self.t = self.t + 1.0
        v = self._accumulated(spk)
        return (v if self.momentum is not None else v / self.t).to(spk.dtype)
