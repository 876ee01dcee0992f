"""Signals that ask a training to end: heard at once, obeyed at the end of an update."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self

__all__ = ["Stop"]


class Stop:
    """While the block runs, SIGTERM and the first Ctrl-C set `wanted`; a second Ctrl-C interrupts as usual.

    Outside the main thread signals cannot be heard, and `wanted` stays False.

    >>> with Stop() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stop.wanted
    True
    """

    def __init__(self) -> None:
        self.wanted = False
        self._held: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._held = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._held.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
