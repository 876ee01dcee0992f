"""Trials as the segments of a sorting of SpikeInterface."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import ObjectFormat, emptied
from ..source import Source

__all__ = ["SpikeInterfaceFormat"]


class SpikeInterfaceFormat(ObjectFormat):
    """Spikes as a `spikeinterface.core.NumpySorting`."""

    name = "spikeinterface"
    extra = "spikeinterface"
    packages = ("spikeinterface",)
    seconds = True
    values = False
    suffixes: ClassVar[tuple[str, ...]] = ()
    keeps = "steps as they are, a segment a trial, silent neurons, layer and number of each unit as properties"
    loses = "potentials and other numbers; the length of a segment, whose end is its last spike"

    def make(self, source: Source) -> Any:
        """A sorting with a segment for each trial: a frame is a step, the sampling frequency is 1 / dt."""
        from spikeinterface.core import NumpySorting

        held, layers, neurons = source.units()
        order = np.lexsort((held.neuron, held.step, held.trial))
        spikes = np.empty(
            len(order), dtype=[("sample_index", "int64"), ("unit_index", "int64"), ("segment_index", "int64")]
        )
        spikes["sample_index"], spikes["unit_index"] = held.step[order], held.neuron[order]
        spikes["segment_index"] = held.trial[order]
        units = np.arange(len(neurons))
        sorting = NumpySorting(spikes, 1 / source.step, units)
        segment = type(sorting.segments[0])
        for index in range(
            sorting.get_num_segments(), len(source.trials.run)
        ):  # it ends with the last that has a spike
            sorting.add_sorting_segment(segment(spikes, index, units))
        sorting.set_property("layer", layers)
        sorting.set_property("neuron", neurons)
        runs, samples = source.trials.run.tolist(), source.trials.sample.tolist()
        sorting.annotate(**{**source.notes(), "run": runs, "sample": samples})
        return sorting

    def save(self, made: Any, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "The extractor is not serializable", UserWarning
            )  # it is saved all the same
            made.save(folder=emptied(path), format="numpy_folder")
