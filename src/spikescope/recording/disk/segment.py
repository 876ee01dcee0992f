"""A file of records: a head of JSON that describes them, then their bytes, each record with a checksum.

Layout, numbers little endian:

    7 bytes    b"SPKREC0"
    1 byte     the version of the layout, b"3"
    8 bytes    the size of the head
    4 bytes    CRC-32 of the 16 bytes before and of the head
    the head   JSON: {"records": [[moment, description, number of bytes], ...]}, see `forms.py`; of a recording also
               {"notes": [{"run": number, ...}, ...]}
    and of each record its bytes, and 4 bytes of CRC-32, begun from the sum of the head and the record's number; tiles
               have sums of their own, which begin there, and no other

So a byte that is not as it was written is told with the file and the record; the other records stay readable. Tiles of
a signal (`grid.py`) have sums of their own, so that a part of a record can be read and trusted. Version 2 has none, and
else is the same. Files of version 1 have no checksums: damage in their tensors is not seen.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ...files import open_regular, sync_folder, write_whole
from ..records import Moment
from .forms import Parts, blobs, build, describe, grid_of, measure
from .grid import Grid

__all__ = ["Chunk", "check_record", "write_chunk"]

MAGIC = b"SPKREC0"
VERSION, OLD = b"3", b"1"
READ = (VERSION, b"2", OLD)
SUM = 4
"""Bytes of a checksum."""

UNFIT = (ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError, RecursionError, MemoryError)
"""What building a value of a description raises that says what cannot be, beyond what is checked before."""


def check_record(value: Any) -> None:
    """Refuse a value that no file could hold."""
    describe(value, [])


def write_chunk(
    path: Path, values: Sequence[Any], moments: Sequence[Moment], notes: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write records, and what is noted of runs, to a new file, whole or not at all."""
    records, held = [], []
    for value, moment in zip(values, moments, strict=True):
        parts: Parts = []
        form = describe(value, parts)
        records.append([list(moment), form, measure(form)])
        held.append(parts)
    head = {"records": records, **({"notes": list(notes)} if notes else {})}
    text = json.dumps(head, separators=(",", ":")).encode()
    start = MAGIC + VERSION + len(text).to_bytes(8, "little")
    total = zlib.crc32(text, zlib.crc32(start))

    def pieces() -> Iterator[bytes | memoryview]:
        yield start + total.to_bytes(SUM, "little")
        yield text
        for number, parts in enumerate(held):
            checksum = _seed(total, number)
            if _is_tiles(records[number][1]):
                yield from blobs(parts, checksum)
                continue
            for blob in blobs(parts, checksum):
                checksum = zlib.crc32(blob, checksum)
                yield blob
            yield checksum.to_bytes(SUM, "little")

    write_whole(path, pieces())
    sync_folder(path.parent)


def _seed(total: int, number: int) -> int:
    """Where the checksum of a record begins: the bytes of another record, or of another file, do not fit."""
    return (total + number) & 0xFFFFFFFF


class _Record(NamedTuple):
    number: int  # in the file
    moment: Moment
    form: Any
    start: int  # in the file
    size: int  # in bytes, without the checksum
    sums: int  # bytes of the checksum behind them
    grid: Grid | None  # of tiles


def _is_tiles(form: Any) -> bool:
    return isinstance(form, dict) and "grid" in form


