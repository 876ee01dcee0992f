"""Calling the C++ kernels: layouts, pointers and buffers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .compiler import load
from .cpp import BLOCK, backward_source, forward_source, segment_length
from .program import program
from .trace import Body

__all__ = ["Layout", "Outputs", "backward", "checkpoint_shape", "forward", "layout", "real_dtype"]

_SMALL = 1 << 15  # elements under which a second thread costs more than it saves

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True  # the OpenMP threads of the parent do not exist in the child, and waiting for them would hang


os.register_at_fork(after_in_child=_after_fork)


class Layout(NamedTuple):
    """How one step lies in memory: without gaps, in the axis order of the input."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    numel: int

    def fits(self, strides: Sequence[int]) -> bool:
        """Whether a tensor of this shape with `strides` lies in this order."""
        return all(
            size == 1 or a == b for size, a, b in zip(self.shape, self.strides, strides, strict=True)
        )


def real_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the state: float64 for float64 input, else float32."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


def layout(x_seq: Tensor) -> tuple[Tensor, Layout]:
    """The input, copied only if a step of it has gaps, and the layout of a step."""
    step = x_seq.select(0, 0) if x_seq.shape[0] else x_seq.new_empty(x_seq.shape[1:])
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    dense = step.is_contiguous()
    if not dense and step.ndim in formats:
        dense = step.is_contiguous(memory_format=formats[step.ndim])
    if not dense:
        x_seq = x_seq.contiguous()
        step = x_seq[0]
    return x_seq, Layout(tuple(step.shape), tuple(step.stride()), step.numel())


