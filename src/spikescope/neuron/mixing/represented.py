"""Neurons whose gradient is that of the mean that their spikes represent, not of the spikes step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...base import MemoryModule
from ...dynamics import Step
from ...errors import check_floating, check_sequence, check_switches
from ...fields import Value, part, value
from ...surrogate import Sigmoid, Surrogate
from ..core import PointwiseNeuron

__all__ = ["DSRIFNode", "DSRLIFNode"]


class _Potential(NamedTuple):
    v: Value = 0.0


class _Early(PointwiseNeuron, abstract=True):
    """Fires at a part `alpha` of the threshold, and a spike takes all of it: $H_t = k V_{t-1} + g X_t$."""

    v_threshold: Value = value(above=0.0)
    alpha: Value = value()
    keep: Value = value(default=1.0)
    gain: Value = value(default=1.0)
    surrogate_function: Surrogate = part(factory=Sigmoid, kw_only=True)

    State = _Potential

    @staticmethod
    def step(p: Any, s: Any, x: Tensor) -> Step:
        h = s.v * p.keep + x * p.gain
        spike = p.surrogate_function(h - p.alpha * p.v_threshold)
        return Step(spike, _Potential(h - spike * p.v_threshold), h)


_Early.abstract = False  # it can be made, and is not among the neurons


class _Represented(MemoryModule):
    """A threshold that learns, and spikes whose gradient is that of a clamped mean."""

    supported_step_modes = ("m",)
    _step_mode = "m"

    def __init__(
        self,
        T: int,
        v_threshold: float,
        alpha: float,
        v_threshold_training: bool,
        v_threshold_grad_scaling: float,
        v_threshold_lower_bound: float,
        step_mode: str,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_switches(owner, v_threshold_training=v_threshold_training)
        if not 0 < v_threshold_lower_bound <= v_threshold < math.inf:
            raise ValueError(
                f"{owner}: v_threshold must be at least v_threshold_lower_bound, and that above 0, but got "
                f"v_threshold={v_threshold!r} and v_threshold_lower_bound={v_threshold_lower_bound!r}."
            )
        if not 0 < alpha <= 1:
            raise ValueError(f"{owner}: alpha must be above 0 and at most 1, but got {alpha!r}.")
        self.step_mode = step_mode
        self.T, self.alpha = T, alpha
        self.v_threshold_grad_scaling = v_threshold_grad_scaling
        self.v_threshold_lower_bound = v_threshold_lower_bound
        held = torch.tensor(float(v_threshold))
        self.v_threshold = nn.Parameter(held) if v_threshold_training else held

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if not isinstance(self.v_threshold, nn.Parameter):
            self.v_threshold = fn(self.v_threshold)
        return self

    def _decay(self) -> tuple[float, float]:
        """What a step leaves of the potential, and what of the input comes in."""
        return 1.0, 1.0

    def _bounded(self, x_seq: Tensor, threshold: Tensor) -> Tensor:
        """What a mean input gives as gradients: to itself between the bounds, to the threshold above."""
        raise NotImplementedError

    def _weights(self, steps: int) -> list[float]:
        """How much each step of the output is worth, in all 1."""
        return [1 / steps] * steps

    def _scale(self, threshold: Tensor) -> Tensor:
        """What a spike is worth."""
        return threshold

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """Spikes `[T, N, *]` of the size of the threshold, from rest."""
        check_floating(type(self).__name__, x_seq)
        check_sequence(type(self).__name__, x_seq)
        threshold = self.v_threshold.clamp(min=self.v_threshold_lower_bound)
        keep, gain = self._decay()
        with torch.no_grad():
            node = _Early(threshold.detach(), self.alpha, keep, gain, step_mode="m")
            spikes = node(x_seq) * self._scale(threshold)
        if not torch.is_grad_enabled() or not len(x_seq):
            return spikes
        slowed = threshold.detach() + self.v_threshold_grad_scaling * (threshold - threshold.detach())
        mean = self._bounded(x_seq, slowed)
        worth = x_seq.new_tensor(self._weights(len(x_seq))).view(-1, *[1] * (x_seq.ndim - 1)) * len(x_seq)
        return spikes + worth * (mean - mean.detach())

    def extra_repr(self) -> str:
        return (
            f"T={self.T}, v_threshold={self.v_threshold.item():.6g}, alpha={self.alpha}, "
            f"v_threshold_lower_bound={self.v_threshold_lower_bound}, "
            f"v_threshold_grad_scaling={self.v_threshold_grad_scaling}"
        )


class DSRIFNode(_Represented):
    r"""Integrate-and-fire by differentiation on spike representation: a spike has the size of the threshold.

    $$H_t = V_{t-1} + X_t \qquad S_t = V_{th} \Theta(H_t - \alpha V_{th}) \qquad V_t = H_t - S_t \qquad
      \tfrac{1}{T}\sum_t S_t \approx \mathrm{clamp}\left(\tfrac{1}{T}\sum_t X_t,\ 0,\ V_{th}\right)$$

    Gradients are those of the right side. Each call begins at rest, and takes a sequence.

    - `T`: the steps of a sequence; those that come count.
    - `v_threshold_training`: whether $V_{th}$ learns, at `v_threshold_grad_scaling` times its gradient; it counts as
      `v_threshold_lower_bound` at least.

    Meng et al., *Training high-performance low-latency spiking neural networks by differentiation on spike
    representation* (CVPR 2022).

    >>> DSRIFNode(T=4, v_threshold=2.0)(torch.full((4, 1), 0.75)).flatten().tolist()  # H = 0.75, 1.5, 0.25, 1
    [0.0, 2.0, 0.0, 2.0]
    """

    def __init__(
        self,
        T: int = 20,
        v_threshold: float = 6.0,
        alpha: float = 0.5,
        v_threshold_training: bool = True,
        v_threshold_grad_scaling: float = 1.0,
        v_threshold_lower_bound: float = 0.01,
        step_mode: str = "m",
    ) -> None:
        bound = v_threshold_lower_bound
        super().__init__(T, v_threshold, alpha, v_threshold_training, v_threshold_grad_scaling, bound, step_mode)

    def _bounded(self, x_seq: Tensor, threshold: Tensor) -> Tensor:
        mean = x_seq.mean(0)
        return torch.where(mean > threshold, threshold, mean.clamp(min=0.0))


class DSRLIFNode(_Represented):
    r"""Leaky integrate-and-fire by differentiation on spike representation.

    $$H_t = e^{-\Delta t/\tau} V_{t-1} + (1 - e^{-\Delta t/\tau}) X_t \qquad
      V_t = H_t - V_{th} \Theta(H_t - \alpha V_{th}) \qquad S_t = V_{th} \Theta(H_t - \alpha V_{th}) / \Delta t$$

    The means of spikes and inputs, later steps weighted by $e^{t \Delta t/\tau}$, are related by a clamp between 0 and
    $V_{th}/\Delta t$, of which gradients are. Each call begins at rest, and takes a sequence.

    - `tau`, `delta_t`: the membrane time constant and the length of a step.
    - the others: as of `DSRIFNode`.

    Meng et al., *Training high-performance low-latency spiking neural networks by differentiation on spike
    representation* (CVPR 2022).

    >>> DSRLIFNode(T=3, tau=1.0, delta_t=0.5)(torch.full((3, 1), 1.0)).flatten().tolist()  # H = 0.39, 0.02, 0.40
    [2.0, 0.0, 2.0]
    """

    def __init__(
        self,
        T: int = 20,
        v_threshold: float = 1.0,
        tau: float = 2.0,
        delta_t: float = 0.05,
        alpha: float = 0.3,
        v_threshold_training: bool = True,
        v_threshold_grad_scaling: float = 1.0,
        v_threshold_lower_bound: float = 0.1,
        step_mode: str = "m",
    ) -> None:
        bound = v_threshold_lower_bound
        super().__init__(T, v_threshold, alpha, v_threshold_training, v_threshold_grad_scaling, bound, step_mode)
        self.tau, self.delta_t = tau, delta_t

    def _decay(self) -> tuple[float, float]:
        keep = math.exp(-self.delta_t / self.tau)
        return keep, 1 - keep

    def _weights(self, steps: int) -> list[float]:
        held = [math.exp((step - steps) * self.delta_t / self.tau) for step in range(1, steps + 1)]
        return [weight / sum(held) for weight in held]

    def _scale(self, threshold: Tensor) -> Tensor:
        return threshold / self.delta_t

    def _bounded(self, x_seq: Tensor, threshold: Tensor) -> Tensor:
        """The slope of the threshold is `delta_t`, as the authors' program has it."""
        weights = x_seq.new_tensor(self._weights(len(x_seq))).view(-1, *[1] * (x_seq.ndim - 1))
        mean, top = (weights * x_seq).sum(0), threshold.detach() / self.delta_t * self.tau
        inside = x_seq.mean(0) / self.tau
        zero = torch.zeros_like(inside)
        return torch.where(mean > top, threshold * self.delta_t, torch.where(mean > 0, inside, zero))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tau={self.tau}, delta_t={self.delta_t}"
