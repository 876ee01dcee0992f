"""Segments of spike trains and signals for Neo, and so for Elephant."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import ObjectFormat
from ..source import Source

__all__ = ["NeoFormat"]


class NeoFormat(ObjectFormat):
    """Trials as the segments of a `neo.Block`."""

    name = "neo"
    extra = "neo"
    packages = ("neo",)
    seconds = True
    values = True
    suffixes: ClassVar[tuple[str, ...]] = (".pkl", ".nix")
    keeps = "spikes and values, a segment a trial, silent neurons, layer and number of each train as annotations"
    loses = "the shape of a layer: neurons are numbered as they lie in it"

    def make(self, source: Source) -> Any:
        """A `neo.Block` with a segment for each trial, in which time begins at 0.

        The spikes of a segment stay two arrays, `segment.spiketrains.multiplexed`, until somebody looks at a train;
        then Neo makes an object of each, which takes long where there are many.
        """
        import neo
        import quantities as pq
        from neo.core.spiketrainlist import SpikeTrainList

        block = neo.Block(name="recording", dt=source.step)
        trials = source.trials
        told = source.notes()
        for index, (run, sample) in enumerate(zip(trials.run.tolist(), trials.sample.tolist(), strict=True)):
            note = {key: values[index] for key, values in told.items() if values[index] is not None}
            segment = neo.Segment(name=f"run {run}, sample {sample}", index=index)
            segment.annotate(**note, run=run, sample=sample)
            block.segments.append(segment)
        held, layers, neurons = source.units()
        units, bounds = list(range(len(neurons))), np.searchsorted(held.trial, np.arange(len(trials.run) + 1))
        notes: dict[str, Any] = {"layer": layers.tolist(), "neuron": neurons.tolist()}
        times = (held.step + 0.5) * source.step
        for index, segment in enumerate(block.segments if source.spikes else ()):
            part = slice(bounds[index], bounds[index + 1])
            stop = trials.steps[index] * source.step * pq.s
            trains = SpikeTrainList.from_spike_time_array(
                times[part] * pq.s, held.neuron[part], units, t_start=0.0 * pq.s, t_stop=stop, **notes
            )
            trains.segment = segment
            segment.spiketrains = trains
        for signal in source.values:
            about = {"name": source.label(signal), "units": "dimensionless", "sampling_rate": 1 / source.step * pq.Hz}
            neuron = {"neuron": source.neurons(signal)}
            for index, values in source.by_trial(signal):
                made = neo.AnalogSignal(values, t_start=source.step / 2 * pq.s, array_annotations=neuron, **about)
                made.segment = block.segments[index]
                block.segments[index].analogsignals.append(made)
        return block

    def save(self, made: Any, path: Path) -> None:
        """By Neo: a pickle, or NIX, which needs the package nixio."""
        import neo.io

        if path.suffix == ".nix":
            with neo.io.NixIO(str(path), mode="ow") as file:
                file.write_block(made)
        else:
            neo.io.PickleIO(str(path)).write_block(made)
