"""Events in arrays: .npy and .npz files with `t`, `x`, `y`, `p`, structured arrays as tonic's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..events import Array, StoredPath, columns
from ..faults import EventsError
from ..folders.storage import load_events

__all__ = ["from_structured", "load_numpy", "to_structured"]


def load_numpy(file_name: StoredPath) -> dict[str, Array]:
    """The events in an .npz file, or in the structured array of an .npy file, as arrays `t`, `x`, `y`, `p`."""
    return from_structured(load_events(file_name))


def from_structured(events: Any) -> dict[str, Array]:
    """Events of any kind as a dict of arrays.

    >>> tonic = np.array([(3, 1, 50, True)], [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])
    >>> from_structured(tonic)
    {'t': array([50]), 'x': array([3], dtype=int16), 'y': array([1], dtype=int16), 'p': array([ True])}
    """
    return dict(zip("txyp", columns(events), strict=True))


def to_structured(events: Any) -> Array:
    """Events as a structured array `(x, y, t, p)`, which tonic's transforms take.

    >>> to_structured({"t": np.array([50]), "x": np.array([3]), "y": np.array([1]), "p": np.array([1])})
    array([(3, 1, 50,  True)],
          dtype=[('x', '<i2'), ('y', '<i2'), ('t', '<i8'), ('p', '?')])
    """
    t, x, y, p = columns(events)
    made = np.empty(len(t), [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
    with np.errstate(invalid="ignore"):  # NaN becomes a number, and is refused as that
        for name, values in (("x", x), ("y", y), ("t", t), ("p", p)):
            made[name] = values
    for name, values in (("x", x), ("y", y), ("t", t)):
        if (odd := np.flatnonzero(made[name] != values)).size:
            raise EventsError(
                f"Event {odd[0]} has {name} = {values[odd[0]]}, for which a structured array, with whole numbers of "
                f"{8 * made[name].itemsize} bits, has no place. Bring times to whole microseconds, for example."
            )
    return made
