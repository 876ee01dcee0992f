"""The arguments of the Triton kernels: tensors, and numbers by value.

Nothing is made on the device but what a kernel fills: a number goes by value, the start of a state as well. So no call
makes the host wait, and a call can be captured in a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..graphs.program import Values
from ..graphs.trace import Body
from ..layout import BLOCK, TAPS, Layout, Outputs, field_in_layout, state_in_layout, state_strides
from .kernel import Form
from .launch import interpreted, of_nvidia

__all__ = [
    "Channels",
    "Constants",
    "as_taken",
    "backward_arguments",
    "blocks_of",
    "constants_of",
    "form_of",
    "forward_arguments",
    "gradient_at_the_end",
    "laid_out",
    "states_of",
    "sums_of",
    "totals",
    "written",
]


class Channels(NamedTuple):
    """How the channels of a step `[N, C, *]` lie in memory: channel c of row r is at
    `(r // inner) * inner * number + c * inner + r % inner`.
    """

    number: int
    inner: int
    shape: tuple[int, ...]  # of a value per channel that broadcasts to a step

    @classmethod
    def of(cls, step: Layout) -> Channels:
        """Those of a step that lies in the order of its axes, or with the channels last."""
        count, last = step.shape[1], step.shape[2:]
        in_order = math.prod(last) if step.fits(_in_order(step.shape)) else 1
        return cls(count, in_order, (count, *(1,) * len(last)))

    @property
    def width(self) -> int:
        """How many channels a tile has: of neighbours in memory as many as one access fetches."""
        return 1 if self.inner > 1 else 16

    def tiles(self, n: int) -> tuple[int, int]:
        """How many tiles it takes for `n` neurons, over the rows and over the channels."""
        return -(-n // (self.number * (BLOCK // self.width))), -(-self.number // self.width)


def _in_order(shape: Sequence[int]) -> tuple[int, ...]:
    strides, distance = [], 1
    for size in reversed(shape):
        strides.append(distance)
        distance *= size
    return tuple(reversed(strides))


class Constants(NamedTuple):
    """The results of a prologue as the kernel takes them: numbers, pointers, and periods of arrays."""

    arguments: Sequence[Any]
    numbers: frozenset[str]  # the names of those that are numbers
    channels: frozenset[str] = frozenset()  # of those with a value per channel


def constants_of(
    body: Body, values: Values, step: Layout, real: torch.dtype, device: torch.device, channels: Channels | None = None
) -> Constants:
    """The results of the prologue of a body. Those of the shape of `channels` are taken by channel."""
    with torch.no_grad():
        found = body.prologue(values.numbers)(values.tensors)
        return as_taken(body, found, step, real, device, channels)


def as_taken(
    body: Body,
    found: Sequence[float | Tensor],
    step: Layout,
    real: torch.dtype,
    device: torch.device,
    channels: Channels | None = None,
) -> Constants:
    """What a prologue gave, in the form in which a kernel takes it."""
    arguments: list[Any] = []
    numbers, by_channel = body.numbers, frozenset[str]()
    for name, held in zip(body.constants.values(), found, strict=True):
        if not isinstance(held, Tensor):
            arguments.append(held)
            continue
        constant = held if held.dtype is real else held.to(real)
        if name not in body.arrays:
            if constant.device == device:
                arguments.append(constant)
            else:
                arguments.append(float(constant))
                numbers |= {name}
        elif channels is not None and constant.shape == channels.shape:
            arguments.append(constant.contiguous())
            by_channel |= {name}
        else:
            flat = field_in_layout(constant, step)
            arguments += [flat, flat.numel()]
    if numbers is not body.numbers and _captured(device):
        raise RuntimeError(
            "A field is a tensor on the CPU, which a captured CUDA graph would read once and for ever. Move the module "
            "to the GPU first, as with net.to(x.device)."
        )
    if channels is not None and by_channel:
        arguments += channels[:2]
    return Constants(arguments, numbers, by_channel)


def _captured(device: torch.device) -> bool:
    """Whether what runs on the device is being captured in a graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def states_of(state: Sequence[float | Tensor], step: Layout, *columns: Sequence[Any]) -> list[Any]:
    """The states and what belongs to each, in the kernel's order: a number, or a tensor and the stride of its neurons,
    then the entries of the `columns`; a None among them is not an argument.
    """
    arguments: list[Any] = []
    for held, stride, *more in zip(state, state_strides(state, step), *columns, strict=True):
        arguments += [held, stride] if isinstance(held, Tensor) else [float(held)]
        arguments += [column for column in more if column is not None]
    return arguments


