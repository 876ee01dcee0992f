"""AEDAT 2.0, the files of jAER: lines of text that begin with a `#`, then pairs of big-endian address and time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..events import Array, StoredPath
from ..faults import FormatError
from .reading import content, cut_off

__all__ = ["load_aedat2", "pairs_of", "text_end"]


def load_aedat2(file_name: StoredPath) -> dict[str, Array]:
    """Address and time of an AEDAT 2.0 file: `{'t': ..., 'address': ...}`, big-endian as in the file.

    What an address means depends on the camera; CIFAR10-DVS, for one, has its own layout (`cifar10_dvs`).
    """
    held = content(file_name)
    if held.startswith(b"#!AER-DAT") and not held.startswith(b"#!AER-DAT2"):
        said = held[9 : held.find(b"\n")].decode("ascii", "replace").strip()
        raise FormatError(f"{file_name} is AEDAT {said}, and this reads 2.0. load_aedat_v3 reads 3.x, load_aedat4 4.0.")
    pairs = pairs_of(held, text_end(held), file_name)
    return {"t": pairs[1::2], "address": pairs[::2]}


def pairs_of(held: bytes, at: int, file_name: StoredPath) -> Any:
    """The numbers from `at` on, two of each event."""
    if (len(held) - at) % 8:
        raise cut_off(file_name, f"its events take 8 bytes each, but {len(held) - at} bytes are there")
    return np.frombuffer(held, ">u4", offset=at)


def text_end(held: bytes) -> int:
    """After the lines of text. An event whose first byte happens to be a `#` does not go on like text."""
    at = 0
    while held.startswith(b"#", at):
        end = held.find(b"\n", at)
        line = held[at : len(held) if end < 0 else end]
        if any(byte < 32 and byte not in b"\t\r" for byte in line):
            break
        at += len(line) + (end >= 0)
        if line.rstrip() == b"#End Of ASCII Header":
            break
    return at
