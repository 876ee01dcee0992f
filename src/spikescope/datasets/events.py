"""Events of one sample, whatever holds them: dicts of arrays, open .npz files, structured arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .faults import EventsError

__all__ = ["Array", "Events", "StoredPath", "check_inside", "column", "columns", "has_column"]

Array = npt.NDArray[Any]
StoredPath = str | os.PathLike[str]
Events = Mapping[str, Array] | Array
"""A dict (or an open .npz file) with `t`, `x`, `y`, `p`, or a structured array with these fields, as tonic's are."""


def has_column(events: Any, name: str) -> bool:
    """Whether events have this one of their columns."""
    try:
        return name in ((events.dtype.names or ()) if isinstance(events, np.ndarray) else events)
    except TypeError:
        return False


def column(events: Any, name: str) -> Array:
    """One column of events, as an array of one axis."""
    if not has_column(events, name):
        raise EventsError(
            f"Events have the columns t, x, y and p, but {name!r} is not in {_described(events)}. Wanted is a dict of "
            "arrays, an .npz file, or a structured array with these names."
        )
    values = np.asarray(events[name])
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise EventsError(
            f"The column {name!r} of events must be an array of numbers with one axis, but got the shape "
            f"{values.shape} and dtype {values.dtype}."
        )
    return values


def columns(events: Any, names: str = "txyp") -> list[Array]:
    """Several columns of events, which must be equally long.

    >>> columns({"t": np.array([5, 9]), "x": np.array([1, 2])}, "tx")
    [array([5, 9]), array([1, 2])]
    """
    held = [column(events, name) for name in names]
    if len({len(values) for values in held}) > 1:
        sizes = ", ".join(f"{name} {len(values)}" for name, values in zip(names, held, strict=True))
        raise EventsError(f"The columns of events must be equally long, but their lengths are {sizes}.")
    return held


def check_inside(name: str, values: Array, size: int) -> None:
    """Refuse coordinates that are not on the sensor: 0 <= values < size."""
    if not values.size:
        return
    kind = values.dtype.kind
    if kind == "f" and not (values == np.floor(values)).all():
        raise EventsError(f"The column {name!r} of events must hold whole numbers, but got fractions or nan.")
    # read as unsigned, a negative number is above every size
    seen = values.view(values.dtype.str.replace("i", "u")) if kind == "i" else values
    if seen.max() >= size or (kind == "f" and values.min() < 0):
        wrong = np.flatnonzero((values < 0) | (values >= size))
        raise EventsError(
            f"Event {wrong[0]} has {name} = {values[wrong[0]]}, which is not on the sensor: {name} must be from 0 to "
            f"{size - 1}. {len(wrong)} of {len(values)} events are outside; check H and W, or the file."
        )


def _described(events: Any) -> str:
    if isinstance(events, np.ndarray):
        return f"an array of dtype {events.dtype}"
    try:
        return f"{type(events).__name__} with {', '.join(map(repr, events)) or 'nothing'}"
    except TypeError:
        return f"{type(events).__name__}"
