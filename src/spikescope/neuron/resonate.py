"""Resonate-and-fire: a damped oscillator that answers to inputs of its own frequency."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

from ..fields import Value, value
from .integrate import IntegrateAndFire, rest_potential

__all__ = ["RAFNode", "ResonateAndFireNode"]


class Oscillation(NamedTuple):
    """The complex state u + iv."""

    v: Value = 0.0
    u: Value = 0.0


def _exp(x: Value) -> Value:
    return x.exp() if isinstance(x, Tensor) else math.exp(x)


def _cos(x: Value) -> Value:
    return x.cos() if isinstance(x, Tensor) else math.cos(x)


def _sin(x: Value) -> Value:
    return x.sin() if isinstance(x, Tensor) else math.sin(x)


class ResonateAndFireNode(IntegrateAndFire):
    r"""Resonate-and-fire: a complex state $Z = U + iV$ that turns and decays.

    $$Z_t = e^{(b + i\omega)\,\delta}\, Z_{t-1} + X_t$$

    This is $\dot z = (b + i\omega) z$ solved exactly over a step, the input a kick to the real part $U$ at its end. The
    imaginary part $V$ is the membrane potential: it alone is compared with the threshold, and it alone is reset.

    - `b`: the damping, below 0, per unit of time.
    - `omega`: the angular frequency, above 0, in radians per unit of time.
    - `dt`: $\delta$, the length of a step, above 0.

    Izhikevich, *Resonate-and-fire neurons* (Neural Networks 2001); Higuchi et al., *Balanced resonate-and-fire
    neurons* (ICML 2024), for its use in deep networks.

    >>> node = ResonateAndFireNode(b=-math.log(2), omega=math.pi / 2, step_mode="m")  # a quarter turn, half the size
    >>> node(torch.tensor([[2.0], [0.0], [0.0]])).flatten()  # Z = 2, i and a reset, 0
    tensor([0., 1., 0.])
    """

    b: Value = value(default=-0.2, below=0.0)
    omega: Value = value(default=1.0, above=0.0)
    dt: Value = value(default=1.0, above=0.0)

    State = Oscillation

    @staticmethod
    def charge(p: Any, s: Oscillation, x: Tensor) -> Oscillation:
        size, angle = _exp(p.b * p.dt), p.omega * p.dt
        along, across = size * _cos(angle), size * _sin(angle)
        return Oscillation(v=across * s.u + along * s.v, u=along * s.u - across * s.v + x)

    @classmethod
    def rest(cls, p: Any) -> Oscillation:
        return Oscillation(rest_potential(p))


RAFNode = ResonateAndFireNode
