"""The fused run over time as PyTorch operators, with rules for fake tensors (torch.compile).

`spikescope::neuron` is the run forwards, `spikescope::neuron_backward` its vector-Jacobian product. `derivative.py`
holds their rules for autograd, `batching.py` those for vmap (torch.func). `spikescope::moving_neuron` and
`spikescope::moving_neuron_backward` are the same for numbers that tensors tell; see `moving.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..fields.class_form import COMPILED, changed_since
from . import loop
from .call import tap_names
from .cpp import native
from .graphs.program import Values, program
from .key import parted_key
from .layout import Outputs, checkpoint_shape, first_state, layout, make_outputs, real_dtype
from .moving import has_moving, settled
from .triton import gpu

__all__ = [
    "Operators",
    "all_operators",
    "call_backward_kernel",
    "call_kernel",
    "like_fields",
    "neuron",
    "neuron_backward",
    "operators",
    "tensor_slots",
]

_Tensors = list[Tensor]


def tensor_slots(kinds: str) -> list[int]:
    return [i for i, kind in enumerate(kinds) if kind != "n"]


def call_kernel(
    x_seq: Tensor,
    state: _Tensors,
    tensors: _Tensors,
    numbers: list[float],
    starts: str,
    key: str,
    backend: str,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: str,
) -> _Tensors:
    """Output, last state, then what was asked for of: potentials, checkpoints, taps.

    `starts` says of each state whether it is one of the tensors `state` or a number behind those of the equations.
    """
    if COMPILED in key:
        for form in parted_key(key)[0]:
            if (why := changed_since(form, "the network was compiled")) is not None:
                raise RuntimeError(why)
    values = Values(program(key).model.kinds, tensors, tuple(numbers))
    held, on = first_state(starts, state, numbers), frozenset(tap_names(taps))
    out = _module(backend).forward(key, x_seq, held, values, keep_v, keep_checkpoints, on)
    return _flat(out, taps)


def _flat(out: Outputs, taps: str) -> _Tensors:
    kept = [held for held in (out.v_seq, out.checkpoints) if held is not None]
    return [out.y, *out.state, *kept, *(out.taps[name] for name in tap_names(taps))]


def _module(backend: str) -> Any:
    return {"cpp": native, "triton": gpu, "torch": loop}[backend]


def _call_settled(
    x_seq: Tensor, state: _Tensors, tensors: _Tensors, numbers: list[float], starts: str, key: str, *rest: Any
) -> _Tensors:
    call = settled(key, tensors, numbers)
    return call_kernel(x_seq, state, call.tensors, call.numbers, starts, call.key, *rest)


def _fake(x_seq: Tensor, *rest: Any) -> _Tensors:
    *_, starts, _, backend, keep_v, keep_checkpoints, taps = rest
    x_seq, step = layout(x_seq)
    made = make_outputs(backend, x_seq, step, len(starts), keep_v, keep_checkpoints, frozenset(tap_names(taps)))
    return _flat(made, taps)


def call_backward_kernel(
    x_seq: Tensor,
    state: _Tensors,
    tensors: _Tensors,
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: list[Tensor | None],
    numbers: list[float],
    starts: str,
    wanted: list[int],
    key: str,
    backend: str,
    place: Tensor | None = None,
) -> _Tensors:
    """Gradients of the input, the tensors of the first state, and the tensors whose index is in `wanted`.

    - `place`: where the CPU's kernel is to leave that of the input; it may be the input itself.
    """
    kinds = program(key).model.kinds
    values = Values(kinds, tensors, tuple(numbers))
    slots = tensor_slots(kinds)
    held, wanted_slots = first_state(starts, state, numbers), tuple(slots[i] for i in wanted)
    where = {} if place is None else {"place": place}
    grads = _module(backend).backward(key, x_seq, held, values, wanted_slots, checkpoints, gy, gv_seq, gstate, **where)
    gtensors = like_fields(grads.values, [tensors[i] for i in wanted])
    gstates = [
        x_seq.new_zeros((), dtype=real_dtype(x_seq)) if grad is None else grad  # an operator gives tensors alone
        for grad, kind in zip(grads.state, starts, strict=True)
        if kind == "t"
    ]
    return [grads.x_seq, *gstates, *gtensors]


def like_fields(found: Sequence[Tensor], fields: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of fields, from one for all neurons or one per neuron, in memory of their own."""
    made: list[Tensor] = []
    for grad, held in zip(found, fields, strict=True):
        summed = grad if grad.shape == held.shape else grad.sum_to_size(held.shape)
        summed = summed if summed.dtype is held.dtype else summed.to(held.dtype)
        made.append(_unaliased(summed, made))
    return made


