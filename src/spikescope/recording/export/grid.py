"""Signals as arrays [trial, step, *neurons] with names for their axes: what the formats of labelled arrays share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .source import Source, distinct, dtype_of, note_column

__all__ = ["Variable", "coordinates", "variables"]

RESERVED = ("trial", "run", "sample", "step", "time")


class Variable(NamedTuple):
    """A signal as an array."""

    name: str
    signal: Any
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def variables(source: Source, place: Callable[[str], str] = str) -> list[Variable]:
    """The signals; a ValueError where they have no common number of steps, not to fill up with invented values, and
    where two of them, or one and a label of an axis, would have one name as `place` writes it.
    """
    lengths = sorted({run.steps for held in (*source.spikes, *source.values) for run in source.runs(held)})
    if len(lengths) > 1:
        raise ValueError(
            f"{source.owner}: an array has one number of steps, but there are runs of {', '.join(map(str, lengths))} "
            "steps. Choose runs of one length with runs=, or layers of one with layers=."
        )
    trials, taken = len(source.trials.run), {*RESERVED, *source.notes()}
    made: list[Variable] = []
    names = [(f"the label {name!r} of an axis", name) for name in RESERVED]
    names += [(f"the note {name!r}", held) for name, held in source.note_names(RESERVED, place).items()]
    for signal in (*source.spikes, *source.values):
        name = source.label(signal)
        seen = sum(run.samples for run in source.runs(signal))
        if seen != trials:
            raise ValueError(
                f"{source.owner}: of {name} there are {seen} of the {trials} trials, and an array has no place for "
                "what was not recorded. Choose runs with runs=, or layers with layers=."
            )
        if signal.neurons is None:
            dims = tuple(f"{signal.layer or '(network)'}[{axis}]" for axis in range(len(signal.neuron_shape)))
            sizes = tuple(signal.neuron_shape)
        else:
            dims, sizes = (f"{name}[neuron]",), (len(signal.neurons),)
        shape = (trials, lengths[0] if lengths else 0, *sizes)
        name = f"{name}.spike" if name in taken else name
        made.append(Variable(place(name), signal, ("trial", "step", *dims), shape, dtype_of(signal)))
        names.append((f"{signal.name!r} of {signal.layer!r}", made[-1].name))
        names += [] if signal.neurons is None else [(f"the neurons of {dims[0]!r}", place(dims[0]))]
    distinct(source.owner, names)
    return made


def coordinates(source: Source, held: list[Variable], place: Callable[[str], str] = str) -> dict[str, tuple[str, Any]]:
    """The labels of the axes by name, as `place` writes it: the axis, and a number for each place on it."""
    steps = held[0].shape[1]
    made: dict[str, tuple[str, Any]] = {
        "run": ("trial", source.trials.run),
        "sample": ("trial", source.trials.sample),
        "step": ("step", np.arange(steps)),
    }
    names = source.note_names(RESERVED, place)
    for name, values in source.notes().items():
        made[names[name]] = ("trial", note_column(values))
    if source.dt is not None:
        made["time"] = ("step", (np.arange(steps) + 0.5) * source.dt)  # the middle of a step
    for variable in held:
        if variable.signal.neurons is not None:
            made[variable.dims[2]] = (variable.dims[2], source.neurons(variable.signal))
    return made
