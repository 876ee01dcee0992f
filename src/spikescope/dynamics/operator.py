"""The fused run over time as PyTorch operators, with everything that makes an operator well behaved.

`spikescope::neuron` is the run forwards, `spikescope::neuron_backward` its vector-Jacobian product. Both have rules
for fake tensors (torch.compile), autograd and vmap (torch.func). The second derivative falls back to the eager loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import eager, native
from .eager import Sequence as Run
from .program import program

__all__ = ["TAPS", "run_fused"]

TAPS = ("count", "packed", "h", "range")

_Tensors = list[Tensor]


def _values(kinds: str, tensors: Sequence[Tensor], numbers: Sequence[float], real: torch.dtype) -> list[Tensor]:
    """The numbers of the equations in the order of their slots."""
    left, right = iter(numbers), iter(tensors)
    return [
        torch.tensor(next(left), dtype=torch.float64) if kind == "n" else next(right).to(real) for kind in kinds
    ]


def _split(taps: str) -> list[str]:
    return taps.split(",") if taps else []


def _tensor_slots(kinds: str) -> list[int]:
    return [i for i, kind in enumerate(kinds) if kind != "n"]


@torch.library.custom_op("spikescope::neuron", mutates_args=())
def _neuron(
    x_seq: Tensor,
    state: _Tensors,
    tensors: _Tensors,
    numbers: list[float],
    key: str,
    backend: str,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: str,
) -> _Tensors:
    """Output, last state, then what was asked for of: potentials, checkpoints, taps."""
    values = _values(program(key).model.kinds, tensors, numbers, native.real_dtype(x_seq))
    out = _module(backend).forward(key, x_seq, state, values, keep_v, keep_checkpoints, frozenset(_split(taps)))
    kept = [held for held in (out.v_seq, out.checkpoints) if held is not None]
    return [out.y, *out.state, *kept, *(out.taps[name] for name in _split(taps))]


def _module(backend: str) -> Any:
    if backend == "cpp":
        return native
    raise ValueError(f"{backend!r} is not a fused backend")


@_neuron.register_fake
def _(
    x_seq: Tensor,
    state: _Tensors,
    tensors: _Tensors,
    numbers: list[float],
    key: str,
    backend: str,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: str,
) -> _Tensors:
    x_seq, step = native.layout(x_seq)
    real, steps, n = native.real_dtype(x_seq), x_seq.shape[0], step.numel
    whole = (steps, *step.shape), (n, *step.strides)
    out = [x_seq.new_empty_strided(*whole)]
    out += [x_seq.new_empty_strided(step.shape, step.strides, dtype=real) for _ in state]
    if keep_v:
        out.append(x_seq.new_empty_strided(*whole, dtype=real))
    if keep_checkpoints:
        out.append(x_seq.new_empty(native.checkpoint_shape(steps, len(state), (n,)), dtype=real))
    made = native.make_taps(frozenset(_split(taps)), steps, step, real, x_seq.device)
    return out + [made[name] for name in _split(taps)]


@torch.library.custom_op("spikescope::neuron_backward", mutates_args=())
def _neuron_backward(
    x_seq: Tensor,
    state: _Tensors,
    tensors: _Tensors,
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: list[Tensor | None],
    numbers: list[float],
    wanted: list[int],
    key: str,
    backend: str,
) -> _Tensors:
    """Gradients of the input, the first state, and the tensors whose index is in `wanted`."""
    kinds = program(key).model.kinds
    values = _values(kinds, tensors, numbers, native.real_dtype(x_seq))
    slots = _tensor_slots(kinds)
    grads = _module(backend).backward(
        key, x_seq, state, values, tuple(slots[i] for i in wanted), checkpoints, gy, gv_seq, gstate
    )
    gtensors = [
        held.sum_to_size(tensors[i].shape).to(tensors[i].dtype) for i, held in zip(wanted, grads.values, strict=True)
    ]
    gstates = [held.sum_to_size(s.shape).to(s.dtype) for held, s in zip(grads.state, state, strict=True)]
    return [grads.x_seq, *gstates, *(_unaliased(held, gtensors[:i]) for i, held in enumerate(gtensors))]


def _unaliased(held: Tensor, others: list[Tensor]) -> Tensor:
    """An operator's results may not share memory; elements of one buffer of sums would."""
    return held.clone() if held._base is not None or any(held is other for other in others) else held


@_neuron_backward.register_fake
def _(
    x_seq: Tensor,
    state: _Tensors,
    tensors: _Tensors,
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: list[Tensor | None],
    numbers: list[float],
    wanted: list[int],
    key: str,
    backend: str,
) -> _Tensors:
    x_seq, step = native.layout(x_seq)
    gx = x_seq.new_empty_strided((x_seq.shape[0], *step.shape), (step.numel, *step.strides))
    gstates = [
        held.new_empty(()) if held.ndim == 0 else held.new_empty_strided(step.shape, step.strides) for held in state
    ]
    return [gx, *gstates, *(torch.empty_like(tensors[i]) for i in wanted)]


def _no_gradient(numbers: Sequence[float]) -> list[None] | None:
    """What PyTorch wants as the gradient of a list of numbers: it takes an empty one for a list of tensors."""
    return None if numbers else []


