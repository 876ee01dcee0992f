"""The fused run as neurons call it: by operators in compiled code, else by the kernel itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import absent
from ..internals import LeanFunction, is_left_behind, is_plain, materialized
from .call import Call, call_of
from .derivative import gradients
from .eager import Sequence as Run
from .layout import real_dtype
from .moving import handed_over
from .operator import call_kernel, neuron, operators
from .saved import save, saved

__all__ = ["check_present", "rule", "run_fused", "start_of"]


def run_fused(
    backend: str,
    key: str,
    state: Any,
    tensors: list[Tensor],
    numbers: list[float],
    x_seq: Tensor,
    keep_v: bool,
    taps: tuple[str, ...] = (),
    single: bool = False,
) -> tuple[Run, dict[str, Tensor]]:
    """A run over time by a fused kernel, and the taps that were on; with `single` of one step `[N, *]`."""
    real = real_dtype(x_seq)
    shape = x_seq.shape if single else x_seq.shape[1:]
    plain = is_plain(x_seq, *(s for s in state if isinstance(s, Tensor)), *tensors)
    if not (plain or torch.compiler.is_compiling()):
        check_present(state, tensors, x_seq)
        state = state._make(materialized(s) if isinstance(s, Tensor) else s for s in state)
    held = [start_of(s, real, x_seq.device, shape) for s in state if isinstance(s, Tensor)]
    flat = (x_seq, *held, *tensors)
    call = call_of(backend, key, state, numbers, flat, keep_v, taps, single)
    out: Sequence[Tensor]
    if not torch.compiler.is_compiling():
        out = _Fused.apply(call, *flat) if call.keep_checkpoints or not plain else tuple(_kernel(call, *flat))
    else:  # there the operator is the better known of the two
        key, tensors, numbers = handed_over(key, tensors, call.numbers)
        handed = call._replace(key=key, numbers=tuple(numbers))
        y, *others = operators(key).forward(call.with_time(x_seq), held, tensors, *handed.forwards())
        out = call.without_time(y), *others
    states = call.states
    run = Run(out[0], state._make(out[1 : 1 + states]), out[1 + states] if keep_v else None)
    return run, dict(zip(taps, out[len(out) - len(taps) :], strict=True))


def check_present(state: Any, tensors: Sequence[Tensor], x: Tensor) -> None:
    """Refuse a state or a field that a mode or transform of PyTorch has left behind to an input outside of it."""
    if not is_plain(x):
        return
    named = [*((f"the state {name!r}", held) for name, held in state._asdict().items() if isinstance(held, Tensor))]
    for name, held in (*named, *(("a field", held) for held in tensors)):
        if is_left_behind(held):
            raise absent(name, held.shape, held.is_meta)


def start_of(held: Tensor, real: torch.dtype, device: torch.device, shape: torch.Size) -> Tensor:
    """A state as the operator takes it: of the shape of a step, or one number without a gradient."""
    held = held.to(device=device, dtype=real)
    return held if held.ndim == 0 and not held.requires_grad else held.expand(shape)


class _Fused(LeanFunction):
    """The fused run for eager mode and torch.func: the kernel without the cost of an operator where it may be."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call: Call, x_seq: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return tuple(_run(call, x_seq, *rest))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        call, x_seq, *rest = inputs
        place = 1 + call.states + call.keep_v
        checkpoints = output[place] if call.keep_checkpoints else None
        ctx.mark_non_differentiable(*output[place:])
        save(ctx, x_seq, checkpoints, *rest, order=output[0].stride())
        ctx.call = call
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return rule(ctx.call, ctx.needs_input_grad, saved(ctx, ctx.call.owner), grads)


def rule(
    call: Call, needed: Sequence[bool], held: Sequence[Any], grads: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The gradients of what a node was applied to, from what it has saved and the gradients of its results.

    - `needed`: which of the arguments, the call itself among them, want one.
    """
    x_seq, checkpoints, *rest = held
    state, tensors = rest[: call.held], rest[call.held :]
    wanted = [i for i in range(len(tensors)) if needed[2 + call.held + i]]
    gy = None if grads[0] is None else call.with_time(grads[0])
    gx, *out = gradients(call.with_time(x_seq), state, tensors, checkpoints, (gy, *grads[1:]), wanted, call)
    gtensors: list[Tensor | None] = [None] * len(tensors)
    for i, grad in zip(wanted, out[call.held :], strict=True):
        gtensors[i] = grad
    return None, call.without_time(gx), *out[: call.held], *gtensors


def _run(call: Call, *flat: Tensor) -> list[Tensor]:
    """The kernel on the memory of the tensors where they all have one, else the operator."""
    return _kernel(call, *flat, run=call_kernel if is_plain(*flat) else neuron)


def _kernel(call: Call, *flat: Tensor, run: Callable[..., list[Tensor]] = call_kernel) -> list[Tensor]:
    x, *rest = flat
    state, tensors = rest[: call.held], rest[call.held :]
    y, *others = run(call.with_time(x), state, tensors, *call.forwards())
    # in place, for a view among several results of an autograd function could never be changed by who gets it
    return [y.squeeze_(0) if call.single else y, *others]
