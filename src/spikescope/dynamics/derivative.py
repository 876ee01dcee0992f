"""The derivatives of a fused run: the vector-Jacobian product by a kernel, the second derivative by the eager loop."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..internals import is_batched_gradient, is_plain, materialized
from ..toolchain.compiler import CompileError
from . import loop
from .call import Call
from .donated import take_donated
from .graphs.program import Values
from .layout import first_state
from .moving import has_moving, settled
from .operator import all_operators, call_backward_kernel, operators
from .saved import save, saved

__all__ = ["gradients"]


def gradients(
    x_seq: Tensor,
    state: list[Tensor],
    tensors: list[Tensor],
    checkpoints: Tensor | None,
    grads: Sequence[Tensor | None],
    wanted: list[int],
    call: Call,
) -> Sequence[Tensor]:
    """The vector-Jacobian product, with a graph of its own where a second derivative may follow."""
    gy = grads[0]
    if gy is None:
        gy = torch.zeros_like(x_seq[:1]).expand(x_seq.shape)
    gv_seq = grads[1 + call.states] if call.keep_v else None
    gstate = list(grads[1 : 1 + call.states])
    if any(map(is_batched_gradient, (gy, gv_seq, *gstate))):
        return _by_the_eager_loop(call, wanted, [x_seq, *state, *tensors, gy, gv_seq, *gstate])
    if (
        torch.is_grad_enabled()
        or has_moving(call.key)
        or not is_plain(x_seq, checkpoints, *state, *tensors, gy, gv_seq, *gstate)
    ):
        flat = (*state, *tensors, *map(materialized, (gy, gv_seq, *gstate)))
        out: Sequence[Tensor] = _FusedGradient.apply(call, tuple(wanted), x_seq, checkpoints, *flat)
        return out
    try:
        place = take_donated(x_seq, 1 + call.single) if call.backend == "cpp" else None
        rest: tuple[Any, ...] = (checkpoints, gy, gv_seq, gstate, *call.backwards(wanted), place)
        return call_backward_kernel(x_seq, state, tensors, *rest)
    except CompileError as error:
        _tell(str(error))
    leaves = [
        None if held is None else held.detach().requires_grad_()
        for held in (x_seq, *state, *tensors, gy, gv_seq, *gstate)
    ]
    with torch.enable_grad():
        return [grad.detach() for grad in _eager_gradients(call, wanted, leaves, len(tensors))]


@cache
def _tell(reason: str) -> None:
    """The forward kernel was made, and the compiler failed at that of the gradient."""
    warnings.warn(
        f"A backward pass runs as the slower eager loop on the CPU, because its kernel could not be compiled: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


def _by_the_eager_loop(call: Call, wanted: Sequence[int], flat: list[Any]) -> list[Tensor]:
    """The vector-Jacobian product by autograd through the eager loop: for many gradients at once."""
    count = len(flat) - 3 - call.held - call.states
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [None if held is None else loop.leaf(held, again) for held in flat[: 1 + call.held + count]]
        found = _eager_gradients(call, wanted, [*leaves, *flat[len(leaves) :]], count, again)
    return list(found)


class _FusedGradient(torch.autograd.Function):
    """The vector-Jacobian product of the fused run, itself differentiable."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        call: Call, wanted: tuple[int, ...], x_seq: Tensor, checkpoints: Tensor | None, *rest: Tensor | None
    ) -> tuple[Tensor, ...]:
        state, tensors, gy, gv_seq, gstate = _parts(call, rest)
        parts: tuple[Any, ...] = (checkpoints, gy, gv_seq, gstate, *call.backwards(wanted))
        return tuple(operators(call.key).backward(x_seq, state, tensors, *parts))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, ctx.wanted, x_seq, _, *rest = inputs
        save(ctx, x_seq, *rest)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *ggrads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        x_seq, *rest = saved(ctx, call.owner)
        state, tensors, gy, gv_seq, gstate = _parts(call, rest)
        found = _second(call, ctx.wanted, x_seq, state, tensors, gy, gv_seq, gstate, ggrads)
        return None, None, found[0], None, *found[1:]


def _parts(call: Call, rest: Sequence[Any]) -> tuple[list[Any], list[Any], Any, Any, list[Any]]:
    """State, tensors, and the gradients of output, potentials and last state, from one flat list."""
    held, end = call.held, len(rest) - call.states
    return list(rest[:held]), list(rest[held : end - 2]), rest[end - 2], rest[end - 1], list(rest[end:])


