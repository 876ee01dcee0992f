"""The fused run over time as PyTorch operators, with everything that makes an operator well behaved.

`spikescope::neuron` is the run forwards, `spikescope::neuron_backward` its vector-Jacobian product. Both have rules
for fake tensors (torch.compile), autograd and vmap (torch.func). The second derivative falls back to the eager loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..internals import LeanFunction, is_plain
from . import eager, gpu, native
from .eager import Sequence as Run
from .layout import checkpoint_shape, layout, make_taps, real_dtype
from .program import Values, program

__all__ = ["neuron", "neuron_backward", "run_fused"]

_Tensors = list[Tensor]


def _split(taps: str) -> list[str]:
    return taps.split(",") if taps else []


def _tensor_slots(kinds: str) -> list[int]:
    return [i for i, kind in enumerate(kinds) if kind != "n"]


def _call_kernel(
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
    values = Values(program(key).model.kinds, tensors, tuple(numbers))
    out = _module(backend).forward(key, x_seq, state, values, keep_v, keep_checkpoints, frozenset(_split(taps)))
    kept = [held for held in (out.v_seq, out.checkpoints) if held is not None]
    return [out.y, *out.state, *kept, *(out.taps[name] for name in _split(taps))]


def _module(backend: str) -> Any:
    return {"cpp": native, "triton": gpu}[backend]


neuron = torch.library.custom_op("spikescope::neuron", _call_kernel, mutates_args=())


@neuron.register_fake
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
    x_seq, step = layout(x_seq)
    real, steps, n = real_dtype(x_seq), x_seq.shape[0], step.numel
    whole = (steps, *step.shape), (n, *step.strides)
    out = [x_seq.new_empty_strided(*whole)]
    out += [x_seq.new_empty_strided(step.shape, step.strides, dtype=real) for _ in state]
    if keep_v:
        out.append(x_seq.new_empty_strided(*whole, dtype=real))
    if keep_checkpoints:
        out.append(x_seq.new_empty(checkpoint_shape(backend, steps, len(state), n), dtype=real))
    made = make_taps(frozenset(_split(taps)), steps, step, real, x_seq.device)
    return out + [made[name] for name in _split(taps)]


def _call_backward_kernel(
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
    values = Values(kinds, tensors, tuple(numbers))
    slots = _tensor_slots(kinds)
    grads = _module(backend).backward(
        key, x_seq, state, values, tuple(slots[i] for i in wanted), checkpoints, gy, gv_seq, gstate
    )
    gtensors = [
        held.sum_to_size(tensors[i].shape).to(tensors[i].dtype) for i, held in zip(wanted, grads.values, strict=True)
    ]
    gstates = [
        s.new_zeros(()) if held is None else held  # an operator gives tensors alone
        for held, s in zip(grads.state, state, strict=True)
    ]
    return [grads.x_seq, *gstates, *(_unaliased(held, gtensors[:i]) for i, held in enumerate(gtensors))]


def _unaliased(held: Tensor, others: list[Tensor]) -> Tensor:
    """An operator's results may not share memory; elements of one buffer of sums would."""
    return held.clone() if held._base is not None or any(held is other for other in others) else held


neuron_backward = torch.library.custom_op("spikescope::neuron_backward", _call_backward_kernel, mutates_args=())


@neuron_backward.register_fake
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
    x_seq, step = layout(x_seq)
    gx = x_seq.new_empty_strided((x_seq.shape[0], *step.shape), (step.numel, *step.strides))
    gstates = [
        held.new_empty(()) if held.ndim == 0 else held.new_empty_strided(step.shape, step.strides) for held in state
    ]
    return [gx, *gstates, *(torch.empty_like(tensors[i]) for i in wanted)]


def _no_gradient(numbers: Sequence[float]) -> list[None] | None:
    """What PyTorch wants as the gradient of a list of numbers: it takes an empty one for a list of tensors."""
    return None if numbers else []


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x_seq, state, tensors, numbers, key, backend, keep_v, keep_checkpoints, taps = inputs
    ctx.call = _Call(tuple(numbers), key, backend, keep_v, keep_checkpoints, taps, len(state))
    checkpoints = output[1 + len(state) + keep_v] if keep_checkpoints else None
    ctx.save_for_backward(x_seq, checkpoints, *state, *tensors)
    ctx.wanted = [i for i, held in enumerate(tensors) if held.requires_grad]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x_seq, checkpoints, *rest = ctx.saved_tensors
    states, numbers = ctx.call.states, list(ctx.call.numbers)
    state, tensors = rest[:states], rest[states:]
    out = _gradients(x_seq, state, tensors, checkpoints, grads, ctx.wanted, ctx.call)
    gtensors: list[Tensor | None] = [None] * len(tensors)
    for i, held in zip(ctx.wanted, out[1 + states :], strict=True):
        gtensors[i] = held
    return out[0], list(out[1 : 1 + states]), gtensors, _no_gradient(numbers), None, None, None, None, None


