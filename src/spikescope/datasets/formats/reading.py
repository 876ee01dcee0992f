"""What the parsers share: a file's bytes, and the words for a file that is none."""

from __future__ import annotations

from pathlib import Path

from ...files import open_regular
from ..events import StoredPath
from ..faults import FormatError, damage_told

__all__ = ["content", "cut_off", "skip_comments", "text"]


def content(file_name: StoredPath) -> bytes:
    """All bytes of a file, which must have some."""
    try:
        with open_regular(file_name) as file:
            held = file.read()
    except ValueError as error:
        raise FormatError(str(error)) from error
    except MemoryError as error:
        size = Path(file_name).stat().st_size
        raise FormatError(
            f"{file_name} has {size:,} bytes, for which there is no memory. Cut the recording."
        ) from error
    if not held:
        raise FormatError(f"{file_name} is empty. Extract or fetch it again.")
    return held


def text(file_name: StoredPath) -> str:
    """What a table of names says, whatever the locale is."""
    with damage_told(file_name, "a table of text"), open_regular(file_name) as file:
        return file.read().decode("utf-8")


def cut_off(file_name: StoredPath, what: str) -> FormatError:
    """The error for a file that ends too early."""
    return FormatError(f"{Path(file_name)} is cut off: {what}. Extract or fetch it again.")


def skip_comments(held: bytes, mark: bytes) -> int:
    """Where the leading lines that begin with `mark` end.

    >>> skip_comments(b"#a\\r\\n# b\\nxyz", b"#")
    8
    """
    at = 0
    while held.startswith(mark, at):
        end = held.find(b"\n", at)
        at = len(held) if end < 0 else end + 1
    return at
