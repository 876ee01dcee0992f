"""Small texts beside the kernels, which save a new process what another has found out, under the rules of a kernel."""

from __future__ import annotations

import os
from contextlib import suppress

from .cache import distrust, drafted, kernel_folder, read_whole, seal

__all__ = ["note", "write_note"]


def note(name: str) -> bytes | None:
    """The text of a name; None where there is none that is whole and of nobody else.

    >>> note("a name that was never written")
    """
    folder = kernel_folder()
    try:
        return None if distrust(folder) else read_whole(folder, name)
    except OSError:
        return None


def write_note(name: str, text: bytes) -> None:
    """Keep a text for other processes; where that cannot be done, each of them finds it out for itself."""
    folder = kernel_folder()
    with suppress(OSError):
        if not distrust(folder):
            with drafted(folder) as draft:
                (draft / "note").write_bytes(text)
                seal(draft / "note", name)
                os.replace(draft / "note", folder / f"{name}.note")
