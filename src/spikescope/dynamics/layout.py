"""How sequences, states and fields lie in memory, and the buffers that a kernel fills.

A kernel sees a step as one flat run of memory; the axis order within it is free, so that channels_last needs no copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BLOCK",
    "TAPS",
    "Gradients",
    "Layout",
    "Outputs",
    "checkpoint_shape",
    "field_in_layout",
    "first_state",
    "in_one_order",
    "kinds_of_taps",
    "layout",
    "make_gradients",
    "make_outputs",
    "make_taps",
    "real_dtype",
    "segment_length",
    "sequence_in_layout",
    "state_in_layout",
    "state_strides",
    "support_bounds",
    "support_tap",
    "supports",
    "whole_in_layout",
]

BLOCK = 256
"""Neurons that a kernel takes at a time, and that share one row of the `range` tap."""

TAPS = ("count", "packed", "h", "range")
"""What a kernel can tell besides its output, with what `support_tap` names; printed into it only when it is on."""


def support_tap(v_threshold: float, low: float, high: float) -> str:
    """The name of the tap that counts, in each block of neurons, how often `low <= h - v_threshold <= high`.

    >>> support_tap(1.0, -0.5, 0.5)
    'support:1.0:-0.5:0.5'
    """
    return ":".join(("support", *(repr(float(number)) for number in (v_threshold, low, high))))


@cache
def supports(taps: frozenset[str]) -> list[str]:
    """The support taps among `taps`, in the order in which a kernel numbers them."""
    return sorted(name for name in taps if name.startswith("support"))


@cache
def kinds_of_taps(taps: frozenset[str]) -> frozenset[str]:
    """The taps as a kernel is made for them: it takes the numbers of the support taps as arguments.

    >>> sorted(kinds_of_taps(frozenset({"count", "support:1.0:-0.5:0.5"})))
    ['count', 'support0']
    """
    numbered = {f"support{j}" for j, _ in enumerate(supports(taps))}
    return frozenset(name for name in taps if not name.startswith("support")) | numbered


def support_bounds(name: str) -> tuple[float, float, float]:
    """The threshold and the two ends in the name of such a tap."""
    v_threshold, low, high = map(float, name.split(":")[1:])
    return v_threshold, low, high


class Layout(NamedTuple):
    """How one step lies in memory: without gaps, in the axis order of the input."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    numel: int

    def fits(self, strides: Sequence[int]) -> bool:
        """Whether a tensor of this shape with `strides` lies in this order."""
        return all(size == 1 or a == b for size, a, b in zip(self.shape, self.strides, strides, strict=True))

    def axes(self) -> tuple[int, ...]:
        """The axes of a step as they lie in memory, the outermost first; of sizes that a compiler does not know too."""
        wide = [stride for size, stride in zip(self.shape, self.strides, strict=True) if size != 1]
        order = tuple(range(len(self.shape)))
        return (0, *order[2:], 1) if self.numel and any(a < b for a, b in pairwise(wide)) else order


