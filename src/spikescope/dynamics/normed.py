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
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..internals import LeanFunction, is_batched_gradient, is_plain, materialized
from . import gpu, loop
from .arguments import Channels, blocks_of
from .derivative import Call
from .eager import Sequence as Run
from .fused import saved, start_of
from .gpu import channel_sums
from .launch import launch, load
from .layout import Layout, first_state, layout, real_dtype
from .operator import like_fields, tensor_slots
from .program import Values
from .triton import norm_source

__all__ = ["Norm", "Shared", "run_normed"]

_PROGRAMS = 2048  # of one pass over the input, which is several for every processor of a large GPU


class Shared(Protocol):
    """How the processes of a group put their statistics together."""

    def moments(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, float]:
        """Mean and population variance of each channel over all processes, and the number of values in it; gradients
        go to the processes that the moments come from.
        """


class Norm(NamedTuple):
    """A batch normalisation as a run takes it."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor | None  # the running statistics; None where there are none
    variance: Tensor | None
    eps: float
    taken: float  # the share that the running statistics take of those of a batch; 0 for none
    by_batch: bool  # whether the statistics are those of the batch
    shared: Shared | None = None


class _Link(NamedTuple):
    """The moments of all processes as functions of those of this one."""

    own: list[Tensor]
    everywhere: list[Tensor]
    amount: int  # of values in a channel of this process


class _Fixed(NamedTuple):
    """What is constant in one call."""

    call: Call
    norm: Norm
    places: tuple[int, int]  # of scale and shift among the fields that are tensors
    channels: Channels
    amount: float  # of values in a channel

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
    numbers = [*numbers, *(s for s in state if not isinstance(s, Tensor))]
    flat = (x, norm.weight, norm.bias, *held, *tensors)
    learns = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in flat)
    starts = "".join("t" if isinstance(s, Tensor) else "n" for s in state)
    call = Call(tuple(numbers), starts, key, "triton", keep_v, learns, ",".join(taps), single)
    _, step = layout(call.with_time(x))
    channels = Channels.of(step)
    fixed = _Fixed(call, norm._replace(weight=None, bias=None), places, channels, x.numel() / channels.number)
    out: Sequence[Tensor] = _Normed.apply(fixed, *flat)
    run = Run(out[0], state._make(out[1 : 1 + call.states]), out[1 + call.states] if keep_v else None)
    return run, dict(zip(taps, out[len(out) - len(taps) :], strict=True))


class _Normed(LeanFunction):
    """The run and its gradient as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, fixed: _Fixed, x: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        call = fixed.call
        x_seq, step = layout(call.with_time(x))
        settled, ctx.link = _settle(fixed, x_seq, step, weight, bias)
        state, tensors = list(rest[: call.held]), rest[call.held :]
        values = Values(call.key.rpartition("|")[2], fixed.fields(tensors, settled[:2]), call.numbers)
        taps = call.taps.split(",") if call.taps else []
        first = first_state(call.starts, state, call.numbers)
        out = gpu.forward(
            call.key, x_seq, first, values, call.keep_v, call.keep_checkpoints, frozenset(taps), fixed.channels
        )
        told = [out.taps[name] for name in taps]
        ctx.save_for_backward(x, weight, bias, settled, out.checkpoints, *rest)
        ctx.mark_non_differentiable(*told)
        ctx.fixed, ctx.call = fixed, call
        ctx.set_materialize_grads(False)
        y = out.y.squeeze_(0) if call.single else out.y
        return (y, *out.state, *([] if out.v_seq is None else [out.v_seq]), *told)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        fixed: _Fixed = ctx.fixed
        call, held = fixed.call, saved(ctx)
        x, weight, bias, settled, checkpoints, *rest = held
        given = list(grads[: 1 + call.states + call.keep_v])
        if any(map(is_batched_gradient, given)) or torch.is_grad_enabled() or not is_plain(*held, *given):
            return None, *_by_autograd(fixed, x, weight, bias, settled, rest, [*map(materialized, given)])
        needed = ctx.needs_input_grad[1:]
        return None, *_by_kernels(fixed, ctx.link, x, weight, bias, settled, checkpoints, rest, given, needed)


@cache
def _kernels(real: torch.dtype) -> Any:
    return load(norm_source(real))


