"""The eager loop behind the interface of a kernel: compiled code, which takes a number for a constant, calls it so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..internals import recording
from . import eager
from .eager_taps import eager_taps
from .graphs.program import Values, program
from .layout import Gradients, Outputs, layout, make_gradients, make_outputs, real_dtype

__all__ = ["backward", "forward", "leaf", "vector_jacobian"]


def forward(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: frozenset[str],
) -> Outputs:
    """Run the loop forwards."""
    x_seq, step = layout(x_seq)
    out = make_outputs("torch", x_seq, step, len(state), keep_v, keep_checkpoints, taps)
    run = _run(key, x_seq, state, values, keep_v, not {"count", "packed"}.issuperset(taps))
    told = eager_taps(tuple(taps), x_seq, run.output, run.h_seq)
    out.y.copy_(run.output)
    for buffer, held in zip(out.state, run.state, strict=True):
        buffer.copy_(held)
    if out.v_seq is not None and run.v_seq is not None:
        out.v_seq.copy_(run.v_seq)
    for name, buffer in out.taps.items():
        buffer.copy_(told[name])
    return out


def _run(
    key: str, x_seq: Tensor, state: Sequence[float | Tensor], values: Values, keep_v: bool, keep_h: bool = False
) -> eager.Sequence:
    model = program(key).model
    first = x_seq[0] if len(x_seq) else x_seq.new_empty(x_seq.shape[1:])
    start = eager.start(model.State(*state), first)
    return eager.sequence(model.step, model.params(values.slots(real_dtype(x_seq))), start, x_seq, keep_v, keep_h)


def backward(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    wanted: tuple[int, ...],
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: Sequence[Tensor | None],
) -> Gradients:
    """Run it backwards, by autograd."""
    _, step = layout(x_seq)
    real = real_dtype(x_seq)
    with recording():
        x = x_seq.detach().requires_grad_()
        start = [held.detach().requires_grad_() if isinstance(held, Tensor) else held for held in state]
        tensors = [held.detach().requires_grad_() for held in values.tensors]
        places = {slot: tensors[i] for i, slot in enumerate(i for i, kind in enumerate(values.kinds) if kind != "n")}
        inputs = [x, *(held for held in start if isinstance(held, Tensor)), *(places[slot] for slot in wanted)]
        found = iter(
            vector_jacobian(key, x, start, values._replace(tensors=tensors), inputs, (gy, gv_seq, *gstate), False)
        )
    # in memory of their own: autograd may give one gradient for several, or what was given
    out = make_gradients(x_seq, step, state)
    out.x_seq.copy_(next(found))
    for held, buffer in zip(state, out.state, strict=True):
        grad = next(found) if isinstance(held, Tensor) else None
        if buffer is not None and grad is not None:
            buffer.copy_(grad)
    return out._replace(values=[held.to(real, copy=True) for held in found])


def vector_jacobian(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    create_graph: bool,
) -> tuple[Tensor, ...]:
    """The gradients of `inputs` by autograd through the loop, from those of output, potentials and last state."""
    out = _run(key, x_seq, state, values, grads[1] is not None)
    pairs = [
        (o, g)
        for o, g in zip((out.output, out.v_seq, *out.state), grads, strict=True)
        if o is not None and g is not None and o.requires_grad
    ]
    return torch.autograd.grad(
        [o for o, _ in pairs],
        list(inputs),
        [g for _, g in pairs],
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )


def leaf(held: Tensor, again: bool) -> Tensor:
    """A tensor to differentiate by, apart from what else depends on it; with its own graph where `again` goes on."""
    return held.view_as(held) if again and held.requires_grad else held.detach().requires_grad_()
