"""The integrate-and-fire family: each neuron says how it charges; firing and reset are shared."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..fields import Field, Value, option, part, value
from ..surrogate import Sigmoid, Surrogate
from .named import LeakyCharges, evaluating, hard_reset, soft_reset
from .stages import StagedNeuron

__all__ = [
    "HalfThresholdIFNode",
    "IFNode",
    "IntegrateAndFire",
    "LIFNode",
    "LeakyIntegrateAndFire",
    "ParametricLIFNode",
    "SoftResetIntegrateAndFire",
    "decay",
    "fire",
    "leak",
    "reset_to",
    "subtracted",
]


class Membrane(NamedTuple):
    """The state of a neuron that has nothing but a membrane potential."""

    v: Value = 0.0


def rest_potential(p: Any) -> Value:
    """The potential that a neuron leaks towards: `v_reset`, or 0 with a soft reset."""
    return 0.0 if p.v_reset is None else p.v_reset


def decay(p: Any, v: Value) -> Value:
    """The potential that a leak of one step leaves of `v`."""
    return v - (v - rest_potential(p)) / p.tau


def leak(p: Any, v: Value, x: Tensor) -> Tensor:
    """One step of the leaky integration of `x`."""
    if p.decay_input:
        return v + (x - (v - rest_potential(p))) / p.tau
    return decay(p, v) + x


def fire(p: Any, h: Tensor) -> Tensor:
    """A spike where `h` reaches the threshold; where that is infinite none, and no gradient of whatever surrogate."""
    never = p.v_threshold == math.inf
    if not isinstance(never, Tensor):
        if not never:
            return p.surrogate_function(h - p.v_threshold)
        never = torch.ones_like(h, dtype=torch.bool)
    return p.surrogate_function((h - p.v_threshold).masked_fill(never, -1.0)).masked_fill(never, 0.0)


def subtracted(p: Any) -> Value:
    """What a spike takes from the potential in a soft reset: the threshold, of an infinite one nothing."""
    never = p.v_threshold == math.inf
    if isinstance(never, Tensor):
        return p.v_threshold.masked_fill(never, 0.0)
    return 0.0 if never else p.v_threshold


def reset_to(p: Any, h: Tensor, spike: Tensor, by: Value | None = None) -> Tensor:
    """The membrane potential after the reset: to `v_reset`, or `by` the threshold where that is None."""
    if p.detach_reset:
        spike = spike.detach()
    if p.v_reset is None:
        return soft_reset(h, spike, subtracted(p) if by is None else by)
    return hard_reset(h, spike, p.v_reset)


class IntegrateAndFire(StagedNeuron, abstract=True):
    r"""Base of the neurons that charge, fire at a threshold, and reset.

    $$S_t = \Theta(H_t - V_{th}) \qquad
      V_t = S_t V_{reset} + (1 - S_t) H_t \quad\text{or, with } V_{reset} = \text{None,}\quad V_t = H_t - S_t V_{th}$$

    A subclass writes `charge(p, s, x)`, which returns the state with $H_t$ in place of the potential `v`; or hooks, see
    `StagedNeuron`.

    - `v_threshold`: $V_{th}$; a potential equal to it fires. An infinite one is never reached: $V_t = H_t$.
    - `v_reset`: $V_{reset}$, the hard reset, or None for the soft reset that subtracts the threshold.
    - `surrogate_function`: the gradient of the spike; each neuron owns its instance.
    - `detach_reset`: the spike inside the reset passes no gradient on; the emitted one does.
    """

    v_threshold: Value = value(default=1.0, infinite=True, kw_only=True)
    v_reset: Value | None = value(default=0.0, optional=True, kw_only=True)
    surrogate_function: Surrogate = part(factory=Sigmoid, kw_only=True)
    detach_reset: bool = option(default=False, kind=bool, kw_only=True)

    State: ClassVar[Any] = Membrane

    @classmethod
    def emit(cls, p: Any, s: Any) -> Tensor:
        return fire(p, s.v)

    @classmethod
    def recover(cls, p: Any, s: Any, spike: Tensor) -> Any:
        return s._replace(v=reset_to(p, s.v, spike))

    @classmethod
    def rest(cls, p: Any) -> Any:
        return cls.State(v=rest_potential(p))

    jit_hard_reset = staticmethod(hard_reset)
    jit_soft_reset = staticmethod(soft_reset)
    apply_hard_reset = staticmethod(hard_reset)
    apply_soft_reset = staticmethod(soft_reset)


class Charged(IntegrateAndFire, abstract=True):
    """What is left of a step once a neuron is charged: the input is $H_t$, and the state before it is not read."""

    @staticmethod
    def charge(p: Any, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(x)

    @classmethod
    def rest(cls, p: Any) -> Membrane:
        return Membrane()


Charged.abstract = False  # it runs, but stands in no registry: nobody else makes one
IntegrateAndFire.after_charge = Charged


class SoftResetIntegrateAndFire(IntegrateAndFire, abstract=True):
    """Base of the neurons whose reset is soft by definition: `v_reset` is None and no argument."""

    v_reset: None = option(default=None, choices=(None,), init=False)


@evaluating("", lambda x, v, v_reset: v + x, lambda x, v: v + x)
class IFNode(IntegrateAndFire):
    r"""Integrate-and-fire without a leak: $H_t = V_{t-1} + X_t$.

    Lapicque (1907); Gerstner et al., *Neuronal Dynamics* (2014), section 1.3.

    >>> node = IFNode(v_threshold=1.0, v_reset=None, step_mode="m")
    >>> node(torch.tensor([[0.75], [0.75], [0.75]])).flatten()  # H = 0.75, 1.5, 1.25
    tensor([0., 1., 1.])
    >>> node.v
    tensor([0.2500])
    """

    @staticmethod
    def charge(p: IFNode, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(s.v + x)


class HalfThresholdIFNode(SoftResetIntegrateAndFire):
    r"""Integrate-and-fire that starts, and starts again after `reset()`, at half the threshold; the reset is soft.

    $$V_0 = \tfrac{1}{2} V_{th} \qquad H_t = V_{t-1} + X_t$$

    The mean output of a constant input is then rounded to the nearest multiple of $V_{th}/T$, not down to it.

    - `v_threshold`: $V_{th}$, above 0.

    Bu et al., *Optimized potential initialization for low-latency spiking neural networks* (AAAI 2022).

    >>> node = HalfThresholdIFNode(step_mode="m", store_v_seq=True)
    >>> node.v
    0.5
    >>> node(torch.full((4, 1), 0.375)).flatten()  # H = 0.875, 1.25, 0.625, 1: two spikes of four for a mean of 1.5 / 4
    tensor([0., 1., 0., 1.])
    >>> node.v_seq.flatten()
    tensor([0.8750, 0.2500, 0.6250, 0.0000])
    """

    v_threshold: Value = value(default=1.0, above=0.0, infinite=True)

    @staticmethod
    def charge(p: HalfThresholdIFNode, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(s.v + x)

    @classmethod
    def rest(cls, p: Any) -> Membrane:
        half = p.v_threshold / 2
        if isinstance(half, Tensor):
            return Membrane(half.masked_fill(torch.isinf(half), 0.0))
        return Membrane(0.0 if half == math.inf else half)


@evaluating("_decay_input", LeakyCharges.neuronal_charge_decay_input, LeakyCharges.neuronal_charge_decay_input_reset0)
@evaluating(
    "_no_decay_input", LeakyCharges.neuronal_charge_no_decay_input, LeakyCharges.neuronal_charge_no_decay_input_reset0
)
class LeakyIntegrateAndFire(LeakyCharges, IntegrateAndFire, abstract=True):
    """Base of the neurons that charge as `LIFNode` does, with its fields `tau` and `decay_input`."""

    tau: Value = value(default=2.0, above=1.0)
    decay_input: bool = option(default=True, kind=bool)

    @staticmethod
    def charge(p: Any, s: Any, x: Tensor) -> Any:
        return s._replace(v=leak(p, s.v, x))


class LIFNode(LeakyIntegrateAndFire):
    r"""Leaky integrate-and-fire.

    $$H_t = V_{t-1} + \tfrac{1}{\tau}\left(X_t - (V_{t-1} - V_{reset})\right) \quad\text{or, without decay_input,}\quad
      H_t = V_{t-1} - \tfrac{1}{\tau}(V_{t-1} - V_{reset}) + X_t$$

    - `tau`: the membrane time constant in steps, above 1.
    - `decay_input`: whether the input is divided by `tau` too.

    Gerstner et al., *Neuronal Dynamics* (2014), section 1.3.

    >>> node = LIFNode(tau=2.0, v_threshold=0.5, step_mode="m", store_v_seq=True)
    >>> node(torch.full((4, 1), 0.9)).flatten()
    tensor([0., 1., 0., 1.])
    >>> node.v_seq.flatten()
    tensor([0.4500, 0.0000, 0.4500, 0.0000])
    """


class ParametricLIFNode(IntegrateAndFire):
    r"""A leaky neuron that learns its time constant: $1/\tau = \sigma(w)$ with the Parameter $w$.

    $$H_t = V_{t-1} + \sigma(w)\left(X_t - (V_{t-1} - V_{reset})\right)$$

    - `init_tau`: $\tau$ at the start, above 1; then $w = -\ln(\tau - 1)$.
    - `decay_input`: whether the input is multiplied by $\sigma(w)$ too.

    Fang et al., *Incorporating learnable membrane time constant* (ICCV 2021).

    >>> node = ParametricLIFNode(init_tau=4.0)
    >>> node(torch.tensor([2.0])).detach(), node.v.detach(), node.tau
    (tensor([0.]), tensor([0.5000]), 4.0)
    """

    init_tau: float = option(default=2.0, above=1.0, shapes_dynamics=False)
    decay_input: bool = option(default=True, kind=bool)
    w: Tensor = value(init=False, learnable=True)

    def prepare(self) -> None:
        self.w = nn.Parameter(torch.tensor(-math.log(self.init_tau - 1)))
        super().prepare()

    @property
    def tau(self) -> float:
        """The present time constant."""
        return 1 / torch.sigmoid(self.w.detach()).item()

    def extra_repr(self) -> str:
        tau = f"tau={float(f'{self.tau:.6g}')}, " if self.w.numel() == 1 and not self.w.is_meta else ""
        return tau + super().extra_repr()

    def _shows(self, name: str, spec: Field) -> bool:
        return name != "init_tau" and super()._shows(name, spec)

    @staticmethod
    def charge(p: ParametricLIFNode, s: Membrane, x: Tensor) -> Membrane:
        rate = torch.sigmoid(p.w)
        drawn = s.v - rest_potential(p)
        return Membrane(s.v + (x - drawn) * rate if p.decay_input else s.v - drawn * rate + x)