def _settle(
    fixed: _Fixed, x_seq: Tensor, step: Layout, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, _Link | None]:
    """Of each channel scale, shift, mean and rate, the inverse deviation; and what links them to other processes."""
    norm, channels, real, amount = fixed.norm, fixed.channels, real_dtype(x_seq), fixed.amount
    out = x_seq.new_empty(4, channels.number, dtype=real)
    sums, link = out, None
    if norm.by_batch:
        sums = _moments(x_seq, step, channels)
        if norm.shared is not None:
            sums, link, amount = _together(norm.shared, sums, x_seq, channels, int(amount))
    arguments = [
        x_seq,
        sums,
        *(out if held is None else held for held in (weight, bias, norm.mean, norm.variance)),
        out,
        *channels[:2],
        float(amount),
        norm.eps,
        norm.taken,
    ]
    options = {
        "PIVOT": link is None,
        "READ": not norm.by_batch,
        "TRACK": norm.by_batch and norm.taken > 0,
        "AFFINE": weight is not None,
    }
    launch(_kernels(real).spikescope_settle, x_seq.device, blocks_of(channels.number), arguments, **options)
    return out, link


def _moments(x_seq: Tensor, step: Layout, channels: Channels) -> Tensor:
    """Of each channel the sums of its values and of their squares, both off the first value, in double precision."""
    rows, columns = channels.tiles(step.numel)
    chunks = min(rows, max(1, _PROGRAMS // columns))
    span = -(-rows // chunks)
    chunks = -(-rows // span)
    sums = x_seq.new_empty(2, chunks, channels.number, dtype=torch.float64)
    arguments = [
        x_seq,
        x_seq.stride(0),
        sums,
        x_seq.shape[0],
        step.numel // channels.number,
        *channels[:2],
        chunks,
        span,
    ]
    kernel = _kernels(real_dtype(x_seq)).spikescope_moments
    launch(kernel, x_seq.device, chunks * columns, arguments, W=channels.width)
    return sums.sum(1)


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
    return torch.stack((middle, spread + middle.square())) * whole, link, whole


def _by_kernels(
    fixed: _Fixed,
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
    kinds, fields = call.key.rpartition("|")[2], fixed.fields(tensors, settled[:2])
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


def _settle_back(fixed: _Fixed, link: _Link | None, settled: Tensor, sums: Tensor) -> list[Tensor]:
    """Of each channel the gradients of weight and bias, then constant and slope of what its inputs get besides."""
    out = torch.empty_like(settled)
    arguments = [settled, sums, out, fixed.channels.number, float(fixed.amount)]
    kernel = _kernels(settled.dtype).spikescope_settle_back
    launch(kernel, settled.device, blocks_of(fixed.channels.number), arguments)
    weight, bias, more, slope = out
    if link is not None:
        scale, _, _, rate = settled
        by_moments = [-scale * bias, -scale * rate * weight / 2]
        mean, variance = torch.autograd.grad(link.everywhere, link.own, by_moments, retain_graph=True)
        slope = 2 * variance / link.amount
        more = mean / link.amount - slope * link.own[0].detach()
    return [weight, bias, more, slope]


def _by_autograd(
    fixed: _Fixed,
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
        leaves = [None if held is None else _apart(held, again) for held in flat]
        x_leaf, *learned = leaves[:3]
        assert x_leaf is not None
        x_seq = call.with_time(x_leaf)
        scale, shift = _affine(fixed, x_seq, settled, learned)
        state, tensors = leaves[3 : 3 + call.held], [held for held in leaves[3 + call.held :] if held is not None]
        values = Values(call.key.rpartition("|")[2], fixed.fields(tensors, (scale, shift)), call.numbers)
        gy = None if grads[0] is None else call.with_time(grads[0])
        ordered = (gy, grads[1 + call.states] if call.keep_v else None, *grads[1 : 1 + call.states])
        inputs = [held for held in leaves if held is not None]
        first = first_state(call.starts, [held for held in state if held is not None], call.numbers)
        found = iter(loop.vector_jacobian(call.key, x_seq, first, values, inputs, ordered, again))
    return [None if held is None else next(found) for held in leaves]


def _affine(fixed: _Fixed, x_seq: Tensor, settled: Tensor, learned: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel, as functions of the input, the weight and the bias."""
    weight, bias = learned
    _, _, mean, rate = settled
    if fixed.norm.by_batch:
        over = [axis for axis in range(x_seq.ndim) if axis != 2]
        variance, mean = torch.var_mean(x_seq.to(settled.dtype), over, correction=0)
        rate = torch.rsqrt(variance + fixed.norm.eps)
    scale = rate if weight is None else rate * weight
    return scale, -mean * scale if bias is None else bias - mean * scale


def _apart(held: Tensor, again: bool) -> Tensor:
    return held.view_as(held) if again and held.requires_grad else held.detach().requires_grad_()
