"""What a recording says of itself: a row for each signal, and below what is known of the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..display import Overview, amount, size_of
from ..errors import dims
from .steps import chosen_steps

if TYPE_CHECKING:
    from .shape import StoredRecording
    from .signal import Run, Signal

__all__ = ["overview_of"]

HEAD = ["layer", "signal", "shape", "neurons", "values", "runs", "steps", "samples", "size"]


def overview_of(recording: StoredRecording) -> Overview:
    """A table of all signals. Of values nothing is read; of the files what says where they lie."""
    signals = [signal for layer in recording.values() for signal in layer.values()]
    runs = len({run.index for signal in signals for run in signal.runs})
    title = f"Recording of {amount(len(recording), 'module')}, {amount(runs, 'run')}, {size_of(recording.nbytes)}"
    return Overview(title, [HEAD, *map(_row, signals)], list(_remarks(recording)))


def _row(signal: Signal) -> list[str]:
    name, runs = signal.layer or "(network)", signal.runs
    if not runs:
        return [name, signal.name, *[""] * (len(HEAD) - 3), "nothing yet"]
    kind = "bits" if signal.packed else str(signal.dtype).removeprefix("torch.")
    shape, number = _neurons(signal)
    return [
        name,
        signal.name,
        shape,
        number,
        kind,
        f"{len(runs):,}",
        _span([run.steps for run in runs]),
        _span([run.samples for run in runs]),
        size_of(signal.nbytes),
    ]


def _neurons(signal: Signal) -> tuple[str, str]:
    try:
        shape = signal.neuron_shape
    except ValueError:  # of runs whose layers had other shapes
        return "several", ""
    if signal.neurons is not None:
        return "chosen", f"{len(signal.neurons):,}"
    return dims(shape), f"{math.prod(shape):,}"


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _remarks(recording: StoredRecording) -> Iterator[str]:
    if steps := chosen_steps(recording.head):
        yield f"Of the steps of a run it holds those of {steps}, one after the other."
    elif recording.dt is None:
        yield "How long a step is was not said (dt)."
    else:
        longest = max((_longest(layer.values()) for layer in recording.values()), default=0)
        yield f"A step is {recording.dt:g} s, the longest run {longest * recording.dt:g} s."
    told = sorted({str(name) for note in recording.notes for name in note} - {"run"})
    if told:
        yield f"Noted of {amount(len(recording.notes), 'run')}: {', '.join(told)}."
    if versions := recording.head.get("versions"):
        held = versions.items() if isinstance(versions, dict) else ()
        yield f"Written by {', '.join(f'{name} {version}' for name, version in held)}."
    if (writer := getattr(recording, "writer", None)) is not None:
        yield f"Not closed: it belongs to {writer}."
    if recording.damage:
        yield f"Damaged ({len(recording.damage)}):"
        yield from recording.damage


def _longest(signals: Any) -> int:
    runs: list[Run] = [run for signal in signals for run in signal.runs]
    return max((run.steps for run in runs), default=0)
