"""Neurodata Without Borders: units, trials and series in one HDF5 file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import FileFormat
from ..source import Source, dtype_of, note_column, path_name

__all__ = ["NWBFormat"]


class NWBFormat(FileFormat):
    """Neurons as units, samples of runs as trials."""

    name = "nwb"
    extra = "nwb"
    packages = ("pynwb",)
    seconds = True
    values = True
    suffixes: ClassVar[tuple[str, ...]] = (".nwb",)
    keeps = "spikes with their resolution, silent neurons, what was observed when; trials with run and sample; series"
    loses = "the shape of a layer, which the description of its series tells"

    def write(self, source: Source, path: Path, session: Mapping[str, Any] | None = None) -> None:
        """One file: a unit for each neuron, a trial for each sample of each run, a series for each other signal.

        The file has one line of time: trials follow each other on it without a gap, as the table of trials says. Who
        takes intervals between spikes must not take them across its rows.

        - `session`: arguments of `pynwb.NWBFile`, such as `session_description`, `experimenter` or `lab`.
        """
        import pynwb

        file = pynwb.NWBFile(**{**_session(source), **(session or {})})
        file.add_time_intervals(_trials(pynwb, source))
        if source.spikes:
            file.units = _units(pynwb, source)
        for signal in source.values:
            file.add_acquisition(_series(pynwb, source, signal))
        with pynwb.NWBHDF5IO(path, "w") as io:
            io.write(file)


def _session(source: Source) -> dict[str, Any]:
    began = source.recording.head.get("started")
    return {
        "session_description": "A simulated spiking network, recorded with spikescope.",
        "identifier": str(uuid.uuid4()),
        "session_start_time": datetime.now(UTC) if began is None else datetime.fromisoformat(began),
    }


def _column(name: str, description: str, data: Any) -> Any:
    from hdmf.common import VectorData

    return VectorData(name=name, description=description, data=_packed(data))


def _ragged(name: str, description: str, data: Any, ends: Any) -> list[Any]:
    from hdmf.common import VectorIndex

    column = _column(name, description, data)
    return [column, VectorIndex(name=f"{name}_index", target=column, data=_packed(ends.astype(np.uint64)))]


def _packed(data: Any) -> Any:
    """The data compressed, where there are enough of them."""
    from hdmf.backends.hdf5 import H5DataIO

    if isinstance(data, np.ndarray) and data.dtype.kind != "U" and data.nbytes > 1 << 16:
        return H5DataIO(data, compression="gzip", compression_opts=1, shuffle=True)
    return data.tolist() if isinstance(data, np.ndarray) and data.dtype.kind == "U" else data


def _trials(pynwb: Any, source: Source) -> Any:
    trials = source.trials
    columns = {
        "start_time": ("Start of the trial, in seconds.", trials.start * source.step),
        "stop_time": ("End of the trial, in seconds.", (trials.start + trials.steps) * source.step),
        "run": ("The run of the recording: a run goes from one reset of the network to the next.", trials.run),
        "sample": ("The sample in the batch of that run.", trials.sample),
    }
    names = source.note_names({*columns, *_own_names(pynwb.epoch.TimeIntervals)}, path_name)
    for name, values in source.notes().items():
        columns[names[name]] = (f"What was noted of the trial as {name!r}.", note_column(values))
    return pynwb.epoch.TimeIntervals(
        name="trials",
        description="Samples of runs. Each begins from the reset state; they are laid one after the other without a "
        "gap, so that nothing goes on from a trial to the next.",
        columns=[_column(name, *held) for name, held in columns.items()],
        colnames=list(columns),
    )


def _own_names(table: Any) -> set[str]:
    """Names that a table has for itself, in Python and in the file, and with which a column would clash."""
    columns = {held["name"] for held in table.__columns__}
    return {*dir(table), *columns, *(f"{name}_index" for name in columns)}


def _units(pynwb: Any, source: Source) -> Any:
    held, layers, neurons = source.units()
    order = np.argsort(held.neuron, kind="stable")  # by trial and step within each unit, as it was
    times = source.seconds(held.trial[order], held.step[order])
    ends = np.cumsum(np.bincount(held.neuron, minlength=len(neurons)))
    observed = [source.observed(signal) * source.step for signal in source.spikes]
    counts = [len(source.neurons(signal)) for signal in source.spikes]
    intervals = np.concatenate([np.tile(part, (count, 1)) for part, count in zip(observed, counts, strict=True)])
    number = np.cumsum(np.repeat([len(part) for part in observed], counts))
    columns = [
        *_ragged("spike_times", "The middle of the step of each spike, in seconds.", times, ends),
        *_ragged("obs_intervals", "When the neuron was recorded, in seconds.", intervals, number),
        _column("layer", "The layer by its path in the network.", layers),
        _column("neuron", "The number of the neuron in its flattened layer.", neurons),
    ]
    return pynwb.misc.Units(
        name="units",
        description="Neurons of a simulated network; a neuron without spikes was silent.",
        columns=columns,
        colnames=["spike_times", "obs_intervals", "layer", "neuron"],
        resolution=source.step,
    )


def _series(pynwb: Any, source: Source, signal: Any) -> Any:
    from hdmf.backends.hdf5 import H5DataIO
    from hdmf.data_utils import DataChunkIterator

    observed, neurons = source.observed(signal), source.neurons(signal)
    if len(observed) == 1:
        when: dict[str, Any] = {"starting_time": (observed[0, 0] + 0.5) * source.step, "rate": 1 / source.step}
    else:
        steps = np.concatenate([np.arange(start, stop) for start, stop in observed.tolist()])
        when = {"timestamps": _packed((steps + 0.5) * source.step)}

    def rows() -> Iterator[Any]:
        for _, values in source.by_trial(signal):
            yield from values

    data = DataChunkIterator(rows(), dtype=dtype_of(signal), maxshape=(None, len(neurons)), buffer_size=1 << 10)
    numbers = "" if signal.neurons is None else f" Its columns are the neurons {neurons.tolist()}."
    return pynwb.TimeSeries(
        name=source.path(signal),
        description=f"{signal.name} of the layer {signal.layer!r} with the shape {tuple(signal.neuron_shape)}, "
        f"flattened; a value stands in the middle of its step.{numbers}",
        data=H5DataIO(data, compression="gzip", compression_opts=1, shuffle=True),
        unit="a.u.",
        **when,
    )
