"""N-Caltech101: the pictures of Caltech101 before a moving ATIS sensor, 180 x 240 pixels."""

from __future__ import annotations

from pathlib import Path

from .events import Array, StoredPath
from .folders.dataset import UndividedDatasetFolder
from .folders.recordings import convert_tree
from .folders.resources import Resource, extract_archive
from .formats import load_ATIS_bin

__all__ = ["NCaltech101"]

PAGE = "https://www.garrickorchard.com/datasets/n-caltech101"


class NCaltech101(UndividedDatasetFolder):
    """N-Caltech101: 101 classes, 8,709 samples, 180 x 240, ATIS .bin; no official division (`split_to_train_test_set`).

    Paper: G. Orchard et al., Converting static image datasets to spiking neuromorphic datasets using saccades,
    Frontiers in Neuroscience 2015.
    """

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        return [
            ("Caltech101.zip", PAGE, "66201824eabb0239c7ab992480b50ba3"),
            ("Caltech101_annotations.zip", PAGE, "25e64cea645291e368db1e70f214988e"),
            ("ReadMe(Caltech101)-SINAPSE-G.txt", PAGE, "d464b81684e0af3b5773555eb1d5b95c"),
            ("ReadMe(Caltech101).txt", PAGE, "33632a7a5c46074c70509f960d0dd5e5"),
        ]

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Unpack the recordings; the annotations stay packed."""
        extract_archive(Path(download_root) / "Caltech101.zip", extract_root)

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording."""
        return load_ATIS_bin(file_name)

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Convert the recordings, a folder a class."""
        convert_tree(load_ATIS_bin, Path(extract_root) / "Caltech101", events_np_root, ".bin")

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 180, 240
