"""Listening for SIGUSR1 beside whoever listens already."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ...background import BackgroundThread

__all__ = ["Listener"]


class Listener:
    """Calls `told` in a thread of its own when SIGUSR1 comes, and then the handler that was there before.

    A handler interrupts the program anywhere, also where it holds what `told` needs; a thread waits for that.

    - `there`: whether it could: Python sets handlers in the main thread alone.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told: Callable[[], None] | None = told
        self._before: Any = None
        self.there = threading.current_thread() is threading.main_thread()
        if self.there:
            self._before = signal.signal(signal.SIGUSR1, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._told is not None:
            BackgroundThread(target=self._told, name="spikescope flight recorder").start()
        if callable(self._before):
            self._before(number, frame)

    def close(self) -> None:
        """Stop. The handler of before is put back, where nobody has set another since."""
        self._told = None
        here = self.there and threading.current_thread() is threading.main_thread()
        if here and signal.getsignal(signal.SIGUSR1) == self._handle:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL if self._before is None else self._before)