def checkpoint_shape(steps: int, states: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the states saved for the backward pass; empty for a run of one segment."""
    length = segment_length(steps, states)
    segments = -(-steps // length) if steps > length else 0
    return (segments, states, *shape)


class Outputs(NamedTuple):
    """What the forward kernel fills."""

    y: Tensor
    state: list[Tensor]
    v_seq: Tensor | None
    checkpoints: Tensor | None
    taps: dict[str, Tensor]


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return (ctypes.c_void_p * max(1, len(tensors)))(*[None if t is None else t.data_ptr() for t in tensors])


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _longs(numbers: Sequence[int]) -> Any:
    return (ctypes.c_long * max(1, len(numbers)))(*numbers)


def _threads(elements: int) -> ctypes.c_int:
    return ctypes.c_int(1 if _forked or elements < _SMALL else torch.get_num_threads())


@cache
def _forward_kernel(key: str, io: torch.dtype, taps: frozenset[str]) -> Callable[..., None]:
    real = torch.float64 if io is torch.float64 else torch.float32
    return load(forward_source(program(key).forward(real), io, taps)).forward


@cache
def _backward_kernel(key: str, io: torch.dtype, wanted: tuple[int, ...]) -> Callable[..., None]:
    real = torch.float64 if io is torch.float64 else torch.float32
    made = program(key)
    return load(backward_source(made.backward(real, wanted), made.forward(real), io)).backward


class Constants(NamedTuple):
    """The results of a prologue as the kernel takes them."""

    numbers: Any
    arrays: Any
    periods: Any
    held: list[Tensor]  # keeps the arrays alive during the call


def _constants(body: Body, values: Sequence[Tensor], step: Layout, real: torch.dtype) -> Constants:
    numbers, arrays, periods = [], [], []
    for name, constant in zip(body.constants.values(), body.prologue(*values), strict=True):
        if name in body.arrays:
            flat = _in_layout(constant.to(real), step)
            arrays.append(flat)
            periods.append(flat.numel())
            numbers.append(0.0)
        else:
            numbers.append(float(constant))
    return Constants(
        (ctypes.c_double * max(1, len(numbers)))(*numbers), _pointers(arrays), _longs(periods or [1]), arrays
    )


def _in_layout(constant: Tensor, step: Layout) -> Tensor:
    """A field in the memory order of a step; once for the whole batch where it does not vary along it."""
    shape, strides = step.shape, step.strides
    per_batch = len(shape) > 1 and (constant.ndim < len(shape) or constant.shape[0] == 1)
    if per_batch and strides[0] * shape[0] == step.numel:
        shape, strides = shape[1:], strides[1:]
        if constant.ndim > len(shape):
            constant = constant.squeeze(0)
    flat = torch.empty_strided(shape, strides, dtype=constant.dtype, device=constant.device)
    return flat.copy_(constant.expand(shape))


def _as_step(tensor: Tensor, step: Layout, real: torch.dtype) -> Tensor:
    """A state in the layout of the step; a 0-dim one stands for all neurons."""
    if tensor.ndim == 0 and step.shape:
        return tensor.to(real)
    if tensor.dtype is real and step.fits(tensor.stride()):
        return tensor
    return torch.empty_strided(step.shape, step.strides, dtype=real, device=tensor.device).copy_(tensor)


def _strides_of_0_and_1(tensors: Sequence[Tensor], step: Layout) -> Any:
    return _longs([0 if tensor.ndim == 0 and step.shape else 1 for tensor in tensors])


def make_taps(taps: frozenset[str], steps: int, step: Layout, real: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Empty buffers for the taps that are on."""
    made = {}
    if "count" in taps:
        dtype = torch.uint8 if steps < 256 else torch.int32
        made["count"] = torch.empty_strided(step.shape, step.strides, dtype=dtype, device=device)
    if "packed" in taps:
        made["packed"] = torch.empty(steps, -(-step.numel // 8), dtype=torch.uint8, device=device)
    if "h" in taps:
        made["h"] = torch.empty_strided((steps, *step.shape), (step.numel, *step.strides), dtype=real, device=device)
    if "range" in taps:
        made["range"] = torch.empty(-(-step.numel // BLOCK), 3, dtype=torch.float64, device=device)
    return made


def forward(
    key: str,
    x_seq: Tensor,
    state: Sequence[Tensor],
    values: Sequence[Tensor],
    keep_v: bool,
    keep_checkpoints: bool,
    taps: frozenset[str],
) -> Outputs:
    """Run the forward kernel."""
    x_seq, step = layout(x_seq)
    real, steps, n = real_dtype(x_seq), x_seq.shape[0], step.numel
    body = program(key).forward(real)
    constants = _constants(body, values, step, real)
    state = [_as_step(held, step, real) for held in state]
    whole = (steps, *step.shape), (n, *step.strides)
    y = torch.empty_strided(*whole, dtype=x_seq.dtype)
    last = [torch.empty_strided(step.shape, step.strides, dtype=real) for _ in state]
    v_seq = torch.empty_strided(*whole, dtype=real) if keep_v else None
    checkpoints = torch.empty(checkpoint_shape(steps, len(state), (n,)), dtype=real) if keep_checkpoints else None
    made = make_taps(taps, steps, step, real, x_seq.device)
    _forward_kernel(key, x_seq.dtype, taps)(
        _pointer(x_seq),
        ctypes.c_long(x_seq.stride(0)),
        _pointer(y),
        _pointers(state),
        _strides_of_0_and_1(state, step),
        _pointers(last),
        constants.numbers,
        constants.arrays,
        constants.periods,
        _pointer(v_seq),
        _pointer(checkpoints if checkpoints is not None and checkpoints.numel() else None),
        ctypes.c_long(segment_length(steps, len(state))),
        _pointers([made.get(name) for name in ("count", "packed", "h", "range")]),
        ctypes.c_long(steps),
        ctypes.c_long(n),
        _threads(steps * n),
    )
    return Outputs(y, last, v_seq, checkpoints, made)


class Gradients(NamedTuple):
    """What the backward kernel fills."""

    x_seq: Tensor
    state: list[Tensor]
    values: list[Tensor]  # of the wanted ones: 0-dim for a 0-dim field, else one per neuron of the step


def backward(
    key: str,
    x_seq: Tensor,
    state: Sequence[Tensor],
    values: Sequence[Tensor],
    wanted: tuple[int, ...],
    checkpoints: Tensor | None,
    gy: Tensor,
    gv_seq: Tensor | None,
    gstate: Sequence[Tensor | None],
) -> Gradients:
    """Run the backward kernel."""
    x_seq, step = layout(x_seq)
    real, steps, n = real_dtype(x_seq), x_seq.shape[0], step.numel
    made = program(key)
    body, again = made.backward(real, wanted), made.forward(real)
    constants, constants_again = (_constants(b, values, step, real) for b in (body, again))
    state = [_as_step(held, step, real) for held in state]
    gy = _sequence_in_layout(gy, step, x_seq.dtype)
    gv_seq = None if gv_seq is None else _full_in_layout(gv_seq, step, real)
    gstate = [None if held is None else _as_step(held.expand(step.shape), step, real) for held in gstate]
    gx = torch.empty_strided((steps, *step.shape), (n, *step.strides), dtype=x_seq.dtype)
    gstart = [torch.empty_strided(step.shape, step.strides, dtype=real) for _ in state]
    blocks = -(-n // BLOCK)
    sums = torch.empty(blocks, len(wanted), dtype=torch.float64)
    per_neuron = [
        None if values[i].ndim == 0 else torch.empty_strided(step.shape, step.strides, dtype=real) for i in wanted
    ]
    _backward_kernel(key, x_seq.dtype, wanted)(
        _pointer(x_seq),
        ctypes.c_long(x_seq.stride(0)),
        _pointers(state),
        _strides_of_0_and_1(state, step),
        constants.numbers,
        constants.arrays,
        constants.periods,
        constants_again.numbers,
        constants_again.arrays,
        constants_again.periods,
        _pointer(checkpoints if checkpoints is not None and checkpoints.numel() else None),
        ctypes.c_long(segment_length(steps, len(state))),
        _pointer(gy),
        ctypes.c_long(gy.stride(0)),
        _pointer(gv_seq),
        _pointers(gstate),
        _pointer(gx),
        _pointers(gstart),
        _pointer(sums),
        _pointers(per_neuron),
        ctypes.c_long(steps),
        ctypes.c_long(n),
        _threads(steps * n),
    )
    totals = sums.sum(0).to(real)
    return Gradients(gx, gstart, [totals[j] if held is None else held for j, held in enumerate(per_neuron)])


def _sequence_in_layout(tensor: Tensor, step: Layout, dtype: torch.dtype) -> Tensor:
    """A gradient over time whose every step has the layout; an expanded one keeps its stride of 0."""
    if tensor.dtype is dtype and step.fits(tensor.stride()[1:]):
        return tensor
    return _full_in_layout(tensor, step, dtype)


def _full_in_layout(tensor: Tensor, step: Layout, dtype: torch.dtype) -> Tensor:
    if tensor.dtype is dtype and step.fits(tensor.stride()[1:]) and tensor.stride(0) == step.numel:
        return tensor
    return torch.empty_strided(tensor.shape, (step.numel, *step.strides), dtype=dtype, device=tensor.device).copy_(tensor)
