"""Values as descriptions in JSON and the bytes of their tensors, and back. Nothing is ever executed.

A plain value stands for itself, `{"kind": [...]}` for others. The bytes of a value lie in the order in which its
description speaks of them. A description that comes from a file may say anything: `measure` looks at all of it, and
says how many bytes it takes, before a byte is read or room is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...spikes import CompressedSpikes, PackedSpikes
from .grid import Grid, Tiles

__all__ = ["Parts", "blobs", "build", "describe", "grid_of", "measure"]

PLAIN = (type(None), bool, int, float, str)

Parts = list[Tensor | np.ndarray[Any, Any] | bytes | Tiles]


def describe(value: Any, parts: Parts) -> Any:
    """The description of a value, whose tensors and bytes go to `parts`.

    A TypeError for what could not be written without executing code to read it.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is Tensor and value.layout is torch.strided and not (value.is_quantized or value.is_nested):
        parts.append(value)
        return {"tensor": [_name(value.dtype), list(value.shape), str(value.device)]}
    if kind is np.ndarray and not value.dtype.hasobject and value.dtype.names is None:
        parts.append(value)
        return {"array": [value.dtype.str, list(value.shape)]}
    if kind is bytes:
        parts.append(value)
        return {"bytes": [len(value)]}
    if kind in (list, tuple):
        return {kind.__name__: [describe(held, parts) for held in value]}
    if kind is dict:
        return {"dict": [[describe(key, parts), describe(held, parts)] for key, held in value.items()]}
    if kind is torch.dtype:
        return {"dtype": _name(value)}
    if kind is PackedSpikes:
        return {"spikes": [describe(value.bits, parts), list(value.shape), _name(value.dtype), value.order]}
    if kind is CompressedSpikes:
        return {"frame": [describe(value.frame, parts), list(value.shape), _name(value.dtype)]}
    if kind is Tiles:
        parts.append(value)
        grid = value.grid
        return {"grid": [grid.signal, _name(grid.dtype), grid.packed, list(grid.shape), list(grid.tile)]}
    raise TypeError(
        f"Records that spill to disk are tensors, arrays, packed spikes, numbers, texts, and tuples, lists and "
        f"dicts of these, but got {kind.__name__}. Give a function that makes such a value of it, or choose "
        "another policy."
    )


def blobs(parts: Parts, seed: int = 0) -> Iterator[memoryview]:
    """The bytes of all parts, one part at a time; `seed`: where the sums of tiles begin."""
    for part in parts:
        if isinstance(part, Tiles):
            yield from part.pieces(seed)
        elif isinstance(part, Tensor):
            plain = part.detach().cpu().resolve_conj().resolve_neg().contiguous()
            yield plain.reshape(-1).view(torch.uint8).numpy().data
        elif isinstance(part, np.ndarray):
            yield np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        else:
            yield memoryview(part)


def measure(form: Any, start: int | None = None) -> int:
    """How many bytes the parts of a described value take; a ValueError for what describes none.

    - `start`: of files without checksums, which say of each part where it begins: where the first has to.
    """
    if type(form) in PLAIN:
        return 0
    if not isinstance(form, dict) or len(form) != 1:
        raise ValueError(f"{_short(form)} describes no value")
    ((kind, held),) = form.items()
    if kind == "dtype":
        _dtype(held)
        return 0
    if not isinstance(held, list):
        raise ValueError(f"{_short(form)} describes no value")
    if kind in ("list", "tuple", "dict"):
        items = held if kind != "dict" else [item for pair in held for item in _fields(pair, 2, kind)]
        size = 0
        for item in items:
            size += measure(item, None if start is None else start + size)
        return size
    if kind in ("spikes", "frame"):
        what, shape, dtype, *_ = _fields(held, 4 if kind == "spikes" else 3, kind)
        _elements(shape)
        _dtype(dtype)
        return measure(what, start)
    if kind == "grid" and start is None:
        return grid_of(form).nbytes
    return _part_size(kind, held, start)


def grid_of(form: Any) -> Grid:
    """The grid of a description that is of one; a ValueError for what describes none."""
    signal, dtype, packed, shape, tile = _fields(form["grid"], 5, "grid")
    if not isinstance(shape, list) or not isinstance(tile, list):
        raise ValueError(f"{_short(form)} does not describe a grid")
    return _grid(signal, dtype, packed, tuple(shape), tuple(tile))