def real_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the state: float64 for float64 input, else float32."""
    return torch.float64 if x.dtype is torch.float64 else torch.float32


def layout(x_seq: Tensor) -> tuple[Tensor, Layout]:
    """The input, copied only if a step of it has gaps or a lazy sign, and the layout of a step."""
    x_seq = x_seq.resolve_neg()
    step = x_seq.select(0, 0) if x_seq.shape[0] else x_seq.new_empty(x_seq.shape[1:])
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    dense = step.is_contiguous()
    if not dense and step.ndim in formats:
        dense = step.is_contiguous(memory_format=formats[step.ndim])
    if not dense:
        x_seq = x_seq.contiguous()
        step = x_seq[0]
    return x_seq, Layout(tuple(step.shape), tuple(step.stride()), step.numel())


def in_one_order(strides: Sequence[int], shape: Sequence[int], others: Sequence[object]) -> bool:
    """Whether a step of this shape and the tensors among `others` lie in memory in one order of the axes, so that
    PyTorch goes over the neurons in the order of a kernel. A tensor may be of a shape from which it is broadcast.
    """
    order = _order(shape, strides)
    held = [t for t in others if isinstance(t, Tensor) and sum(size > 1 for size in t.shape) > 1]
    return order is not None and all(_order(t.shape, t.stride()) is order for t in held)


def _order(shape: Sequence[int], strides: Sequence[int]) -> torch.memory_format | None:
    """Whether the axes come in the order of the shape, maybe with gaps, or with the channels last; else None."""
    found = [stride for stride, size in zip(strides, shape, strict=True) if size > 1]
    if all(a >= b for a, b in pairwise(found)):  # not sorted: a compiler may not know the sizes
        return torch.contiguous_format
    if len(shape) not in (4, 5):
        return None
    distance = 1
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[axis] > 1 and strides[axis] != distance:
            return None
        distance *= shape[axis]
    return torch.channels_last if len(shape) == 4 else torch.channels_last_3d


def segment_length(backend: str, steps: int, states: int) -> int:
    """How many steps the backward pass runs again at a time.

    On a CPU what fits the second-level cache, on a GPU what fits the registers.
    """
    longest = max(8, 64 // states) if backend == "cpp" else (4 if states < 3 else 2)
    return max(1, min(steps, longest))


def checkpoint_shape(backend: str, steps: int, states: int, neurons: int) -> tuple[int, int, int]:
    """The shape of the states saved for the backward pass; empty for a run of one segment."""
    length = segment_length(backend, steps, states)
    return (max(0, -(-steps // length) - 1), states, neurons)


class Outputs(NamedTuple):
    """What the forward kernel fills."""

    y: Tensor
    state: list[Tensor]
    v_seq: Tensor | None
    checkpoints: Tensor | None
    taps: dict[str, Tensor]


def make_outputs(
    backend: str,
    x_seq: Tensor,
    step: Layout,
    states: int,
    keep_v: bool,
    keep_checkpoints: bool,
    taps: frozenset[str],
) -> Outputs:
    """Empty buffers for a forward pass over `x_seq`, whose steps have the layout `step`."""
    real, steps, n = real_dtype(x_seq), x_seq.shape[0], step.numel
    whole = (steps, *step.shape), (n, *step.strides)
    return Outputs(
        x_seq.new_empty_strided(*whole),
        [x_seq.new_empty_strided(step.shape, step.strides, dtype=real) for _ in range(states)],
        x_seq.new_empty_strided(*whole, dtype=real) if keep_v else None,
        x_seq.new_empty(checkpoint_shape(backend, steps, states, n), dtype=real) if keep_checkpoints else None,
        make_taps(taps, steps, step, real, x_seq.device),
    )


def first_state(starts: str, state: Sequence[Tensor], numbers: Sequence[float]) -> list[float | Tensor]:
    """The state as a run starts, put together: `starts` has a letter a state, 't' for the next of the tensors `state`,
    'n' for the next of the last `numbers`.

    A number is no tensor on the way to a kernel: made on a GPU, it would make the host wait at every call.

    >>> first_state("ntn", [torch.ones(2)], [2.0, 0.5, -1.0])  # 2.0 is of the equations
    [0.5, tensor([1., 1.]), -1.0]
    """
    own, held = iter(numbers[len(numbers) - starts.count("n") :]), iter(state)
    return [next(own) if kind == "n" else next(held) for kind in starts]


def state_strides(state: Sequence[float | Tensor], step: Layout) -> list[int]:
    """The distance between neurons in each state: 0 where one number stands for all."""
    return [0 if not isinstance(held, Tensor) or (held.ndim == 0 and step.shape) else 1 for held in state]


def field_in_layout(constant: Tensor, step: Layout) -> Tensor:
    """A field in the memory order of a step; once for the whole batch where it does not vary along it."""
    shape, strides = step.shape, step.strides
    per_batch = len(shape) > 1 and (constant.ndim < len(shape) or constant.shape[0] == 1)
    if per_batch and strides[0] * shape[0] == step.numel:
        shape, strides = shape[1:], strides[1:]
        if constant.ndim > len(shape):
            constant = constant.squeeze(0)
    flat = torch.empty_strided(shape, strides, dtype=constant.dtype, device=constant.device)
    return flat.copy_(constant.expand(shape))


def state_in_layout(tensor: Tensor, step: Layout, real: torch.dtype) -> Tensor:
    """A state in the layout of the step; a 0-dim one stands for all neurons, a smaller one spreads or is refused."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if tensor.ndim == 0 and step.shape:
        return tensor.to(real)
    if tensor.dtype is real and tensor.shape == step.shape and step.fits(tensor.stride()):
        return tensor
    return torch.empty_strided(step.shape, step.strides, dtype=real, device=tensor.device).copy_(tensor)


