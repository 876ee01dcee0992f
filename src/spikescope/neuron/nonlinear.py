"""Neurons with a nonlinearity of the membrane potential: in its charging, before the threshold, or at the output."""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import Tensor, nn

from ..dynamics import Definition
from ..fields import Value, option, value
from .integrate import IntegrateAndFire, LeakyIntegrateAndFire, Membrane, leak, reset_to, subtracted
from .named import LeakyCharges

__all__ = ["EIFNode", "KLIFNode", "LIAFNode", "QIFNode", "quadratic"]


def quadratic(p: Any, v: Value, x: Tensor) -> Tensor:
    """One step of the quadratic charging of `v` by the current `x`."""
    return v + (x + p.a0 * (v - p.v_rest) * (v - p.v_c)) / p.tau


class QIFNode(IntegrateAndFire):
    r"""Quadratic integrate-and-fire: below `v_c` the potential falls to `v_rest`, above it rises by itself.

    $$H_t = V_{t-1} + \tfrac{1}{\tau}\left(X_t + a_0 (V_{t-1} - V_{rest})(V_{t-1} - V_c)\right)$$

    - `tau`: the membrane time constant in steps, above 1.
    - `v_c`: the critical potential $V_c$.
    - `a0`: the strength of the nonlinearity, above 0.
    - `v_rest`: the resting potential; the potential starts at `v_reset` (at 0 with a soft reset).

    Gerstner et al., *Neuronal Dynamics* (2014), section 5.3; Latham et al. (J. Neurophysiol. 2000).

    >>> node = QIFNode(v_c=0.5, v_reset=0.0, step_mode="m", store_v_seq=True)
    >>> node(torch.tensor([[1.5], [1.0], [1.0]])).flatten()  # H = 0.75, 0.75 + 1.1875 / 2, 0.5
    tensor([0., 1., 0.])
    >>> node.v_seq.flatten()
    tensor([0.7500, 0.0000, 0.5000])
    """

    tau: Value = value(default=2.0, above=1.0)
    v_c: Value = value(default=0.8)
    a0: Value = value(default=1.0, above=0.0)
    v_threshold: Value = value(default=1.0, infinite=True)
    v_rest: Value = value(default=0.0)
    v_reset: Value | None = value(default=-0.1, optional=True)

    printed = IntegrateAndFire.printed | {"v_c", "a0", "v_rest"}

    @staticmethod
    def charge(p: QIFNode, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(quadratic(p, s.v, x))


class EIFNode(IntegrateAndFire):
    r"""Exponential integrate-and-fire: a leak, and an upstroke that sets in around `theta_rh`.

    $$H_t = V_{t-1} + \tfrac{1}{\tau}\left(X_t - (V_{t-1} - V_{rest})
      + \Delta_T \exp\frac{V_{t-1} - \theta_{rh}}{\Delta_T}\right)$$

    - `tau`: the membrane time constant in steps, above 1.
    - `delta_T`: the sharpness $\Delta_T$ of the upstroke, above 0.
    - `theta_rh`: the rheobase threshold.
    - `v_rest`: the resting potential; the potential starts at `v_reset` (at 0 with a soft reset).

    Fourcaud-Trocmé et al., *How spike generation mechanisms determine the neuronal response* (J. Neurosci. 2003).

    >>> node = EIFNode(theta_rh=0.0, v_reset=0.0, step_mode="m", store_v_seq=True)
    >>> node(torch.tensor([[0.0], [1.0]])).flatten()  # H = exp(0) / 2, then 0.5 + (1 - 0.5 + exp(0.5)) / 2 = 1.57
    tensor([0., 1.])
    >>> node.v_seq.flatten()
    tensor([0.5000, 0.0000])
    """

    tau: Value = value(default=2.0, above=1.0)
    delta_T: Value = value(default=1.0, above=0.0)
    theta_rh: Value = value(default=0.8)
    v_threshold: Value = value(default=1.0, infinite=True)
    v_rest: Value = value(default=0.0)
    v_reset: Value | None = value(default=-0.1, optional=True)

    printed = IntegrateAndFire.printed | {"delta_T", "theta_rh"}

    @staticmethod
    def charge(p: Any, s: Membrane, x: Tensor) -> Membrane:
        upstroke = p.delta_T * torch.exp((s.v - p.theta_rh) / p.delta_T)
        return Membrane(s.v + (x - (s.v - p.v_rest) + upstroke) / p.tau)


class KLIFNode(LeakyIntegrateAndFire):
    r"""A leaky neuron that learns the scale of its potential: a Parameter `k`, 1 at the start, and a ReLU.

    $$F_t = \mathrm{ReLU}(k H_t) \qquad S_t = \Theta(F_t - V_{th})$$

    with $H_t$ of `LIFNode`; the reset acts on $F_t$, or with `scale_reset` on $F_t / k$ and $V_{th} / k$.

    - `scale_reset`: whether the reset divides by `k`, so that the scale is that of the spike alone.
    - `tau`, `decay_input`: as in `LIFNode`.

    Jiang and Zhang, *KLIF: an optimized spiking neuron unit* (2023), arXiv:2302.09238.

    >>> node = KLIFNode(v_reset=None, step_mode="m")
    >>> _ = nn.init.constant_(node.k, 2.0)
    >>> node(torch.tensor([[-1.0], [1.5]])).detach().flatten()  # F = 0, 2 * 0.75
    tensor([0., 1.])
    >>> node.v.detach()
    tensor([0.5000])
    """

    scale_reset: bool = option(default=False, kind=bool)
    k: Tensor = value(init=False, learnable=True)

    def prepare(self) -> None:
        self.k = nn.Parameter(torch.tensor(1.0))
        super().prepare()

    @staticmethod
    def neuronal_charge_decay_input(  # type: ignore[override]  # the arguments that callers of this name give
        x: Tensor, v: Value, v_reset: Value, tau: Value, k: Value
    ) -> Tensor:
        """That of a leaky neuron, scaled and rectified."""
        return torch.relu(k * LeakyCharges.neuronal_charge_decay_input(x, v, v_reset, tau))

    @staticmethod
    def neuronal_charge_no_decay_input(  # type: ignore[override]  # the arguments that callers of this name give
        x: Tensor, v: Value, v_reset: Value, tau: Value, k: Value
    ) -> Tensor:
        """That of a leaky neuron, scaled and rectified."""
        return torch.relu(k * LeakyCharges.neuronal_charge_no_decay_input(x, v, v_reset, tau))

    @staticmethod
    def charge(p: Any, s: Membrane, x: Tensor) -> Membrane:
        return Membrane(torch.relu(p.k * leak(p, s.v, x)))

    @classmethod
    def recover(cls, p: Any, s: Any, spike: Tensor) -> Membrane:
        if not p.scale_reset:
            return Membrane(reset_to(p, s.v, spike))
        return Membrane(reset_to(p, s.v / p.k, spike, subtracted(p) / p.k))


class LIAFNode(LeakyIntegrateAndFire):
    r"""Leaky integrate and analog fire: the output is an analog function of the potential, the spike only resets.

    $$Y_t = f(H_t) \quad\text{or, with threshold_related,}\quad Y_t = f(H_t - V_{th})$$

    with $H_t$, the spike and the reset of `LIFNode`.

    - `act`: $f$, a pointwise function of a tensor, for example `torch.relu` or a module such as `nn.SELU()`.
    - `threshold_related`: whether the threshold is subtracted first.
    - `tau`, `decay_input`: as in `LIFNode`.

    Wu et al., *LIAF-Net: leaky integrate and analog fire network* (IEEE TNNLS 2021).

    >>> node = LIAFNode(torch.relu, threshold_related=False, step_mode="m")
    >>> node(torch.tensor([[1.0], [2.5], [-1.0]])).flatten()  # H = 0.5, 1.5 and a reset, -0.5
    tensor([0.5000, 1.5000, 0.0000])
    """

    act: Callable[[Tensor], Tensor] = option(kw_only=True)
    threshold_related: bool = option(kind=bool, kw_only=True)

    example = {"act": torch.tanh, "threshold_related": True}

    def __setattr__(self, name: str, given: Any) -> None:
        if name == "act" and not callable(given):
            raise TypeError(
                f"{type(self).__name__}: act must be a pointwise function of a tensor, such as torch.relu, "
                f"but got {given!r}."
            )
        super().__setattr__(name, given)

    def _definition(self, p: Any) -> Definition:
        definition = super()._definition(p)
        if isinstance(p.act, BuiltinFunctionType):
            return definition
        return definition._replace(key=None)  # what may have weights, a mode or a closure must not enter a kernel

    @classmethod
    def give(cls, p: Any, s: Membrane, spike: Tensor) -> Tensor:
        given: Tensor = p.act(s.v - p.v_threshold if p.threshold_related else s.v)
        return given