@lru_cache(1024)  # a network has few shapes
def _grid(signal: Any, dtype: Any, packed: Any, shape: tuple[Any, ...], tile: tuple[Any, ...]) -> Grid:
    _elements(list(shape))
    _elements(list(tile))
    if not isinstance(signal, str) or not isinstance(packed, bool) or len(tile) != 3:
        raise ValueError(f"a grid of {_short(shape)} in tiles of {_short(tile)} cannot be")
    made = Grid(signal, _dtype(dtype), packed, shape, tile)
    made.check()
    return made


def _part_size(kind: str, held: list[Any], start: int | None) -> int:
    fields = {"tensor": 3, "array": 2, "bytes": 1}.get(kind)
    if fields is None:
        raise ValueError(f"there is no kind of value {_short(kind)}")
    _fields(held, fields + (start is not None), kind)
    if start is not None and held[-1] != start:
        raise ValueError(f"a part should begin at the byte {start}, but is said to begin at {_short(held[-1])}")
    if kind == "tensor":
        return _elements(held[1]) * _dtype(held[0]).itemsize
    if kind == "array":
        return _elements(held[1]) * _array_dtype(held[0]).itemsize
    return _elements([held[0]])


def _fields(held: Any, count: int, kind: str) -> list[Any]:
    if not isinstance(held, list) or len(held) != count:
        raise ValueError(f"{_short(held)} does not describe a {kind}")
    return held


def _elements(shape: Any) -> int:
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 62 for size in shape):
        raise ValueError(f"{_short(shape)} is not a shape")
    return math.prod(shape)


def build(form: Any, take: Callable[[int], bytearray], seed: int = 0) -> Any:
    """The value of a description that was measured, with its bytes, which `take` gives in their order.

    - `seed`: where the sums of tiles begin.
    """
    if not isinstance(form, dict):
        return form
    ((kind, held),) = form.items()
    if kind == "tensor":
        return _tensor(held, take)
    if kind == "array":
        dtype = _array_dtype(held[0])
        return np.frombuffer(take(_elements(held[1]) * dtype.itemsize), dtype).reshape(held[1])
    if kind == "bytes":
        return bytes(take(held[0]))
    if kind == "dict":
        return {build(key, take): build(value, take) for key, value in held}
    if kind == "dtype":
        return _dtype(held)
    if kind == "spikes":
        made = PackedSpikes(build(held[0], take), torch.Size(held[1]), _dtype(held[2]), order=held[3])
        made.check_end("PackedSpikes")
        return made
    if kind == "frame":
        return CompressedSpikes(build(held[0], take), torch.Size(held[1]), _dtype(held[2]))
    if kind == "grid":
        grid = grid_of(form)
        return grid.whole(take(grid.nbytes), seed)
    items = [build(item, take) for item in held]
    return items if kind == "list" else tuple(items)


def _tensor(held: list[Any], take: Callable[[int], bytearray]) -> Tensor:
    dtype, shape, device = _dtype(held[0]), held[1], torch.device(held[2])
    size = _elements(shape) * dtype.itemsize
    if size:
        flat = torch.frombuffer(take(size), dtype=torch.uint8)
        made = (flat != 0 if dtype is torch.bool else flat.view(dtype)).reshape(shape)  # a byte of 7 is no bool
    else:
        made = torch.empty(shape, dtype=dtype, device="cpu")
    return made.to(device) if _is_here(device) else made


def _is_here(device: torch.device) -> bool:
    """Whether the process that reads has the device that the process that wrote had."""
    return device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: Any) -> torch.dtype:
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"there is no dtype {_short(name)}")
    return found


def _array_dtype(name: Any) -> np.dtype[Any]:
    """A dtype of NumPy by its short text; the long ones could hold objects and fields."""
    if not isinstance(name, str) or not re.fullmatch(r"[<>|][biufcmMSUV]\d{1,9}(\[\w+\])?", name):
        raise ValueError(f"there is no dtype of arrays {_short(name)}")
    return np.dtype(name)


def _short(held: Any) -> str:
    text = repr(held)
    return text if len(text) <= 60 else text[:57] + "..."
