"""Events of all layers as columns of one table, piece by piece: what the formats of tables share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .source import Source

__all__ = ["columns"]


def columns(source: Source) -> Iterator[dict[str, Any]]:
    """The columns run, sample, step, layer (as the number of its signal) and neuron, a run of a layer at a time.

    First comes a piece without rows, so that a table without spikes has its columns too.
    """
    small = np.int32
    yield {name: np.zeros(0, dtype=small) for name in ("run", "sample", "step", "layer")} | {
        "neuron": np.zeros(0, dtype=np.int64)
    }
    for number, signal in enumerate(source.spikes):
        neurons = source.neurons(signal)
        for held in source.flat(signal):
            yield {
                "run": source.trials.run[held.trial].astype(small),
                "sample": source.trials.sample[held.trial].astype(small),
                "step": held.step.astype(small),
                "layer": np.full(len(held.step), number, dtype=small),
                "neuron": neurons[held.neuron],
            }
