"""HARDVS: 300 actions before an event camera of 260 x 346 pixels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from .events import Array, StoredPath
from .faults import FormatError, OptionError
from .folders.dataset import NeuromorphicDatasetFolder
from .folders.options import followed_by
from .folders.recordings import link_tree
from .folders.resources import Resource, extract_archive
from .formats import load_numpy
from .formats.reading import text

__all__ = ["HARDVS"]

CLASSES = [f"action_{number:03d}" for number in range(1, 301)]
SPLITS = ("train", "val", "test")
PAGE = "https://github.com/Event-AHU/HARDVS"


class HARDVS(NeuromorphicDatasetFolder):
    """HARDVS (its small edition): 300 actions, 260 x 346, .npz; `train_test_val` is `'train'`, `'val'` or `'test'`.

    `events_np` has links to the files in `extract`.

    Paper: X. Wang et al., HARDVS: revisiting human activity recognition with dynamic vision sensors, AAAI 2024.
    """

    @followed_by(NeuromorphicDatasetFolder.__init__)
    def __init__(self, root: StoredPath, train_test_val: str | None = None, *arguments: Any, **options: Any) -> None:
        """Make what is not there yet, and take one part: `train_test_val` is `'train'`, `'val'` or `'test'`."""
        if train_test_val not in SPLITS:
            raise OptionError(f"HARDVS: train_test_val must be one of {', '.join(SPLITS)}, but got {train_test_val!r}.")
        self.train_test_val = train_test_val
        super().__init__(root, None, *arguments, **options)

    def set_root_when_train_is_none(self, _root: StoredPath) -> StoredPath:
        """The part that was asked for."""
        return Path(_root) / str(self.train_test_val)

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        return [
            ("MINI_HARDVS_files.zip", PAGE, "9c4cc0d9ba043faa17f6f1a9e9aff982"),
            ("test_label.txt", PAGE, "5b664af5843f9b476a9c22626f7f5a59"),
            ("train_label.txt", PAGE, "0d642b6e6871034f151b2649a89d8d3c"),
            ("val_label.txt", PAGE, "cd2cebcba80e4552102bbacf2b5df812"),
        ]

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Unpack the archives in the archive, one an action into a folder of its name."""
        source, target = Path(download_root), Path(extract_root)
        inside = target.with_name(f"{target.name}.inside")
        shutil.rmtree(inside, ignore_errors=True)
        try:
            extract_archive(source / "MINI_HARDVS_files.zip", inside)
            for archive in sorted(inside.rglob("action_*.zip")):
                extract_archive(archive, target / archive.stem)
        finally:
            shutil.rmtree(inside, ignore_errors=True)
        for split in SPLITS:
            shutil.copy(source / f"{split}_label.txt", target)

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording."""
        return load_numpy(file_name)

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Link the recordings that the three tables name (`action/recording label`), a folder an action."""
        source, target = Path(extract_root).resolve(), Path(events_np_root)
        for split in SPLITS:
            for name in CLASSES:
                (target / split / name).mkdir(parents=True, exist_ok=True)
            table = source / f"{split}_label.txt"
            names = [line.split()[0] for line in text(table).splitlines() if line.strip()]
            if wrong := [name for name in names if name.partition("/")[0] not in CLASSES or ".." in name]:
                raise FormatError(f"{table} names {wrong[0]!r}; wanted is action_001/recording and the like.")
            link_tree([(source / f"{name}.npz", target / split / f"{name}.npz") for name in names])

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 260, 346
