"""Which steps of its runs a recording holds, as its head says in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["are_neighbours", "chosen_steps", "steps_alike"]

_SLICE = re.compile(r"time=slice\((None|\d+), (None|\d+), (None|\d+)\)")
_OF_NUMPY = re.compile(r"\bnp\.\w+\((\d+)\)")  # as NumPy 2 writes its numbers


def chosen_steps(head: Mapping[str, Any]) -> str:
    """In words, which steps of a run a recording holds, where these are not its first ones, as their numbers say.

    >>> chosen_steps({"subset": {"time": "slice(0, None, 2)"}}), chosen_steps({"subset": {"time": "slice(0, 9, 1)"}})
    ('time=slice(0, None, 2)', '')
    """
    subset = head.get("subset")
    told = str(subset["time"]) if isinstance(subset, dict) and "time" in subset else ""
    words = f"time={_OF_NUMPY.sub(lambda found: found[1], told)}" if told else ""
    steps = _sliced(words)
    return "" if steps is not None and (steps.start, steps.step) == (0, 1) else words


def are_neighbours(chosen: str) -> bool:
    """Whether steps that were chosen in these words follow each other in time, wherever they begin.

    >>> are_neighbours("time=slice(5, None, 1)"), are_neighbours("time=slice(0, None, 2)"), are_neighbours("")
    (True, False, True)
    """
    steps = _sliced(chosen)
    return not chosen or (steps is not None and steps.step == 1)


def steps_alike(a: str, b: str) -> bool | None:
    """Whether two choices in these words are of the same steps; None for two predicates, whose words do not say it.

    >>> steps_alike("time=slice(5, None, None)", "time=slice(5, None, 1)"), steps_alike("", "time=slice(5, None, 1)")
    (True, False)
    """
    one, other = _sliced(a), _sliced(b)
    if a and b and one is None and other is None:
        return None
    return one == other if a and b else a == b


def _sliced(chosen: str) -> slice | None:
    """The slice of these words in the one form of its steps; None for a predicate, and where nothing was chosen."""
    if (found := _SLICE.fullmatch(chosen)) is None:
        return None
    start, stop, step = (None if bound == "None" else int(bound) for bound in found.groups())
    if stop is None:
        return slice(start or 0, None, step or 1)
    steps = range(start or 0, stop, step or 1)
    if not steps:
        return slice(0, 0, 1)
    return slice(steps.start, steps[-1] + 1, steps.step if len(steps) > 1 else 1)