def make_taps(
    taps: frozenset[str], steps: int, step: Layout, real: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    """Empty buffers for the taps that are on."""
    made: dict[str, Tensor] = {}
    if not taps:
        return made
    if "count" in taps:
        dtype = torch.uint8 if steps < 256 else torch.int32
        made["count"] = torch.empty_strided(step.shape, step.strides, dtype=dtype, device=device)
    if "packed" in taps:
        made["packed"] = torch.empty(steps, -(-step.numel // 8), dtype=torch.uint8, device=device)
    if "h" in taps:
        made["h"] = torch.empty_strided((steps, *step.shape), (step.numel, *step.strides), dtype=real, device=device)
    if "range" in taps:
        made["range"] = torch.empty(-(-step.numel // BLOCK), 3, dtype=torch.float64, device=device)
    for name in supports(taps):
        made[name] = torch.empty(-(-step.numel // BLOCK), dtype=torch.int64, device=device)
    return made


class Gradients(NamedTuple):
    """What the backward kernel fills."""

    x_seq: Tensor
    state: list[Tensor | None]  # None for one number for all neurons, which has no gradient
    values: list[Tensor]  # of the wanted ones: 0-dim for a 0-dim field, else one per neuron of the step


def make_gradients(
    x_seq: Tensor,
    step: Layout,
    state: Sequence[float | Tensor],
    scalars: Sequence[bool] = (),
    place: Tensor | None = None,
) -> Gradients:
    """Empty buffers for a backward pass over `x_seq` from `state`.

    - `scalars`: of each field that gets a gradient, whether that is one number or one per neuron.
    - `place`: where that of the input goes if it lies as it has to.
    """
    real, shape, strides = real_dtype(x_seq), (x_seq.shape[0], *step.shape), (step.numel, *step.strides)
    fits = place is not None and (place.shape, place.stride(), place.dtype) == (shape, strides, x_seq.dtype)
    return Gradients(
        place if place is not None and fits else x_seq.new_empty_strided(shape, strides),
        [
            x_seq.new_empty_strided(step.shape, step.strides, dtype=real)
            if isinstance(held, Tensor) and held.shape == step.shape
            else None
            for held in state
        ],
        [
            x_seq.new_empty((), dtype=real) if scalar else x_seq.new_empty_strided(step.shape, step.strides, dtype=real)
            for scalar in scalars
        ],
    )


def sequence_in_layout(tensor: Tensor, step: Layout, dtype: torch.dtype) -> Tensor:
    """A gradient over time whose every step has the layout; an expanded one keeps its stride of 0."""
    tensor = tensor.resolve_neg()
    if tensor.dtype is dtype and step.fits(tensor.stride()[1:]):
        return tensor
    return whole_in_layout(tensor, step, dtype)


def whole_in_layout(tensor: Tensor, step: Layout, dtype: torch.dtype) -> Tensor:
    """A gradient over time that lies as one run of memory."""
    tensor = tensor.resolve_neg()
    if tensor.dtype is dtype and step.fits(tensor.stride()[1:]) and tensor.stride(0) == step.numel:
        return tensor
    return torch.empty_strided(tensor.shape, (step.numel, *step.strides), dtype=dtype, device=tensor.device).copy_(
        tensor
    )
