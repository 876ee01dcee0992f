"""A run or a recording that another process writes, looked at again as its files change."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ..document import Document
from ..report import document_of

__all__ = ["Follower"]

PATIENCE = 1.0
"""Seconds between two looks at the files."""
SHARE = 0.1
"""Of the time that reading may take: it is another process that trains."""
KEPT = 32


class Follower:
    """The documents of a path as it changes. Until it can be read the last one stays, and says why."""

    def __init__(self, path: Path) -> None:
        self.path, self.watched = path, False
        self._files: object = None
        self._next, self._count = 0.0, 0
        self._held: OrderedDict[int, Document] = OrderedDict()
        self._take(document_of(path))
        self._files = _files(path)

    def _take(self, found: Document) -> None:
        self._held[self._count] = found
        self._count += 1
        while len(self._held) > KEPT:
            self._held.popitem(last=False)

    @property
    def newest(self) -> int | None:
        """The number of the last document."""
        return next(reversed(self._held), None)

    def look(self) -> None:
        """Read what has changed."""
        began = time.monotonic()
        if began < self._next or (files := _files(self.path)) == self._files:
            return
        try:
            self._take(document_of(self.path))
            self._files = files
        except (OSError, ValueError) as error:  # it may be half written: the next look finds more
            last = next(reversed(self._held.values()))
            last["notes"] = [f"What has come since could not be read yet: {type(error).__name__}."]
        self._next = time.monotonic() + max(PATIENCE, (time.monotonic() - began) / SHARE)

    def numbers(self) -> list[int]:
        """The documents that are kept."""
        return list(self._held)

    def pulse(self) -> dict[str, Any]:
        """What stands at the head of the page."""
        last = next(reversed(self._held.values()))
        return {"words": " · ".join(f"{name} {held}" for name, held in last["facts"][:4])}

    def document(self, number: int | None = None) -> Document | None:
        """The last document, or an earlier one."""
        return self._held.get(self._count - 1 if number is None else number)


def _files(path: Path) -> list[tuple[str, int, int]]:
    """The files, by which a change is seen."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    found = []
    for held in paths:
        try:
            state = held.stat()
        except OSError:  # it has gone in between
            continue
        found.append((held.name, state.st_size, state.st_mtime_ns))
    return found
