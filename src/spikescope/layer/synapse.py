"""Synapses: filtering, delaying and gathering spikes."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ..base import MemoryModule
from ..errors import ShapeError, check_floating, check_switches, check_tensor, check_whole, dims
from ..neuron.fast.row import known_to_rows
from .stateless import stateless

__all__ = ["Delay", "SynapseFilter", "VotingLayer"]


class SynapseFilter(MemoryModule):
    r"""An exponential synapse: the current decays while no spike comes, and each spike adds one.

    $$I_t = I_{t-1} - \frac{1}{\tau}(1 - S_t)\,I_{t-1} + S_t$$

    - `tau`: the time constant in steps, above 1.
    - `learnable`: whether $1/\tau = \sigma(w)$ is learned, with the Parameter $w$.

    The state is `out_i`. Diehl and Cook, *Unsupervised learning of digit recognition using spike-timing-dependent
    plasticity* (Frontiers in Computational Neuroscience 2015).

    >>> layer = SynapseFilter(tau=4.0, step_mode="m")
    >>> layer(torch.tensor([[1.0], [0.0], [1.0]])).flatten()  # 1, 1 - 1/4, 0.75 + 1
    tensor([1.0000, 0.7500, 1.7500])
    """

    out_i: Tensor | float

    def __init__(self, tau: float = 100.0, learnable: bool = False, step_mode: str = "s") -> None:
        super().__init__()
        check_switches("SynapseFilter", learnable=learnable)
        self.w = nn.Parameter(torch.empty(())) if learnable else None
        self.tau = tau
        self.register_memory("out_i", 0.0)
        self.step_mode = step_mode

    @property
    def learnable(self) -> bool:
        """Whether the time constant is learned."""
        return self.w is not None

    @property
    def tau(self) -> float:
        """The present time constant; one that is assigned holds from the next step on."""
        return self._tau if self.w is None else 1 / torch.sigmoid(self.w.detach()).item()

    @tau.setter
    def tau(self, given: Any) -> None:
        number = float(given) if isinstance(given, (Real, Tensor)) else math.nan
        if not 1 < number < math.inf:
            raise ValueError(f"SynapseFilter: tau must be above 1 and finite, but got {given!r}.")
        self._tau = number
        if self.w is not None:
            self.w.data.fill_(-math.log(self._tau - 1))

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_floating("SynapseFilter", x)
        held = self.fitting("out_i", x.shape)
        rate = 1 / self._tau if self.w is None else torch.sigmoid(self.w)
        spike = x.to(torch.promote_types(x.dtype, torch.float32))
        current: Tensor = held - rate * (1 - spike) * held + spike
        self.out_i = current
        return current.to(x.dtype)

    def extra_repr(self) -> str:
        return f"tau={float(f'{self.tau:.6g}')}, learnable={self.learnable}, {super().extra_repr()}"


class Delay(MemoryModule):
    r"""A queue: $y_t = x_{t-d}$, and zeros for the first d steps after a reset, the same in both step modes.

    - `delay_steps`: d, an int of at least 0.

    >>> layer = Delay(2, step_mode="m")
    >>> layer(torch.tensor([[1.0], [2.0], [3.0]])).flatten(), layer(torch.tensor([[4.0], [5.0]])).flatten()
    (tensor([0., 0., 1.]), tensor([2., 3.]))
    """

    wide_state = False
    zero_at_rest = frozenset({"queue"})

    queue: list[Tensor]

    def __init__(self, delay_steps: int, step_mode: str = "s") -> None:
        super().__init__()
        self._delay_steps = check_whole("Delay", "delay_steps", delay_steps, 0)
        self.register_memory("queue", [])
        self.step_mode = step_mode

    @property
    def delay_steps(self) -> int:
        """How many steps a value waits."""
        return self._delay_steps

    def single_step_forward(self, x: Tensor) -> Tensor:
        check_tensor("Delay", "the input", x)
        waiting = [*(self.fitting("queue", x.shape, held) for held in self.queue), x]
        if len(waiting) <= self._delay_steps:
            self.queue = waiting
            return torch.zeros_like(x)
        if len(waiting) > self._delay_steps + 1:
            raise ValueError(
                f"Delay: a queue of {len(self.queue)} values was set, but only {self._delay_steps} wait. Set "
                "delay_steps of them or fewer, the oldest first."
            )
        self.queue = waiting[1:]
        return waiting[0].to(x.dtype)

    def extra_repr(self) -> str:
        return f"delay_steps={self.delay_steps}, {super().extra_repr()}"


class _VotingLayer(nn.Module):
    """The mean over groups of outputs: `[N, C * voting_size]` to `[N, C]`, or `[T, N, *]` with `step_mode='m'`.

    Each class has `voting_size` consecutive outputs, which vote. A number of outputs that is not a multiple of it is a
    `ShapeError`.

    Fang et al., *Incorporating learnable membrane time constant* (ICCV 2021).

    >>> VotingLayer(2)(torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    tensor([[0.5000, 1.0000]])
    """

    def __init__(self, voting_size: int = 10) -> None:
        super().__init__()
        self.voting_size = check_whole("VotingLayer", "voting_size", voting_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.voting_size:
            raise ShapeError(
                f"VotingLayer with voting_size={self.voting_size} takes a multiple of {self.voting_size} outputs, "
                f"but got {x.shape[-1]} in steps of {dims(x.shape, 'N')}."
            )
        return x.unflatten(-1, (x.shape[-1] // self.voting_size, self.voting_size)).mean(-1)

    def extra_repr(self) -> str:
        return f"voting_size={self.voting_size}"


VotingLayer = stateless(_VotingLayer, "N F", one_sample=True, example=(2,), module=__name__)


known_to_rows(__name__)
