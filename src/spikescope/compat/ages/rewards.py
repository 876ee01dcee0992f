"""Learners whose reward acts on the change of the step before: that of the first step finds nothing.

$$\\Delta W_t = r_t\\, \\zeta_{t-1} \\qquad \\text{with an eligibility trace} \\qquad
  z_t = e^{-1/\\tau}\\, z_{t-1} + \\tfrac{1}{\\tau}\\, \\zeta_{t-1}, \\quad \\Delta W_t = r_t\\, z_t$$
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ... import learning

__all__ = ["MSTDPETLearner", "MSTDPLearner"]


class _Late(learning._RewardLearner):
    """A rule that keeps the last step until the next one has come."""

    before: tuple[list[Tensor], tuple[Tensor, Tensor]] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_memory("before", None)  # spikes and traces of the last step, and what its weights made of them

    def _took_over(self, pair: tuple[Tensor, Tensor], reward: Tensor | float) -> Tensor:
        """The change of the step before `pair` by the reward; `pair` then stands in its place."""
        tracked, before = self._tracked([pair]), self.before
        self.before = tracked, self._scales(tracked)
        if before is None:
            return torch.zeros_like(self.synapse.weight, dtype=pair[0].dtype)
        return self._scaled(before[0], reward, *before[1])


class MSTDPLearner(_Late, learning.MSTDPLearner):
    """`learning.MSTDPLearner`, a step late, whose `batch_size` may be left out, as in 2.0: then any will do. Where the
    synapse stands in its place, it may be given by name.
    """

    def __init__(self, step_mode: str, *args: Any, **kwargs: Any) -> None:
        by_place = bool(args) and not isinstance(args[0], nn.Module)
        any_batch = not by_place and "batch_size" not in kwargs
        batch = () if by_place else (1 if any_batch else kwargs.pop("batch_size"),)
        super().__init__(step_mode, *batch, *args, **kwargs)
        self.any_batch = any_batch

    def _per_sample(self, reward: Tensor | float, seen: list[tuple[Tensor, Tensor]]) -> Tensor | float:
        if self.any_batch and seen:
            self.batch_size = len(seen[0][1])
        return super()._per_sample(reward, seen)

    @learning._apart
    def step(self, reward: Tensor | float, on_grad: bool = True, scale: float = 1.0) -> Tensor | None:
        """Learn from the steps seen since the last call and the one before them, all with `reward`."""
        seen = self._observations(on_grad)
        rewards = self._per_sample(reward, seen)
        self._forget()
        changes = [self._took_over(pair, rewards) for pair in seen]
        return self._deliver(scale * torch.stack(changes).sum(0) if changes else None, on_grad)


class MSTDPETLearner(_Late, learning.MSTDPETLearner):
    """`learning.MSTDPETLearner`, a step late."""

    @learning._apart
    def step(self, reward: Tensor | float, on_grad: bool = True, scale: float = 1.0) -> Tensor | None:
        """Learn from the steps seen since the last call and the one before them, all with the one `reward`."""
        reward = self._one(reward)
        seen, tau = self._observations(on_grad), self.tau_trace
        self._forget()
        traces = []
        for pair in seen:
            self.trace_e = math.exp(-1 / tau) * self.trace_e + self._took_over(pair, 1.0) / tau
            traces.append(self.trace_e)
        return self._deliver(scale * reward * torch.stack(traces).sum(0) if traces else None, on_grad)
