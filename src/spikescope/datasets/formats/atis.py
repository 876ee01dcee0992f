"""Files of the ATIS sensor: N-MNIST and N-Caltech101 (.bin), NAV Gesture (.dat)."""

from __future__ import annotations

import numpy as np

from ..events import Array, StoredPath
from ..faults import FormatError
from .reading import content, cut_off, skip_comments

__all__ = ["load_ATIS_bin", "load_td_dat"]


def load_ATIS_bin(file_name: StoredPath) -> dict[str, Array]:
    """The events of a .bin file, as uint32 arrays `t`, `x`, `y`, `p`.

    An event takes 5 bytes: x; y; polarity in the highest bit, and the time in the other 23, high bits first.
    """
    held = content(file_name)
    if len(held) % 5:
        raise cut_off(file_name, f"its events take 5 bytes each, but {len(held)} bytes are there")
    events = np.frombuffer(held, np.uint8).reshape(-1, 5).T.astype(np.uint32)
    x, y, high, middle, low = events
    return {"t": (high & 127) << 16 | middle << 8 | low, "x": x, "y": y, "p": high >> 7}


def load_td_dat(file_name: StoredPath) -> dict[str, Array]:
    """The events of a `_td.dat` file of kAER, as int64 arrays `t` (from 0 on), `x`, `y`, `p`.

    Lines that begin with `%`; if there are any, a byte for the type and one for the size of an event (8). Then 64 bits
    an event, little-endian: 0 to 31 time, 32 to 40 x, 41 to 48 y, 49 polarity. Events that are earlier than one before
    them are dropped, as the authors of NAV Gesture do.
    """
    held = content(file_name)
    at = skip_comments(held, b"%")
    if at:
        if len(held) < at + 2:
            raise cut_off(file_name, "it ends after its header")
        if held[at + 1] != 8:
            raise FormatError(f"{file_name} says that an event has {held[at + 1]} bytes, instead of 8.")
        at += 2
    if (len(held) - at) % 8:
        raise cut_off(file_name, f"its events take 8 bytes each, but {len(held) - at} bytes are there")
    words = np.frombuffer(held, "<u8", offset=at)
    words = words[_never_back((words & 0xFFFFFFFF).astype(np.int64))]
    t = (words & 0xFFFFFFFF).astype(np.int64)
    return {
        "t": t - t[0] if t.size else t,
        "x": (words >> 32 & 0x1FF).astype(np.int64),
        "y": (words >> 41 & 0xFF).astype(np.int64),
        "p": (words >> 49 & 1).astype(np.int64),
    }


def _never_back(t: Array) -> Array:
    """Which events are not earlier than any before them."""
    return np.asarray(t >= np.maximum.accumulate(t)) if t.size else np.zeros(0, bool)
