"""N-MNIST: the pictures of MNIST before a moving ATIS sensor, 34 x 34 pixels."""

from __future__ import annotations

from pathlib import Path

from .events import Array, StoredPath
from .folders.dataset import NeuromorphicDatasetFolder
from .folders.recordings import convert_tree
from .folders.resources import Resource
from .formats import load_ATIS_bin

__all__ = ["NMNIST"]

PAGE = "https://www.garrickorchard.com/datasets/n-mnist"


class NMNIST(NeuromorphicDatasetFolder):
    """N-MNIST: 10 digits, 60,000 samples for training and 10,000 for testing, 34 x 34, ATIS .bin.

    Paper: G. Orchard et al., Converting static image datasets to spiking neuromorphic datasets using saccades,
    Frontiers in Neuroscience 2015.
    """

    divided = True

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        return [
            ("Train.zip", PAGE, "20959b8e626244a1b502305a9e6e2031"),
            ("Test.zip", PAGE, "69ca8762b2fe404d9b9bad1103e97832"),
        ]

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording."""
        return load_ATIS_bin(file_name)

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Convert the recordings, a folder a digit."""
        for split in ("Train", "Test"):
            convert_tree(load_ATIS_bin, Path(extract_root) / split, Path(events_np_root) / split.lower(), ".bin")

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 34, 34
