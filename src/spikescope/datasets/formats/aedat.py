"""AEDAT 2.0 and 3.1, the files of jAER and cAER.

A file begins with lines of text, each with a `#`. AEDAT 2.0 follows with pairs of big-endian 32-bit numbers, address
and time. AEDAT 3.x follows with packets: a head of 28 bytes (type and source, 16 bits each; size of an event, offset of
its time, overflow of the time, capacity, number, valid: 32 bits each, little-endian) and the events.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..events import Array, StoredPath
from ..faults import FormatError
from .reading import content, cut_off

__all__ = ["load_aedat2", "load_aedat_v3"]

HEAD = struct.Struct("<HHIIIIII")
END = b"#!END-HEADER"
POLARITY = 1
MOST_EVENT = 1 << 20  # bytes; frames of cameras are smaller


def load_aedat_v3(file_name: StoredPath) -> dict[str, Array]:
    """The polarity events of an AEDAT 3.x file, as int64 arrays `t` (microseconds), `x`, `y`, `p`.

    Bits of the first number of an event: 0 valid, 1 p, 2 to 16 y, 17 to 31 x; the second is the time, to which the
    overflow of the packet adds 2**31 each. Packets of other types are passed over; the last may be shorter than its
    capacity says, but must hold the events that it counts.
    """
    held = content(file_name)
    version = held[: held.find(b"\n")]
    if version.startswith(b"#!AER-DAT") and not version.startswith(b"#!AER-DAT3"):
        said = version[9:].decode("ascii", "replace").strip()
        raise FormatError(f"{file_name} is AEDAT {said}, and this reads 3.x. load_aedat2 reads 2.0.")
    parts, overflows = [np.zeros((0, 2), "<u4")], [0]
    for pairs, overflow in _packets(file_name, held, _end_of_header(file_name, held)):
        parts.append(pairs)
        overflows.append(overflow)
    address, low = np.concatenate(parts).T
    time = low.astype(np.int64)
    if any(overflows):
        time |= np.repeat(np.array(overflows, np.int64) << 31, [len(pairs) for pairs in parts])
    return {"t": time, "x": _bits(address, 17), "y": _bits(address, 2), "p": _bits(address, 1, 1)}


def _bits(address: Array, first: int, mask: int = 0x7FFF) -> Array:
    values = address.astype(np.int64)
    values >>= first
    values &= mask
    return values


def _end_of_header(file_name: StoredPath, held: bytes) -> int:
    """After the line that ends the header, or after the last line with a `#` where there is no such line."""
    at = 0
    while held.startswith(b"#", at):
        end = held.find(b"\n", at)
        line, at = held[at:end].rstrip(b"\r"), len(held) if end < 0 else end + 1
        if line.startswith(b"#Format:") and line[8:].strip() != b"RAW":
            said = line[8:].decode("ascii", "replace").strip()
            raise FormatError(f"{file_name} is AEDAT 3 in the format {said}; only RAW can be read. Export it as RAW.")
        if line == END:
            break
    return at


def _packets(file_name: StoredPath, held: bytes, at: int) -> Iterator[tuple[Array, int]]:
    """Of each packet of polarity events pairs `[N, 2]` of address and time, and its overflow of the time."""
    while at < len(held):
        if len(held) - at < HEAD.size:
            raise cut_off(file_name, f"{len(held) - at} bytes are left where a packet's head of {HEAD.size} should be")
        kind, _, size, offset, overflow, capacity, number, _ = HEAD.unpack_from(held, at)
        at += HEAD.size
        _check_head(file_name, at - HEAD.size, kind, size, offset, capacity, number)
        there = min(capacity * size, len(held) - at)
        if there < number * size:
            raise cut_off(file_name, f"its last packet has {number} events, but {there // size} are there")
        if kind == POLARITY:
            events = np.frombuffer(held, np.uint8, there // size * size, at).reshape(-1, size)
            pairs = np.ascontiguousarray(events[:, :8]).view("<u4")
            if number < len(pairs):
                # places beyond the number that the head says are padding, unless something is in them
                pairs = np.concatenate([pairs[:number], pairs[number:][pairs[number:].any(1)]])
            yield pairs, overflow
        at += there


def _check_head(file_name: StoredPath, at: int, kind: int, size: int, offset: int, capacity: int, number: int) -> None:
    wrong = None
    if number > capacity:
        wrong = f"counts {number} events in a packet of capacity {capacity}"
    elif capacity and not 0 < size <= MOST_EVENT:
        wrong = f"says that an event has {size} bytes"
    elif kind == POLARITY and capacity and (size < 8 or offset != 4):
        wrong = f"says that a polarity event has {size} bytes and its time at {offset}, instead of 8 and 4"
    if wrong:
        raise FormatError(f"{file_name} is damaged, or no AEDAT 3.x: the head of the packet at byte {at} {wrong}.")


def load_aedat2(file_name: StoredPath) -> dict[str, Array]:
    """Address and time of an AEDAT 2.0 file: `{'t': ..., 'address': ...}`, big-endian as in the file.

    What an address means depends on the camera; CIFAR10-DVS, for one, has its own layout (`cifar10_dvs`).
    """
    held = content(file_name)
    if held.startswith(b"#!AER-DAT") and not held.startswith(b"#!AER-DAT2"):
        said = held[9 : held.find(b"\n")].decode("ascii", "replace").strip()
        raise FormatError(f"{file_name} is AEDAT {said}, and this reads 2.0. load_aedat_v3 reads 3.x.")
    at = _text_end(held)
    if (len(held) - at) % 8:
        raise cut_off(file_name, f"its events take 8 bytes each, but {len(held) - at} bytes are there")
    pairs: Any = np.frombuffer(held, ">u4", offset=at)
    return {"t": pairs[1::2], "address": pairs[::2]}


def _text_end(held: bytes) -> int:
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