class Chunk:
    """A file of records, open to be read one by one. Its head is in memory, its tensors are not.

    A file that is damaged, or none of ours, is a ValueError that names it.

    - `only`: the numbers of the records that count; None for all.
    """

    def __init__(self, path: Path, only: Sequence[int] | None = None) -> None:
        self.path = path
        with open_regular(path) as file:
            self._records = self._read_head(file)
        if only is not None:
            self._records = [self._records[number] for number in only]
        self.moments = [record.moment for record in self._records]

    def _read_head(self, file: BinaryIO) -> list[_Record]:
        length, first = os.fstat(file.fileno()).st_size, file.read(16)
        version = first[7:8]
        if first[:7] != MAGIC:
            raise ValueError(f"{self.path} is not a file of records.")
        if version not in READ:
            raise ValueError(
                f"{self.path} is a file of records of the version {version!r}, which this spikescope does not know, "
                "or is damaged."
            )
        self.has_sums = version != OLD
        size, stated = int.from_bytes(first[8:], "little"), file.read(SUM) if self.has_sums else b""
        if len(first) < 16 or file.tell() + size > length:
            raise self._damaged("its end is missing")
        text = file.read(size)
        self._sum = zlib.crc32(text, zlib.crc32(first))
        if self.has_sums and self._sum.to_bytes(SUM, "little") != stated:
            raise self._damaged("its head is not as it was written")
        try:
            records = self._parse(json.loads(text), 16 + len(stated) + size)
        except UNFIT as error:
            raise self._damaged(f"its head does not describe records: {error}") from error
        last = records[-1] if records else None
        end = last.start + last.size + last.sums if last else 16 + len(stated) + size
        if end != length:
            raise self._damaged("its end is missing" if end > length else "there is more in it than its head says")
        return records

    def _parse(self, head: Any, start: int) -> list[_Record]:
        if not isinstance(head, dict) or not isinstance(head.get("records"), list):
            raise ValueError("it has no list of records")
        rows, self.notes = head["records"], head.get("notes", [])
        if not all(isinstance(note, dict) and type(note.get("run")) is int for note in self.notes):
            raise ValueError("what it notes is of no run")
        records = []
        place, ends = start, 0
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != 2 + self.has_sums:
                raise ValueError(f"record {number} has no moment and description")
            grid = grid_of(row[1]) if self.has_sums and _is_tiles(row[1]) else None
            size = grid.nbytes if grid else measure(row[1], None if self.has_sums else ends)
            if self.has_sums and row[2] != size:
                raise ValueError(f"record {number} takes {size} bytes, and not {row[2]!r}")
            after = SUM if self.has_sums and grid is None else 0
            records.append(_Record(number, _moment(row[0]), row[1], place, size, after, grid))
            place, ends = place + size + after, ends + size
        return records

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(
            f"{self.path} is damaged: {reason}. open_records(folder, damaged='skip') reads all that is whole."
        )

    def __len__(self) -> int:
        return len(self.moments)

    def grids(self) -> Iterator[tuple[int, Moment, Grid | None, int]]:
        """Of each record its number, its moment, its grid, if it is tiles, and its bytes."""
        for record in self._records:
            yield record.number, record.moment, record.grid, record.size

    def cutter(self, index: int) -> tuple[Path, int, int]:
        """The file, where the bytes of a record begin in it, and where the sums of its tiles do."""
        record = self._records[index]
        return self.path, record.start, _seed(self._sum, record.number)

    def read(self, index: int) -> Any:
        """One record, as it was given."""
        record = self._records[index]
        with open_regular(self.path) as file:
            file.seek(record.start)
            parts = _Bytes(file, record.size, _seed(self._sum, record.number))
            try:
                value = build(record.form, parts.take, parts.checksum)
                whole = not record.sums or file.read(SUM) == parts.checksum.to_bytes(SUM, "little")
            except UNFIT as error:
                raise self._damaged(f"record {record.number} ({record.moment.name!r}) cannot be: {error}") from error
        if not whole:
            raise self._damaged(f"record {record.number} ({record.moment.name!r}) is not as it was written")
        return value

    def whole(self) -> list[int]:
        """The numbers of the records that can be read; all are."""
        found = []
        for index, record in enumerate(self._records):
            try:
                self.read(index)
            except ValueError:
                continue
            found.append(record.number)
        return found


class _Bytes:
    """The bytes of one record, given out part by part."""

    def __init__(self, file: BinaryIO, size: int, seed: int) -> None:
        self._file, self._left, self.checksum = file, size, seed

    def take(self, size: int) -> bytearray:
        """The next bytes, the reader's own."""
        if size > self._left:
            raise ValueError(f"a part has {size} bytes, and the record {self._left}")
        held = bytearray(size)
        if self._file.readinto(held) != size:  # type: ignore[attr-defined]  # of every buffered file
            raise ValueError("its end is missing")
        self._left -= size
        self.checksum = zlib.crc32(held, self.checksum)
        return held


def _moment(held: Any) -> Moment:
    if not isinstance(held, list) or len(held) != 7:
        raise ValueError("a record has no moment")
    name, call, run, *numbers, scale = held
    wanted = type(call) is int and type(run) is int and {int, type(None)}.issuperset(map(type, numbers))
    if not isinstance(name, str) or not wanted or type(scale) not in (int, float):
        raise ValueError("a record has no moment")
    return Moment(*held)
