"""Bullying10K: actions between people before an event camera of 260 x 346 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .events import Array, StoredPath
from .faults import FormatError
from .folders.convert import convert_files
from .folders.dataset import NeuromorphicDatasetFolder
from .folders.options import followed_by
from .folders.recordings import subfolders
from .folders.resources import Resource
from .formats.unpickled import load_object_array

__all__ = ["BULLYING10K_CATEGORY_LABEL", "Bullying10kClassification"]

FILES = (
    ("handshake", 41268834, "681d70f499e736a1e805305284ddc425"),
    ("slapping", 41247021, "84b41d6805958f9f62f425223916ffc2"),
    ("punching", 41263314, "40954f480ab210099d448b7b88fc4719"),
    ("walking", 41247024, "56e4cac9c0814ce701c3b2292c15b6a9"),
    ("fingerguess", 41253057, "f83114e5b4f0ea57cac86fb080c7e4d7"),
    ("strangling", 41261904, "8185ecd6f3147e9b609d22f06270aa86"),
    ("greeting", 41268792, "4a763fad728b04c8356db8544f1121fe"),
    ("pushing", 41268951, "7986c74ade7149a98672120a89b13ba8"),
    ("hairgrabs", 41277855, "a9cf690ed0a3305da4a4b8e110f64db1"),
    ("kicking", 41278008, "6c3218f977de4ac29c84a10b17779c33"),
)
BULLYING10K_CATEGORY_LABEL = {name: label for label, (name, _, _) in enumerate(FILES)}


class Bullying10kClassification(NeuromorphicDatasetFolder):
    """Bullying10K for classification: 10 actions, 10,000 samples, 260 x 346; every fifth recording is for testing.

    The published .npy files hold pickled lists; they are read without running what a pickle may ask for.

    Paper: Y. Dong et al., Bullying10K: a large-scale neuromorphic dataset towards privacy-preserving bullying
    recognition, NeurIPS 2023.
    """

    divided = True

    @followed_by(NeuromorphicDatasetFolder.__init__)
    def __init__(self, root: StoredPath, train: bool | None = True, *arguments: Any, **options: Any) -> None:
        """Make what is not there yet, and take the part for training or that for testing."""
        super().__init__(root, train, *arguments, **options)

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        return [(f"{name}.zip", f"https://figshare.com/ndownloader/files/{number}", md5) for name, number, md5 in FILES]

    @staticmethod
    def downloadable() -> bool:
        """Whether a program may fetch the files."""
        return True

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording: a list of packets, each a list of (t, x, y, p, ...)."""
        held = load_object_array(file_name)
        try:
            rows = [row[:4] for packet in held for row in packet]
            t, x, y, p = np.array(rows).T if rows else np.zeros((4, 0), np.int64)
        except (TypeError, IndexError, ValueError) as error:
            raise FormatError(f"{file_name} is not a list of packets of events (t, x, y, p): {error}.") from error
        return {"t": t, "x": x, "y": y, "p": p}

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Convert the recordings, in the order of their paths, every fifth for testing."""
        pairs, target = [], Path(events_np_root)
        for split in ("train", "test"):
            for label in range(len(FILES)):
                (target / split / str(label)).mkdir(parents=True, exist_ok=True)
        files = [(file, folder.name) for folder in subfolders(extract_root) for file in sorted(folder.rglob("*.npy"))]
        for number, (file, name) in enumerate(files):
            if name not in BULLYING10K_CATEGORY_LABEL:
                raise FormatError(
                    f"{file} lies in {name!r}, which is not an action: {', '.join(BULLYING10K_CATEGORY_LABEL)}."
                )
            split, label = "train" if number % 5 else "test", BULLYING10K_CATEGORY_LABEL[name]
            pairs.append((file, target / split / str(label) / f"{file.stem}.npz"))
        convert_files(Bullying10kClassification.load_origin_data, pairs)

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 260, 346
