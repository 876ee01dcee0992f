"""A folder of files for pynapple: spikes and values a layer, and the trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import FileFormat
from ..source import Ints, Source, note_column

__all__ = ["PynappleFormat"]


class PynappleFormat(FileFormat):
    """Spikes as `TsGroup`s, values as `TsdFrame`s, trials as an `IntervalSet`, in the files that pynapple saves."""

    name = "pynapple"
    extra = "pynapple"
    packages = ()
    seconds = True
    values = True
    suffixes: ClassVar[tuple[str, ...]] = ()
    keeps = "spikes, silent neurons, the time support of each layer; trials, with run and sample, in trials.npz"
    loses = "the shape of a layer; pynapple rounds times to a nanosecond"

    def write(self, source: Source, path: Path) -> None:
        """A folder that `pynapple.load_folder` opens, a file a layer: neurons have their number in it as key.

        Trials follow each other on one line without a gap; restrict to one with `group.restrict(trials[3])`. The files
        are made without pynapple, which would want an object for each neuron.
        """
        trials = source.trials
        about = {"run": trials.run, "sample": trials.sample}
        names, notes = source.note_names({*about, "start", "end"}), source.notes()
        about |= {names[name]: note_column(told) for name, told in notes.items()}
        support = _support(np.stack([trials.start, trials.start + trials.steps], axis=1), source.step)
        _save(path / "trials.npz", "IntervalSet", **support, _metadata=np.array(about, dtype=object))
        for signal in source.spikes:
            held, neurons = source.whole(signal), source.neurons(signal)
            times = source.seconds(held.trial, held.step)
            order = np.argsort(times, kind="stable")
            _save(
                path / f"{source.path(signal, 'trials')}.npz",
                "TsGroup",
                t=times[order],
                index=neurons[held.neuron[order]],
                keys=neurons,
                **_support(source.observed(signal), source.step),
            )
        for signal in source.values:
            when, rows = [], []
            for trial, values in source.by_trial(signal):
                when.append((trials.start[trial] + np.arange(len(values)) + 0.5) * source.step)
                rows.append(values)
            _save(
                path / f"{source.path(signal, 'trials')}.npz",
                "TsdFrame",
                t=np.concatenate(when),
                d=np.concatenate(rows),
                columns=source.neurons(signal),
                **_support(source.observed(signal), source.step),
            )


def _support(steps: Ints, dt: float) -> dict[str, Any]:
    return {"start": steps[:, 0] * dt, "end": steps[:, 1] * dt}


def _save(path: Path, kind: str, **arrays: Any) -> None:
    np.savez(path, type=np.array([kind], dtype=np.str_), **arrays)
