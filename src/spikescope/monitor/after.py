"""Reducers on what was recorded: the same results as live, of one recording or of many, here or on other machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import missing_extra
from ..recording import OpenedRecording, StoredRecording, open_recording
from ..recording import Signal as Recorded
from ..recording.steps import chosen_steps
from ..spikes import PackedSpikes
from ..warn import warn
from .choose.modules import selector
from .record import check_signal, reducers_of
from .reduce import Reducer, rules
from .reduce.series import StepReducer
from .results import Results
from .track import Total

__all__ = ["reduce"]

Summaries = dict[str, dict[str, Any]]


def reduce(
    recording: Any,
    reducers: Any = ("rate", "silent share"),
    where: Any = None,
    signal: str | None = None,
    *,
    client: Any = None,
) -> Results:
    """Reduce a signal of a recording after the fact: the same results as `record` gives live.

    - `recording`: what `open_recording` gives, or its path; or several, whose samples are taken together.
    - `reducers`: as of `record`; a function gets the name of a module and what is recorded of it.
    - `where`: the modules, by name or pattern; None takes all that have the signal.
    - `signal`: None takes `'spike'`, or the one signal that there is.
    - `client`: of `dask.distributed`, whose workers read the recordings, each a part: the paths must be theirs too.
      Summaries merge, so how the work is cut changes nothing but rounding.

    >>> rec = spikescope.recording.in_memory({"lif": {"spike": [torch.eye(4).view(4, 1, 4)]}})
    >>> spikescope.monitor.reduce(rec, "rate")["lif"]
    tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)
    """
    several = isinstance(recording, Sequence) and not isinstance(recording, (str, os.PathLike))
    given = list(recording) if several else [recording]
    if not given:
        raise ValueError("reduce: got no recordings; give at least one.")
    opened = [one if isinstance(one, StoredRecording) else _opened(one) for one in given]
    signals = [_signals(one, where, signal) for one in opened]
    labels = {name: held.name for found in signals for name, held in found.items()}
    made = {name: reducers_of(reducers, name, next(one[name] for one in opened if name in one)) for name in labels}
    for name, row in made.items():
        for held in row.values():
            check_signal(held, labels[name])
    steps = next(filter(None, (chosen_steps(one.head) for one in opened)), "")
    timed = [label for row in made.values() for label, held in row.items() if steps and _looks_at_time(held)]
    if timed:
        warn(
            f"reduce: the recording holds chosen steps alone ({steps}), and {timed[0]!r} takes them for neighbours "
            "from the first step on. Record without time= where intervals or latencies are asked for."
        )
    if client is None:
        parts: Iterable[Summaries] = (_summaries(found, made) for found in signals)
    else:
        parts = _far(opened, signals, made, client)
    courses = {label for row in made.values() for label, held in row.items() if isinstance(held, StepReducer)}
    single = not isinstance(reducers, (list, tuple, Mapping))
    return Results(_results(parts, made), single, courses)


def _looks_at_time(reducer: Reducer) -> bool:
    """Whether it matters to a reducer when a step was; one that joins samples without rules tells nothing of it."""
    if type(reducer).beside is not Reducer.beside:
        return False
    return any(rule.batch == "span" for rule in rules(reducer.Summary).values())


def _results(parts: Iterable[Summaries], made: Mapping[str, Mapping[str, Reducer]]) -> dict[str, dict[str, Any]]:
    """What the reducers make of the summaries of all parts, without modules of which there are none."""
    totals = {name: {label: Total(held) for label, held in row.items()} for name, row in made.items()}
    for part in parts:
        for name, row in part.items():
            for label, summary in row.items():
                totals[name][label].add(summary)
    rows = {
        name: {label: total.reducer.result(total.closed) for label, total in row.items() if total.closed is not None}
        for name, row in totals.items()
    }
    return {name: row for name, row in rows.items() if row}


def _opened(given: Any) -> OpenedRecording:
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(
            f"reduce takes a recording, as open_recording(path) gives it, its path, or a list of these, but got "
            f"{type(given).__name__}."
        )
    return open_recording(given)


def _signals(recording: StoredRecording, where: Any, signal: str | None) -> dict[str, Recorded]:
    """The signal of each chosen module."""
    chosen = None if where is None else selector(where)
    layers = {
        name: layer
        for name, layer in recording.items()
        if chosen is None or chosen.matches(name, None)  # type: ignore[arg-type]  # a type is not to be asked for
    }
    names = {held for layer in layers.values() for held in layer}
    wanted = signal or ("spike" if "spike" in names or len(names) != 1 else next(iter(names)))
    found = {name: layer[wanted] for name, layer in layers.items() if wanted in layer and len(layer[wanted])}
    if not found:
        there = "; ".join(f"{name}: {', '.join(layer)}" for name, layer in recording.items()) or "nothing"
        raise LookupError(
            f"reduce found nothing recorded of the signal {wanted!r}{f' with {chosen}' if chosen else ''}. There is "
            f"{there}. Modules are chosen by name, glob or regular expression: a recording has no classes."
        )
    return found


def _summaries(
    signals: Mapping[str, Recorded], made: Mapping[str, Mapping[str, Reducer]], runs: Any = None
) -> Summaries:
    """The closed summaries of all runs, or of some, of each module."""
    found: Summaries = {}
    for name, signal in signals.items():
        totals = {label: Total(held) for label, held in made[name].items()}
        run = -1
        for block in signal.blocks(run=runs):
            if block.run != run:
                run = block.run
                for total in totals.values():
                    total.end()
            values = block.values.dense() if isinstance(block.values, PackedSpikes) else block.values
            for total in totals.values():
                total.append(total.reducer.measure(values, block.step))
        found[name] = {label: held for label, total in totals.items() if (held := total.whole()) is not None}
    return found


def _far(
    opened: Sequence[StoredRecording], signals: Sequence[Mapping[str, Recorded]], made: Any, client: Any
) -> Iterable[Summaries]:
    """The summaries by the workers of a client, in order: of one recording a part of its runs each."""
    try:
        import distributed  # noqa: F401  # words where it is missing
    except ImportError as error:
        raise missing_extra("distributed", "distributed", "Reducers on other machines") from error
    tasks = []
    for recording, found in zip(opened, signals, strict=True):
        path = getattr(recording, "path", None)
        if path is None:
            raise ValueError("reduce: a client reads recordings from their paths, but one of these is in memory.")
        names = {name: held.name for name, held in found.items()}
        last = max(run.index for held in found.values() for run in held.runs) + 1
        parts = 1 if len(opened) > 1 else max(1, min(last, 4 * len(client.scheduler_info()["workers"])))
        cuts = [last * i // parts for i in range(parts + 1)]
        tasks += [(str(Path(path).resolve()), names, made, slice(a, b)) for a, b in pairwise(cuts)]
    return client.gather([client.submit(_of_path, *task, pure=False) for task in tasks])


def _of_path(path: str, names: Mapping[str, str], made: Any, runs: slice) -> Summaries:
    recording = open_recording(path)
    return _summaries({name: recording[name][label] for name, label in names.items()}, made, runs)


class _Room(ModuleType):
    """The room of the reducers, which is this function as well: `monitor.reduce(recording, "isi cv")`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return reduce(*args, **kwargs)


sys.modules[Reducer.__module__.rpartition(".")[0]].__class__ = _Room
