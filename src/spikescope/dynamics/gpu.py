"""Calling the Triton kernels, on a GPU or in Triton's interpreter on a CPU.

Nothing is made on the device but what a kernel fills: a number goes by value, the start of a state as well. So no call
makes the host wait, and a call can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .launch import interpreted, launch, load
from .layout import (
    BLOCK,
    TAPS,
    Gradients,
    Layout,
    Outputs,
    field_in_layout,
    kinds_of_taps,
    layout,
    make_gradients,
    make_outputs,
    real_dtype,
    segment_length,
    sequence_in_layout,
    state_in_layout,
    state_strides,
    support_bounds,
    supports,
    whole_in_layout,
)
from .program import Values, program
from .trace import Body
from .triton import BACKWARD, FORWARD, Form, backward_source, forward_source

__all__ = ["backward", "forward"]


@cache
def _forward_kernel(key: str, form: Form, taps: frozenset[str]) -> Any:
    return getattr(load(forward_source(program(key).forward(form.real), form, taps)), FORWARD)


@cache
def _backward_kernel(key: str, form: Form, wanted: tuple[int, ...], length: int, scalars: tuple[bool, ...]) -> Any:
    return getattr(load(backward_source(program(key).backward(form.real, wanted), form, length, scalars)), BACKWARD)


class Constants(NamedTuple):
    """The results of a prologue as the kernel takes them: numbers, pointers, and periods of arrays."""

    arguments: Sequence[Any]
    numbers: frozenset[str]  # the names of those that are numbers


def _constants(body: Body, values: Values, step: Layout, real: torch.dtype, device: torch.device) -> Constants:
    if not values.tensors:
        return _of_numbers(body, values.kinds, values.numbers[: len(values.kinds)])
    arguments: list[Any] = []
    numbers = set()
    for name, constant in zip(body.constants.values(), body.prologue(*values.slots(real)), strict=True):
        if name in body.arrays:
            flat = field_in_layout(constant.to(real), step)
            arguments += [flat, flat.numel()]
        elif name in body.numbers or constant.device != device:
            arguments.append(float(constant))
            numbers.add(name)
        else:
            arguments.append(constant.to(real).reshape(1))
    if numbers - body.numbers and _captured(device):
        raise RuntimeError(
            "A field is a tensor on the CPU, which a captured CUDA graph would read once and for ever. Move the module "
            "to the GPU first, as with net.to(x.device)."
        )
    return Constants(arguments, frozenset(numbers))


@lru_cache(maxsize=1024)
def _of_numbers(body: Body, kinds: str, numbers: tuple[float, ...]) -> Constants:
    """The constants of a neuron without tensors among its fields, the same at every call and on every device."""
    results = [float(result) for result in body.prologue(*Values(kinds, (), numbers).slots(torch.float64))]
    return Constants(results, frozenset(body.constants.values()))


def _captured(device: torch.device) -> bool:
    """Whether what runs on the device is being captured in a graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _states(state: Sequence[float | Tensor], step: Layout, *columns: Sequence[Any]) -> list[Any]:
    """The states and what belongs to each, in the kernel's order: a number, or a tensor and the stride of its neurons,
    then the entries of the `columns`; a None among them is no argument.
    """
    arguments: list[Any] = []
    for held, stride, *more in zip(state, state_strides(state, step), *columns, strict=True):
        arguments += [held, stride] if isinstance(held, Tensor) else [float(held)]
        arguments += [column for column in more if column is not None]
    return arguments


def _laid_out(state: Sequence[float | Tensor], step: Layout, real: torch.dtype) -> list[float | Tensor]:
    return [state_in_layout(held, step, real) if isinstance(held, Tensor) else held for held in state]


def _form(real: torch.dtype, state: Sequence[float | Tensor], *constants: Constants) -> Form:
    numbers = frozenset[str]().union(*(found.numbers for found in constants))
    return Form(real, numbers, tuple(not isinstance(held, Tensor) for held in state), not interpreted())


