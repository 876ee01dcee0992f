"""Which steps of its runs a recording holds, as its head says in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["are_neighbours", "chosen_steps"]

_FIRST = re.compile(r"time=slice\((None|0), \w+, (None|1)\)")
_IN_A_ROW = re.compile(r"time=slice\(\w+, \w+, (None|1)\)")
_OF_NUMPY = re.compile(r"\bnp\.\w+\((\d+)\)")  # as NumPy 2 writes its numbers


def chosen_steps(head: Mapping[str, Any]) -> str:
    """In words, which steps of a run a recording holds, where these are not its first ones, as their numbers say.

    >>> chosen_steps({"subset": {"time": "slice(0, None, 2)"}}), chosen_steps({"subset": {"time": "slice(0, 9, 1)"}})
    ('time=slice(0, None, 2)', '')
    """
    subset = head.get("subset")
    told = str(subset["time"]) if isinstance(subset, dict) and "time" in subset else ""
    words = f"time={_OF_NUMPY.sub(lambda found: found[1], told)}" if told else ""
    return "" if _FIRST.fullmatch(words) else words


def are_neighbours(chosen: str) -> bool:
    """Whether steps that were chosen in these words follow each other in time, wherever they begin.

    >>> are_neighbours("time=slice(5, None, 1)"), are_neighbours("time=slice(0, None, 2)"), are_neighbours("")
    (True, False, True)
    """
    return not chosen or _IN_A_ROW.fullmatch(chosen) is not None
