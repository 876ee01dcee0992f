"""Events in MATLAB's .mat files, read by SciPy.

SciPy crashes the process on a type of values that there is not: the types in a file of version 5 are looked at first.
Such a file is a head of 128 bytes and elements: type and size, 32 bits each, and content; where the size is at most 4
bytes, it may lie in the upper half of the type, and the content in its place. An element of type 14 is a variable: its
class, axes, name and values, elements themselves. One of type 15 is a variable that is compressed.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import missing_extra
from ...files import open_regular
from ..events import Array, StoredPath, columns
from ..faults import FormatError, damage_told
from ..unpacking import check_unpacked

__all__ = ["load_mat"]

HEAD, VARIABLE, COMPRESSED = 128, 14, 15
NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)
"""The types of values: whole numbers of 8 to 32 bits, floating point, whole numbers of 64 bits."""
MOST_BEFORE_VALUES = 1 << 12
"""Bytes of class, axes and name."""

COMPLEX = 1 << 11
ARRAYS = range(6, 16)
"""The classes of arrays of numbers; the others are cells, structures, objects, text and sparse matrices."""


def load_mat(file_name: StoredPath, names: tuple[str, str, str, str] = ("ts", "x", "y", "pol")) -> dict[str, Array]:
    """The events in a .mat file, as arrays `t`, `x`, `y`, `p` of the types in the file; `names` are theirs there."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise missing_extra("scipy", "events", "MATLAB's files") from error
    if not Path(file_name).exists():
        raise FileNotFoundError(f"There is no file {file_name}.")
    with damage_told(file_name, "MATLAB's .mat"), open_regular(file_name) as file:
        _check_variables(file_name, file, names)
        file.seek(0)
        held = loadmat(file, variable_names=names)
    if absent := [name for name in names if name not in held]:
        raise FormatError(f"{file_name} has no {', '.join(absent)}. The variables of events are {', '.join(names)}.")
    return dict(
        zip(
            "txyp",
            columns({name: np.atleast_1d(held[old].squeeze()) for name, old in zip("txyp", names, strict=True)}),
            strict=True,
        )
    )


def _check_variables(file_name: StoredPath, file: BinaryIO, names: tuple[str, ...]) -> None:
    """Refuse variables of these names that are no arrays of real numbers."""
    head = file.read(HEAD)
    if len(head) < HEAD or 0 in head[:4]:  # of version 4, whose types SciPy checks
        return
    order, whole, unpacked = "<" if head[-2:] == b"IM" else ">", file.seek(0, 2), 0
    at, missing = HEAD, set(names)
    while missing and at + 8 <= whole:
        file.seek(at)
        kind, size = struct.unpack(f"{order}II", file.read(8))
        content = file.read(min(size, MOST_BEFORE_VALUES))
        if kind == COMPRESSED:
            content = zlib.decompressobj().decompress(content, MOST_BEFORE_VALUES)[8:]
        elif kind != VARIABLE:
            raise FormatError(f"{file_name} is damaged: at byte {at} stands an element of type {kind}, not a variable.")
        name, taken = _variable(file_name, content, order, missing)
        missing.discard(name)
        unpacked += taken
        check_unpacked(file_name, whole, unpacked)
        at += 8 + size


def _variable(file_name: StoredPath, held: bytes, order: str, names: set[str]) -> tuple[str, int]:
    """The name of a variable, and the bytes that its values take; 0 if it is none of these."""
    sort, at = _element(held, order, 0)
    _, at = _element(held, order, at)
    called, at = _element(held, order, at)
    name = called.decode("latin1")
    if name not in names:
        return name, 0
    flags: int = struct.unpack_from(f"{order}I", sort)[0]
    kind, size, _ = _tag(held, order, at)
    if flags & 255 not in ARRAYS or flags & COMPLEX or kind not in NUMBERS:
        raise FormatError(f"{file_name} is damaged, or has no events: {name} is not an array of real numbers.")
    return name, size


def _element(held: bytes, order: str, at: int) -> tuple[bytes, int]:
    """Content of the element at a place, and the place of the next."""
    _, size, begin = _tag(held, order, at)
    if begin + size > len(held):
        raise ValueError(f"an element has {size} bytes, but {len(held) - begin} are there")
    return held[begin : begin + size], -(-(begin + size) // 8) * 8


def _tag(held: bytes, order: str, at: int) -> tuple[int, int, int]:
    """Type and size of the element at a place, and the place of its content."""
    kind, size = struct.unpack_from(f"{order}II", held, at)
    if kind >> 16:
        return kind & 0xFFFF, kind >> 16, at + 4
    return kind, size, at + 8