def laid_out(state: Sequence[float | Tensor], step: Layout, real: torch.dtype) -> list[float | Tensor]:
    return [state_in_layout(held, step, real) if isinstance(held, Tensor) else held for held in state]


def form_of(real: torch.dtype, state: Sequence[float | Tensor], constants: Constants) -> Form:
    starts = tuple(not isinstance(held, Tensor) for held in state)
    return Form(real, constants.numbers, starts, not interpreted(), constants.channels, of_nvidia())


def forward_arguments(
    x_seq: Tensor,
    in_time: int,
    state: Sequence[float | Tensor],
    step: Layout,
    out: Outputs,
    constants: Constants,
    bounds: Sequence[Any] = (),
) -> list[Any]:
    """What the forward kernel takes; `bounds` are the memory and the numbers of support taps."""
    y, made = out.y, out.taps
    return [
        x_seq,
        in_time,
        y,
        *states_of(state, step, out.state),
        y if out.v_seq is None else out.v_seq,
        y if out.checkpoints is None else out.checkpoints,
        *(made.get(name, y) for name in TAPS),
        *bounds,
        *constants.arguments,
    ]


def backward_arguments(
    x_seq: Tensor,
    in_time: int,
    states: Sequence[Any],
    checkpoints: Tensor | None,
    gy: tuple[Tensor, int],
    gv_seq: Tensor,
    gx: Tensor,
    sums: Sequence[Tensor],
    constants: Constants,
) -> list[Any]:
    """What the backward kernel takes; `gy` is the gradient of the output and its stride in time."""
    return [x_seq, in_time, *states, checkpoints, *gy, gv_seq, gx, *sums, *constants.arguments]


def blocks_of(n: int) -> int:
    """How many programs take `n` neurons, a block each."""
    return -(-n // BLOCK)


def sums_of(scalars: Sequence[bool], per_neuron: Sequence[Tensor], device: torch.device, blocks: int) -> list[Tensor]:
    """Where the kernel leaves the gradients of fields: one a neuron, or of one number a sum a block."""
    fields, size = iter(per_neuron), max(1, blocks)
    return [torch.empty(size, dtype=torch.float64, device=device) if scalar else next(fields) for scalar in scalars]


def totals(scalars: Sequence[bool], sums: Sequence[Tensor], real: torch.dtype) -> list[Tensor]:
    """The gradients of fields from what the kernel has left of each."""
    return [held.sum().to(real) if scalar else held for held, scalar in zip(sums, scalars, strict=True)]


def written(held: float | Tensor, grad: Tensor | None, gx: Tensor, step: Layout, real: torch.dtype) -> Tensor | None:
    """Where the kernel writes the gradient of a first state: also of a single number in memory, for which none is."""
    if grad is None and isinstance(held, Tensor):
        return gx.new_empty_strided(step.shape, step.strides, dtype=real)
    return grad


def gradient_at_the_end(held: Tensor | None, gx: Tensor, step: Layout, real: torch.dtype) -> Tensor:
    """The gradient of a last state as the kernel takes it."""
    if held is None:
        return gx.new_zeros(step.shape, dtype=real).as_strided(step.shape, step.strides)
    return state_in_layout(held.expand(step.shape), step, real)
