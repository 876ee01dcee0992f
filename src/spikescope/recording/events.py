"""Spikes as flat arrays: of each its run, sample, neuron and step. No object a neuron."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError, dims
from ..spikes import PackedSpikes, places

__all__ = ["Events", "Whole", "events_of"]

Whole = NDArray[np.int64]


class Values(Protocol):
    """What is asked of a block: see `recording.Block`."""

    @property
    def run(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def sample(self) -> int: ...
    @property
    def values(self) -> Tensor | PackedSpikes: ...


class _Six(NamedTuple):
    run: Whole
    sample: Whole
    neuron: Whole
    step: Whole
    neuron_shape: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]


class Events(_Six):
    """Spikes in the order of run, sample, neuron, step: four arrays of one length.

    - `neuron_shape`: the axes of a sample; `neuron` counts through them, flat.
    - `runs`: of each run its steps and samples, also where no spike fell; `(0, 0)` where there is none of that number.
    - `looked`, beside the six: of each run the steps and the samples that were looked at, where some were chosen; else
      empty. `chosen`: which steps were recorded, see `Signal`.

    >>> found = events_of(torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]))
    >>> found.neuron, found.step, found.runs
    (array([0, 0, 1]), array([0, 1, 1]), ((2, 1),))
    """

    looked: tuple[tuple[range, range], ...] = ()
    chosen: str = ""

    def _replace(self, **kwargs: Any) -> Events:
        """The same with other entries; what was looked at stays, for else what was left out would count as silence."""
        made = super()._replace(**kwargs)
        made.looked, made.chosen = self.looked, self.chosen
        return made


class _Held(NamedTuple):
    run: int
    step: int
    sample: int
    values: Tensor | PackedSpikes


def events_of(spikes: Tensor | PackedSpikes | Iterable[Values]) -> Events:
    """The events of spikes `[T, N, *F]`, or of blocks in the order of run and time. Any value but 0 is a spike."""
    return found_in([_Held(0, 0, 0, spikes)] if isinstance(spikes, (Tensor, PackedSpikes)) else spikes)


def found_in(blocks: Iterable[Values], along: int = 1, beside: int = 1) -> Events:
    """The events of blocks whose steps and samples lie so far apart."""
    parts: list[tuple[Whole, Whole, Whole, Whole]] = []
    sizes: dict[int, tuple[int, int]] = {}
    shape: tuple[int, ...] | None = None
    run, cut = -1, beside < 0  # whether a run came in parts, whose events are not in order
    chosen = ""
    for block in blocks:
        steps, samples, *neurons = block.values.shape
        if shape is not None and shape != tuple(neurons):
            raise ShapeError(f"Events are of neurons of one shape, but got {dims(shape)} and {dims(neurons)}.")
        shape, chosen = tuple(neurons), chosen or getattr(block, "chosen", "")
        train, step = places(block.values)
        sample, neuron = np.divmod(train, max(1, int(np.prod(neurons, dtype=np.int64))))
        step, sample = block.step + along * step, block.sample + beside * sample
        parts.append((np.full_like(train, block.run), sample, neuron, step))
        before = sizes.get(block.run, (0, 0))
        ends = _end(block.step, steps, along), _end(block.sample, samples, beside)
        sizes[block.run] = max(before[0], ends[0]), max(before[1], ends[1])
        cut, run = cut or block.run <= run, block.run
    made = [np.concatenate([part[i] for part in parts] or [np.zeros(0, dtype=np.int64)]) for i in range(4)]
    if cut:
        order = np.lexsort(made[::-1])
        made = [held[order] for held in made]
    runs = tuple(sizes.get(i, (0, 0)) for i in range(max(sizes, default=-1) + 1))
    found = Events(made[0], made[1], made[2], made[3], shape or (), runs)
    found.chosen = chosen
    return found


def _end(first: int, count: int, apart: int) -> int:
    """What is behind the last of so many places."""
    return max(first, first + apart * (count - 1)) + 1 if count else first
