"""What of a recording goes into an export: signals, runs, trials, seconds, and flat arrays of events and values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from ..steps import chosen_steps
from .choice import Names, choose_runs, choose_signals, seconds_of_step

__all__ = ["Piece", "Source", "Spikes", "Trials", "as_array", "distinct", "dtype_of", "note_column", "path_name"]

AT_ONCE = 1 << 24
"""Numbers that are unpacked at a time."""

NETWORK: Final = "(network)"
"""What the network itself is called, whose name is empty."""

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Trials(NamedTuple):
    """The samples of the runs, one after the other: each is one trial, which begins from the reset state."""

    run: Ints
    sample: Ints
    steps: Ints
    start: Ints  # the steps of all trials before it: where it begins if they are laid behind one another


class Spikes(NamedTuple):
    """The events of one signal as flat arrays, sorted by trial, neuron and step."""

    trial: Ints
    neuron: Ints  # among those recorded, see `Source.neurons`
    step: Ints


class Piece(NamedTuple):
    """Some steps of some samples of a signal."""

    trial: int  # the first
    step: int  # the first, of its run
    values: np.ndarray[Any, Any]  # [steps, samples, neurons]


class Source:
    """The part of a recording that goes to a format, as the formats need it.

    - `spikes`, `values`: the signals of bits, and those of numbers.
    - `left_out`: the names of signals that the format cannot hold, or that belong to no trial.
    - `dt`: seconds a step, None where nobody said.
    """

    def __init__(
        self,
        owner: str,
        recording: Any,
        *,
        seconds: bool,
        values: bool,
        layers: Names = None,
        signals: Names = None,
        runs: int | slice | Iterable[int] | None = None,
        dt: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.owner = owner
        self.recording = recording
        self.dt = seconds_of_step(owner, recording.dt, dt)
        if steps := chosen_steps(recording.head):
            if seconds:
                raise ValueError(
                    f"{owner}: the format has times in seconds, but the recording holds chosen steps alone ({steps}), "
                    "one after the other, and not the seconds of each. Record without time=, or export them to a table."
                )
            warnings.warn(
                f"{owner}: the recording holds chosen steps alone ({steps}); the export counts these one after the "
                "other, and has no seconds.",
                stacklevel=4,
            )
            self.dt = None
        if seconds and self.dt is None:
            raise ValueError(
                f"{owner}: the format has times in seconds, but the recording does not say how long a step is. Give "
                f"dt=0.001 if it is a millisecond, or record with monitor.record(..., dt=...)."
            )
        chosen = [held for held in choose_signals(owner, recording, layers, signals) if held.runs]
        if not chosen:
            raise ValueError(f"{owner}: nothing was recorded yet.")
        self.spikes = [held for held in chosen if held.packed]
        numbers = [held for held in chosen if not held.packed]
        apart = numbers if not values else [held for held in numbers if _of_no_sample(held, chosen)]
        self.values = [held for held in numbers if held not in apart]
        self.left_out = [_label(held) for held in apart]
        if not (self.spikes or self.values):
            raise ValueError(
                f"{owner}: the format holds spikes alone, but of these only {', '.join(self.left_out)} "
                f"{'is' if len(self.left_out) == 1 else 'are'} there."
            )
        distinct(owner, [(f"{held.name!r} of {held.layer!r}", _label(held)) for held in (*self.spikes, *self.values)])
        self._runs = choose_runs(owner, [*self.spikes, *self.values], runs)
        self.trials = self._trials()
        self._progress, self._done = progress, 0
        self._all = sum(len(self.runs(held)) for held in (*self.spikes, *self.values))

    def runs(self, signal: Any) -> list[Any]:
        """The chosen runs that there are of a signal."""
        return [run for run in signal.runs if run.index in self._runs]

    def _trials(self) -> Trials:
        steps: dict[int, int] = {}
        samples: dict[int, tuple[int, str]] = {}
        for signal in (*self.spikes, *self.values):
            for run in self.runs(signal):
                steps[run.index] = max(steps.get(run.index, 0), run.steps)
                known, first = samples.setdefault(run.index, (run.samples, _label(signal)))
                if known != run.samples:
                    raise ValueError(
                        f"{self.owner}: in run {run.index} there are {known} samples of {first} and {run.samples} of "
                        f"{_label(signal)}, so that they are no trials together. Export them one by one, with "
                        "layers= and signals=."
                    )
        order = sorted(steps)
        counts = [samples[run][0] for run in order]
        lengths = np.repeat(np.array([steps[run] for run in order], dtype=np.int64), counts)
        within = [np.arange(count, dtype=np.int64) for count in counts]
        return Trials(
            np.repeat(np.array(order, dtype=np.int64), counts),
            np.concatenate(within) if within else np.zeros(0, dtype=np.int64),
            lengths,
            np.cumsum(lengths) - lengths,
        )

    def notes(self) -> dict[str, list[Any]]:
        """What was noted of each trial, such as its label, by name; None where a run has no such note."""
        found: dict[str, list[Any]] = {}
        runs, samples = self.trials.run.tolist(), self.trials.sample.tolist()
        told = {int(held["run"]): held for held in self.recording.notes}
        for name in dict.fromkeys(key for held in told.values() for key in held if key not in ("run", "sample")):
            found[name] = [_of_sample(told.get(run, {}).get(name), at) for run, at in zip(runs, samples, strict=True)]
        return found

    def first_trial(self, run: int) -> int:
        """The trial of the first sample of a run."""
        return int(np.searchsorted(self.trials.run, run))

    def label(self, signal: Any) -> str:
        """A name that no other signal of the export has: of spikes the layer, of others with the signal behind it."""
        return _label(signal)

    def path(self, signal: Any, beside: str = "") -> str:
        """Its label as a name for a place in a file; a ValueError where two labels would have one, or one that is
        `beside` them.
        """
        labels = [_label(held) for held in (*self.spikes, *self.values)]
        other = [(f"the table of {beside}", beside)] if beside else []
        distinct(self.owner, [*other, *((repr(label), path_name(label)) for label in labels)])
        return path_name(_label(signal))

    def layer_path(self, signal: Any) -> str:
        """Likewise of its layer."""
        layers = dict.fromkeys(held.layer for held in (*self.spikes, *self.values))
        distinct(self.owner, [(repr(layer), path_name(layer or NETWORK)) for layer in layers])
        return path_name(signal.layer or NETWORK)

    def note_names(self, taken: Container[str], place: Callable[[str], str] = str) -> dict[str, str]:
        """What the notes are called, by `place`, beside names that are taken: those with `note_` before them."""
        made = {name: place(f"note_{name}" if name in taken else name) for name in self.notes()}
        distinct(self.owner, [(f"the note {name!r}", held) for name, held in made.items()])
        return made

    @staticmethod
    def neurons(signal: Any) -> Ints:
        """The flat index in its layer of each neuron that was recorded."""
        if signal.neurons is None:
            return np.arange(math.prod(signal.neuron_shape), dtype=np.int64)
        return np.asarray(signal.neurons, dtype=np.int64).reshape(-1)

    def flat(self, signal: Any) -> Iterator[Spikes]:
        """The events of a signal, run after run."""
        for run in self.runs(signal):
            held = signal.events(run=run.index)
            yield Spikes(self.first_trial(run.index) + held.sample, held.neuron, held.step)
            self._tick()

    def whole(self, signal: Any) -> Spikes:
        """The events of all runs of a signal."""
        parts = list(self.flat(signal))
        if len(parts) == 1:
            return parts[0]
        none = np.zeros(0, dtype=np.int64)
        return Spikes(*(np.concatenate(column) for column in zip(Spikes(none, none, none), *parts, strict=True)))

    def units(self) -> tuple[Spikes, Any, Ints]:
        """The neurons of all signals of spikes as one population: the events, with the unit in the place of the neuron,
        by trial, and the layer and the number in its layer of each unit."""
        parts, layers, numbers, first = [], [], [], 0
        for signal in self.spikes:
            held, neurons = self.whole(signal), self.neurons(signal)
            parts.append(held._replace(neuron=held.neuron + first))
            layers.append(np.full(len(neurons), self.label(signal)))
            numbers.append(neurons)
            first += len(neurons)
        if len(parts) == 1:
            return parts[0], layers[0], numbers[0]
        none = np.zeros(0, dtype=np.int64)
        joined = Spikes(*(np.concatenate(column) for column in zip(Spikes(none, none, none), *parts, strict=True)))
        order = np.argsort(joined.trial, kind="stable")
        units = np.concatenate([np.zeros(0, dtype="<U1"), *layers]), np.concatenate([none, *numbers])
        return Spikes(*(column[order] for column in joined)), *units

    def pieces(self, signal: Any, multiple: int = 1) -> Iterator[Piece]:
        """The values of a signal in order of run and time, of spikes as bool, some steps of all samples at a time.

        - `multiple`: pieces end at multiples of this number of steps, or with the run.
        """
        for run in self.runs(signal):
            width = max(1, run.samples * len(self.neurons(signal)))
            steps = max(1, AT_ONCE // width // multiple) * multiple
            for start in range(0, run.steps, steps):
                held = signal.read(run=run.index, step=slice(start, min(start + steps, run.steps)))
                yield Piece(self.first_trial(run.index), start, as_array(held, signal.packed))
            self._tick()

    def by_trial(self, signal: Any) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """The trials of a signal, each with its values `[steps, neurons]`; a run at a time is in memory."""
        for run in self.runs(signal):
            held = as_array(signal.read(run=run.index), signal.packed)
            for sample in range(run.samples):
                yield self.first_trial(run.index) + sample, held[:, sample]
            self._tick()

    def tell_subset(self, what: str) -> None:
        """Warn where only some neurons of a layer were recorded, of what that means in the format."""
        names = [_label(held) for held in (*self.spikes, *self.values) if held.neurons is not None]
        if names:
            warnings.warn(f"{self.owner}: of {', '.join(names)} some neurons were recorded: {what}", stacklevel=4)

    def seconds(self, trial: Ints, step: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
        """When events happen on a line on which one trial follows the other: in the middle of their step."""
        return np.asarray((self.trials.start[trial] + step + 0.5) * self.step, dtype=np.float64)

    @property
    def step(self) -> float:
        """The seconds of a step, of a format that has made sure of them."""
        assert self.dt is not None
        return self.dt

    def observed(self, signal: Any) -> Ints:
        """The intervals in which a signal was recorded, `[k, 2]` in steps of that line; those that touch are one."""
        seen = {run.index: run.steps for run in self.runs(signal)}
        kept = np.isin(self.trials.run, list(seen))
        start = self.trials.start[kept]
        stop = start + np.array([seen[run] for run in self.trials.run[kept].tolist()], dtype=np.int64)
        apart = np.flatnonzero(start[1:] != stop[:-1])
        if not len(start):
            return np.zeros((0, 2), dtype=np.int64)
        return np.stack([start[np.r_[0, apart + 1]], stop[np.r_[apart, len(stop) - 1]]], axis=1)

    def about(self) -> dict[str, Any]:
        """What the tables of events cannot say themselves, ready for JSON."""
        signals = [*self.spikes, *self.values]
        return {
            "dt": self.dt,
            "layers": {
                _label(held): {
                    "shape": list(held.neuron_shape),
                    "neurons": None if held.neurons is None else self.neurons(held).tolist(),
                    "runs": [[run.index, run.steps, run.samples] for run in self.runs(held)],
                }
                for held in signals
            },
        }

    def _tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._all)


def as_array(values: torch.Tensor, spikes: bool) -> np.ndarray[Any, Any]:
    """Values `[steps, samples, *]` as an array `[steps, samples, neurons]`; spikes as bool."""
    values = values.detach().cpu()
    if spikes:
        values = values.bool()
    elif values.dtype is torch.bfloat16:  # NumPy has none; float32 holds each of its numbers
        values = values.float()
    return np.asarray(values.reshape(*values.shape[:2], math.prod(values.shape[2:])).numpy())


def dtype_of(signal: Any) -> np.dtype[Any]:
    """The dtype of the arrays of a signal."""
    return as_array(torch.empty(0, 0, dtype=signal.dtype, device="cpu"), signal.packed).dtype


def path_name(name: str) -> str:
    """A name for a place in a file, where `/` and `:` would mean something."""
    return name.replace("/", "|").replace(":", "|")


def _of_sample(note: Any, sample: int) -> Any:
    """The note of one sample: its part of a list, or what was noted of the whole run."""
    held = note.tolist() if isinstance(note, (np.ndarray, torch.Tensor)) else note
    if isinstance(held, (list, tuple)):
        return held[sample] if sample < len(held) else None
    return held


def note_column(values: list[Any]) -> np.ndarray[Any, Any]:
    """Notes as a column: whole numbers where all are, NaN or an empty text where there is none."""
    if all(isinstance(held, (int, bool)) for held in values):
        return np.array(values, dtype=np.int64)
    if all(held is None or isinstance(held, (int, float)) for held in values):
        return np.array([np.nan if held is None else held for held in values], dtype=np.float64)
    return np.array(["" if held is None else str(held) for held in values])


def distinct(owner: str, names: Iterable[tuple[str, str]]) -> None:
    """Refuse two things that would have one name in the export, where one of them would be lost."""
    known: dict[str, str] = {}
    for what, name in names:
        if (other := known.setdefault(name, what)) != what:
            raise ValueError(
                f"{owner}: {other} and {what} would both be called {name!r}. Export them one by one, with layers= and "
                "signals=, or give the modules or notes other names."
            )


def _of_no_sample(signal: Any, chosen: Iterable[Any]) -> bool:
    """Whether it is a number of its layer, such as a learned time constant, beside signals of several samples."""
    several = {run.index for held in chosen for run in held.runs if run.samples > 1}
    alone = signal.name.startswith("attribute") and all(run.samples == 1 for run in signal.runs)
    return alone and any(run.index in several for run in signal.runs)


def _label(signal: Any) -> str:
    name = signal.layer or NETWORK
    return name if signal.name == "spike" else f"{name}.{signal.name}"
