"""A recording in memory: the same shape as one on disk, made of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapeError, dims
from ..spikes import PackedSpikes
from .events import Whole
from .shape import StoredRecording
from .signal import Layer, Signal

__all__ = ["in_memory"]

Values = Tensor | PackedSpikes


class Held:
    """A piece that is a tensor or packed spikes."""

    def __init__(self, run: int, start: int, values: Values) -> None:
        if len(values.shape) < 2:
            raise ShapeError(f"A run is [T, N, *F] with time first, but got {dims(values.shape)}.")
        self.values, self.run, self.start = values, run, start
        self.steps, self.samples = values.shape[:2]
        self.neuron_shape = tuple(values.shape[2:])
        self.dtype, self.packed = values.dtype, isinstance(values, PackedSpikes)
        self.nbytes = values.nbytes

    def read(self, steps: range, samples: range, neurons: Whole | None) -> Values:
        held = self.values
        part = held[steps.start : steps.stop : steps.step]
        dense = part.dense() if isinstance(part, PackedSpikes) else part
        dense = dense[:, list(samples)] if samples != range(self.samples) else dense
        if neurons is not None:
            dense = dense.reshape(*dense.shape[:2], math.prod(self.neuron_shape))[:, :, torch.from_numpy(neurons)]
        return PackedSpikes.from_dense(dense) if self.packed else dense.clone()


def in_memory(
    layers: Mapping[str, Mapping[str, Sequence[Values | Sequence[Values]]]],
    dt: float | None = None,
    notes: Sequence[Mapping[str, Any]] = (),
) -> StoredRecording:
    """A recording of what is given: of each module by name, of each signal, the runs `[T, N, *F]`.

    - A run may be a sequence of parts that follow each other in time. Spikes named `'spike'` that are 0 and 1 are
      packed.
    - `dt`: the seconds of a step. `notes`: of each run what is known of it, as `{"run": 0, "label": [3, 1]}`.

    >>> rec = in_memory({"lif": {"v": [torch.zeros(4, 2, 5), torch.ones(3, 2, 5)]}}, dt=1e-3)
    >>> rec["lif"]["v"].runs
    [Run(index=0, steps=4, samples=2), Run(index=1, steps=3, samples=2)]
    """
    made = {}
    for layer, signals in layers.items():
        row = {}
        for name, runs in signals.items():
            pieces = []
            for index, run in enumerate(runs):
                start = 0
                for part in [run] if isinstance(run, (Tensor, PackedSpikes)) else run:
                    pieces.append(Held(index, start, _packed(part) if name == "spike" else part))
                    start += part.shape[0]
            row[name] = Signal(layer, name, pieces)
        made[layer] = Layer(layer, row)
    return StoredRecording(made, {"dt": dt, "layers": {}}, [dict(note) for note in notes])


def _packed(values: Values) -> Values:
    binary = isinstance(values, Tensor) and bool(((values == 0) | (values == 1)).all())
    return PackedSpikes.from_dense(values) if isinstance(values, Tensor) and binary else values
