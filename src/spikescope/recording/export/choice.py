"""What a user chooses of a recording: signals by names and patterns, runs, and the seconds of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

from ...errors import did_you_mean

__all__ = ["Names", "choose_runs", "choose_signals", "seconds_of_step"]

Names = str | Iterable[str] | None


def seconds_of_step(owner: str, known: float | None, given: float | None) -> float | None:
    """The step of the recording, or the one given where it has none."""
    if given is None:
        return known
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not (0 < given < math.inf):
        raise ValueError(f"{owner}: dt is the seconds of a step, above 0, such as 0.001, but got {given!r}.")
    if known is not None and known != given:
        raise ValueError(f"{owner}: dt={given} was given, but the recording was made with dt={known}. Leave it out.")
    return float(given)


def choose_signals(owner: str, recording: Any, layers: Names, signals: Names) -> list[Any]:
    """The signals whose layer and name match; ValueError where a pattern matches nothing."""
    found = {(layer, name): recording[layer][name] for layer in recording for name in recording[layer]}
    if not found:
        raise ValueError(f"{owner}: the recording is empty.")
    kept = set(found)
    for what, patterns, place in (("layers", layers, 0), ("signals", signals, 1)):
        if patterns is None:
            continue
        known = sorted({key[place] for key in found})
        wanted = [patterns] if isinstance(patterns, str) else list(patterns)
        for pattern in wanted:
            if not any(_fits(name, pattern) for name in known):
                shown = ", ".join(repr(name) for name in known[:20]) + (" and more" if known[20:] else "")
                raise ValueError(
                    f"{owner}: {what} has nothing like {pattern!r}; there is {shown}.{did_you_mean(pattern, known)}"
                )
        kept &= {key for key in found if any(_fits(key[place], pattern) for pattern in wanted)}
    if not kept:
        raise ValueError(f"{owner}: no layer of layers={layers!r} has a signal of signals={signals!r}.")
    return [signal for key, signal in found.items() if key in kept]


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def choose_runs(owner: str, signals: list[Any], wanted: int | slice | Iterable[int] | None) -> frozenset[int]:
    """The numbers of the chosen runs."""
    there = sorted({run.index for signal in signals for run in signal.runs})
    if wanted is None:
        return frozenset(there)
    if isinstance(wanted, slice):
        wanted = there[wanted]
    numbers = [int(wanted)] if isinstance(wanted, (int, Integral)) else list(wanted)
    absent = [number for number in numbers if number not in there]
    if absent or not numbers:
        raise ValueError(
            f"{owner}: there is no run {', '.join(map(str, absent)) or 'in an empty list'}; there are {len(there)} "
            f"runs, numbered {there[0]} to {there[-1]}."
        )
    return frozenset(numbers)
