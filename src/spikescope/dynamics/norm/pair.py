r"""A batch normalisation and the neuron after it as one run on a GPU, in training as well.

The neuron's kernel scales and shifts its input itself, $x g + b$ with $g = \gamma / \sqrt{\mathrm{var} + \epsilon}$
and $b = \beta - \mathrm{mean}\,g$ of each channel: the equation by which a normalisation is fused for inference
(`PointwiseNeuron.fed`). So the output of the normalisation is never written, nor kept for the backward pass.

- Forwards: one pass over the input for the sums of each channel, one that integrates and fires.
- Backwards: one pass that runs the neuron again and leaves of $\partial L/\partial g$ and $\partial L/\partial b$ the
  sums of each channel, one that writes the gradient of the input. It holds
  $\partial L/\partial x = g\,\delta - g\,\bar\delta - g\,\hat x\,\overline{\delta \hat x}$, where $\delta$ is the
  gradient at the neuron's input and a bar the mean over a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import saved_tensors
from ...internals import (
    LeanFunction,
    are_plain_gradients,
    is_batched_gradient,
    is_plain,
    materialized,
    saved_tensors_hook,
)
from .. import loop
from ..call import Call, call_of, tap_names
from ..eager import Sequence as Run
from ..fused import start_of
from ..graphs.program import Values
from ..layout import Layout, first_state, layout, real_dtype
from ..operator import like_fields, tensor_slots
from ..prepared import lies_without_gaps
from ..saved import as_saved, save
from ..triton import gpu
from ..triton.arguments import Channels
from ..triton.gpu import channel_sums
from ..triton.launch import launch
from .kernels import (
    Chunks,
    Norm,
    Shared,
    by_channel,
    moments_arguments,
    norm_kernels,
    settle_arguments,
    settle_back_arguments,
    settle_options,
)
from .prepared import PreparedNormed

__all__ = ["NormedRun", "prepare_normed", "run_normed"]


class _Link(NamedTuple):
    """The moments of all processes as functions of those of this one."""

    own: list[Tensor]
    everywhere: list[Tensor]
    amount: int  # of values in a channel of this process


class NormedRun(NamedTuple):
    """What is constant in one call; where it is `ready`, in all calls of its kind."""

    call: Call
    norm: Norm  # without its tensors
    places: tuple[int, int]  # of scale and shift among the fields that are tensors
    channels: Channels
    amount: float  # of values in a channel
    ready: PreparedNormed | None = None

    def __call__(self, x: Tensor, rest: Sequence[Tensor], norm: Norm) -> Sequence[Tensor]:
        """Output and last state of a run that is ready; `rest` are states and fields that are tensors."""
        assert self.ready is not None
        if self.call.keep_checkpoints:
            found: Sequence[Tensor] = _Normed.outside(self, norm, x, norm.weight, norm.bias, *rest)
            return found
        return self.ready.run(x, norm, rest, None)[1]

    def fields(self, tensors: Sequence[Tensor], settled: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """All fields that are tensors; scale and shift come first among `settled`."""
        made = list(tensors)
        for place, held in sorted(zip(self.places, settled, strict=True), key=lambda pair: pair[0]):
            made.insert(place, held.view(self.channels.shape))
        return made


def run_normed(
    key: str,
    places: tuple[int, int],
    state: Any,
    tensors: list[Tensor],
    numbers: list[float],
    x: Tensor,
    norm: Norm,
    keep_v: bool,
    taps: tuple[str, ...] = (),
    single: bool = False,
) -> tuple[Run, dict[str, Tensor]]:
    """A run of the neuron `key` behind a normalisation, and the taps that were on; with `single` of one step `[N, *]`.

    `places` are those of scale and shift among the fields that are tensors, which `tensors` is without.
    """
    shape = x.shape if single else x.shape[1:]
    held = [start_of(s, real_dtype(x), x.device, shape) for s in state if isinstance(s, Tensor)]
    learning = (x, norm.weight, norm.bias, *held, *tensors)
    call = call_of("triton", key, state, numbers, learning, keep_v, taps, single)
    out: Sequence[Tensor] = _Normed.apply(
        _constant(call, places, x, norm), norm, x, norm.weight, norm.bias, *held, *tensors
    )
    run = Run(out[0], state._make(out[1 : 1 + call.states]), out[1 + call.states] if keep_v else None)
    return run, dict(zip(taps, out[len(out) - len(taps) :], strict=True))


def prepare_normed(
    key: str,
    places: tuple[int, int],
    state: Any,
    tensors: list[Tensor],
    numbers: list[float],
    x: Tensor,
    norm: Norm,
    single: bool,
) -> NormedRun | None:
    """What runs for an input like `x` from a state like `state`, behind a normalisation like `norm`; None where it
    first has to bring them into another form, or to ask other processes.
    """
    if norm.shared is not None or not lies_without_gaps(x, state, single):
        return None
    learning = (x, norm.weight, norm.bias, *state, *tensors)
    call = call_of("triton", key, state, numbers, learning, single=single)
    first = [None if isinstance(held, Tensor) else held for held in state]
    made = _constant(call, places, x, norm)
    return made._replace(ready=PreparedNormed(call, x, first, places, made.channels, norm))


def _constant(call: Call, places: tuple[int, int], x: Tensor, norm: Norm) -> NormedRun:
    _, step = layout(call.with_time(x))
    channels = Channels.of(step)
    return NormedRun(call, norm.without_tensors(), places, channels, x.numel() / channels.number)


class _Normed(LeanFunction):
    """The run and its gradient as one node of the graph."""

    at_first = {"link": None, "hooked": False, "forms": ()}

    @staticmethod
    def forward(
        ctx: Any, fixed: NormedRun, norm: Norm, x: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.fixed = fixed
        ctx.set_materialize_grads(False)
        ready = fixed.ready
        if ready is not None:
            if saved_tensors_hook() is not None:
                ctx.hooked = True
            checkpoints = ready.checkpoints()
            settled, found = ready.run(x, norm, rest, checkpoints)
            ctx.save_for_backward(x, weight, bias, settled, checkpoints, *rest)
            if not ready.forms:
                ready.remember((x, weight, bias, settled, checkpoints), rest)
            return found
        call = fixed.call
        x_seq, step = layout(call.with_time(x))
        settled, ctx.link = _settle(fixed, x_seq, step, norm)
        state, tensors = list(rest[: call.held]), rest[call.held :]
        values = Values(call.kinds, fixed.fields(tensors, settled[:2]), call.numbers)
        taps = tap_names(call.taps)
        first = first_state(call.starts, state, call.numbers)
        out = gpu.forward(
            call.key, x_seq, first, values, call.keep_v, call.keep_checkpoints, frozenset(taps), fixed.channels
        )
        told = [out.taps[name] for name in taps]
        ctx.mark_non_differentiable(*told)
        y = out.y.squeeze_(0) if call.single else out.y
        save(ctx, x, weight, bias, settled, out.checkpoints, *rest, order=y.stride())
        return (y, *out.state, *([] if out.v_seq is None else [out.v_seq]), *told)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        fixed: NormedRun = ctx.fixed
        call, ready, needed = fixed.call, fixed.ready, ctx.needs_input_grad[2:]
        held = saved_tensors(ctx, call.owner)
        if ready is not None and not torch.is_grad_enabled():
            # without hooks what was saved comes back itself
            plain = are_plain_gradients(*grads) and (not ctx.hooked or is_plain(*held))
            if plain and ready.knows(held):
                x, weight, bias, settled, checkpoints, *rest = held
                gy, *gstate = grads
                made = ready.gradients(x, weight, bias, settled, rest, checkpoints, gy, gstate, needed)
                return None, None, *made
        held = as_saved(call.owner, held, ctx.forms if ready is None else ready.forms)
        x, weight, bias, settled, checkpoints, *rest = held
        given = list(grads[: 1 + call.states + call.keep_v])
        if torch.is_grad_enabled() or any(map(is_batched_gradient, given)) or not is_plain(*held, *given):
            return None, None, *_by_autograd(fixed, x, weight, bias, settled, rest, [*map(materialized, given)])
        return None, None, *_by_kernels(fixed, ctx.link, x, weight, bias, settled, checkpoints, rest, given, needed)


def _settle(fixed: NormedRun, x_seq: Tensor, step: Layout, norm: Norm) -> tuple[Tensor, _Link | None]:
    """Of each channel scale, shift, mean and rate, the inverse deviation; and what links them to other processes."""
    channels, real, amount = fixed.channels, real_dtype(x_seq), fixed.amount
    out = by_channel(x_seq, real, channels.shape[:1])
    sums, link = out, None
    if norm.by_batch:
        sums = _moments(x_seq, step, channels)
        if norm.shared is not None:
            sums, link, amount = _together(norm.shared, sums.sum(2), x_seq, channels, int(amount))
    arguments = settle_arguments(x_seq, sums, norm, out, channels, amount)
    options = settle_options(norm, link is None)
    launch(norm_kernels(real).spikescope_settle, x_seq.device, channels.number, arguments, **options)
    return out, link


def _moments(x_seq: Tensor, step: Layout, channels: Channels) -> Tensor:
    """Of each channel the sums of its values and of their squares, both off the first value, by chunks."""
    chunks = Chunks.of(channels, step.numel)
    sums = x_seq.new_empty(2, channels.number, chunks.number, dtype=torch.float64)
    arguments = moments_arguments(x_seq, x_seq.stride(0), sums, len(x_seq), step.numel, channels, chunks)
    kernel = norm_kernels(real_dtype(x_seq)).spikescope_moments
    launch(kernel, x_seq.device, chunks.programs, arguments, W=channels.width)
    return sums


def _together(
    shared: Shared, sums: Tensor, x_seq: Tensor, channels: Channels, count: int
) -> tuple[Tensor, _Link, float]:
    """The sums over all processes, off zero; how they come about; and the number of values in a channel."""
    off, real = sums / count, real_dtype(x_seq)
    pivot = x_seq.as_strided((channels.number,), (channels.inner,)).to(torch.float64)
    own = [held.to(real).requires_grad_() for held in (pivot + off[0], off[1] - off[0].square())]
    with torch.enable_grad():
        mean, variance, whole = shared.moments(own[0], own[1], count)
    link = _Link(own, [mean, variance], count)
    middle, spread = mean.detach().double(), variance.detach().double()
    return (torch.stack((middle, spread + middle.square())) * whole).unsqueeze(2), link, whole


def _by_kernels(
    fixed: NormedRun,
    link: _Link | None,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    settled: Tensor,
    checkpoints: Tensor | None,
    rest: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of input, weight, bias, first state and fields."""
    call, norm = fixed.call, fixed.norm
    x_seq, (gy, *others) = call.with_time(x), grads
    gy = torch.zeros_like(x_seq[:1]).expand(x_seq.shape) if gy is None else call.with_time(gy)
    gstate, gv_seq = others[: call.states], others[call.states] if call.keep_v else None
    state, tensors = rest[: call.held], rest[call.held :]
    kinds, fields = call.kinds, fixed.fields(tensors, settled[:2])
    slots, values = tensor_slots(kinds), Values(kinds, fields, call.numbers)
    first, channels = first_state(call.starts, list(state), call.numbers), fixed.channels
    correction: Sequence[Tensor] = ()
    gains: Sequence[Tensor] = ()
    if norm.by_batch or needed[1] or needed[2]:
        both = tuple(slots[place] for place in fixed.places)
        sums = channel_sums(call.key, x_seq, first, values, both, checkpoints, gy, gv_seq, gstate, channels)
        gains = _settle_back(fixed, link, settled, sums)
        correction = gains[2:] if norm.by_batch else ()
    wanted = [i for i, need in enumerate(needed[3 + call.held :]) if need]
    own = [slot for place, slot in enumerate(slots) if place not in fixed.places]
    learning = tuple(own[i] for i in wanted)
    found = gpu.backward(
        call.key, x_seq, first, values, learning, checkpoints, gy, gv_seq, gstate, channels, correction
    )
    made: list[Tensor | None] = [call.without_time(found.x_seq)]
    for place, learned in enumerate((weight, bias)):
        made.append(gains[place].to(learned.dtype) if learned is not None and needed[1 + place] else None)
    starts = [grad for grad, kind in zip(found.state, call.starts, strict=True) if kind == "t"]
    made += [grad if need else None for grad, need in zip(starts, needed[3:], strict=False)]
    fields_made: list[Tensor | None] = [None] * len(tensors)
    for i, grad in zip(wanted, like_fields(found.values, [tensors[i] for i in wanted]), strict=True):
        fields_made[i] = grad
    return [*made, *fields_made]


