"""Output folders and files: claimed before the work starts, written whole or not at all. Standard library only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["OutputError", "claim_folder", "write_whole"]


class OutputError(OSError):
    """An output folder or file that cannot be written."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def claim_folder(path: str | os.PathLike[str]) -> Path:
    """Make `path` an empty folder that can be written to, or say why that is impossible.

    A folder that already holds files is refused: two runs in one folder would mix their results.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     claim_folder(Path(place) / "runs" / "first").relative_to(place)
    PosixPath('runs/first')
    """
    folder = Path(path)
    blocking = next((part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()), None)
    if blocking is not None:
        raise OutputError(
            f"The output folder {folder} cannot be made: {blocking} is a file. Choose another folder, or move the file."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        held = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise OutputError(
            f"The output folder {folder} cannot be written: {_reason(error)}. Choose a folder that you may write to."
        ) from error
    if held:
        raise OutputError(
            f"The output folder {folder} already holds {held[0]}{' and more' if held[1:] else ''}. "
            "Choose a new folder, or empty this one."
        )
    return folder


def write_whole(path: str | os.PathLike[str], content: bytes | str | Iterable[bytes | memoryview]) -> None:
    """Write a file so that a reader sees the old content or the new one, and never a part.

    - `content`: text, bytes, or parts that are written one after the other, for what is too large to copy.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_whole(Path(place) / "note.txt", "new")
    ...     (Path(place) / "note.txt").read_text()
    'new'
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            for part in [content] if isinstance(content, (str, bytes)) else content:
                file.write(part.encode() if isinstance(part, str) else part)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise OutputError(f"{target} could not be written: {_reason(error)}.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
