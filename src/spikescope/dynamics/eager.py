"""The reference backend: the step as PyTorch operations, a Python loop over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Sequence", "Step", "cast", "sequence", "single", "start"]


class Step(NamedTuple):
    """What one time step gives."""

    output: Tensor
    state: Any  # the neuron's State
    h: Tensor | None  # the membrane potential before the reset


class Sequence(NamedTuple):
    """What a run over time gives."""

    output: Tensor
    state: Any
    v_seq: Tensor | None = None  # the membrane potential after every step, when asked for
    taps: Mapping[str, Tensor] = {}  # what else was asked for
    h_seq: Tensor | None = None  # of the eager loop: the membrane potential before every reset, when asked for


StepFunction = Callable[[Any, Any, Tensor], Step]


def cast(p: Any, dtype: torch.dtype) -> Any:
    """The fields with their tensors in the dtype of the state."""
    for each in p:  # a loop: to make them anew takes longer than the question
        if isinstance(each, Tensor) and each.dtype is not dtype:
            return p._make([held.to(dtype) if isinstance(held, Tensor) else held for held in p])
    return p


def start(state: Any, x: Tensor) -> Any:
    """The state as tensors of the shape of one step, in its own precision: at least float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    for held in state:
        if isinstance(held, Tensor):
            dtype = torch.promote_types(dtype, held.dtype)

    def full(held: float | Tensor) -> Tensor:
        if not isinstance(held, Tensor):
            return torch.full_like(x, held, dtype=dtype)
        if held.dtype is dtype and held.shape == x.shape and held.device == x.device:
            return held  # as nearly always: to ask takes less than two views of what is the same
        return held.to(device=x.device, dtype=dtype).expand(x.shape)

    return state._make(full(held) for held in state)


def single(step: StepFunction, p: Any, state: Any, x: Tensor) -> Step:
    """One step; the output in the dtype of the input, and apart from what the graph keeps, to be changed in place."""
    dtype = state[0].dtype
    out = step(cast(p, dtype), state, x.to(dtype))
    return out._replace(output=out.output.to(x.dtype, copy=out.output.requires_grad))


def sequence(step: StepFunction, p: Any, state: Any, x_seq: Tensor, keep_v: bool, keep_h: bool = False) -> Sequence:
    """All steps of `x_seq`; with `keep_v` and `keep_h` also the membrane potential after each and before its reset."""
    dtype = state[0].dtype
    p = cast(p, dtype)
    outputs, potentials, charged = [], [], []
    for x in x_seq.unbind(0):
        out = step(p, state, x.to(dtype))
        state = out.state
        outputs.append(out.output.to(x_seq.dtype))
        if keep_v:
            potentials.append(state.v)
        if keep_h and out.h is not None:
            charged.append(out.h)
    if not outputs:
        empty = torch.empty_like(x_seq, dtype=dtype)
        return Sequence(x_seq.clone(), state, empty if keep_v else None, h_seq=empty if keep_h else None)
    v_seq = torch.stack(potentials) if keep_v else None
    return Sequence(torch.stack(outputs), state, v_seq, h_seq=torch.stack(charged) if charged else None)
