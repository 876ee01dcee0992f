"""Calling the Triton kernels, on a GPU or in Triton's interpreter on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from torch import Tensor

from ..graphs.program import Values, program
from ..layout import (
    Gradients,
    Outputs,
    kinds_of_taps,
    layout,
    make_gradients,
    make_outputs,
    real_dtype,
    segment_length,
    sequence_in_layout,
    support_bounds,
    supports,
    whole_in_layout,
)
from .arguments import (
    Channels,
    backward_arguments,
    blocks_of,
    constants_of,
    form_of,
    forward_arguments,
    gradient_at_the_end,
    laid_out,
    states_of,
    sums_of,
    totals,
    written,
)
from .kernel import BACKWARD, FORWARD, WHOLE, Form, Way, backward_source, forward_source
from .launch import launch, load

__all__ = ["backward", "backward_kernel", "channel_sums", "forward", "forward_kernel"]


@cache
def forward_kernel(key: str, form: Form, taps: frozenset[str]) -> Any:
    return getattr(load(forward_source(program(key).forward(form.real), form, taps)), FORWARD)


@cache
def backward_kernel(
    key: str, form: Form, wanted: tuple[int, ...], length: int, scalars: tuple[bool, ...], way: Way = WHOLE
) -> Any:
    """The backward kernel of a neuron, with gradients of the fields in the slots `wanted`."""
    body = program(key).backward(form.real, wanted)
    return getattr(load(backward_source(body, form, length, scalars, way)), BACKWARD)


def forward(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: frozenset[str],
    channels: Channels | None = None,
) -> Outputs:
    """Run the forward kernel."""
    x_seq, step = layout(x_seq)
    real, steps, n, device = real_dtype(x_seq), x_seq.shape[0], step.numel, x_seq.device
    constants = constants_of(program(key).forward(real), values, step, real, device, channels)
    state = laid_out(state, step, real)
    out = make_outputs("triton", x_seq, step, len(state), keep_v, keep_checkpoints, taps)
    bounds = [held for name in supports(taps) for held in (out.taps[name], *support_bounds(name))]
    arguments = forward_arguments(x_seq, x_seq.stride(0), state, step, out, constants, bounds)
    if n:  # without neurons a tap has no block to write to
        kernel = forward_kernel(key, form_of(real, state, constants), kinds_of_taps(taps))
        keep = out.checkpoints is not None and out.checkpoints.numel() > 0
        length = segment_length("triton", steps, len(state)) if keep else 1  # it is part of what is compiled
        launch(kernel, device, blocks_of(n), [*arguments, steps, n], K=length, KEEP_V=keep_v, KEEP_CK=keep)
    return out


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
    channels: Channels | None = None,
    correction: Sequence[Tensor] = (),
) -> Gradients:
    """Run the backward kernel.

    With a `correction` the gradient of an input is increased by an affine function of it: constant and slope of each
    channel.
    """
    x_seq, step = layout(x_seq)
    real, steps, n, device = real_dtype(x_seq), x_seq.shape[0], step.numel, x_seq.device
    constants = constants_of(program(key).backward(real, wanted), values, step, real, device, channels)
    state = laid_out(state, step, real)
    gy = sequence_in_layout(gy, step, x_seq.dtype)
    scalars = tuple(values.is_scalar(i) for i in wanted)
    out = make_gradients(x_seq, step, state, (False,) * scalars.count(False))
    gx = out.x_seq
    gstart = [written(held, grad, gx, step, real) for held, grad in zip(state, out.state, strict=True)]
    has_g = any(held is not None for held in gstate)
    gends = [gradient_at_the_end(held, gx, step, real) if has_g else gx for held in gstate]
    way, blocks, rows = WHOLE, blocks_of(n), []
    if channels is not None and correction:
        way = Way(corrected=True, width=channels.width)
        if way.tiled:
            blocks, rows = math.prod(channels.tiles(n)), [n // channels.number]
    sums = sums_of(scalars, out.values, device, blocks)
    has_checkpoints = checkpoints is not None and checkpoints.numel() > 0
    arguments = backward_arguments(
        x_seq,
        x_seq.stride(0),
        states_of(state, step, gstart, gends),
        checkpoints if has_checkpoints else gx,
        (gy, gy.stride(0)),
        gx if gv_seq is None else whole_in_layout(gv_seq, step, real),
        gx,
        sums,
        constants,
    )
    length = segment_length("triton", steps, len(state))
    kernel = backward_kernel(key, form_of(real, state, constants), wanted, length, scalars, way)
    options = {"HAS_CK": has_checkpoints, "KEEP_V": gv_seq is not None, "HAS_G": has_g}
    launch(kernel, device, blocks, [*arguments, *correction, *rows, steps, n], **options)
    return out._replace(values=totals(scalars, sums, real))


def channel_sums(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    wanted: tuple[int, ...],
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: Sequence[Tensor | None],
    channels: Channels,
) -> Tensor:
    """The gradients of fields with a value per channel, those in the slots `wanted`, and nothing else, as sums of
    tiles: `[wanted, C, tiles]`.
    """
    x_seq, step = layout(x_seq)
    real, steps, n, device = real_dtype(x_seq), x_seq.shape[0], step.numel, x_seq.device
    constants = constants_of(program(key).backward(real, wanted), values, step, real, device, channels)
    state = laid_out(state, step, real)
    gy = sequence_in_layout(gy, step, x_seq.dtype)
    rows, columns = channels.tiles(n)
    sums = x_seq.new_empty(len(wanted), channels.number, rows, dtype=real)
    nothing = [sums if isinstance(held, Tensor) else None for held in state]  # no memory that is written
    has_g = any(held is not None for held in gstate)
    gends = [gradient_at_the_end(held, x_seq, step, real) if has_g else sums for held in gstate]
    has_checkpoints = checkpoints is not None and checkpoints.numel() > 0
    arguments = backward_arguments(
        x_seq,
        x_seq.stride(0),
        states_of(state, step, nothing, gends),
        checkpoints if has_checkpoints else sums,
        (gy, gy.stride(0)),
        sums if gv_seq is None else whole_in_layout(gv_seq, step, real),
        x_seq,
        [sums],
        constants,
    )
    length, way = segment_length("triton", steps, len(state)), Way(sums=True, width=channels.width)
    scalars = (False,) * len(wanted)
    kernel = backward_kernel(key, form_of(real, state, constants), wanted, length, scalars, way)
    options = {"HAS_CK": has_checkpoints, "KEEP_V": gv_seq is not None, "HAS_G": has_g}
    launch(kernel, device, rows * columns, [*arguments, n // channels.number, steps, n], **options)
    return sums
