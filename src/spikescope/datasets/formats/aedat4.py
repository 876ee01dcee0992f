"""AEDAT 4.0, the files of iniVation's DV.

The line `#!AER-DAT4.0`; the size of a header and the header; then packets up to the table of contents, if there is one:
number of the stream and size, 32 bits each, and the packet, compressed. Header and packets are FlatBuffers: an offset
leads to a table, and a table's own table, before it, says where each of its fields lies.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ...errors import missing_extra
from ..events import Array, StoredPath
from ..faults import FormatError, OptionError
from ..unpacking import check_unpacked
from .reading import content, cut_off

__all__ = ["load_aedat4"]

START = b"#!AER-DAT4.0\r\n"
EVENTS = b"EVTS"
EVENT = np.dtype(
    {"names": [*"txyp"], "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
MOST = 1 << 30
"""Bytes of a packet; cameras send thousands of them a second."""


def load_aedat4(file_name: StoredPath, stream: int | None = None) -> dict[str, Array]:
    """The events of an AEDAT 4.0 file, as int64 arrays `t` (microseconds, by the clock of the camera), `x`, `y`, `p`.

    - `stream`: the number of a stream, where several cameras are in one file.

    Frames, triggers and motion are passed over. Compressed files need lz4 or zstandard.
    """
    held = content(file_name)
    if not held.startswith(START):
        said = held[: max(0, held.find(b"\n"))][:40].decode("ascii", "replace").strip()
        others = "load_aedat_v3 reads 3.x, load_aedat2 reads 2.0."
        raise FormatError(f"{file_name} is not AEDAT 4.0: it begins with {said!r}. {others}")
    try:
        streams = _streams(file_name, held)
    except struct.error as error:
        raise FormatError(f"{file_name} is damaged: a table in it leads to where nothing is ({error}).") from error
    if stream is None and len(streams) > 1:
        raise OptionError(
            f"{file_name} has events of {len(streams)} cameras: give stream, one of {', '.join(map(str, streams))}."
        )
    if stream is not None and stream not in streams:
        raise OptionError(
            f"{file_name} has no events in stream {stream}; it has some in {', '.join(map(str, streams))}."
        )
    parts = streams[stream] if stream is not None else next(iter(streams.values()), [])
    events = np.concatenate([np.zeros(0, EVENT), *parts])
    return {name: events[name].astype(np.int64) for name in "txyp"}


def _streams(file_name: StoredPath, held: bytes) -> dict[int, list[Array]]:
    """The events of each stream, packet by packet."""
    size = _number("I", held, len(START))
    at = len(START) + 4 + size
    header = held[len(START) + 4 : at]
    table = _number("I", header, 0)
    compression, contents = _field("i", header, table, 0, 0), _field("q", header, table, 1, -1)
    unpack = _unpacking(file_name, compression)
    streams: dict[int, list[Array]] = {}
    unpacked = 0
    for number, packed in _packets(file_name, held, at, contents if contents > 0 else len(held)):
        packet = unpack(packed)
        unpacked += len(packet)
        check_unpacked(file_name, len(held), unpacked)
        if packet[8:12] == EVENTS:
            streams.setdefault(number, []).append(_events(packet[4:]))
    return streams


def _packets(file_name: StoredPath, held: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    while at < end:
        if len(held) - at < 8:
            raise cut_off(file_name, f"{max(0, len(held) - at)} bytes are left where a packet's head of 8 should be")
        number, size = _number("i", held, at), _number("I", held, at + 4)
        at += 8 + size
        if at > len(held):
            raise cut_off(file_name, f"its last packet has {size} bytes, but {size + len(held) - at} are there")
        yield number, held[at - size : at]
    if at != end:
        raise FormatError(
            f"{file_name} is damaged: its table of contents is said to be at byte {end}, but its packets end at {at}."
        )


def _events(packet: bytes) -> Array:
    """The vector that is the first field of a packet."""
    place = _place(packet, _number("I", packet, 0), 0)
    if place is None:
        return np.zeros(0, EVENT)
    place += _number("I", packet, place)
    number = _number("I", packet, place)
    if place + 4 + number * EVENT.itemsize > len(packet):
        raise struct.error(f"{number} events in {len(packet)} bytes")
    return np.frombuffer(packet, EVENT, number, place + 4)


def _number(kind: str, held: bytes, at: int) -> int:
    if at < 0:
        raise struct.error(f"byte {at}")
    found: int = struct.unpack_from(f"<{kind}", held, at)[0]
    return found


def _place(held: bytes, table: int, field: int) -> int | None:
    """Where a field of a table lies; None if it is left out."""
    own = table - _number("i", held, table)
    if 4 + 2 * field >= _number("H", held, own):
        return None
    offset = _number("H", held, own + 4 + 2 * field)
    return table + offset if offset else None


def _field(kind: str, held: bytes, table: int, field: int, otherwise: int) -> int:
    place = _place(held, table, field)
    return otherwise if place is None else _number(kind, held, place)


def _unpacking(file_name: StoredPath, compression: int) -> Callable[[bytes], bytes]:
    """What undoes the compression of a file: 0 none, 1 and 2 LZ4, 3 and 4 Zstandard."""
    if compression == 0:
        return bytes
    if compression not in (1, 2, 3, 4):
        raise FormatError(f"{file_name} says that its compression is {compression}, which there is not: 0 to 4.")
    plain = _lz4 if compression < 3 else _zstd

    def unpack(packed: bytes) -> bytes:
        try:
            return plain(packed)
        except (RuntimeError, EOFError, OSError, ValueError, MemoryError) as error:
            told = str(error) or "there is no memory for it"
            raise FormatError(f"{file_name} is damaged: a packet of it cannot be unpacked: {told}.") from error

    return unpack


def _lz4(packed: bytes) -> bytes:
    try:
        from lz4.frame import LZ4FrameDecompressor
    except ImportError as error:
        raise missing_extra("lz4", "events", "AEDAT 4.0 files compressed by LZ4") from error
    unpacker = LZ4FrameDecompressor()
    return _whole(_read(unpacker, packed, _at_once(packed)), lambda: bool(unpacker.eof))


def _read(unpacker: Any, packed: bytes, at_once: int) -> Iterator[bytes]:
    """What LZ4 gives, piece by piece."""
    yield unpacker.decompress(packed, max_length=at_once)
    while not (unpacker.eof or unpacker.needs_input):
        yield unpacker.decompress(b"", max_length=at_once)


def _zstd(packed: bytes) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise missing_extra("zstandard", "events", "AEDAT 4.0 files compressed by Zstandard") from error
    try:
        unpacker = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed))
        return _whole(iter(partial(unpacker.read, _at_once(packed)), b""), lambda: True)
    except zstandard.ZstdError as error:
        raise ValueError(error) from error


def _at_once(packed: bytes) -> int:
    """Bytes to ask for: both libraries take as much memory as they are asked for before they look what there is."""
    return min(MOST, max(1 << 16, 8 * len(packed)))


def _whole(parts: Iterable[bytes], ended: Callable[[], bool]) -> bytes:
    """The pieces of a packet in one, unless there is no end of it."""
    held, size = [], 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size > MOST:
            break
    if size > MOST or not ended():
        raise ValueError("it ends too early, or is larger than packets are")
    return held[0] if len(held) == 1 else b"".join(held)