def _settle_back(fixed: NormedRun, link: _Link | None, settled: Tensor, sums: Tensor) -> list[Tensor]:
    """Of each channel the gradients of weight and bias, then constant and slope of what its inputs get besides."""
    out = by_channel(settled, settled.dtype, fixed.channels.shape[:1])
    arguments = settle_back_arguments(settled, sums, out, fixed.channels, fixed.amount)
    kernel = norm_kernels(settled.dtype).spikescope_settle_back
    launch(kernel, settled.device, fixed.channels.number, arguments)
    weight, bias, more, slope = out
    if link is not None:
        scale, _, _, rate = settled
        by_moments = [-scale * bias, -scale * rate * weight / 2]
        mean, variance = torch.autograd.grad(link.everywhere, link.own, by_moments, retain_graph=True)
        slope = 2 * variance / link.amount
        more = mean / link.amount - slope * link.own[0].detach()
    return [weight, bias, more, slope]


def _by_autograd(
    fixed: NormedRun,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    settled: Tensor,
    rest: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The same gradients by autograd through the eager loop, with a graph of their own where that goes on."""
    call, norm = fixed.call, fixed.norm
    if norm.by_batch and norm.shared is not None:
        raise RuntimeError(
            "A batch normalisation that is fused with its neuron has no second derivative across processes. Train "
            "without functional.fuse_bn_neurons(net, training=True), or without functional.convert_sync_batchnorm."
        )
    again, flat = torch.is_grad_enabled(), (x, weight, bias, *rest)
    with torch.enable_grad():
        leaves = [None if held is None else loop.leaf(held, again) for held in flat]
        x_leaf, *learned = leaves[:3]
        assert x_leaf is not None
        x_seq = call.with_time(x_leaf)
        scale, shift = _affine(fixed, x_seq, settled, learned)
        state, tensors = leaves[3 : 3 + call.held], [held for held in leaves[3 + call.held :] if held is not None]
        values = Values(call.kinds, fixed.fields(tensors, (scale, shift)), call.numbers)
        gy = None if grads[0] is None else call.with_time(grads[0])
        ordered = (gy, grads[1 + call.states] if call.keep_v else None, *grads[1 : 1 + call.states])
        inputs = [held for held in leaves if held is not None]
        first = first_state(call.starts, [held for held in state if held is not None], call.numbers)
        found = iter(loop.vector_jacobian(call.key, x_seq, first, values, inputs, ordered, again))
    return [None if held is None else next(found) for held in leaves]


def _affine(
    fixed: NormedRun, x_seq: Tensor, settled: Tensor, learned: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel, as functions of the input, the weight and the bias."""
    weight, bias = learned
    _, _, mean, rate = settled.flatten(1)
    if fixed.norm.by_batch:
        over = [axis for axis in range(x_seq.ndim) if axis != 2]
        variance, mean = torch.var_mean(x_seq.to(settled.dtype), over, correction=0)
        rate = torch.rsqrt(variance + fixed.norm.eps)
    scale = rate if weight is None else rate * weight
    return scale, -mean * scale if bias is None else bias - mean * scale
