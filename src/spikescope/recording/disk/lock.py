"""A folder for one writer, which says who it is: a process of a host, going on or gone."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import weakref
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...files import OutputError

__all__ = ["LOCK", "Holder", "WriterLock", "holder"]

LOCK = "writer.lock"


class Holder(NamedTuple):
    """Who writes, or wrote, into a folder."""

    process: int
    host: str
    alive: bool | None  # None: of another host, whose processes are not to be seen from here

    def __str__(self) -> str:
        state = {True: "is going on", False: "is gone", None: "may be going on"}[self.alive]
        return f"process {self.process} of {self.host}, which {state}"


class WriterLock:
    """Takes the folder until `release()`, or until the process ends: then its file stays, and tells whose it was.

    A second writer is refused, in this process, in another, and by the file alone where the file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        try:
            held = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileExistsError:
            raise OutputError(
                f"The recording {folder} belongs to {holder(folder) or 'another writer'}. Choose a new folder."
            ) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"The recording {folder} cannot be written: {reason}. Choose another folder.") from error
        self._close = weakref.finalize(self, os.close, held)
        self._close.atexit = False
        with suppress(OSError):  # a file system without locks: the file itself keeps others out
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(held, json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode())

    def release(self) -> None:
        """Leave the folder to readers; a second time does nothing."""
        if self._close.alive:
            self.path.unlink(missing_ok=True)
            self._close()


def holder(folder: Path) -> Holder | None:
    """Who writes into a folder, or did when it was ended; None where the last writer closed its recording."""
    try:
        held = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        try:
            told = json.loads(os.read(held, 4096))
            process, host = int(told["process"]), str(told["host"])
        except (ValueError, TypeError, KeyError):
            process, host = 0, "an unknown host"
        if host != socket.gethostname():
            return Holder(process, host, None)
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return Holder(process, host, True)
        return Holder(process, host, False)
    finally:
        os.close(held)
