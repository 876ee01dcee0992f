"""`recording.json`, the head of a folder: what is needed to read a recording, and to run its network again."""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...files import open_regular, write_whole

__all__ = ["HEAD", "VERSION", "read_head", "write_head"]

HEAD = "recording.json"
VERSION = 1
"""Of the head. What this version writes, every later one reads."""
AT_MOST = 64 << 20
"""Bytes of a head that a reader takes."""


def write_head(folder: Path, head: Mapping[str, Any]) -> None:
    """Write the head of a folder, with a checksum."""
    write_whole(folder / HEAD, _text(_plain(head)))


def _text(head: Any) -> str:
    """The one text that a head is written as: of any other, a reader says that it is damaged."""
    summed = zlib.crc32(json.dumps(head, separators=(",", ":"), allow_nan=False).encode())
    held = {"format": "spikescope recording", "version": VERSION, "crc32": summed, "head": head}
    return json.dumps(held, indent=1, allow_nan=False) + "\n"


def _plain(held: Any) -> Any:
    """A value that JSON has and gives back the same: what is not finite as a text."""
    if isinstance(held, Mapping):
        return {str(key): _plain(value) for key, value in held.items()}
    if isinstance(held, (list, tuple)):
        return [_plain(value) for value in held]
    if isinstance(held, float) and not math.isfinite(held):
        return str(held)
    return held if held is None or isinstance(held, (bool, int, float, str)) else str(held)


def read_head(folder: Path) -> dict[str, Any]:
    """The head of a folder; a ValueError, which names the file, for one that is not as it was written."""
    path = folder / HEAD
    with open_regular(path) as file:
        held = file.read(AT_MOST + 1)
    if len(held) > AT_MOST:
        raise ValueError(f"{path} is damaged: it is larger than a head can be.")
    try:
        found = json.loads(held)
        version, head = found["version"], found["head"]
        whole = type(version) is int and (version != VERSION or _text(head).encode() == held)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not a head of a recording.") from error
    if whole and version > VERSION:
        raise ValueError(f"{path} is of version {version}, which this spikescope does not know, or is damaged.")
    if not whole or version < 1 or not isinstance(head, dict):
        raise ValueError(f"{path} is damaged: it is not as it was written.")
    if odd := _odd(head):
        raise ValueError(f"{path} is damaged: it says of {odd} what cannot be.")
    return head


def _odd(head: Mapping[str, Any]) -> str:
    """Of what a head says something else than a writer writes: its checksum is no proof of who made it."""
    dt, layers = head.get("dt"), head.get("layers", {})
    if dt is not None and not (type(dt) in (int, float) and 0 < dt <= sys.float_info.max):
        return "'dt'"
    if not isinstance(layers, dict):
        return "'layers'"
    for name, told in layers.items():
        if not isinstance(told, dict):
            return f"the layer {name!r}"
        for key, fits in _TOLD.items():
            if key in told and not fits(told[key]):
                return f"{key!r} of the layer {name!r}"
    return ""


def _by_name(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda held: isinstance(held, dict) and all(map(fits, held.values()))


def _list_of(kind: type, held: Any) -> bool:
    return isinstance(held, list) and all(type(one) is kind for one in held)


def _places(held: Any) -> bool:
    return _list_of(int, held) and all(0 <= place < 1 << 62 for place in held)


_TOLD: dict[str, Callable[[Any], bool]] = {
    "type": lambda held: isinstance(held, str),
    "signals": lambda held: _list_of(str, held),
    "fields": lambda held: isinstance(held, dict),
    "shapes": _by_name(_places),
    "neurons": _by_name(_places),
}
"""What a head says of a layer, by name, and what it has to be."""
