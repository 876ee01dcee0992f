"""What `datasets.check` says of a folder."""

import numpy as np
import pytest
from recordings import put, recording
from test_folder import H, Small, W

from spikescope import datasets


@pytest.fixture
def root(tmp_path):
    put(tmp_path, {f"extract/{part}/a/{n}.txt": str(n).encode() for part in ("train", "test") for n in range(3)})
    Small(tmp_path, True, "frame", 2, "time")
    Small(tmp_path, True, "frame", duration=60_000)
    return tmp_path


def states(report):
    return {found.part: found.state for found in report.findings}


WHOLE = {"events_np": "ok", "frames_number_2_split_by_time": "ok", "duration_60000": "ok"}


@pytest.mark.parametrize("read", [True, False])
def test_a_whole_one(read, root):
    report = datasets.check(root, Small, read=read)
    assert report.ok
    assert states(report) == WHOLE
    assert "6 samples, " + ("all readable" if read else "not read") in str(report)


@pytest.mark.parametrize("folder", ["frames_number_2_split_by_time", "duration_60000"])
def test_a_half_one_of_the_reference(folder, root):
    next((root / folder / "train/a").glob("1*.npz")).unlink()
    report = datasets.check(root)
    assert not report.ok
    assert states(report) == WHOLE | {folder: "half"}
    assert f"{folder:<36} half     5 of 6 samples" in str(report)
    assert "\n    train/a/1" in str(report)


@pytest.mark.parametrize("folder", ["events_np", "frames_number_2_split_by_time", "duration_60000"])
def test_what_is_missing_is_made_as_the_report_says(folder, root):
    (lost,) = (root / folder / "test/a").glob("0*.npz")
    (damaged,) = (root / folder / "train/a").glob("0*.npz")
    before = {path: path.read_bytes() for path in (root / folder).rglob("*.npz")}
    lost.unlink()
    damaged.write_bytes(before[damaged][:50])
    (root / folder).rename(root / f"{folder}.part")
    options = {"events_np": {}, "duration_60000": {"data_type": "frame", "duration": 60_000}}
    Small(root, True, **options.get(folder, {"data_type": "frame", "frames_number": 2, "split_by": "time"}))
    assert datasets.check(root, Small).ok
    assert before.keys() == set((root / folder).rglob("*.npz"))


def test_damaged_ones(root):
    events = recording(20, H, W)
    whole = (root / "events_np/train/a/0.npz").read_bytes()
    (root / "events_np/train/a/0.npz").write_bytes(whole[:-30])
    np.savez(root / "events_np/train/a/1.npz", **(events | {"x": events["x"] + W}))
    np.savez(root / "events_np/train/a/2.npz", **{name: values[:0] for name, values in events.items()})
    np.savez(root / "events_np/test/a/0.npz", **(events | {"t": events["t"][::-1]}))
    np.savez(root / "frames_number_2_split_by_time/test/a/1.npz", picture=np.ones(2))
    (root / "duration_60000.building").touch()
    (root / "duration_9.part").mkdir()
    report = datasets.check(root, Small)
    said = str(report)
    assert "3 of 6 samples" in said
    for words in (
        "cannot be read",
        "which is not on the sensor",
        "has no events",
        "has no 'frames'",
        "delete them, rename events_np to events_np.part",
    ):
        assert words in said
    assert states(report) == WHOLE | {
        "events_np": "damaged",
        "frames_number_2_split_by_time": "damaged",
        "duration_60000.building": "half",
        "duration_9.part": "half",
    }


def test_events_that_are_not_in_order_are_noted(root):
    events = recording(20, H, W)
    np.savez(root / "events_np/test/a/0.npz", **(events | {"t": events["t"][::-1]}))
    report = datasets.check(root)
    assert report.ok
    assert states(report)["events_np"] == "note"
    assert "not in order of time" in str(report)


def test_published_files(tmp_path):
    report = datasets.check(tmp_path, datasets.DVS128Gesture)
    assert {found.state for found in report.findings} == {"missing"}
    assert "DvsGesture.tar.gz" in str(report)
    assert "8a5c71fb11e24e5ca5b11866ca6c00a1" in str(report)
    put(tmp_path, {"download/README.txt": b"another"})
    assert states(datasets.check(tmp_path, datasets.DVS128Gesture))["download/README.txt"] == "damaged"
    assert not datasets.check(tmp_path / "absent").ok


def test_many_faults_are_cut_short(root):
    for path in (root / "events_np").rglob("*.npz"):
        path.write_bytes(b"")
    assert "... and 1 more" in str(datasets.check(root))
