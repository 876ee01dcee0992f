"""The complementary neuron as SpikingJelly 2.0 has it: it can keep the course of both its potentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from ... import neuron
from ...base import moved
from ...dynamics import eager
from ...errors import check_sequence
from ...fields import option
from ...neuron.stages import derived
from .made import aged, signature_of

__all__ = ["ComplementaryLIFNode"]


class Kept(neuron.ComplementaryLIFNode, abstract=True):
    """`neuron.ComplementaryLIFNode` that keeps `v` and `m` of every step of the last sequence as `state_seqs`."""

    same_as = neuron.ComplementaryLIFNode
    store_state_seqs: bool = option(default=False, kind=bool, shapes_dynamics=False)
    state_seqs: list[Tensor] | None = None

    @derived
    def multi_step_forward(self, x_seq: Tensor) -> Any:
        if not self.store_state_seqs:
            return super().multi_step_forward(x_seq)
        x_seq = self._admit(x_seq)
        check_sequence(type(self).__name__, x_seq)
        state = self._state(self.params(), x_seq, x_seq.shape[1:])
        outputs, states, charged = [], [], []
        for x in self._driven(x_seq).unbind(0):
            out = eager.single(type(self).fed_step, self.params(), eager.start(state, x), x)
            state = out.state
            outputs.append(out.output.to(x_seq.dtype))
            states.append(state)
            charged.append(out.h)
        if not states:
            return super().multi_step_forward(x_seq)
        self._keep(state)
        v, m = map(torch.stack, zip(*states, strict=True))
        self.state_seqs = [v, m]
        if self.store_v_seq:
            self._potentials = [v.clone()]
        if taps := self._wanted_taps():
            self._leave(taps, x_seq, outputs, list(v), charged)
        return torch.stack(outputs)

    def reset(self) -> None:
        super().reset()
        self.state_seqs = None

    def detach(self) -> None:
        super().detach()
        if self.state_seqs is not None:
            self.state_seqs = [held.detach() for held in self.state_seqs]

    def __setattr__(self, name: str, given: Any) -> None:
        super().__setattr__(name, given)
        if name == "store_state_seqs":
            self.state_seqs = None

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return state | {"state_seqs": [held.detach() for held in self.state_seqs] if self.state_seqs else None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.state_seqs = moved(fn, self.state_seqs)
        return self


ComplementaryLIFNode = aged(
    Kept,
    "ComplementaryLIFNode",
    signature_of(
        Kept, "tau v_threshold surrogate_function step_mode store_state_seqs", "detach_reset backend store_v_seq"
    ),
    module=__name__,
    about="`neuron.ComplementaryLIFNode` that keeps its potentials in `state_seqs`, if `store_state_seqs` says so.",
)
