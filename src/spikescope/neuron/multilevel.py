"""Neurons whose spikes have more values than 0 and 1: a count, or a sign."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..dynamics import Step
from ..fields import Value, option, part, value
from ..surrogate import MultiLevelSpikeCount, Surrogate
from .integrate import (
    IntegrateAndFire,
    Membrane,
    SoftResetIntegrateAndFire,
    decay,
    fire,
    leak,
    reset_to,
)

__all__ = ["ILIFNode", "TernaryIFNode", "TernaryIntegrateAndFire", "TernaryLIFNode"]


class ILIFNode(SoftResetIntegrateAndFire):
    r"""Integer leaky integrate-and-fire: the spike is a count from 0 to $D$.

    $$H_t = (1 - \tfrac{1}{\tau}) V_{t-1} + X_t \qquad
      S_t = \mathrm{round}\left(\mathrm{clip}(H_t / V_{th}, 0, D)\right) \qquad V_t = H_t - S_t V_{th}$$

    Half an integer is rounded to the even one.

    - `tau`: the membrane time constant in steps, above 1.
    - `v_threshold`: $V_{th}$, the potential of one spike, above 0.
    - `surrogate_function`: the quantiser of $H_t / V_{th}$, `MultiLevelSpikeCount(D)`; $D = 4$ unless given.

    Luo et al., *Integer-valued training and spike-driven inference spiking neural network* (ECCV 2024).

    >>> node = ILIFNode(tau=2.0, step_mode="m", store_v_seq=True)
    >>> node(torch.tensor([[1.75], [2.5], [9.0], [-9.0]])).flatten()  # H = 1.75, 2.375, 9.1875, -6.40625
    tensor([2., 2., 4., 0.])
    >>> node.v_seq.flatten()
    tensor([-0.2500,  0.3750,  5.1875, -6.4062])
    """

    tau: Value = value(default=4 / 3, above=1.0)
    v_threshold: Value = value(default=1.0, above=0.0, infinite=True)
    surrogate_function: Surrogate = part(factory=partial(MultiLevelSpikeCount, 4))

    @staticmethod
    def charge(p: Any, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(decay(p, s.v) + x)

    @classmethod
    def emit(cls, p: Any, s: Membrane) -> Tensor:
        return p.surrogate_function(s.v / p.v_threshold)  # nothing of it where that is infinite


class TernaryIntegrateAndFire(IntegrateAndFire, abstract=True):
    r"""Base of the neurons that fire 1 at the threshold and -1 at its negative.

    $$S_t = \Theta(H_t - V_{th}) - \Theta(-H_t - V_{th}) \qquad
      V_t = |S_t| V_{reset} + (1 - |S_t|) H_t \quad\text{or}\quad V_t = H_t - S_t V_{th}$$

    A subclass writes `charge(p, s, x)`.

    - `v_threshold`: $V_{th}$, above 0.

    Guo et al., *Ternary spike: learning ternary spikes for spiking neural networks* (AAAI 2024).
    """

    v_threshold: Value = value(default=1.0, above=0.0, infinite=True)

    @classmethod
    def step(cls, p: Any, s: Any, x: Tensor) -> Step:
        s = cls.charge(p, s, x)
        up, down = cls._fired(p, s)
        return Step(up - down, cls._reset(p, s, up, down), s.v)

    @classmethod
    def emit(cls, p: Any, s: Membrane) -> Tensor:
        up, down = cls._fired(p, s)
        return up - down

    @classmethod
    def recover(cls, p: Any, s: Membrane, spike: Tensor) -> Membrane:
        return cls._reset(p, s, torch.relu(spike), torch.relu(-spike))

    @staticmethod
    def _fired(p: Any, s: Any) -> tuple[Tensor, Tensor]:
        return fire(p, s.v), fire(p, -s.v)

    @staticmethod
    def _reset(p: Any, s: Any, up: Tensor, down: Tensor) -> Membrane:
        return Membrane(reset_to(p, s.v, up - down if p.v_reset is None else up + down))


class TernaryIFNode(TernaryIntegrateAndFire):
    r"""Ternary integrate-and-fire: $H_t = V_{t-1} + X_t$, spikes of -1, 0 and 1.

    $$S_t = \Theta(H_t - V_{th}) - \Theta(-H_t - V_{th})$$

    A spike of either sign resets: to `v_reset`, or by `v_threshold` towards zero where that is None.

    - `v_threshold`: $V_{th}$, above 0; a potential equal to it, or to its negative, fires.

    Guo et al., *Ternary spike: learning ternary spikes for spiking neural networks* (AAAI 2024).

    >>> node = TernaryIFNode(v_reset=None, step_mode="m", store_v_seq=True)
    >>> node(torch.tensor([[-0.75], [-0.75], [2.5]])).flatten()  # H = -0.75, -1.5, 2
    tensor([ 0., -1.,  1.])
    >>> node.v_seq.flatten()
    tensor([-0.7500, -0.5000,  1.0000])
    """

    @staticmethod
    def charge(p: TernaryIFNode, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(s.v + x)


class TernaryLIFNode(TernaryIntegrateAndFire):
    r"""Ternary leaky integrate-and-fire: the charging of `LIFNode`, spikes of -1, 0 and 1.

    $$S_t = \Theta(H_t - V_{th}) - \Theta(-H_t - V_{th})$$

    A spike of either sign resets: to `v_reset`, or by `v_threshold` towards zero where that is None.

    - `tau`, `decay_input`: as in `LIFNode`. The paper has `tau=4/3` and `decay_input=False`.
    - `v_threshold`: $V_{th}$, above 0; a potential equal to it, or to its negative, fires.

    Guo et al., *Ternary spike: learning ternary spikes for spiking neural networks* (AAAI 2024).

    >>> node = TernaryLIFNode(tau=2.0, decay_input=False, step_mode="m", store_v_seq=True)
    >>> node(torch.tensor([[0.75], [-1.375], [0.5]])).flatten()  # H = 0.75, -1, 0.5
    tensor([ 0., -1.,  0.])
    >>> node.v_seq.flatten()
    tensor([0.7500, 0.0000, 0.5000])
    """

    tau: Value = value(default=2.0, above=1.0)
    decay_input: bool = option(default=True, kind=bool)

    @staticmethod
    def charge(p: TernaryLIFNode, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(leak(p, s.v, x))
