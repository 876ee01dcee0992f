"""The short ways of values into a ring: what is the same at each call of a layer is decided once.

They take what most values are, of modules of this library. The line itself takes what is left: the first value, tensors
with another layout or of another device, gradients with a scale.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...base import StepModule
from ...dynamics.cpp.native import threads_for
from ...internals import in_transform, is_plain
from ...neuron.shortcut import Shortcut, Told
from ...neuron.spiking import gives_spikes
from ...spikes import PackedSpikes
from ..line import Line
from ..probe.axes import Axes
from ..probe.single import Probe, Short
from .copies import copying
from .glance import Question
from .ring import Ring, Room
from .table import FINITE, FIRED

__all__ = ["Chosen", "short_way"]

LARGE = 1 << 18
"""Numbers from which on threads share a copy."""


class Chosen:
    """The samples of a batch whose potentials and gradients are kept, neighbours: a choice of a `Subset`."""

    def __init__(self, count: int) -> None:
        self.count, self.start, self.stop = count, 0, count

    def only(self, sample: int | None) -> None:
        """Take this one from now on; None for the first `count`."""
        self.start, self.stop = (0, self.count) if sample is None else (sample, sample + 1)

    def __call__(self, size: int) -> slice:
        return slice(self.start, self.stop)


def short_way(line: Line, ring: Ring, chosen: Chosen | None) -> Short | None:
    """The short way of the values of a line; `chosen` are the samples, where not all are kept."""
    probe = line.probe
    if probe is None or probe.scaler is not None or not isinstance(line.module, StepModule):
        return None
    if chosen is not None:
        return Numbers(line, probe, ring, chosen)
    return Bits(line, probe, ring) if line.told else None  # taps are those of a pointwise neuron


class Bits:
    """Of spikes that the kernel of a neuron has packed: they are kept as they are."""

    def __init__(self, line: Line, probe: Probe, ring: Ring) -> None:
        self._line, self._probe, self._ring = line, probe, ring
        self._module: Any = line.module
        self._way: Shortcut | None = None  # through the neuron: on it, it gives spikes
        self._shape: torch.Size | None = None
        self._fired: Question

    def __call__(self, given: Any) -> bool:
        line, told = self._line, self._module.tapped
        if type(told) is not Told or type(given) is not tuple or not (line.kept and line.packed):
            return False
        if told.way is not self._way:
            if not gives_spikes(self._module):
                return False
            self._way = told.way
        value, bits = given[0], told["packed"]
        shape = value.shape
        if shape != self._probe.axes.shape or not value.is_contiguous():
            return False
        if shape != self._shape:
            self._shape, self._fired = shape, Question(bits, FIRED)
        moment = line.next_moment(shape[0], shape[1])
        self._ring.keep(line.label, PackedSpikes.told(bits, shape, value.dtype), moment, None, self._fired(bits))
        return True


class Numbers:
    """Of numbers on the host that lie in the order of their axes: a kernel copies the samples that are chosen."""

    def __init__(self, line: Line, probe: Probe, ring: Ring, chosen: Chosen) -> None:
        self._line, self._probe, self._ring, self._chosen = line, probe, ring, chosen
        self._module: Any = line.module
        self._way: Way | None = None

    def __call__(self, value: Any) -> bool:
        line, way, chosen = self._line, self._way, self._chosen
        if type(value) is not Tensor or not line.kept:
            return False
        if (
            way is None
            or value.shape != way.shape
            or value.stride() != way.strides
            or value.dtype is not way.dtype
            or value.is_cpu is not way.on_host
            or value.is_neg()  # its numbers are others than those that lie there
            or in_transform()
            or self._module._step_mode != way.mode
            or chosen.start != way.start
            or chosen.stop != way.stop
        ):
            axes = self._probe.axes
            if value.shape != axes.shape or self._module._step_mode != axes.mode or not is_plain(value):
                return False
            way = self._way = Way(value, axes, chosen)
        if way.copy is None or not (address := value.data_ptr()):
            return False
        job, room = way.job, way.room
        moment = line.next_moment(room.shape[0], room.shape[1])
        held = self._ring.room(room)
        job[0], job[1] = address + way.first, held.data_ptr()
        way.copy(way.address)
        self._ring.keep(line.label, held, moment, room, job[-1] != 0)
        return True


class Way:
    """How to copy values that are alike; `copy` is None where they take the long way."""

    def __init__(self, value: Tensor, axes: Axes, chosen: Chosen) -> None:
        self.shape, self.strides, self.dtype, self.on_host = value.shape, value.stride(), value.dtype, value.is_cpu
        self.mode, self.start, self.stop = axes.mode, chosen.start, chosen.stop
        self.copy: Callable[[int], None] | None = None
        kind = FINITE.get(value.dtype)
        if kind is None or value.ndim <= axes.timed or not (value.numel() and value.is_cpu) or value.is_neg():
            return
        sample, apart = (value[0], value.stride(0)) if axes.timed else (value, 0)
        start, stop, _ = chosen(len(sample)).indices(len(sample))
        kept = torch.Size((axes.steps, stop - start, *sample.shape[1:]))
        if start >= stop or not sample.is_contiguous():
            return
        size, count = value.element_size(), kept.numel()
        threads = threads_for(count) if count >= LARGE else 1
        self.copy, self.first = copying(), start * sample.stride(0) * size
        self.job = array("q", [0, 0, axes.steps, apart * size, count // axes.steps, kind, threads, 0])
        self.address, self.room = self.job.buffer_info()[0], Room(kept, value.dtype, count * size)
