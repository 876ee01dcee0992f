"""Folders of SONATA files: the nodes of each layer, and the spikes and reports of each trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import FileFormat
from ..source import Source

__all__ = ["SonataFormat"]


class SonataFormat(FileFormat):
    """A layer as a population, a trial as the output of one simulation."""

    name = "sonata"
    extra = "sonata"
    packages = ("h5py",)
    seconds = True
    values = True
    suffixes: ClassVar[tuple[str, ...]] = ()
    keeps = "spikes and values in milliseconds, a folder a trial; silent neurons in nodes.h5"
    loses = "the shape of a layer; which neurons were chosen, where not all were recorded"

    def write(self, source: Source, path: Path) -> None:
        """A folder with `nodes.h5`, and for each trial `run0_sample0/spikes.h5` and a report for each other signal.

        SONATA knows no trials, so each has files of its own, in which time begins at 0.
        """
        import h5py

        source.tell_subset("the others look silent in the files of spikes.")
        trials = source.trials
        with h5py.File(path / "nodes.h5", "w") as file:
            _head(file)
            for layer, number in _sizes(source).items():
                _nodes(file, layer, number)
        places = [path / f"run{run}_sample{sample}" for run, sample in zip(trials.run, trials.sample, strict=True)]
        for place in places:
            place.mkdir()
        for signal in source.spikes:
            held, neurons = source.whole(signal), source.neurons(signal)
            order = np.lexsort((held.neuron, held.step, held.trial))
            bounds = np.searchsorted(held.trial[order], np.arange(len(places) + 1))
            layer = source.layer_path(signal)
            name = "spikes.h5" if signal.name == "spike" else f"{signal.name}_spikes.h5"
            for index in np.unique(np.isin(trials.run, [run.index for run in source.runs(signal)]).nonzero()[0]):
                part = order[bounds[index] : bounds[index + 1]]
                with h5py.File(places[index] / name, "a") as file:
                    _spikes(h5py, file, layer, neurons[held.neuron[part]], (held.step[part] + 0.5) * source.step * 1e3)
        for signal in source.values:
            for index, values in source.by_trial(signal):
                with h5py.File(places[index] / f"{signal.name}_report.h5", "a") as file:
                    _report(file, source.layer_path(signal), source.neurons(signal), values, source.step * 1e3)


def _head(file: Any) -> None:
    if "magic" not in file.attrs:
        file.attrs["magic"] = np.uint32(0x0A7A)
        file.attrs["version"] = np.array([0, 1], dtype=np.uint32)


def _sizes(source: Source) -> dict[str, int]:
    """Of each layer how many nodes hold the neurons of all its signals, of which each may know others."""
    found: dict[str, int] = {}
    for signal in (*source.spikes, *source.values):
        layer = source.layer_path(signal)
        found[layer] = max(found.get(layer, 0), int(source.neurons(signal).max(initial=-1)) + 1)
    return found


def _nodes(file: Any, layer: str, number: int) -> None:
    group = file.create_group(f"nodes/{layer}")
    group["node_type_id"] = np.zeros(number, dtype=np.int64)
    group["node_group_id"] = np.zeros(number, dtype=np.int64)
    group["node_group_index"] = np.arange(number)
    group.create_group("0")


def _spikes(h5py: Any, file: Any, layer: str, neurons: Any, times: Any) -> None:
    _head(file)
    group = file.create_group(f"spikes/{layer}")
    sorting = h5py.enum_dtype({"none": 0, "by_id": 1, "by_time": 2}, basetype=np.uint8)
    group.attrs.create("sorting", 2, dtype=sorting)
    group["timestamps"], group["node_ids"] = times, neurons.astype(np.uint64)
    group["timestamps"].attrs["units"] = "ms"


def _report(file: Any, layer: str, neurons: Any, values: Any, dt: float) -> None:
    _head(file)
    group = file.create_group(f"report/{layer}")
    group["data"] = values
    group["data"].attrs["units"] = "1"
    group["mapping/node_ids"] = neurons.astype(np.uint64)
    group["mapping/node_ids"].attrs["sorted"] = np.uint8(bool((np.diff(neurons) > 0).all()))
    group["mapping/index_pointers"] = np.arange(len(neurons) + 1, dtype=np.uint64)
    group["mapping/element_ids"] = np.zeros(len(neurons), dtype=np.uint32)
    group["mapping/time"] = np.array([0.0, len(values) * dt, dt])
    group["mapping/time"].attrs["units"] = "ms"
