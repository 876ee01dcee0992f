"""What the data sets share: a tree of recordings, one file a sample, a folder a class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..events import StoredPath
from ..faults import MissingFilesError
from .convert import convert_files

__all__ = ["convert_tree", "link_tree", "subfolders"]


def subfolders(folder: StoredPath) -> list[Path]:
    """The folders in a folder, in alphabetical order."""
    place = Path(folder)
    if not place.is_dir():
        raise MissingFilesError(
            f"There is no folder {place}. Delete the folder 'extract' of the data set, and it is unpacked anew."
        )
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")))


def convert_tree(load: Callable[[StoredPath], Any], source: StoredPath, target: StoredPath, ending: str) -> None:
    """Read each `source/<class>/<name><ending>` with `load`, and save its events as `target/<class>/<name>.npz`."""
    pairs = []
    for folder in subfolders(source):
        made = Path(target) / folder.name
        made.mkdir(parents=True, exist_ok=True)
        pairs += [(file, made / f"{file.stem}.npz") for file in sorted(folder.glob(f"*{ending}"))]
    convert_files(load, pairs)


def link_tree(pairs: list[tuple[Path, Path]]) -> None:
    """Put links in the place of copies: what each leads to must be there."""
    if absent := [source for source, _ in pairs if not source.exists()]:
        raise MissingFilesError(f"{len(absent)} files are missing, among them {absent[0]}. Unpack the data set anew.")
    for source, made in pairs:
        made.parent.mkdir(parents=True, exist_ok=True)
        if not made.is_symlink():
            made.symlink_to(source.resolve())
