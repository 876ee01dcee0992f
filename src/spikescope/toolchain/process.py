"""Running a compiler, which may fail, hang, or print without end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["CompileError", "CompilerHangsError", "run"]

WORDY = 1 << 22
"""Bytes that a compiler may print."""


class CompileError(RuntimeError):
    """A kernel could not be compiled, or what the compiler made of it could not be loaded."""


class CompilerHangsError(CompileError):
    """The compiler did not come to an end."""


def run(words: list[str], patience: float, folder: Path | None = None) -> str:
    """What a command prints; an error with its words if it fails. Its own drafts go into `folder`."""
    name = " ".join(words)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ if folder is None else {**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,  # it has children, which end with it
        )
    except (OSError, ValueError) as error:
        raise CompileError(f"{name} could not be started: {error}") from error
    try:
        told = _printed(process, name, patience).decode(errors="replace")
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        with process:
            pass
    if process.returncode < 0:
        told += f"\nended by {signal.Signals(-process.returncode).name}, as when memory runs out"
    if process.returncode:
        raise CompileError(f"{name} failed:\n{told[-3000:]}")
    return told


def _printed(process: subprocess.Popen[bytes], name: str, patience: float) -> bytes:
    """What a process prints until its end, for which there is patience."""
    assert process.stdout is not None
    told, end = b"", time.monotonic() + patience
    waiting = select.poll()
    waiting.register(process.stdout, select.POLLIN | select.POLLHUP)
    while (left := end - time.monotonic()) > 0:
        if waiting.poll(1000 * left):
            part = os.read(process.stdout.fileno(), 1 << 16)
            told += part
            if len(told) > WORDY:
                raise CompileError(f"{name} prints without end")
            if not part:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, end - time.monotonic()))
                    return told
    raise CompilerHangsError(f"{name} did not end within {patience:g} seconds")
