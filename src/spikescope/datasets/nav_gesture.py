"""NAV Gesture: six gestures before a phone with an event camera, sitting and walking."""

from __future__ import annotations

from pathlib import Path

from .events import Array, StoredPath
from .faults import FormatError
from .folders.convert import convert_files
from .folders.dataset import UndividedDatasetFolder
from .folders.recordings import subfolders
from .folders.resources import Resource, unpack_nested
from .formats import load_td_dat

__all__ = ["NAVGestureSit", "NAVGestureWalk"]

LABELS = ("le", "ri", "up", "do", "ho", "se")
HOST = "https://www.neuromorphic-vision.com/public/downloads/navgesture"


class NAVGestureWalk(UndividedDatasetFolder):
    """NAV Gesture, walking: left, right, up, down, home, select by 10 people, 240 x 304, .dat; no official division.

    The server of the files is gone: who has them puts them into `download/`.

    Paper: J.-M. Maro et al., Event-based gesture recognition with dynamic background suppression using smartphone
    computational capabilities, Frontiers in Neuroscience 2020.
    """

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published file: name, address and MD5."""
        return [("navgesture-walk.zip", f"{HOST}/navgesture-walk.zip", "5d305266f13005401959e819abe206f0")]

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Unpack the archives in the archive, one a person."""
        unpack_nested(Path(download_root) / "navgesture-walk.zip", Path(extract_root))

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording, y from the top."""
        held = load_td_dat(file_name)
        return {**held, "y": 239 - held["y"]}

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Convert `<person>/<person>_<gesture>_<number>...dat`, a folder a gesture."""
        pairs, target = [], Path(events_np_root)
        for label in LABELS:
            (target / label).mkdir(parents=True, exist_ok=True)
        for file in (file for folder in subfolders(extract_root) for file in sorted(folder.iterdir())):
            label = [*file.stem.split("_"), ""][1]
            if label not in LABELS:
                raise FormatError(f"The name of {file} has no gesture: wanted is person_gesture_..., of {LABELS}.")
            pairs.append((file, target / label / f"{file.stem}.npz"))
        convert_files(NAVGestureWalk.load_origin_data, pairs)

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor, of whose 320 columns 304 are used."""
        return 240, 304


class NAVGestureSit(NAVGestureWalk):
    """NAV Gesture, sitting: as `NAVGestureWalk`, by 28 people."""

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published file: name, address and MD5."""
        return [("navgesture-sit.zip", f"{HOST}/navgesture-sit.zip", "1571753ace4d9e0946e6503313712c22")]

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Unpack the archives in the archive, one a person."""
        unpack_nested(Path(download_root) / "navgesture-sit.zip", Path(extract_root))
