"""What the front doors of the views take alike: a title, and the place of a file."""

from __future__ import annotations

import os
from pathlib import Path

from ..files import OutputError

__all__ = ["check_title", "place_of"]


def check_title(owner: str, title: object) -> None:
    """Refuse a title that is no text."""
    if not isinstance(title, str):
        raise TypeError(f"{owner}: title is a text, but got {title!r}.")


_PAGE = (b"<!doctype html",)


def place_of(owner: str, to: object, begins: tuple[bytes, ...] = _PAGE) -> Path:
    """The path of a file that is to be written; a file that is there must begin as such a one does, or be empty.

    >>> place_of("report", "report.html").name
    'report.html'
    """
    if not isinstance(to, (str, os.PathLike)):
        raise TypeError(f"{owner}: the place of the page is the name of a file, as 'report.html', but got {to!r}.")
    path = Path(to)
    if path.is_dir():
        raise IsADirectoryError(f"{owner}: {path} is a folder; give the name of a file, as {path / 'report.html'}.")
    if not path.parent.is_dir():  # a live view would say so when it is over, and the page be lost
        raise OutputError(f"{owner}: {path} could not be written: there is no folder {path.parent}. Make it first.")
    if path.is_file() and not path.is_symlink():  # a link is replaced, and what it leads to stays
        with path.open("rb") as file:
            held = file.read(64)
        if held and not held.startswith(begins):
            raise OutputError(f"{owner}: {path} is there, and is nothing that {owner} wrote. Give another name.")
    return path
