"""Leaky neurons for training forward in time: the state passes no gradient from one step to the next."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from ..fields import Value, option, value
from .integrate import LeakyIntegrateAndFire, reset_to, rest_potential
from .stages import derived

__all__ = ["OTTTLIFNode", "SLTTLIFNode"]


class Traced(NamedTuple):
    """The membrane potential and the decaying sum of the spikes."""

    v: Value = 0.0
    trace: Value = 0.0


class OnlineLeakyIntegrateAndFire(LeakyIntegrateAndFire, abstract=True, keeps_order=True):
    """Base of the leaky neurons whose stored state has no graph, so that the memory does not grow with the steps."""

    detach_reset: bool = option(default=True, kind=bool, kw_only=True)

    supported_step_modes = ("s",)

    def _single(self, output: Tensor, state: Any, x: Tensor) -> Tensor:
        return super()._single(output, type(state)(*(held.detach() for held in state)), x)


class OTTTLIFNode(OnlineLeakyIntegrateAndFire, keeps_order=True):
    r"""A leaky neuron for online training through time. In training it gives out `[spike, trace]`, in eval the spike.

    $$H_t = (1 - \tfrac{1}{\tau})\, V_{t-1} + X_t \qquad \hat a_t = (1 - \tfrac{1}{\tau})\, \hat a_{t-1} + S_t$$

    Neither the potential nor the trace $\hat a$ carries a gradient from step to step. `layer.OTTTSequential` hands the
    pair to the next layer, whose weight gradient is then that of the paper. Single steps only.

    - `tau`, `decay_input`, `v_threshold`, `v_reset`: as in `LIFNode`; here without `decay_input`, with a soft reset.

    Xiao et al., *Online training through time for spiking neural networks* (NeurIPS 2022), equations 4 and 5.

    >>> node = OTTTLIFNode(tau=2.0)
    >>> [[held.item() for held in node(torch.tensor([x]))] for x in (1.0, 0.5, 1.0)]  # spikes 1, 0, 1
    [[1.0, 1.0], [0.0, 0.5], [1.0, 1.25]]
    >>> node.eval()(torch.tensor([0.0]))
    tensor([0.])
    """

    decay_input: bool = option(default=False, kind=bool)
    v_reset: Value | None = value(default=None, optional=True, kw_only=True)

    State: ClassVar[Any] = Traced

    @classmethod
    def recover(cls, p: Any, s: Any, spike: Tensor) -> Any:
        trace = s.trace * (1 - 1 / p.tau) + spike.detach()
        return s._replace(v=reset_to(p, s.v, spike), trace=trace)

    @classmethod
    def rest(cls, p: Any) -> Traced:
        return Traced(v=rest_potential(p))

    @derived
    def single_step_forward(self, x: Tensor) -> Any:
        spike = super().single_step_forward(x)
        return [spike, self.trace.to(x.dtype)] if self.training else spike


class SLTTLIFNode(OnlineLeakyIntegrateAndFire):
    r"""A leaky neuron for spatial learning through time: `LIFNode` whose gradient stays within each step.

    $$\frac{\partial H_t}{\partial V_{t-1}} := 0$$

    A backward pass after every step needs the graph of that step alone; one at the end gives the same gradient.
    Single steps only.

    - `tau`, `decay_input`, `v_threshold`, `v_reset`: as in `LIFNode`.

    Meng et al., *Towards memory- and time-efficient backpropagation for training spiking neural networks* (ICCV 2023).

    >>> node = SLTTLIFNode(tau=2.0)
    >>> x = torch.tensor([0.5], requires_grad=True)
    >>> _ = node(x), node(x)  # H = 0.25, 0.375
    >>> node.v
    tensor([0.3750])
    """
