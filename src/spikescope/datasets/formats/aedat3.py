"""AEDAT 3.x, the files of cAER.

Lines of text, each with a `#`, then packets: a head of 28 bytes (type and source, 16 bits each; size of an event,
offset of its time, overflow of the time, capacity, number, valid: 32 bits each, little-endian) and the events.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ...toolchain.compiler import function
from ...toolchain.declared import declare
from ..events import Array, StoredPath
from ..faults import FormatError
from .reading import content, cut_off

__all__ = ["load_aedat_v3"]

HEAD = struct.Struct("<HHIIIIII")
END = b"#!END-HEADER"
POLARITY = 1
MOST_EVENT = 1 << 20  # bytes; frames of cameras are smaller

SMALL = 1 << 14
"""Events under which loading a kernel for the first time is not worth it."""

SOURCE = """
#include <cstdint>
#include <cstring>

// Of each run: its first byte, the number of its events, their size, and the overflow of the time.
extern "C" void decode(const char* held, const int64_t* runs, long count, int64_t* __restrict t,
    int64_t* __restrict x, int64_t* __restrict y, int64_t* __restrict p) {
  for (long r = 0; r < count; r++) {
    const char* s = held + runs[4 * r];
    const int64_t number = runs[4 * r + 1], size = runs[4 * r + 2], high = runs[4 * r + 3] << 31;
    for (int64_t i = 0; i < number; i++) {
      uint64_t event;
      std::memcpy(&event, s + i * size, 8);
      t[i] = int64_t(event >> 32) | high;
      x[i] = event >> 17 & 0x7FFF;
      y[i] = event >> 2 & 0x7FFF;
      p[i] = event >> 1 & 1;
    }
    t += number, x += number, y += number, p += number;
  }
}
"""
declare("events", SOURCE)


class _Run(NamedTuple):
    """Events that follow each other in a file: the first byte, how many, the size of one, the overflow of the time."""

    at: int
    number: int
    size: int
    overflow: int


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
        other = {"2": "load_aedat2 reads 2.0.", "4": "load_aedat4 reads 4.0."}.get(said[:1], "")
        raise FormatError(f"{file_name} is AEDAT {said}, and this reads 3.x. {other}")
    runs = list(_packets(file_name, held, _end_of_header(file_name, held)))
    if sum(run.number for run in runs) >= SMALL and (events := _by_loop(held, runs)) is not None:
        return events
    return _by_numpy(held, runs)


@cache
def _kernel() -> Any:
    return function(SOURCE, "decode", ctypes.c_char_p, ctypes.c_void_p, ctypes.c_long, *[ctypes.c_void_p] * 4)


def _by_loop(held: bytes, runs: list[_Run]) -> dict[str, Array] | None:
    if sys.byteorder != "little" or _kernel() is None:
        return None
    table, number = np.array(runs, np.int64), sum(run.number for run in runs)
    events = {name: np.empty(number, np.int64) for name in "txyp"}
    _kernel()(held, table.ctypes.data, len(runs), *(values.ctypes.data for values in events.values()))
    return events


def _by_numpy(held: bytes, runs: list[_Run]) -> dict[str, Array]:
    parts = [np.zeros((0, 2), "<u4")]
    for at, number, size, _ in runs:
        rows = np.frombuffer(held, np.uint8, number * size, at).reshape(-1, size)
        parts.append(np.ascontiguousarray(rows[:, :8]).view("<u4"))
    address, low = np.concatenate(parts).T
    time = low.astype(np.int64)
    if any(run.overflow for run in runs):
        time |= np.repeat(np.array([run.overflow for run in runs], np.int64) << 31, [run.number for run in runs])
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


def _packets(file_name: StoredPath, held: bytes, at: int) -> Iterator[_Run]:
    """The runs of polarity events in the packets."""
    while at < len(held):
        if len(held) - at < HEAD.size:
            raise cut_off(file_name, f"{len(held) - at} bytes are left where a packet's head of {HEAD.size} should be")
        kind, _, size, offset, overflow, capacity, number, _ = HEAD.unpack_from(held, at)
        at += HEAD.size
        _check_head(file_name, at - HEAD.size, kind, size, offset, capacity, number)
        there = min(capacity * size, len(held) - at)
        if there < number * size:
            raise cut_off(file_name, f"its last packet has {number} events, but {there // size} are there")
        if kind == POLARITY and there:
            yield _Run(at, number, size, overflow)
            # places beyond the number that the head says are padding, unless something is in them
            rest = np.frombuffer(held, np.uint8, (there // size - number) * size, at + number * size)
            for place in np.flatnonzero(rest.reshape(-1, size)[:, :8].any(1)).tolist():
                yield _Run(at + (number + place) * size, 1, size, overflow)
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
