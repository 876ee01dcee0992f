"""Small texts beside the folder of kernels: what another process has found out, under the rules of a kernel."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .cache import cache_folder, distrust, drafted, read_whole, seal

__all__ = ["note", "write_note"]


def _folder() -> Path:
    """Not that of the kernels, where all else is left over from a process that was killed."""
    kernels = Path(os.path.abspath(cache_folder()))  # "." and ".." have no name to add to
    return kernels.parent / f"{kernels.name}.notes"


def note(name: str) -> bytes | None:
    """The text of a name; None where there is none that is whole and of nobody else.

    >>> note("a name that was never written")
    """
    folder = _folder()
    try:
        return None if distrust(folder) else read_whole(folder, name)
    except OSError:
        return None


def write_note(name: str, text: bytes) -> None:
    """Keep a text for other processes; where that cannot be done, each of them finds it out for itself."""
    folder = _folder()
    with suppress(OSError):
        if not distrust(folder):
            with drafted(folder) as draft:
                (draft / "note").write_bytes(text)
                seal(draft / "note", name)
                os.replace(draft / "note", folder / f"{name}.note")
