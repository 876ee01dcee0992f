"""What the front doors of the views take alike: a title, and the place of a file."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["check_title", "place_of"]


def check_title(owner: str, title: object) -> None:
    """Refuse a title that is no text."""
    if not isinstance(title, str):
        raise TypeError(f"{owner}: title is a text, but got {title!r}.")


def place_of(owner: str, to: object) -> Path:
    """The path of a file that is to be written.

    >>> place_of("report", "report.html").name
    'report.html'
    """
    if not isinstance(to, (str, os.PathLike)):
        raise TypeError(f"{owner}: the place of the page is the name of a file, as 'report.html', but got {to!r}.")
    path = Path(to)
    if path.is_dir():
        raise IsADirectoryError(f"{owner}: {path} is a folder; give the name of a file, as {path / 'report.html'}.")
    return path
