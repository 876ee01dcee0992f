"""Calling the C++ kernels: layouts, pointers and buffers."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .borrowed import load
from .cpp import backward_source, forward_source
from .layout import (
    BLOCK,
    TAPS,
    Gradients,
    Layout,
    Outputs,
    field_in_layout,
    kinds_of_taps,
    layout,
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

__all__ = ["backward", "forward", "threads_for"]

_SMALL = 1 << 15  # elements under which a second thread costs more than it saves

_P, _L, _I = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
# X, sx, Y, S0, L, S1, C, A, P, V, CK, K, TAP, W, T, n, threads
_FORWARD: list[Any] = [_P, _L, *[_P] * 9, _L, _P, _P, _L, _L, _I]
# X, sx, S0, L, C, A, P, FC, FA, FP, CK, K, GY, sgy, GV, G1, GX, G0, GP, GA, T, n, threads
_BACKWARD: list[Any] = [_P, _L, *[_P] * 9, _L, _P, _L, *[_P] * 6, _L, _L, _I]

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True  # the OpenMP threads of the parent do not exist in the child, and waiting for them would hang


os.register_at_fork(after_in_child=_after_fork)


def _pointers(tensors: Sequence[Tensor | None]) -> Any:
    return (ctypes.c_void_p * max(1, len(tensors)))(*[_pointer(held) for held in tensors])


def _pointer(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    address = tensor.data_ptr()
    if not address and tensor.numel():  # its storage was freed, or it never had one
        raise RuntimeError(
            f"A kernel was given a tensor of shape {list(tensor.shape)} that has no memory: it stands for a shape, "
            "as on the meta device, or its storage was freed. Give it a tensor with values; if it is a state, call "
            "functional.reset_net(net)."
        )
    return address


def _longs(numbers: Sequence[int]) -> Any:
    return (ctypes.c_long * max(1, len(numbers)))(*numbers)


def threads_for(elements: int) -> int:
    """How many threads a kernel over so many elements takes."""
    return 1 if _forked or elements < _SMALL else torch.get_num_threads()


@cache
def _forward_kernel(key: str, io: torch.dtype, taps: frozenset[str], settled: frozenset[str]) -> Callable[..., None]:
    real = torch.float64 if io is torch.float64 else torch.float32
    kernel = load(forward_source(program(key).forward(real), io, taps, settled)).forward
    kernel.argtypes = _FORWARD
    return kernel


@cache
def _backward_kernel(
    key: str, io: torch.dtype, wanted: tuple[int, ...], settled: frozenset[str]
) -> Callable[..., None]:
    real = torch.float64 if io is torch.float64 else torch.float32
    made = program(key)
    scalars = tuple(made.model.kinds[slot] == "s" for slot in wanted)
    kernel = load(backward_source(made.backward(real, wanted), made.forward(real), io, scalars, settled)).backward
    kernel.argtypes = _BACKWARD
    return kernel


class Constants(NamedTuple):
    """The results of a prologue as the kernel takes them."""

    numbers: Any
    arrays: Any
    periods: Any
    held: list[Tensor]  # keeps the arrays alive during the call
    settled: frozenset[str]  # those for whose value the kernel is made


def _constants(body: Body, values: Values, step: Layout, real: torch.dtype) -> Constants:
    if not values.tensors:
        return _of_numbers(body, values.kinds, values.numbers)
    numbers, arrays, periods = [], [], []
    for name, constant in zip(body.constants.values(), body.prologue(*values.slots(real)), strict=True):
        if name in body.arrays:
            flat = field_in_layout(constant.to(real), step)
            arrays.append(flat)
            periods.append(flat.numel())
            numbers.append(0.0)
        else:
            numbers.append(float(constant))
    return Constants(_doubles(numbers), _pointers(arrays), _longs(periods or [1]), arrays, _settled(body, numbers))


@lru_cache(maxsize=1024)
def _of_numbers(body: Body, kinds: str, numbers: tuple[float, ...]) -> Constants:
    """The constants of a neuron without tensors among its fields, the same at every call."""
    results = [float(result) for result in body.prologue(*Values(kinds, (), numbers).slots(torch.float64))]
    return Constants(_doubles(results), _pointers([]), _longs([1]), [], _settled(body, results))


def _state(held: float | Tensor, step: Layout, real: torch.dtype) -> Tensor:
    """A state as the kernel takes it: in memory, a number as well."""
    if isinstance(held, Tensor):
        return state_in_layout(held, step, real)
    return torch.tensor(held, dtype=real, device="cpu")


def _settled(body: Body, numbers: Sequence[float]) -> frozenset[str]:
    """The constants for whose value a kernel is made: what it need not compute, it need not wait for.

    These are conditions that are false, and divisors that are powers of two, far from the ends of the range: dividing
    by them is multiplying, exactly. The default tau of 2 is one; a LIF layer takes a sixth less time backwards.
    """
    names = [name for name in body.constants.values() if name not in body.arrays]
    of = {name: number for name, number in zip(body.constants.values(), numbers, strict=True) if name in names}
    false = {name for name in body.conditions & of.keys() if not of[name]}
    return frozenset(false | {name for name in body.divisors & of.keys() if _is_power_of_two(of[name])})


def _is_power_of_two(number: float) -> bool:
    return abs(math.frexp(number)[0]) == 0.5 and 2.0**-60 < abs(number) < 2.0**60


def _doubles(numbers: Sequence[float]) -> Any:
    return (ctypes.c_double * max(1, len(numbers)))(*numbers)


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
    real, steps, n = real_dtype(x_seq), x_seq.shape[0], step.numel
    body = program(key).forward(real)
    constants = _constants(body, values, step, real)
    first = [_state(held, step, real) for held in state]
    out = make_outputs("cpp", x_seq, step, len(state), keep_v, keep_checkpoints, taps)
    _forward_kernel(key, x_seq.dtype, kinds_of_taps(taps), constants.settled)(
        _pointer(x_seq),
        x_seq.stride(0),
        _pointer(out.y),
        _pointers(first),
        _longs(state_strides(first, step)),
        _pointers(out.state),
        constants.numbers,
        constants.arrays,
        constants.periods,
        _pointer(out.v_seq),
        _pointer(out.checkpoints if out.checkpoints is not None and out.checkpoints.numel() else None),
        segment_length("cpp", steps, len(state)),
        _pointers([out.taps.get(name) for name in (*TAPS, *supports(taps))]),
        _doubles([number for name in supports(taps) for number in support_bounds(name)]),
        steps,
        n,
        threads_for(steps * n),
    )
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
    real, steps, n = real_dtype(x_seq), x_seq.shape[0], step.numel
    made = program(key)
    body, again = made.backward(real, wanted), made.forward(real)
    constants, constants_again = (_constants(b, values, step, real) for b in (body, again))
    first = [_state(held, step, real) for held in state]
    gy = sequence_in_layout(gy, step, x_seq.dtype)
    gv_seq = None if gv_seq is None else whole_in_layout(gv_seq, step, real)
    gstate = [None if held is None else state_in_layout(held.expand(step.shape), step, real) for held in gstate]
    gx = torch.empty_strided((steps, *step.shape), (n, *step.strides), dtype=x_seq.dtype, device="cpu")
    gstart = [
        torch.empty_strided(step.shape, step.strides, dtype=real, device="cpu") if held.shape == step.shape else None
        for held in first
    ]
    blocks = -(-n // BLOCK)
    per_neuron = [
        None if values.is_scalar(i) else torch.empty_strided(step.shape, step.strides, dtype=real, device="cpu")
        for i in wanted
    ]
    sums = torch.empty(blocks, per_neuron.count(None), dtype=torch.float64, device="cpu")
    _backward_kernel(key, x_seq.dtype, wanted, constants.settled | constants_again.settled)(
        _pointer(x_seq),
        x_seq.stride(0),
        _pointers(first),
        _longs(state_strides(first, step)),
        constants.numbers,
        constants.arrays,
        constants.periods,
        constants_again.numbers,
        constants_again.arrays,
        constants_again.periods,
        _pointer(checkpoints if checkpoints is not None and checkpoints.numel() else None),
        segment_length("cpp", steps, len(state)),
        _pointer(gy),
        gy.stride(0),
        _pointer(gv_seq),
        _pointers(gstate),
        _pointer(gx),
        _pointers(gstart),
        _pointer(sums),
        _pointers(per_neuron),
        steps,
        n,
        threads_for(steps * n),
    )
    if not wanted:
        return Gradients(gx, gstart, [])
    totals = iter(sums.sum(0).to(real))
    return Gradients(gx, gstart, [next(totals) if held is None else held for held in per_neuron])
