"""Neurons with a second variable that their own activity drives: an adaptation current, a complementary potential."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..fields import Value, part, value
from ..surrogate import Rect, Surrogate
from .integrate import IntegrateAndFire, SoftResetIntegrateAndFire, decay, reset_to, rest_potential, subtracted
from .named import hard_reset, soft_reset
from .nonlinear import quadratic

__all__ = ["AdaptBaseNode", "AdaptiveLIFNode", "CLIFNode", "ComplementaryLIFNode", "IzhikevichNode"]


class Adapting(NamedTuple):
    """The state of a neuron with an adaptation current."""

    v: Value = 0.0
    w: Value = 0.0


def adapted(w: Value, tau_w: Value, a: Value, v_rest: Value, v: Value) -> Value:
    """The adaptation current that the potential `v` drives, before the spike."""
    return w + (a * (v - v_rest) - w) / tau_w


def raised(w: Value, b: Value, spike: Tensor) -> Value:
    """The adaptation current after the spike."""
    return w + b * spike


class AdaptBaseNode(IntegrateAndFire, abstract=True):
    r"""Base of the neurons with an adaptation current $W$, which their potential drives and every spike raises.

    $$W'_t = W_{t-1} + \tfrac{1}{\tau_w}\left(a (H_t - V_{rest}) - W_{t-1}\right) \qquad W_t = W'_t + b S_t$$

    A subclass writes `charge(p, s, x)`, which returns the state with $H_t$ in place of `v` and draws on `s.w`.

    - `v_rest`: the resting potential; the potential starts at `v_reset` (at 0 with a soft reset).
    - `w_rest`: the adaptation current at the start and after `reset()`.
    - `tau_w`: the time constant of the adaptation in steps, above 0.
    - `a`, `b`: the coupling to the potential and the jump at a spike. `detach_reset` leaves the gradient of the jump.

    Gerstner et al., *Neuronal Dynamics* (2014), section 6.1.
    """

    v_threshold: Value = value(default=1.0, infinite=True)
    v_reset: Value | None = value(default=0.0, optional=True)
    v_rest: Value = value(default=0.0)
    w_rest: Value = value(default=0.0)
    tau_w: Value = value(default=2.0, above=0.0)
    a: Value = value(default=0.0)
    b: Value = value(default=0.0)

    State = Adapting

    printed = IntegrateAndFire.printed | {"v_rest", "w_rest", "tau_w", "a", "b"}

    @classmethod
    def adapt(cls, p: Any, s: Adapting) -> Adapting:
        return s._replace(w=adapted(s.w, p.tau_w, p.a, p.v_rest, s.v))

    @classmethod
    def recover(cls, p: Any, s: Any, spike: Tensor) -> Any:
        return s._replace(v=reset_to(p, s.v, spike), w=raised(s.w, p.b, spike))

    jit_neuronal_adaptation = staticmethod(adapted)

    @staticmethod
    def jit_hard_reset(  # type: ignore[override]  # the arguments that callers of this name give
        v: Tensor, w: Tensor, spike_d: Tensor, v_reset: Value, b: Value, spike: Tensor
    ) -> tuple[Tensor, Value]:
        """Potential and adaptation current after a hard reset."""
        return hard_reset(v, spike_d, v_reset), raised(w, b, spike)

    @staticmethod
    def jit_soft_reset(  # type: ignore[override]  # the arguments that callers of this name give
        v: Tensor, w: Tensor, spike_d: Tensor, v_threshold: Value, b: Value, spike: Tensor
    ) -> tuple[Tensor, Value]:
        """Potential and adaptation current after a soft reset."""
        return soft_reset(v, spike_d, v_threshold), raised(w, b, spike)

    @classmethod
    def rest(cls, p: Any) -> Adapting:
        return Adapting(rest_potential(p), p.w_rest)


class AdaptiveLIFNode(AdaptBaseNode):
    r"""A leaky neuron that tires: the adaptation current of `AdaptBaseNode` is drawn from its input.

    $$H_t = V_{t-1} + \tfrac{1}{\tau}\left(X_t - (V_{t-1} - V_{rest}) - W_{t-1}\right)$$

    - `tau`: the membrane time constant in steps, above 1.
    - `b`: the jump of $W$ at a spike; `v_rest`, `w_rest`, `tau_w`, `a` as in `AdaptBaseNode`.

    Gerstner et al., *Neuronal Dynamics* (2014), section 6.1.

    >>> node = AdaptiveLIFNode(step_mode="m")
    >>> node(torch.full((3, 1), 2.0)).flatten()  # H = 1, 0.5, 1 and W = 1, 0.5, 1.25
    tensor([1., 0., 1.])
    >>> node.v, node.w
    (tensor([0.]), tensor([1.2500]))
    """

    tau: Value = value(default=2.0, above=1.0)
    b: Value = value(default=1.0)

    @staticmethod
    def charge(p: AdaptiveLIFNode, s: Adapting, x: Tensor) -> Adapting:
        return s._replace(v=s.v + (x - (s.v - p.v_rest) - s.w) / p.tau)


class IzhikevichNode(AdaptBaseNode):
    r"""Izhikevich's neuron: the quadratic charging of `QIFNode`, and the adaptation current of `AdaptBaseNode`.

    $$H_t = V_{t-1} + \tfrac{1}{\tau}\left(X_t + a_0 (V_{t-1} - V_{rest})(V_{t-1} - V_c) - W_{t-1}\right)$$

    - `tau`: the membrane time constant in steps, above 1.
    - `v_c`, `a0`: the critical potential and the strength of the nonlinearity, above 0.
    - `v_rest`, `w_rest`, `tau_w`, `a`, `b`: as in `AdaptBaseNode`.

    Izhikevich, *Simple model of spiking neurons* (IEEE Trans. Neural Networks 2003), in the variables of
    Gerstner et al., *Neuronal Dynamics* (2014), section 6.2.

    >>> node = IzhikevichNode(v_c=0.5, v_rest=0.0, a=0.5, b=0.25, step_mode="m")
    >>> node(torch.tensor([[2.0], [2.0]])).flatten()  # H = 1, then 1 - W / 2 with W = 0.5 * 1 / 2 + 0.25
    tensor([1., 0.])
    >>> node.v, node.w  # W = 0.5 + (0.5 * 0.75 - 0.5) / 2
    (tensor([0.7500]), tensor([0.4375]))
    """

    tau: Value = value(default=2.0, above=1.0)
    v_c: Value = value(default=0.8)
    a0: Value = value(default=1.0, above=0.0)
    v_threshold: Value = value(default=1.0, infinite=True)
    v_reset: Value | None = value(default=0.0, optional=True)
    v_rest: Value = value(default=-0.1)

    printed = AdaptBaseNode.printed | {"v_c", "a0"}

    @staticmethod
    def charge(p: IzhikevichNode, s: Adapting, x: Tensor) -> Adapting:
        return s._replace(v=quadratic(p, s.v, x - s.w))


class Complementary(NamedTuple):
    """The state of a complementary neuron."""

    v: Value = 0.0
    m: Value = 0.0


class ComplementaryLIFNode(SoftResetIntegrateAndFire):
    r"""Complementary leaky integrate-and-fire: a second potential $M$ remembers the spikes and deepens the reset.

    $$H_t = (1 - \tfrac{1}{\tau}) V_{t-1} + X_t \qquad M_t = M_{t-1}\,\sigma(H_t / \tau) + S_t \qquad
      V_t = H_t - S_t \left(V_{th} + \sigma(M_t)\right)$$

    - `tau`: the membrane time constant in steps, above 1.
    - `detach_reset`: the factor $S_t$ of the reset passes no gradient on; $M_t$ does.

    Huang et al., *CLIF: complementary leaky integrate-and-fire neuron for spiking neural networks* (ICML 2024).

    >>> node = ComplementaryLIFNode(step_mode="m")
    >>> node(torch.tensor([[0.5], [1.0]])).flatten()  # H = 0.5, 0.25 + 1
    tensor([0., 1.])
    >>> node.v, node.m  # M = 1, V = 1.25 - 1 - sigmoid(1)
    (tensor([-0.4811]), tensor([1.]))
    """

    tau: Value = value(default=2.0, above=1.0)
    v_threshold: Value = value(default=1.0, infinite=True)
    surrogate_function: Surrogate = part(factory=Rect)

    State = Complementary

    @staticmethod
    def charge(p: Any, s: Complementary, x: Tensor) -> Complementary:
        return s._replace(v=decay(p, s.v) + x)

    @classmethod
    def recover(cls, p: Any, s: Any, spike: Tensor) -> Complementary:
        m = s.m * torch.sigmoid(s.v / p.tau) + spike
        return Complementary(reset_to(p, s.v, spike, subtracted(p) + torch.sigmoid(m)), m)


CLIFNode = ComplementaryLIFNode