def _setup(ctx: Any, inputs: tuple[Any, ...], output: _Tensors) -> None:
    x_seq, state, tensors, numbers, key, backend, keep_v, keep_checkpoints, taps = inputs
    states = len(state)
    checkpoints = output[1 + states + keep_v] if keep_checkpoints else None
    ctx.save_for_backward(x_seq, checkpoints, *state, *tensors)
    ctx.states, ctx.numbers, ctx.key, ctx.backend, ctx.keep_v = states, numbers, key, backend, keep_v
    ctx.wanted = [i for i, held in enumerate(tensors) if held.requires_grad]
    ctx.tail = (_no_gradient(numbers), None, None, None, None, None)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x_seq, checkpoints, *rest = ctx.saved_tensors
    state, tensors = rest[: ctx.states], rest[ctx.states :]
    gy = grads[0]
    if gy is None:
        gy = torch.zeros_like(x_seq[:1]).expand(x_seq.shape)
    gv_seq = grads[1 + ctx.states] if ctx.keep_v else None
    out = _neuron_backward(
        x_seq, state, tensors, checkpoints, gy, gv_seq, list(grads[1 : 1 + ctx.states]), ctx.numbers, ctx.wanted,
        ctx.key, ctx.backend,
    )  # fmt: skip
    gtensors: list[Tensor | None] = [None] * len(tensors)
    for i, held in zip(ctx.wanted, out[1 + ctx.states :], strict=True):
        gtensors[i] = held
    return out[0], out[1 : 1 + ctx.states], gtensors, *ctx.tail


_neuron.register_autograd(_backward, setup_context=_setup)


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: _Tensors) -> None:
    x_seq, state, tensors, checkpoints, gy, gv_seq, gstate, numbers, wanted, key, backend = inputs
    ctx.save_for_backward(x_seq, gy, gv_seq, *state, *tensors, *gstate)
    ctx.sizes, ctx.numbers, ctx.wanted, ctx.key = (len(state), len(tensors)), numbers, wanted, key
    ctx.set_materialize_grads(False)


def _second_backward(ctx: Any, ggrads: list[Tensor | None]) -> tuple[Any, ...]:
    """The derivative of the vector-Jacobian product, by autograd through the eager loop."""
    x_seq, gy, gv_seq, *rest = ctx.saved_tensors
    states, count = ctx.sizes
    state, tensors, gstate = rest[:states], rest[states : states + count], rest[states + count :]
    flat = [x_seq, *state, *tensors, gy, gv_seq, *gstate]
    with torch.enable_grad():
        leaves = [None if held is None else held.detach().requires_grad_() for held in flat]
        out = _eager_gradients(ctx.key, ctx.numbers, ctx.wanted, leaves, states, count)
        pairs = [(o, g) for o, g in zip(out, ggrads, strict=True) if g is not None and o.requires_grad]
        inputs = [held for held in leaves if held is not None]
        found = iter(
            torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True)
            if pairs
            else [None] * len(inputs)
        )
    grads = [None if held is None else next(found) for held in leaves]
    one, two, three = 1 + states, 1 + states + count, 3 + states + count
    return (
        grads[0], grads[1:one], grads[one:two], None, grads[two], grads[two + 1], grads[three:], *map(_no_gradient, (ctx.numbers, ctx.wanted)), None, None
    )  # fmt: skip


def _eager_gradients(
    key: str, numbers: list[float], wanted: list[int], leaves: list[Any], states: int, count: int
) -> Sequence[Tensor]:
    """What `spikescope::neuron_backward` computes, with a graph."""
    x_seq, state, tensors = leaves[0], leaves[1 : 1 + states], leaves[1 + states : 1 + states + count]
    gy, gv_seq, *gstate = leaves[1 + states + count :]
    made = program(key).model
    values = _values(made.kinds, tensors, numbers, native.real_dtype(x_seq))
    first = eager.start(made.State(*state), x_seq[0])
    out = eager.sequence(made.step, made.params(values), first, x_seq, gv_seq is not None)
    pairs = [
        (o, g)
        for o, g in zip((out.output, out.v_seq, *out.state), (gy, gv_seq, *gstate), strict=True)
        if o is not None and g is not None and o.requires_grad
    ]
    inputs = [x_seq, *state, *(tensors[i] for i in wanted)]
    return torch.autograd.grad(
        [o for o, _ in pairs], inputs, [g for _, g in pairs], create_graph=True, allow_unused=True,
        materialize_grads=True,
    )  # fmt: skip


_neuron_backward.register_autograd(_second_backward, setup_context=_setup_second)


def run_fused(
    backend: str,
    key: str,
    state: Any,
    tensors: list[Tensor],
    numbers: list[float],
    x_seq: Tensor,
    keep_v: bool,
    taps: tuple[str, ...] = (),
) -> tuple[Run, dict[str, Tensor]]:
    """A run over time by a fused kernel, and the taps that were on."""
    real = native.real_dtype(x_seq)
    held = [s if isinstance(s, Tensor) else torch.tensor(s, dtype=real, device=x_seq.device) for s in state]
    held = [s.expand(x_seq.shape[1:]) if s.ndim != x_seq.ndim - 1 and s.requires_grad else s for s in held]
    keep_checkpoints = torch.is_grad_enabled()
    out = _neuron(x_seq, held, tensors, numbers, key, backend, keep_v, keep_checkpoints, ",".join(taps))
    states = len(held)
    run = Run(out[0], state._make(out[1 : 1 + states]), out[1 + states] if keep_v else None)
    return run, dict(zip(taps, out[len(out) - len(taps) :], strict=True))
