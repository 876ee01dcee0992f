"""The thread of the view: it makes messages of what was seen, so rarely and so small that nobody minds."""

from __future__ import annotations

import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ...background import BackgroundThread
from ...warn import warn
from ..document import Document, json_of
from ..page import page, sections
from .hub import Hub

__all__ = ["Show", "Source"]

BEAT = 0.1
"""Seconds between two messages of a few numbers, at least."""
LEAST = 0.5
"""Seconds between two messages of the whole page."""
SHARE = 0.0025
"""Of the time of a processor that the few numbers may take, and as much again the whole page."""
BYTES = 200_000
"""That go out in a second, to all clients together."""
FRESH = 1.0
"""Seconds for which a page that was drawn is good for another client."""
FAREWELL = 2.0
"""Seconds that clients have to take the last message."""


class Source(Protocol):
    """What is looked at."""

    @property
    def watched(self) -> bool:
        """Whether somebody looks; it is told."""

    @watched.setter
    def watched(self, given: bool) -> None: ...
    @property
    def newest(self) -> int | None:
        """The number of what came last."""

    def look(self) -> None:
        """Take up what has come."""

    def numbers(self) -> list[int]:
        """What is kept."""

    def pulse(self) -> dict[str, Any]:
        """A few numbers."""

    def document(self, number: int | None = None) -> Document | None:
        """What was seen up to then; None where it is not kept any more."""


class Show:
    """Draws a source for the clients of a hub until `close()`. `error` is what ended it before."""

    def __init__(self, source: Source, hub: Hub) -> None:
        self.source, self.hub = source, hub
        self.error: Exception | None = None
        self._page, self._made = b"", -FRESH
        self._drawing = threading.Lock()
        self._next, self._shown = 0.0, -1
        self._ended = threading.Event()
        self._thread = BackgroundThread(target=self._run, name="spikescope live view", daemon=True)
        self._thread.start()

    # what a client asks for

    def page(self) -> bytes:
        """The page as HTML, with the script that goes on with it. The next one has to make up for it as well."""
        with self._drawing:
            if time.monotonic() - self._made > FRESH:
                began = time.thread_time()
                self.source.look()
                self._page = page([self._document()], live=script()).encode()
                self._made = time.monotonic()
                if self.source.newest is not None:  # else the first step is shown as soon as it is there
                    self._next = max(self._next, self._made + (time.thread_time() - began) / SHARE)
            return self._page

    def past(self, number: int) -> bytes | None:
        """The parts of the page at an earlier moment."""
        with self._drawing:
            found = self.source.document(number)
            return None if found is None else json_of(_drawn(found, number)).encode()

    def greeting(self) -> bytes:
        """A few numbers, at once."""
        return self._pulse()

    # its thread

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self.source.watched = self.hub.wait(BEAT)
                began = time.monotonic()
                pause = self._beat(began)
                self._ended.wait(max(0.0, began + pause - time.monotonic()))
        except Exception as error:  # the training goes on without a view
            self.error = error
            warn(f"The live view has ended: {type(error).__name__}: {error}. The training goes on.")

    def _beat(self, now: float) -> float:
        """Look, and send what there is to say; the seconds until the next time, which make up for what it took."""
        began = time.thread_time()
        self.source.look()
        if not len(self.hub):
            return max(BEAT, (time.thread_time() - began) / SHARE)
        message, size = self._pulse(), 0
        drawing = time.thread_time()
        pause = max(BEAT, (drawing - began) / SHARE)
        if self.source.newest != self._shown and now >= self._next:
            message += self._whole("page")
            self._shown = -1 if self.source.newest is None else self.source.newest
            size = len(message)
        self.hub.publish(message)
        if size:
            spent = time.thread_time() - drawing
            self._next = now + max(LEAST, spent / SHARE, size * len(self.hub) / BYTES)
        return pause

    def _pulse(self) -> bytes:
        told = {**self.source.pulse(), "kept": self.source.numbers(), "dropped": self.hub.dropped}
        return _message("pulse", told)

    def _whole(self, event: str, **more: Any) -> bytes:
        with self._drawing:
            return _message(event, {**_drawn(self._document(), self.source.newest), **more})

    def _document(self) -> Document:
        found = self.source.document()
        assert found is not None  # the newest is always kept
        return found

    def close(self, report: str = "") -> None:
        """Send the last page, and `report`, which is kept; a second time does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join(FAREWELL)
        if self.error is None and len(self.hub):
            self.hub.end(self._whole("end", report=report), FAREWELL)
        else:
            self.hub.end(b"event: end\ndata: {}\n\n", FAREWELL)


def _drawn(found: Document, number: int | None) -> dict[str, Any]:
    return {"parts": sections([found]), "data": [found], "number": number}


def _message(event: str, held: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json_of(held)}\n\n".encode()


@cache
def script() -> str:
    """What the page runs besides its own script."""
    return (Path(__file__).parent / "live.js").read_text(encoding="utf-8")
