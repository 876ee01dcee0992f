"""Calling the Triton kernels, on a GPU or in Triton's interpreter on a CPU."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from ..errors import missing_extra
from .compiler import cache_folder, private_folder
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
from .triton import backward_source, forward_source

__all__ = ["available", "backward", "forward", "interpreted"]


def available() -> bool:
    """Whether the package triton is installed."""
    return importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton runs in its interpreter, which takes tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _load(source: str) -> Any:
    """The module of a source text. Triton reads the text of a kernel from its file, so there has to be one."""
    if not available():
        raise missing_extra("triton", "triton", "Fused kernels for GPUs")
    name = f"spikescope_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    folder = cache_folder() / "triton"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, work = tempfile.mkstemp(dir=folder)
    except OSError:  # no writable cache
        folder = private_folder()
        handle, work = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w") as file:
        file.write(source)
    path = folder / f"{name}.py"
    os.replace(work, path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _forward_kernel(key: str, real: torch.dtype, taps: frozenset[str]) -> Any:
    return _load(forward_source(program(key).forward(real), real, taps, not interpreted())).forward


@cache
def _backward_kernel(
    key: str, real: torch.dtype, wanted: tuple[int, ...], length: int, scalars: tuple[bool, ...]
) -> Any:
    made = program(key)
    return _load(
        backward_source(made.backward(real, wanted), made.forward(real), real, length, scalars, not interpreted())
    ).backward


@lru_cache(maxsize=1024)
def _numbers(constants: tuple[float, ...], real: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(constants, dtype=real, device=device)


def _constants(body: Body, values: Values, step: Layout, real: torch.dtype, device: torch.device) -> list[Any]:
    """The results of a prologue as the kernel takes them: pointers, and periods of arrays."""
    arguments: list[Any] = []
    for name, constant in zip(body.constants.values(), body.prologue(*values.slots(real)), strict=True):
        if name in body.arrays:
            flat = field_in_layout(constant.to(real), step)
            arguments += [flat, flat.numel()]
        elif constant.device.type == "cpu" and device.type != "cpu":
            arguments.append(_numbers((float(constant),), real, device))
        else:
            arguments.append(constant.to(real).reshape(1))
    return arguments


def _launch(kernel: Any, device: torch.device, n: int, arguments: Sequence[Any], **constants: Any) -> None:
    grid = (max(1, -(-n // BLOCK)),)
    if interpreted():
        kernel[grid](*arguments, BLOCK=BLOCK, **constants)
        return
    with getattr(torch, device.type).device(device):  # Triton launches on the current device, not on the tensors'
        kernel[grid](*arguments, BLOCK=BLOCK, **constants, num_warps=2, enable_fp_fusion=False)


def _each_state(*columns: Sequence[Any]) -> list[Any]:
    """Columns of states to the kernel's order: all of the first state, then all of the second."""
    return [held for row in zip(*columns, strict=True) for held in row]


def forward(
    key: str,
    x_seq: Tensor,
    state: Sequence[Tensor],
    values: Values,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: frozenset[str],
) -> Outputs:
    """Run the forward kernel."""
    x_seq, step = layout(x_seq)
    real, steps, n, device = real_dtype(x_seq), x_seq.shape[0], step.numel, x_seq.device
    body = program(key).forward(real)
    state = [state_in_layout(held, step, real) for held in state]
    out = make_outputs("triton", x_seq, step, len(state), keep_v, keep_checkpoints, taps)
    y, made = out.y, out.taps
    arguments = [
        x_seq,
        x_seq.stride(0),
        y,
        *_each_state(state, state_strides(state, step), out.state),
        y if out.v_seq is None else out.v_seq,
        y if out.checkpoints is None else out.checkpoints,
        *(made.get(name, y) for name in TAPS),
        *(held for name in supports(taps) for held in (made[name], _numbers(support_bounds(name), real, device))),
        *_constants(body, values, step, real, device),
        steps,
        n,
    ]
    if n:  # without neurons a tap has no block to write to
        _launch(
            _forward_kernel(key, real, kinds_of_taps(taps)),
            device,
            n,
            arguments,
            K=segment_length("triton", steps, len(state)),
            KEEP_V=keep_v,
            KEEP_CK=out.checkpoints is not None and out.checkpoints.numel() > 0,
        )
    return out


def backward(
    key: str,
    x_seq: Tensor,
    state: Sequence[Tensor],
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
    made = program(key)
    body, again = made.backward(real, wanted), made.forward(real)
    state = [state_in_layout(held, step, real) for held in state]
    gy = sequence_in_layout(gy, step, x_seq.dtype)
    gx = x_seq.new_empty_strided((steps, *step.shape), (n, *step.strides))
    gstart = [x_seq.new_empty_strided(step.shape, step.strides, dtype=real) for _ in state]
    has_g = any(held is not None for held in gstate)
    gends = [
        state_in_layout((torch.zeros_like(start) if held is None else held).expand(step.shape), step, real)
        if has_g
        else start
        for held, start in zip(gstate, gstart, strict=True)
    ]
    scalars = tuple(values.is_scalar(i) for i in wanted)
    sums = [
        x_seq.new_empty(max(1, -(-n // BLOCK)), dtype=torch.float64)
        if scalar
        else x_seq.new_empty_strided(step.shape, step.strides, dtype=real)
        for scalar in scalars
    ]
    has_checkpoints = checkpoints is not None and checkpoints.numel() > 0
    arguments = [
        x_seq,
        x_seq.stride(0),
        *_each_state(state, state_strides(state, step), gends, gstart),
        checkpoints if has_checkpoints else gx,
        gy,
        gy.stride(0),
        gx if gv_seq is None else whole_in_layout(gv_seq, step, real),
        gx,
        *sums,
        *_constants(body, values, step, real, device),
        *_constants(again, values, step, real, device),
        steps,
        n,
    ]
    length = segment_length("triton", steps, len(state))
    kernel = _backward_kernel(key, real, wanted, length, scalars)
    _launch(kernel, device, n, arguments, HAS_CK=has_checkpoints, KEEP_V=gv_seq is not None, HAS_G=has_g)
    gstates = [grad if held.shape == step.shape else None for held, grad in zip(state, gstart, strict=True)]
    return Gradients(gx, gstates, [held.sum().to(real) if s else held for held, s in zip(sums, scalars, strict=True)])
