"""Read-outs: neurons that integrate and never fire, whose output is read from the membrane potential."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..dynamics import Step
from ..errors import ShapeError, check_floating, check_sequence, dims
from ..fields import Value, option, value
from .core import PointwiseNeuron
from .integrate import leak

__all__ = ["NonSpikingIFNode", "NonSpikingLIFNode", "ReadOut"]


class ReadOutState(NamedTuple):
    """The membrane potential and what was read of it since the reset."""

    v: Value = 0.0
    read: Value = 0.0  # the maximum, the value of largest magnitude, or the sum, by `decode`
    steps: Value = 0.0


class TowardsZero(NamedTuple):
    """What `leak` asks of the fields, for a neuron that has nothing to reset to."""

    tau: Value
    decay_input: bool = True
    v_reset: None = None


class ReadOut(PointwiseNeuron, abstract=True):
    r"""Base of the read-outs. The output is the membrane potential decoded over all steps since the reset.

    $$\max_t V_t \qquad V_{\arg\max_t |V_t|} \qquad \tfrac{1}{T}\sum_{t=1}^{T} V_t \qquad V_T$$

    for `decode` of `'max-mem'`, `'max-abs-mem'`, `'mean-mem'` and `'last-mem'`; of equal values the first is taken, and
    alone has the gradient. In `step_mode='m'` the output is one decoded value, `[N, *]`; in `step_mode='s'` every call
    gives the value so far, so that T single steps end with the value of the sequence.

    A subclass writes `charge(p, v, x)`, the membrane potential after one step.
    """

    decode: str = option(default="last-mem", choices=("max-mem", "max-abs-mem", "mean-mem", "last-mem"))

    State = ReadOutState
    tells_of_its_past = False  # no surrogate stands between its steps

    @staticmethod
    def charge(p: Any, v: Value, x: Tensor) -> Tensor:
        """The membrane potential charged by `x`."""
        raise NotImplementedError("a read-out defines charge(p, v, x)")

    @classmethod
    def rest(cls, p: Any) -> Any:
        return ReadOutState(read=float("-inf") if p.decode == "max-mem" else 0.0)

    @classmethod
    def step(cls, p: Any, s: Any, x: Tensor) -> Step:
        v = cls.charge(p, s.v, x)
        if p.decode == "last-mem":
            return Step(v, s._replace(v=v), v)
        if p.decode == "mean-mem":
            total, steps = s.read + v, s.steps + 1
            return Step(total / steps, ReadOutState(v, total, steps), v)
        larger = v > s.read if p.decode == "max-mem" else v.abs() > s.read.abs()
        read = torch.where(larger, v, s.read)
        return Step(read, s._replace(v=v, read=read), v)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        check_floating(type(self).__name__, x_seq)
        check_sequence(type(self).__name__, x_seq)
        if not len(x_seq):
            raise ShapeError(
                f"{type(self).__name__} decodes at least one step, but got {dims(x_seq.shape, 'TN')}. "
                "Give it a sequence with T >= 1."
            )
        return super().multi_step_forward(x_seq)[-1]


class NonSpikingIFNode(ReadOut):
    r"""A read-out that sums its input: $V_t = V_{t-1} + X_t$, decoded over time as `decode` says.

    - `decode`: `'max-mem'`, `'max-abs-mem'`, `'mean-mem'` or `'last-mem'`.

    Rathi and Roy, *DIET-SNN* (IEEE TNNLS 2023), read their classes from such an output layer.

    >>> x_seq = torch.tensor([[1.0], [-3.0], [1.0]])  # V = 1, -2, -1
    >>> [NonSpikingIFNode(mode, step_mode="m")(x_seq).item() for mode in ("max-mem", "max-abs-mem", "last-mem")]
    [1.0, -2.0, -1.0]
    """

    @staticmethod
    def charge(p: NonSpikingIFNode, v: Value, x: Tensor) -> Tensor:
        return v + x


class NonSpikingLIFNode(ReadOut):
    r"""A read-out that leaks towards zero: $V_t = V_{t-1} + \frac{1}{\tau}(X_t - V_{t-1})$, decoded as `decode` says.

    - `tau`: the membrane time constant in steps, above 1.
    - `decode`: `'max-mem'`, `'max-abs-mem'`, `'mean-mem'` or `'last-mem'`.

    Gerstner et al., *Neuronal Dynamics* (2014), section 1.3, without the threshold.

    >>> NonSpikingLIFNode(tau=2.0, decode="mean-mem", step_mode="m")(torch.tensor([[1.0], [1.0]]))  # V = 0.5, 0.75
    tensor([0.6250])
    """

    tau: Value = value(default=2.0, above=1.0)

    @staticmethod
    def charge(p: NonSpikingLIFNode, v: Value, x: Tensor) -> Tensor:
        return leak(TowardsZero(p.tau), v, x)
