"""Neurons with a synaptic current: the input charges the current, the current charges the membrane."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ..fields import Value, part, value
from ..surrogate import Rect, Surrogate
from .integrate import IntegrateAndFire, rest_potential

__all__ = ["CUBALIFNode"]


class Synaptic(NamedTuple):
    """The state of a neuron with a synaptic current."""

    v: Value = 0.0
    c: Value = 0.0


class CUBALIFNode(IntegrateAndFire):
    r"""Current-based leaky integrate-and-fire.

    $$C_t = d_c C_{t-1} + X_t \qquad H_t = d_v V_{t-1} + C_t$$

    - `c_decay`: $d_c$, the part of the synaptic current that a step leaves, from 0 to 1.
    - `v_decay`: $d_v$, the part of the membrane potential that a step leaves, from 0 to 1.

    The potential decays towards 0, whatever `v_reset` is.

    Davies et al., *Loihi: a neuromorphic manycore processor with on-chip learning* (IEEE Micro 2018).

    >>> node = CUBALIFNode(c_decay=0.5, v_decay=0.5, step_mode="m")
    >>> node(torch.tensor([[0.25], [0.25], [0.0]])).flatten()  # C = 0.25, 0.375, 0.1875; H = 0.25, 0.5, 0.1875
    tensor([0., 1., 0.])
    >>> node.v, node.c
    (tensor([0.1875]), tensor([0.1875]))
    """

    c_decay: Value = value(default=0.5, at_least=0.0, at_most=1.0)
    v_decay: Value = value(default=0.75, at_least=0.0, at_most=1.0)
    v_threshold: Value = value(default=0.5, infinite=True)
    v_reset: Value | None = value(default=0.0, optional=True)
    surrogate_function: Surrogate = part(factory=Rect)

    State = Synaptic

    @staticmethod
    def charge(p: CUBALIFNode, s: Synaptic, x: Tensor) -> Synaptic:
        c = s.c * p.c_decay + x
        return Synaptic(s.v * p.v_decay + c, c)

    @classmethod
    def rest(cls, p: Any) -> Synaptic:
        return Synaptic(rest_potential(p))