def _unaliased(held: Tensor, others: list[Tensor]) -> Tensor:
    """An operator's results may not share memory; elements of one buffer of sums would."""
    return held.clone() if held._base is not None or any(held is other for other in others) else held


def _call_backward_kernel(
    x_seq: Tensor,
    state: _Tensors,
    tensors: _Tensors,
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: list[Tensor | None],
    numbers: list[float],
    starts: str,
    wanted: list[int],
    key: str,
    backend: str,
) -> _Tensors:
    """The operator: it has memory of its own for its results."""
    checkpoints = _as_kept(x_seq, state, checkpoints, gy, gv_seq, starts, backend)
    rest = (checkpoints, gy, gv_seq, gstate, numbers, starts, wanted, key, backend)
    return call_backward_kernel(x_seq, state, tensors, *rest)


def _as_kept(
    x_seq: Tensor,
    state: _Tensors,
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    starts: str,
    backend: str,
) -> Tensor | None:
    """The checkpoints as a kernel reads them; RuntimeError where they or others do not belong to such an input, as what
    a hook gives that compiled code has about it.
    """
    steps, *step = x_seq.shape
    rows = checkpoint_shape(backend, steps, len(starts), math.prod(step))
    given = [("a state", held, tuple(step)) for held in state if held.ndim]
    given += [("a gradient", held, (steps, *step)) for held in (gy, gv_seq) if held is not None]
    if checkpoints is not None and rows[0]:
        given.append(("what was kept along the way", checkpoints, rows))
    for name, held, shape in given:
        if held.shape != shape or held.device != x_seq.device:
            raise RuntimeError(
                f"spikescope::neuron_backward was given {name} of shape {list(held.shape)} on {held.device}, for an "
                f"input of shape {list(x_seq.shape)} on {x_seq.device}: a hook on saved tensors has to give back what "
                "it took."
            )
    return None if checkpoints is None else checkpoints.to(real_dtype(x_seq)).contiguous()


def _call_backward_settled(x_seq: Tensor, state: _Tensors, tensors: _Tensors, *rest: Any) -> _Tensors:
    checkpoints, gy, gv_seq, gstate, numbers, starts, wanted, key, backend = rest
    call = settled(key, tensors, numbers)
    given = (call.numbers, starts, [call.places.index(i) for i in wanted], call.key, backend)
    return _call_backward_kernel(x_seq, state, call.tensors, checkpoints, gy, gv_seq, gstate, *given)


def _fake_backward(x_seq: Tensor, state: _Tensors, tensors: _Tensors, *rest: Any) -> _Tensors:
    *_, wanted, _, _ = rest
    x_seq, step = layout(x_seq)
    gx = x_seq.new_empty_strided((x_seq.shape[0], *step.shape), (step.numel, *step.strides))
    gstates = [
        held.new_empty(()) if held.ndim == 0 else held.new_empty_strided(step.shape, step.strides) for held in state
    ]
    return [gx, *gstates, *(torch.empty_like(tensors[i]) for i in wanted)]


class Operators(NamedTuple):
    """A run and its vector-Jacobian product."""

    forward: Any
    backward: Any


def _operators(name: str, forward: Any, backward: Any, *tags: torch.Tag) -> Operators:
    whole, back = (torch.library.infer_schema(of, mutates_args=()) for of in (call_kernel, _call_backward_kernel))
    made = Operators(
        torch.library.custom_op(f"spikescope::{name}", forward, mutates_args=(), schema=whole, tags=tags),
        torch.library.custom_op(f"spikescope::{name}_backward", backward, mutates_args=(), schema=back, tags=tags),
    )
    made.forward.register_fake(_fake)
    made.backward.register_fake(_fake_backward)
    return made


all_operators = (
    _operators("neuron", call_kernel, _call_backward_kernel),
    # a CUDA graph would read a number once and for ever
    _operators("moving_neuron", _call_settled, _call_backward_settled, torch.Tag.cudagraph_unsafe),
)


def operators(key: str) -> Operators:
    """Those for numbers that are constants of the call, or those for a key with a number that a tensor tells."""
    # no index by a bool: Dynamo of PyTorch 2.11 takes that of a tuple for an error
    return all_operators[1] if has_moving(key) else all_operators[0]


neuron, neuron_backward = all_operators[0]
