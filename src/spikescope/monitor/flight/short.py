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
from ...neuron.fast.shortcut import Shortcut, Told
from ...neuron.spiking import gives_spikes
from ...spikes import PackedSpikes
from ..delivery import Line
from ..probe.axes import Axes
from ..probe.single import Probe, Short
from .checks.copying import copying
from .checks.glance import Question
from .checks.table import FINITE, FIRED
from .ring import Ring, Room

__all__ = ["Bits", "Both", "Chosen", "Numbers", "Taken", "Way", "short_way"]

Taken = tuple[Tensor, Room, bool]
"""A copy, the room that it lies in, and whether a number in it is not finite."""

LARGE = 1 << 18
"""Numbers from which on threads share a copy."""


class Chosen:
    """The samples of a batch whose potentials and gradients are kept, neighbours: a choice of a `Subset`."""

    def __init__(self, count: int) -> None:
        self._first = self.now = 0, count  # from where to where: the very same tuple, as long as it stays so

    def only(self, sample: int | None) -> None:
        """Take this one from now on; None for the first `count`."""
        self.now = self._first if sample is None else (sample, sample + 1)

    def __call__(self, size: int) -> slice:
        return slice(*self.now)


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
        self.line, self.probe, self._ring = line, probe, ring
        self._module: Any = line.module
        self._way: Shortcut | None = None  # through the neuron: on it, it gives spikes
        self._shape: torch.Size | None = None
        self._fired: Question

    def __call__(self, given: Any) -> bool:
        self._ring.settle()
        line, told = self.line, self._module.tapped
        if type(told) is not Told or type(given) is not tuple or not (line.kept and line.packed):
            return False
        if told.way is not self._way:
            if not gives_spikes(self._module):
                return False
            self._way = told.way
        value = given[0]
        if value.shape != self.probe.axes.shape or not value.is_contiguous():
            return False
        self.place(told["packed"], value.shape, value.dtype)
        return True

    def place(self, bits: Tensor, shape: torch.Size, dtype: torch.dtype, fired: bool | None = None) -> None:
        """Keep the bits of a call; where nobody has looked whether one is set, that is done."""
        if fired is None:
            if shape != self._shape:
                self._shape, self._fired = shape, Question(bits, FIRED)
            fired = self._fired(bits)
        moment = self.line.next_moment(shape[0], shape[1])
        self._ring.keep(self.line.label, PackedSpikes.told(bits, shape, dtype), moment, None, fired)


class Numbers:
    """Of numbers on the host that lie in the order of their axes: a kernel copies the samples that are chosen."""

    def __init__(self, line: Line, probe: Probe, ring: Ring, chosen: Chosen) -> None:
        self.line, self.probe, self._ring, self._chosen = line, probe, ring, chosen
        self._module: Any = line.module
        self.way: Way | None = None  # of the last value

    def __call__(self, value: Any) -> bool:
        self._ring.settle()
        taken = self.taken(value)
        if taken is None:
            return False
        self.place(*taken)
        return True

    def taken(self, value: Any) -> Taken | None:
        """A copy of what is chosen of a value; None where it has to go the long way."""
        way, chosen = self.way, self._chosen
        if type(value) is not Tensor or not self.line.kept:
            return None
        if (
            way is None
            or value.shape != way.shape
            or value.stride() != way.strides
            or value.dtype is not way.dtype
            or value.is_cpu is not way.on_host
            or value.is_neg()  # its numbers are others than those that lie there
            or in_transform()
            or self._module._step_mode != way.mode
            or chosen.now is not way.samples
        ):
            axes = self.probe.axes
            if value.shape != axes.shape or self._module._step_mode != axes.mode or not is_plain(value):
                return None
            way = self.way = Way(value, axes, chosen)
        return way.take(address, self._ring) if way.copy is not None and (address := value.data_ptr()) else None

    def place(self, held: Tensor, room: Room, odd: bool) -> None:
        """Keep such a copy."""
        moment = self.line.next_moment(room.shape[0], room.shape[1])
        self._ring.keep(self.line.label, held, moment, room, odd)


class Way:
    """How to copy values that are alike; `copy` is None where they take the long way."""

    def __init__(self, value: Tensor, axes: Axes, chosen: Chosen) -> None:
        self.shape, self.strides, self.dtype, self.on_host = value.shape, value.stride(), value.dtype, value.is_cpu
        self.mode, self.samples = axes.mode, chosen.now
        self.copy: Callable[[int, int], None] | None = None
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
        self.job = array("q", [0, 0, axes.steps, apart * size, count // axes.steps, kind, threads, 0, 0, 0, 0])
        self.address, self.room = self.job.buffer_info()[0], Room(kept, value.dtype, count * size)

    def take(self, address: int, ring: Ring, bits: int = 0, count: int = 0) -> Taken:
        """Copy what lies there into memory of the ring; of so many bytes of bits, `fired` then says if one is set."""
        assert self.copy is not None
        job = self.job
        room, held, there = ring.room(self.room)
        job[0], job[1], job[8], job[9] = address + self.first, there, bits, count
        self.copy(self.address, 1)
        return held, room, job[7] != 0

    @property
    def fired(self) -> bool:
        """Whether one of the bits was set."""
        return self.job[10] != 0


class Both:
    """How to copy two values at once, which come in two ways."""

    def __init__(self, one: Way, other: Way) -> None:
        assert one.copy is not None
        self.other, self._one, self._copy = other, one, one.copy
        self._job = one.job + other.job
        self._address = self._job.buffer_info()[0]

    def take(self, one: int, other: int, ring: Ring, bits: int, count: int) -> tuple[Taken, Taken, bool]:
        """The copies of what lies at two addresses, and whether one of so many bytes of bits is set."""
        job = self._job
        room, held, there = ring.room(self._one.room)
        next_room, next_held, next_there = ring.room(self.other.room)
        job[0], job[1], job[8], job[9] = one + self._one.first, there, bits, count
        job[11], job[12] = other + self.other.first, next_there
        self._copy(self._address, 2)
        return (held, room, job[7] != 0), (next_held, next_room, job[18] != 0), job[10] != 0