def forward(
    key: str,
    x_seq: Tensor,
    state: Sequence[float | Tensor],
    values: Values,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: frozenset[str],
) -> Outputs:
    """Run the forward kernel."""
    x_seq, step = layout(x_seq)
    real, steps, n, device = real_dtype(x_seq), x_seq.shape[0], step.numel, x_seq.device
    constants = _constants(program(key).forward(real), values, step, real, device)
    state = _laid_out(state, step, real)
    out = make_outputs("triton", x_seq, step, len(state), keep_v, keep_checkpoints, taps)
    y, made = out.y, out.taps
    arguments = [
        x_seq,
        x_seq.stride(0),
        y,
        *_states(state, step, out.state),
        y if out.v_seq is None else out.v_seq,
        y if out.checkpoints is None else out.checkpoints,
        *(made.get(name, y) for name in TAPS),
        *(held for name in supports(taps) for held in (made[name], *support_bounds(name))),
        *constants.arguments,
        steps,
        n,
    ]
    if n:  # without neurons a tap has no block to write to
        kernel = _forward_kernel(key, _form(real, state, constants), kinds_of_taps(taps))
        keep = out.checkpoints is not None and out.checkpoints.numel() > 0
        length = segment_length("triton", steps, len(state)) if keep else 1  # it is part of what is compiled
        launch(kernel, device, n, arguments, K=length, KEEP_V=keep_v, KEEP_CK=keep)
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
) -> Gradients:
    """Run the backward kernel."""
    x_seq, step = layout(x_seq)
    real, steps, n, device = real_dtype(x_seq), x_seq.shape[0], step.numel, x_seq.device
    constants = _constants(program(key).backward(real, wanted), values, step, real, device)
    state = _laid_out(state, step, real)
    gy = sequence_in_layout(gy, step, x_seq.dtype)
    scalars = tuple(values.is_scalar(i) for i in wanted)
    out = make_gradients(x_seq, step, state, scalars.count(False))
    gx, per_neuron = out.x_seq, iter(out.values)
    gstart = [_written(held, grad, gx, step, real) for held, grad in zip(state, out.state, strict=True)]
    has_g = any(held is not None for held in gstate)
    gends = [_gradient_at_the_end(held, gx, step, real) if has_g else gx for held in gstate]
    sums = [
        x_seq.new_empty(max(1, -(-n // BLOCK)), dtype=torch.float64) if scalar else next(per_neuron)
        for scalar in scalars
    ]
    has_checkpoints = checkpoints is not None and checkpoints.numel() > 0
    arguments = [
        x_seq,
        x_seq.stride(0),
        *_states(state, step, gstart, gends),
        checkpoints if has_checkpoints else gx,
        gy,
        gy.stride(0),
        gx if gv_seq is None else whole_in_layout(gv_seq, step, real),
        gx,
        *sums,
        *constants.arguments,
        steps,
        n,
    ]
    length = segment_length("triton", steps, len(state))
    kernel = _backward_kernel(key, _form(real, state, constants), wanted, length, scalars)
    launch(kernel, device, n, arguments, HAS_CK=has_checkpoints, KEEP_V=gv_seq is not None, HAS_G=has_g)
    return out._replace(values=[held.sum().to(real) if s else held for held, s in zip(sums, scalars, strict=True)])


def _written(held: float | Tensor, grad: Tensor | None, gx: Tensor, step: Layout, real: torch.dtype) -> Tensor | None:
    """Where the kernel writes the gradient of a first state: also of a single number in memory, for which none is."""
    if grad is None and isinstance(held, Tensor):
        return gx.new_empty_strided(step.shape, step.strides, dtype=real)
    return grad


def _gradient_at_the_end(held: Tensor | None, gx: Tensor, step: Layout, real: torch.dtype) -> Tensor:
    """The gradient of a last state as the kernel takes it."""
    if held is None:
        return gx.new_zeros(step.shape, dtype=real).as_strided(step.shape, step.strides)
    return state_in_layout(held.expand(step.shape), step, real)
