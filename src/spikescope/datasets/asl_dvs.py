"""ASL-DVS: letters of the American sign language before an event camera of 180 x 240 pixels."""

from __future__ import annotations

from pathlib import Path

from .events import Array, StoredPath
from .folders.dataset import UndividedDatasetFolder
from .folders.recordings import convert_tree
from .folders.resources import Resource, unpack_nested
from .formats import load_mat

__all__ = ["ASLDVS"]

ARCHIVE = "ICCV2019_DVS_dataset.zip"


class ASLDVS(UndividedDatasetFolder):
    """ASL-DVS: 24 letters, 100,800 samples, 180 x 240, MATLAB's .mat (needs scipy); no official division.

    The archive is packed anew at each download, so that it has no checksum.

    Paper: Y. Bi et al., Graph-based object classification for neuromorphic vision sensing, ICCV 2019.
    """

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published file: name and address."""
        return [(ARCHIVE, "https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa?dl=0", None)]

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Unpack the archives in the archive, one a letter."""
        unpack_nested(Path(download_root) / ARCHIVE, Path(extract_root))

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording; the sensor was mounted upside down."""
        held = load_mat(file_name)
        return {"t": held["t"], "x": 239 - held["x"], "y": 179 - held["y"], "p": held["p"]}

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Convert the recordings, a folder a letter."""
        convert_tree(ASLDVS.load_origin_data, extract_root, events_np_root, ".mat")

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 180, 240
