"""A file of records: a head of JSON that describes them, then the bytes of their tensors. Nothing is ever executed.

Layout: 8 bytes of magic, the size of the head as 8 bytes (little endian), the head, the bytes. The head holds the size
of the bytes and, of each record, its moment and a form: a plain value stands for itself, `{"kind": [...]}` for others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..files import write_whole
from ..spikes import CompressedSpikes, PackedSpikes
from .memory import Moment

__all__ = ["Chunk", "Head", "check_record", "write_chunk"]

MAGIC = b"SPKREC01"
PLAIN = (type(None), bool, int, float, str)


class Head:
    """Describes values, and remembers the tensors and bytes in them, which follow the description."""

    def __init__(self) -> None:
        self.parts: list[Tensor | np.ndarray[Any, Any] | bytes] = []
        self.size = 0

    def form(self, value: Any) -> Any:
        """The description of one value; a TypeError for what cannot be written without executing code to read it."""
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind is Tensor and value.layout is torch.strided and not (value.is_quantized or value.is_nested):
            return {"tensor": [_name(value.dtype), list(value.shape), str(value.device), self._place(value)]}
        if kind is np.ndarray and not value.dtype.hasobject and value.dtype.names is None:
            return {"array": [value.dtype.str, list(value.shape), self._place(value)]}
        if kind is bytes:
            return {"bytes": [len(value), self._place(value)]}
        if kind in (list, tuple):
            return {kind.__name__: [self.form(held) for held in value]}
        if kind is dict:
            return {"dict": [[self.form(key), self.form(held)] for key, held in value.items()]}
        if kind is torch.dtype:
            return {"dtype": _name(value)}
        if kind is PackedSpikes:
            return {"spikes": [self.form(value.bits), list(value.shape), _name(value.dtype), value.order]}
        if kind is CompressedSpikes:
            return {"frame": [self.form(value.frame), list(value.shape), _name(value.dtype)]}
        raise TypeError(
            f"Records that spill to disk are tensors, arrays, packed spikes, numbers, texts, and tuples, lists and "
            f"dicts of these, but got {kind.__name__}. Give a function that makes such a value of it, or choose "
            "another policy."
        )

    def _place(self, part: Tensor | np.ndarray[Any, Any] | bytes) -> int:
        """Where the bytes of a part will begin."""
        start = self.size
        self.size += len(part) if isinstance(part, bytes) else part.nbytes
        self.parts.append(part)
        return start

    def blobs(self) -> Iterator[memoryview]:
        """The bytes of all parts, one part at a time."""
        for part in self.parts:
            if isinstance(part, Tensor):
                plain = part.detach().cpu().resolve_conj().resolve_neg().contiguous()
                yield plain.reshape(-1).view(torch.uint8).numpy().data
            elif isinstance(part, np.ndarray):
                yield np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
            else:
                yield memoryview(part)


def check_record(value: Any) -> None:
    """Refuse a value that no file could hold."""
    Head().form(value)


def write_chunk(path: Path, values: Sequence[Any], moments: Sequence[Moment]) -> None:
    """Write records to a new file, whole or not at all."""
    head = Head()
    records = [[list(moment), head.form(value)] for value, moment in zip(values, moments, strict=True)]
    text = json.dumps({"size": head.size, "records": records}, separators=(",", ":")).encode()

    def parts() -> Iterator[bytes | memoryview]:
        yield MAGIC
        yield len(text).to_bytes(8, "little")
        yield text
        yield from head.blobs()

    write_whole(path, parts())


class Chunk:
    """A file of records, open to be read one by one. Its head is in memory, its tensors are not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            magic, size = file.read(8), int.from_bytes(file.read(8), "little")
            if magic != MAGIC:
                raise ValueError(f"{path} is not a file of records.")
            self._start = 16 + size
            text = file.read(size) if self._start <= path.stat().st_size else b""
        try:
            head = json.loads(text)
        except ValueError as error:
            raise self._damaged() from error
        if path.stat().st_size != self._start + head["size"]:
            raise self._damaged()
        self.moments = [Moment(*moment) for moment, _ in head["records"]]
        self._forms = [form for _, form in head["records"]]

    def _damaged(self) -> ValueError:
        return ValueError(f"{self.path} is damaged: its end is missing. The other files of the folder can be read.")

    def __len__(self) -> int:
        return len(self.moments)

    def read(self, index: int) -> Any:
        """One record, as it was given."""
        with self.path.open("rb") as file:
            return self._value(self._forms[index], file)

    def _value(self, form: Any, file: BinaryIO) -> Any:
        if not isinstance(form, dict):
            return form
        ((kind, held),) = form.items()
        if kind == "tensor":
            return self._tensor(held, file)
        if kind == "array":
            dtype, shape, start = np.dtype(held[0]), held[1], held[2]
            return np.frombuffer(self._bytes(start, math.prod(shape) * dtype.itemsize, file), dtype).reshape(shape)
        if kind == "bytes":
            return bytes(self._bytes(held[1], held[0], file))
        if kind == "dict":
            return {self._value(key, file): self._value(value, file) for key, value in held}
        if kind == "dtype":
            return _dtype(held)
        if kind == "spikes":
            return PackedSpikes(self._value(held[0], file), torch.Size(held[1]), _dtype(held[2]), order=held[3])
        if kind == "frame":
            return CompressedSpikes(self._value(held[0], file), torch.Size(held[1]), _dtype(held[2]))
        items = [self._value(item, file) for item in held]
        return items if kind == "list" else tuple(items)

    def _tensor(self, held: list[Any], file: BinaryIO) -> Tensor:
        dtype, shape, device, start = _dtype(held[0]), held[1], torch.device(held[2]), held[3]
        size = math.prod(shape) * dtype.itemsize
        flat = torch.frombuffer(self._bytes(start, size, file), dtype=torch.uint8) if size else torch.empty(0)
        made = flat.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)
        return made.to(device) if _is_here(device) else made

    def _bytes(self, start: int, size: int, file: BinaryIO) -> bytearray:
        file.seek(self._start + start)
        return bytearray(file.read(size))


def _is_here(device: torch.device) -> bool:
    """Whether the process that reads has the device that the process that wrote had."""
    return device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"A file of records speaks of the dtype {name!r}, which there is not.")
    return found
