"""DVS128 Gesture: hand and arm gestures of 29 people before an event camera of 128 x 128 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import open_regular
from .events import Array, StoredPath
from .faults import FormatError
from .folders.convert import run_jobs
from .folders.dataset import NeuromorphicDatasetFolder
from .folders.resources import Resource
from .folders.storage import np_savez
from .formats import load_aedat_v3
from .formats.reading import text

__all__ = ["DVS128Gesture"]

CLASSES = 11
PAGE = "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794"


class DVS128Gesture(NeuromorphicDatasetFolder):
    """DVS128 Gesture: 11 gestures, 1,176 samples for training and 288 for testing, 128 x 128, AEDAT 3.1.

    A recording is cut where its table of labels says so: a sample has the events with start <= t < end.

    Paper: A. Amir et al., A low power, fully event-based gesture recognition system, CVPR 2017.
    """

    divided = True
    sizes = {"DvsGesture.tar.gz": "about 3 GB (5 GB unpacked)"}

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        return [
            ("DvsGesture.tar.gz", PAGE, "8a5c71fb11e24e5ca5b11866ca6c00a1"),
            ("gesture_mapping.csv", PAGE, "109b2ae64a0e1f3ef535b18ad7367fd1"),
            ("LICENSE.txt", PAGE, "065e10099753156f18f51941e6e44b66"),
            ("README.txt", PAGE, "a0663d3b1d8307c329a43d949ee32d19"),
        ]

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording."""
        return load_aedat_v3(file_name)

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Cut the recordings that `trials_to_train.txt` and `trials_to_test.txt` name into samples."""
        source, jobs = Path(extract_root) / "DvsGesture", []
        for split in ("train", "test"):
            target = Path(events_np_root) / split
            for label in range(CLASSES):
                (target / str(label)).mkdir(parents=True, exist_ok=True)
            names = text(source / f"trials_to_{split}.txt").split()
            jobs += [(_cut_recording, (source / name, target)) for name in names]
        run_jobs(jobs, "recordings")

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 128, 128


def _cut_recording(recording: Path, target: Path) -> None:
    """Save the samples of a recording, `<label>/<recording>_<k>.npz`, k counting those of a label."""
    table = recording.with_name(f"{recording.stem}_labels.csv")
    try:
        with open_regular(table) as held:
            rows = np.loadtxt(held, np.int64, delimiter=",", skiprows=1, ndmin=2, encoding="utf-8")
    except ValueError as error:
        raise FormatError(f"{table} is not a table of class, start and end: {error}.") from error
    if rows.shape[1] != 3 or not ((rows[:, 0] >= 1) & (rows[:, 0] <= CLASSES)).all():
        raise FormatError(f"{table} must have rows of class (1 to {CLASSES}), start and end, in microseconds.")
    numbers = [int((rows[:row, 0] == gesture).sum()) for row, gesture in enumerate(rows[:, 0])]
    made = [
        target / str(gesture - 1) / f"{recording.stem}_{number}.npz"
        for gesture, number in zip(rows[:, 0], numbers, strict=True)
    ]
    if all(file.exists() for file in made):
        return
    events = load_aedat_v3(recording)
    for file, (_, start, end) in zip(made, rows, strict=True):
        inside = (events["t"] >= start) & (events["t"] < end)
        np_savez(file, **{name: values[inside] for name, values in events.items()})
