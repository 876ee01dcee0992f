"""DVS-Lip: spoken words, of which an event camera of 128 x 128 pixels sees the lips."""

from __future__ import annotations

from pathlib import Path

from .events import Array, StoredPath
from .folders.dataset import NeuromorphicDatasetFolder
from .folders.recordings import link_tree, subfolders
from .folders.resources import Resource
from .formats import load_numpy

__all__ = ["DVSLip"]


class DVSLip(NeuromorphicDatasetFolder):
    """DVS-Lip: 100 words, 128 x 128, structured arrays in .npy files; `train` must be given.

    `events_np` has links to the files in `extract`.

    Paper: G. Tan et al., Multi-grained spatio-temporal features perceived network for event-based lip-reading,
    CVPR 2022.
    """

    divided = True

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published file: name, address and MD5."""
        page = "https://sites.google.com/view/event-based-lipreading"
        return [("DVS-Lip.zip", page, "2dcb959255122d4cdeb6094ca282494b")]

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording."""
        return load_numpy(file_name)

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Link the recordings, a folder a word."""
        for split in ("train", "test"):
            link_tree(
                [
                    (file, Path(events_np_root) / split / folder.name / file.name)
                    for folder in subfolders(Path(extract_root) / "DVS-Lip" / split)
                    for file in sorted(folder.glob("*.npy"))
                ]
            )

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 128, 128
