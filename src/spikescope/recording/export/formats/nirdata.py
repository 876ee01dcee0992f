"""Spikes and values as NIRData, the data format beside the Neuromorphic Intermediate Representation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import ObjectFormat
from ..source import Source

__all__ = ["NIRDataFormat"]


class NIRDataFormat(ObjectFormat):
    """Signals by the nodes of a NIR graph."""

    name = "nirdata"
    extra = "nir"
    packages = ("nir",)
    seconds = True
    values = True
    suffixes: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")
    keeps = "spikes as events and values as grids, a sample a trial, the node of each"
    loses = "the shape of a layer and the run of a trial; trials must have one length"

    def make(self, source: Source) -> Any:
        """A `nir.NIRGraphData` whose nodes are called as `exchange.to_nir` calls them, with the observables `spikes`
        and those of other signals by their names.

        Neuron i of a layer is the i-th of its flattened shape. An event is in the middle of its step, and `t_max` is
        such that NIR's own `to_time_gridded(dt)` gives back each step.
        """
        import nir

        lengths = np.unique(source.trials.steps)
        if len(lengths) > 1:
            raise ValueError(
                f"{source.owner}: the format has one length for all trials, but there are {lengths.tolist()} steps. "
                "Choose runs of one length with runs=."
            )
        source.tell_subset("they are numbered from 0 in the order in which they were chosen.")
        nodes: dict[str, dict[str, Any]] = {}
        for signal in source.spikes:
            name = "spikes" if signal.name == "spike" else signal.name
            nodes.setdefault(_node(source, signal), {})[name] = _events(nir, source, signal, int(lengths[0]))
        for signal in source.values:
            values = np.stack([held for _, held in source.by_trial(signal)])
            nodes.setdefault(_node(source, signal), {})[signal.name] = nir.TimeGriddedData(values, source.step)
        return nir.NIRGraphData({name: nir.NIRNodeData(held) for name, held in nodes.items()})

    def save(self, made: Any, path: Path) -> None:
        import nir

        nir.write_data(path, made)


def _node(source: Source, signal: Any) -> str:
    """The name of a node; of the network itself it is empty."""
    name = source.layer_path(signal)
    return name if signal.layer else ""


def _events(nir: Any, source: Source, signal: Any, steps: int) -> Any:
    """The events of all trials, each filled up to the number of the largest with the index -1 at infinity."""
    held, trials = source.whole(signal), len(source.trials.run)
    order = np.lexsort((held.neuron, held.step, held.trial))
    trial = held.trial[order]
    counts = np.bincount(trial, minlength=trials)
    place = np.arange(len(trial)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (trials, int(counts.max(initial=0)))
    index, time = np.full(shape, -1, dtype=np.int64), np.full(shape, np.inf)
    index[trial, place] = held.neuron[order]
    time[trial, place] = (held.step[order] + 0.5) * source.step
    return nir.EventData(index, time, len(source.neurons(signal)), _end(steps, source.step))


def _end(steps: int, dt: float) -> float:
    """The end of some steps, of which `int(end / dt)` is not one less, as it is of `5 * 0.07`."""
    end = steps * dt
    while int(end / dt) < steps:
        end = math.nextafter(end, math.inf)
    return end