def _second(
    call: Call,
    wanted: Sequence[int],
    x_seq: Tensor,
    state: list[Tensor],
    tensors: list[Tensor],
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: list[Tensor | None],
    ggrads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The derivative of the vector-Jacobian product, by autograd through the eager loop; it has derivatives as well."""
    flat, again = [x_seq, *state, *tensors, gy, gv_seq, *gstate], torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [None if held is None else loop.leaf(held, again) for held in flat]
        out = _eager_gradients(call, wanted, leaves, len(tensors))
        pairs = [(o, g) for o, g in zip(out, ggrads, strict=True) if g is not None and o.requires_grad]
        inputs = [held for held in leaves if held is not None]
        outputs, given = [o for o, _ in pairs], [g for _, g in pairs]
        found = iter(
            torch.autograd.grad(outputs, inputs, given, allow_unused=True, create_graph=again)
            if pairs
            else [None] * len(inputs)
        )
    return [None if held is None else next(found) for held in leaves]


def _eager_gradients(
    call: Call, wanted: Sequence[int], leaves: list[Any], count: int, create_graph: bool = True
) -> Sequence[Tensor]:
    """What `spikescope::neuron_backward` computes, with a graph."""
    held = call.held
    x_seq, state, tensors = leaves[0], leaves[1 : 1 + held], leaves[1 + held : 1 + held + count]
    gy, gv_seq, *gstate = leaves[1 + held + count :]
    made = settled(call.key, tensors, call.numbers)
    values = Values(made.kinds, made.tensors, tuple(made.numbers))
    first = first_state(call.starts, state, made.numbers)
    inputs = [x_seq, *state, *(tensors[i] for i in wanted)]
    return loop.vector_jacobian(made.key, x_seq, first, values, inputs, (gy, gv_seq, *gstate), create_graph)


def _no_gradient(numbers: Sequence[float]) -> list[None] | None:
    """What PyTorch wants as the gradient of a list of numbers: it takes an empty one for a list of tensors."""
    return None if numbers else []


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x_seq, state, tensors, numbers, starts, key, backend, keep_v, keep_checkpoints, taps = inputs
    ctx.call = Call(tuple(numbers), starts, key, backend, keep_v, keep_checkpoints, taps)
    checkpoints = output[1 + len(starts) + keep_v] if keep_checkpoints else None
    save(ctx, x_seq, checkpoints, *state, *tensors, order=output[0].stride())
    ctx.wanted = [i for i, held in enumerate(tensors) if held.requires_grad]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x_seq, checkpoints, *rest = saved(ctx, ctx.call.owner)
    held, numbers = ctx.call.held, list(ctx.call.numbers)
    state, tensors = rest[:held], rest[held:]
    out = gradients(x_seq, state, tensors, checkpoints, grads, ctx.wanted, ctx.call)
    gtensors: list[Tensor | None] = [None] * len(tensors)
    for i, grad in zip(ctx.wanted, out[1 + held :], strict=True):
        gtensors[i] = grad
    return out[0], list(out[1 : 1 + held]), gtensors, _no_gradient(numbers), *[None] * 6


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x_seq, state, tensors, checkpoints, gy, gv_seq, gstate, numbers, starts, wanted, key, backend = inputs
    save(ctx, x_seq, *state, *tensors, gy, gv_seq, *gstate)
    ctx.call = Call(tuple(numbers), starts, key, backend, gv_seq is not None, checkpoints is not None, "")
    ctx.wanted = wanted
    ctx.set_materialize_grads(False)


def _second_backward(ctx: Any, ggrads: list[Tensor | None]) -> tuple[Any, ...]:
    x_seq, *rest = saved(ctx, ctx.call.owner)
    parts = _parts(ctx.call, rest)
    numbers = list(ctx.call.numbers)
    found = _second(ctx.call, ctx.wanted, x_seq, *parts, ggrads)
    gx, gstate, gtensors, ggy, ggv, ggstate = found[0], *_parts(ctx.call, found[1:])
    given = any(held is not None for held in _parts(ctx.call, rest)[-1])
    tail = (_no_gradient(numbers), None, _no_gradient(ctx.wanted), None, None)
    return gx, gstate, gtensors, None, ggy, ggv, ggstate if given else None, *tail


for _operator in all_operators:
    _operator.forward.register_autograd(_backward, setup_context=_setup)
    _operator.backward.register_autograd(_second_backward, setup_context=_setup_second)
