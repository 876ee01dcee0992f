"""The first place in a value that is not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....form import tensors_of
from ....recording.records import Moment
from ...reduce import NonFinite

__all__ = ["Place", "first_bad"]


class Place(NamedTuple):
    """Where a value is: the step since the reset, the sample and the neuron.

    Without a sample, of a module whose axes nobody knows, `neuron` is the index in the whole value. `rank` is that of
    the process, of what was seen by several.
    """

    step: int
    sample: int | None = None
    neuron: tuple[int, ...] = ()
    rank: int | None = None

    def __str__(self) -> str:
        there = "" if self.rank is None else f", on rank {self.rank}"
        if self.sample is None:
            return f"index {self.neuron}{there}" if self.neuron else f"step {self.step}{there}"
        parts = [f"step {self.step}", f"sample {self.sample}"]
        parts += [f"neuron {self.neuron[0] if len(self.neuron) == 1 else self.neuron}"] if self.neuron else []
        return ", ".join(parts) + there


def first_bad(value: Any, moment: Moment, axes: bool = True) -> Place | None:
    """The first step since the reset with a value that is not finite, in any of the tensors, and where in it.

    - `axes`: whether it is known which axis is of samples.
    """
    places = [place for tensor in tensors_of(value) if (place := _bad(tensor, moment, axes)) is not None]
    return min(places, key=lambda place: place.step, default=None)


def _bad(value: Tensor, moment: Moment, axes: bool) -> Place | None:
    if value.layout != torch.strided:  # a sparse one has no axes to look along
        return None
    start, stop = moment.start or 0, moment.stop or 1
    if not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return None
    timed = value.ndim > 0 and stop - start == len(value)
    chunk = value.reshape(len(value), 1, -1) if timed else value.reshape(1, 1, -1)
    step = NonFinite().result(NonFinite().measure(chunk, start)).first_step
    if step < 0:
        return None
    samples = value[step - start] if timed else value
    if not samples.ndim:
        return Place(step)
    index = tuple((~samples.isfinite()).nonzero()[0].tolist())
    return Place(step, index[0], index[1:]) if axes else Place(step, None, index)