neuron.register_autograd(_backward, setup_context=_setup)


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x_seq, state, tensors, checkpoints, gy, gv_seq, gstate, numbers, wanted, key, backend = inputs
    ctx.save_for_backward(x_seq, *state, *tensors, gy, gv_seq, *gstate)
    ctx.call = _Call(tuple(numbers), key, backend, gv_seq is not None, checkpoints is not None, "", len(state))
    ctx.wanted = wanted
    ctx.set_materialize_grads(False)


def _second_backward(ctx: Any, ggrads: list[Tensor | None]) -> tuple[Any, ...]:
    x_seq, *rest = ctx.saved_tensors
    parts = _parts(ctx.call, rest)
    numbers = list(ctx.call.numbers)
    found = _second(ctx.call.key, numbers, ctx.wanted, x_seq, *parts, ggrads)
    gx, gstate, gtensors, ggy, ggv, ggstate = found[0], *_parts(ctx.call, found[1:])
    given = any(held is not None for held in _parts(ctx.call, rest)[-1])
    tail = (_no_gradient(numbers), _no_gradient(ctx.wanted), None, None)
    return gx, gstate, gtensors, None, ggy, ggv, ggstate if given else None, *tail


def _second(
    key: str,
    numbers: list[float],
    wanted: Sequence[int],
    x_seq: Tensor,
    state: list[Tensor],
    tensors: list[Tensor],
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: list[Tensor | None],
    ggrads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The derivative of the vector-Jacobian product, by autograd through the eager loop."""
    flat = [x_seq, *state, *tensors, gy, gv_seq, *gstate]
    with torch.enable_grad():
        leaves = [None if held is None else held.detach().requires_grad_() for held in flat]
        out = _eager_gradients(key, numbers, wanted, leaves, len(state), len(tensors))
        pairs = [(o, g) for o, g in zip(out, ggrads, strict=True) if g is not None and o.requires_grad]
        inputs = [held for held in leaves if held is not None]
        outputs, given = [o for o, _ in pairs], [g for _, g in pairs]
        found = iter(torch.autograd.grad(outputs, inputs, given, allow_unused=True) if pairs else [None] * len(inputs))
    return [None if held is None else next(found) for held in leaves]


def _eager_gradients(
    key: str, numbers: list[float], wanted: Sequence[int], leaves: list[Any], states: int, count: int
) -> Sequence[Tensor]:
    """What `spikescope::neuron_backward` computes, with a graph."""
    x_seq, state, tensors = leaves[0], leaves[1 : 1 + states], leaves[1 + states : 1 + states + count]
    gy, gv_seq, *gstate = leaves[1 + states + count :]
    made = program(key).model
    values = Values(made.kinds, tensors, tuple(numbers)).slots(real_dtype(x_seq))
    first = eager.start(made.State(*state), x_seq[0])
    out = eager.sequence(made.step, made.params(values), first, x_seq, gv_seq is not None)
    pairs = [
        (o, g)
        for o, g in zip((out.output, out.v_seq, *out.state), (gy, gv_seq, *gstate), strict=True)
        if o is not None and g is not None and o.requires_grad
    ]
    inputs = [x_seq, *state, *(tensors[i] for i in wanted)]
    return torch.autograd.grad(
        [o for o, _ in pairs],
        inputs,
        [g for _, g in pairs],
        create_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )


neuron_backward.register_autograd(_second_backward, setup_context=_setup_second)


class _Call(NamedTuple):
    """What is constant in one call of a fused run."""

    numbers: tuple[float, ...]
    key: str
    backend: str
    keep_v: bool
    keep_checkpoints: bool
    taps: str
    states: int
    single: bool = False  # the input is one step, without the axis of time

    def with_time(self, x: Tensor) -> Tensor:
        """The input, or a gradient of its shape, as a sequence."""
        return x.unsqueeze(0) if self.single else x

    def without_time(self, y: Tensor) -> Tensor:
        """The output, or the gradient of the input, as it was given."""
        return y.squeeze(0) if self.single else y


class _Fused(LeanFunction):
    """The fused run for eager mode and torch.func: the kernel without the cost of an operator where it may be."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call: _Call, x_seq: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return tuple(_run(call, x_seq, *rest))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        call, x_seq, *rest = inputs
        place = 1 + call.states + call.keep_v
        checkpoints = output[place] if call.keep_checkpoints else None
        ctx.mark_non_differentiable(*output[place:])
        ctx.save_for_backward(x_seq, checkpoints, *rest)
        ctx.call = call
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        x_seq, checkpoints, *rest = _saved(ctx)
        state, tensors = rest[: call.states], rest[call.states :]
        wanted = [i for i in range(len(tensors)) if ctx.needs_input_grad[2 + call.states + i]]
        gy = None if grads[0] is None else call.with_time(grads[0])
        gx, *out = _gradients(call.with_time(x_seq), state, tensors, checkpoints, (gy, *grads[1:]), wanted, call)
        gtensors: list[Tensor | None] = [None] * len(tensors)
        for i, held in zip(wanted, out[call.states :], strict=True):
            gtensors[i] = held
        return None, call.without_time(gx), *out[: call.states], *gtensors


def _saved(ctx: Any) -> Sequence[Any]:
    """The saved tensors; where they are gone, the likely reason."""
    try:
        saved: Sequence[Any] = ctx.saved_tensors
        return saved
    except RuntimeError as error:
        if "backward through the graph a second time" not in str(error):  # an activation checkpoint computes them anew
            raise
        raise RuntimeError(
            "A backward pass came to a neuron whose graph an earlier backward pass has freed. If that was the one of "
            "the batch before, the state has carried its graph along: call functional.reset_net(net) before each "
            "batch, or functional.detach_net(net) to go on from the state without its past. To walk one graph twice, "
            "give retain_graph=True to the first backward()."
        ) from error


def _run(call: _Call, x: Tensor, *rest: Tensor) -> list[Tensor]:
    """The kernel on the memory of the tensors where they have one, else the operator."""
    run = _call_kernel if is_plain(x) else neuron
    state, tensors = list(rest[: call.states]), list(rest[call.states :])
    y, *others = run(
        call.with_time(x),
        state,
        tensors,
        list(call.numbers),
        call.key,
        call.backend,
        call.keep_v,
        call.keep_checkpoints,
        call.taps,
    )
    return [call.without_time(y), *others]


class _FusedGradient(torch.autograd.Function):
    """The vector-Jacobian product of the fused run, itself differentiable."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        call: _Call, wanted: tuple[int, ...], x_seq: Tensor, checkpoints: Tensor | None, *rest: Tensor | None
    ) -> tuple[Tensor, ...]:
        state, tensors, gy, gv_seq, gstate = _parts(call, rest)
        return tuple(
            neuron_backward(
                x_seq,
                state,
                tensors,
                checkpoints,
                gy,
                gv_seq,
                gstate,
                list(call.numbers),
                list(wanted),
                call.key,
                call.backend,
            )
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, ctx.wanted, x_seq, _, *rest = inputs
        ctx.save_for_backward(x_seq, *rest)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *ggrads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        x_seq, *rest = ctx.saved_tensors
        state, tensors, gy, gv_seq, gstate = _parts(call, rest)
        found = _second(call.key, list(call.numbers), ctx.wanted, x_seq, state, tensors, gy, gv_seq, gstate, ggrads)
        return None, None, found[0], None, *found[1:]


def _parts(call: _Call, rest: Sequence[Any]) -> tuple[list[Any], list[Any], Any, Any, list[Any]]:
    """State, tensors, and the gradients of output, potentials and last state, from one flat list."""
    states, end = call.states, len(rest) - call.states
    return list(rest[:states]), list(rest[states : end - 2]), rest[end - 2], rest[end - 1], list(rest[end:])


def _gradients(
    x_seq: Tensor,
    state: list[Tensor],
    tensors: list[Tensor],
    checkpoints: Tensor | None,
    grads: Sequence[Tensor | None],
    wanted: list[int],
    call: _Call,
) -> Sequence[Tensor]:
    """The vector-Jacobian product, with a graph of its own where a second derivative may follow."""
    gy = grads[0]
    if gy is None:
        gy = torch.zeros_like(x_seq[:1]).expand(x_seq.shape)
    gv_seq = grads[1 + call.states] if call.keep_v else None
    gstate = list(grads[1 : 1 + call.states])
    if torch.is_grad_enabled() or not is_plain(x_seq):
        flat = (*state, *tensors, gy, gv_seq, *gstate)
        out: Sequence[Tensor] = _FusedGradient.apply(call, tuple(wanted), x_seq, checkpoints, *flat)
        return out
    numbers = list(call.numbers)
    return _call_backward_kernel(
        x_seq, state, tensors, checkpoints, gy, gv_seq, gstate, numbers, wanted, call.key, call.backend
    )


def _start(held: float | Tensor, real: torch.dtype, device: torch.device, shape: torch.Size) -> Tensor:
    """A state as the operator takes it: of the shape of a step, or one number without a gradient."""
    if not isinstance(held, Tensor):
        return torch.tensor(held, dtype=real, device=device)
    held = held.to(device=device, dtype=real)
    return held if held.ndim == 0 and not held.requires_grad else held.expand(shape)


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
    held = [_start(s, real, x_seq.device, shape) for s in state]
    flat = (x_seq, *held, *tensors)
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in flat)
    call = _Call(tuple(numbers), key, backend, keep_v, learns, ",".join(taps), len(held), single)
    out: Sequence[Tensor]
    if not torch.compiler.is_compiling():
        out = _Fused.apply(call, *flat) if learns or not is_plain(x_seq) else _run(call, *flat)
    else:  # there the operator is the better known of the two
        y, *others = neuron(
            call.with_time(x_seq), held, tensors, numbers, key, backend, keep_v, call.keep_checkpoints, call.taps
        )
        out = call.without_time(y), *others
    states = len(held)
    run = Run(out[0], state._make(out[1 : 1 + states]), out[1 + states] if keep_v else None)
    return run, dict(zip(taps, out[len(out) - len(taps) :], strict=True))
