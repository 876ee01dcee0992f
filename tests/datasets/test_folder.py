"""The base of the data sets: arguments, folders, caches, interrupted conversions, loaders in processes."""

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from recordings import put, recording, same, structured

from spikescope import datasets
from spikescope.datasets import NeuromorphicDatasetFolder, convert_files
from spikescope.datasets.folders.convert import under_construction
from spikescope.datasets.folders.settings import COMPRESSED, WORKERS

H, W, EACH = 8, 6, 40


class Small(NeuromorphicDatasetFolder):
    """Two classes of two samples in each part, made from text files."""

    @staticmethod
    def get_H_W():
        return H, W

    @staticmethod
    def load_origin_data(file_name):
        return recording(EACH, H, W, seed=int(Path(file_name).read_text()))

    @staticmethod
    def create_events_np_files(extract_root, events_np_root):
        files = sorted(Path(extract_root).rglob("*.txt"))
        convert_files(
            Small.load_origin_data,
            [(file, Path(events_np_root) / file.relative_to(extract_root).with_suffix(".npz")) for file in files],
        )


@pytest.fixture
def root(tmp_path):
    names = [f"extract/{part}/{label}/{n}.txt" for part in ("train", "test") for label in "ab" for n in (0, 1)]
    return put(tmp_path, {name: str(seed).encode() for seed, name in enumerate(names)})


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_events_frames_labels_and_transforms(root):
    held = Small(root, train=True)
    assert (held.classes, held.targets, len(held)) == (["a", "b"], [0, 0, 1, 1], 4)
    same(held[2][0], recording(EACH, H, W, seed=2))
    frames = Small(root, False, "frame", 4, "time", transform=lambda x: x.sum(), target_transform=lambda y: y + 10)
    assert [frames[n] for n in (0, 3)] == [(EACH, 10), (EACH, 11)]
    with pytest.raises(IndexError):
        held[4]


def test_folders_and_files_are_those_of_the_reference(root):
    def mine(events, H, W):
        return np.zeros((1, 2, H, W))

    Small(root, True, "frame", 3, "number")
    Small(root, True, "frame", duration=50_000)
    Small(root, True, "frame", custom_integrate_function=mine)
    Small(root, True, "frame", custom_integrate_function=mine, custom_integrated_frames_dir_name="other")
    samples = [f"{part}/{label}/{n}" for part in ("test", "train") for label in "ab" for n in (0, 1)]
    for folder in ("events_np", "frames_number_3_split_by_number", "mine", "other"):
        assert tree(root / folder) == [f"{sample}.npz" for sample in samples]
    by_duration = {
        f"{sample}_{len(datasets.load_npz_frames(root / 'duration_50000' / name))}.npz": name
        for sample, name in zip(samples, tree(root / "duration_50000"), strict=True)
    }
    assert all(stem == name for stem, name in by_duration.items())
    with np.load(root / "frames_number_3_split_by_number/train/a/0.npz") as held:
        assert held.files == ["frames"]
        assert (held["frames"].dtype, held["frames"].shape) == (np.float64, (3, 2, H, W))


def test_a_cache_is_used_as_it_is(tmp_path):
    """As the reference leaves it; nothing of what came before is asked for."""
    marked = np.full((2, 2, H, W), 7.0)
    for name in ("a/0", "b/0"):
        (tmp_path / "frames_number_2_split_by_time" / name).parent.mkdir(parents=True)
        np.savez_compressed(tmp_path / "frames_number_2_split_by_time" / name, frames=marked)
    held = Small(tmp_path, data_type="frame", frames_number=2, split_by="time")
    assert [(sample.dtype, sample.mean(), label) for sample, label in held] == [(np.float32, 7, 0), (np.float32, 7, 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["frames_number_2_split_by_time"]


def test_structured_arrays_in_npy_files_are_samples_too(tmp_path):
    (tmp_path / "events_np/a").mkdir(parents=True)
    np.save(tmp_path / "events_np/a/0.npy", structured(recording(EACH, H, W)))
    assert np.array_equal(Small(tmp_path)[0][0], structured(recording(EACH, H, W)))
    frames = Small(tmp_path, data_type="frame", frames_number=2, split_by="number")
    assert frames[0][0].sum() == EACH


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data_type": "frames"}, "data_type must be one of 'event', 'frame'"),
        ({"data_type": "frame"}, "needs one of frames_number"),
        ({"data_type": "frame", "split_by": "time"}, "needs one of frames_number"),
        (
            {"data_type": "frame", "frames_number": 0, "split_by": "rate"},
            "frames_number must be a whole number above 0",
        ),
        ({"data_type": "frame", "frames_number": 2.0, "split_by": "time"}, "frames_number must be a whole number"),
        ({"data_type": "frame", "frames_number": 2}, "split_by must be one of 'time', 'number', but got None"),
        ({"data_type": "frame", "frames_number": 2, "split_by": "rate", "duration": 5}, "split_by must be one of"),
        ({"data_type": "frame", "duration": -3}, "duration must be a number above 0"),
        ({"data_type": "frame", "custom_integrate_function": lambda *_: None}, "'<lambda>' is no name"),
        (
            {
                "data_type": "frame",
                "custom_integrate_function": print,
                "custom_integrated_frames_dir_name": "../elsewhere",
            },
            "is no name",
        ),
        (
            {
                "data_type": "frame",
                "custom_integrate_function": print,
                "custom_integrated_frames_dir_name": "events_np",
            },
            "is no name",
        ),
        ({"train": "yes"}, "train must be True, False or None"),
    ],
)
def test_arguments_are_refused_before_anything_is_done(options, said, tmp_path):
    with pytest.raises(datasets.OptionError, match=said) as refused:
        Small(tmp_path, **options)
    assert isinstance(refused.value, (ValueError, AssertionError))
    assert not list(tmp_path.iterdir())


def test_the_first_of_several_ways_is_used_and_that_is_said(root):
    with pytest.warns(UserWarning, match="of frames_number, duration the first is used"):
        held = Small(root, True, "frame", frames_number=2, split_by="time", duration=9)
    assert held[0][0].shape[0] == 2
    with pytest.warns(UserWarning, match="of duration, custom_integrate_function the first"):
        Small(root, True, "frame", duration=50_000, custom_integrate_function=print)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_converted_does_not_keep_the_others(workers, root):
    put(root, {"extract/train/a/2.txt": b"no number"})
    with pytest.raises(datasets.ConversionError, match="1 of 9 recordings could not be converted") as refused:
        Small(root, True, workers=workers)
    assert "extract/train/a/2.txt: ValueError: invalid literal" in str(refused.value)
    assert not (root / "events_np").exists()
    assert len(tree(root / "events_np.part")) == 8
    before = {path: path.stat().st_mtime_ns for path in (root / "events_np.part").rglob("*.npz")}
    put(root, {"extract/train/a/2.txt": b"77"})
    assert len(Small(root, True, workers=workers)) == 5
    after = {path: path.stat().st_mtime_ns for path in (root / "events_np").rglob("*.npz")}
    kept = {path.relative_to(root / "events_np.part"): when for path, when in before.items()}
    assert kept.items() <= {path.relative_to(root / "events_np"): when for path, when in after.items()}.items()
    assert not (root / "events_np.part").exists()


def test_a_sample_without_events_is_named(root):
    Small(root, True)
    empty = {name: np.zeros(0, np.int64) for name in "txyp"}
    np.savez(root / "events_np/train/a/0.npz", **empty)
    with pytest.raises(
        datasets.ConversionError, match=r"train/a/0\.npz: EventsError: There must be at least one event"
    ):
        Small(root, True, "frame", 2, "time")
    np.savez(root / "events_np/train/a/0.npz", **(recording(5, H, W) | {"x": np.full(5, W)}))
    with pytest.raises(datasets.ConversionError, match=r"train/a/0\.npz: EventsError: Event 0 has x = 6"):
        Small(root, True, "frame", 2, "time")


PATH = [str(folder) for folder in Path(__file__).parents[:2]]
"""Where this file and what it imports are found by a script."""

SLOW = """
import sys, time
sys.path[:0] = {tests!r}
from test_folder import Small
from spikescope import datasets
def slowly(events, H, W):
    time.sleep(0.2)
    return datasets.integrate_events_by_fixed_frames_number(events, "time", 2, H, W)
Small({root!r}, True, "frame", custom_integrate_function=slowly, workers={workers})
"""


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_conversion_goes_on_where_it_stopped(workers, root):
    Small(root, True)
    for n in range(2, 12):
        np.savez(root / f"events_np/train/a/{n}.npz", **recording(EACH, H, W, seed=n))
    code = SLOW.format(tests=PATH, root=str(root), workers=workers)
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    draft, deadline = root / "slowly.part", time.monotonic() + 60
    while not list(draft.rglob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stderr.close()
    done = {path.relative_to(draft): path.stat().st_mtime_ns for path in draft.rglob("*.npz")}
    assert len(done) > 0
    assert not (root / "slowly").exists()
    assert any(found.state == "half" and found.part == "slowly.part" for found in datasets.check(root).findings)

    def slowly(events, H, W):
        return datasets.integrate_events_by_fixed_frames_number(events, "time", 2, H, W)

    held = Small(root, True, "frame", custom_integrate_function=slowly)
    assert len(held) == 14
    for path, _ in held.samples:
        name = Path(path).relative_to(root / "slowly").with_suffix("")
        events = datasets.load_events(root / "events_np" / f"{name}.npz")
        assert np.array_equal(datasets.load_npz_frames(path), slowly(events, H, W))
    assert all((root / "slowly" / name).stat().st_mtime_ns == when for name, when in done.items())
    assert not draft.exists()
    assert datasets.check(root, Small).ok


def test_what_a_power_cut_tore_is_made_anew(root):
    put(root, {"extract/train/a/2.txt": b"no number"})
    with pytest.raises(datasets.ConversionError):
        Small(root, True)
    draft = root / "events_np.part"
    whole = (draft / "train/a/0.npz").read_bytes()
    put(draft, {"train/a/0.npz": b"", "train/a/1.npz": whole[:-30], "train/b/.0.npz.0123456789abcdef": whole})
    put(root, {"extract/train/a/2.txt": b"77"})
    assert len(Small(root, True)) == 5
    assert datasets.check(root, Small).ok
    assert not list((root / "events_np").rglob(".*"))


@pytest.mark.parametrize("at", ["mkdir", "open"])
def test_one_who_comes_when_another_is_done_builds_nothing(at, tmp_path, monkeypatch):
    target, owner = tmp_path / "frames", Path if at == "mkdir" else os
    (tmp_path / "frames.part").mkdir()
    real = getattr(owner, at)

    def late(path, *args, **kwargs):
        """Between the question whether the folder is there and the next."""
        (tmp_path / "frames.part").rename(target)
        if at == "mkdir":
            raise FileExistsError(17, "File exists", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(owner, at, late)
    with under_construction(target) as draft:
        monkeypatch.undo()
        assert draft is None
    assert [held.name for held in tmp_path.iterdir()] == ["frames"]


def test_a_file_in_the_place_of_the_draft_is_told_and_kept(tmp_path):
    (tmp_path / "frames.part").write_text("mine")
    with pytest.raises(FileExistsError, match=r"frames\.part"), under_construction(tmp_path / "frames"):
        pass
    assert (tmp_path / "frames.part").read_text() == "mine"


def test_two_who_build_at_once_build_once(root):
    calls, errors = [], []

    def counted(events, H, W):
        calls.append(1)
        time.sleep(0.01)
        return np.zeros((1, 2, H, W))

    def build():
        try:
            Small(root, True, "frame", custom_integrate_function=counted)
        except Exception as error:
            errors.append(error)

    os.environ[WORKERS] = "1"
    try:
        threads = [threading.Thread(target=build) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        del os.environ[WORKERS]
    assert not errors
    assert len(calls) == 8


def test_a_conversion_that_does_not_go_on_is_begun_anew(root):
    class Strict(Small):
        @staticmethod
        def create_events_np_files(extract_root, events_np_root):
            os.mkdir(os.path.join(events_np_root, "train"))
            if not (root / "again").exists():
                (root / "again").touch()
                raise KeyboardInterrupt
            os.rmdir(os.path.join(events_np_root, "train"))
            Small.create_events_np_files(extract_root, events_np_root)

    with pytest.raises(KeyboardInterrupt):
        Strict(root, True)
    assert len(Strict(root, True)) == 4


def test_the_hooks_of_the_newer_reference_are_called(root):
    class Newer(NeuromorphicDatasetFolder):
        @classmethod
        def get_H_W(cls):
            return H, W

        @classmethod
        def create_raw_from_extracted(cls, extract_root, raw_root):
            Small.create_events_np_files(extract_root / "train", raw_root / "mine")

        def get_root_when_train_is_none(self, _root):
            return _root / "mine"

    assert len(Newer(root)) == 4


def test_half_full_folders_of_others_are_told_of(root):
    Small(root, True, "frame", 2, "time")
    (root / "frames_number_2_split_by_time/train/b/1.npz").unlink()
    with pytest.warns(UserWarning, match="frames of 3 samples, but there are events of 4"):
        Small(root, True, "frame", 2, "time")
    (root / "frames_number_2_split_by_time.building").touch()
    with pytest.raises(datasets.ConversionError, match="SpikingJelly began to fill"):
        Small(root, True, "frame", 2, "time")


def test_folders_without_samples_are_refused_in_words(tmp_path):
    with pytest.raises(datasets.MissingFilesError, match=r"Small has no folder of recordings: .*extract\. Put"):
        Small(tmp_path)
    (tmp_path / "events_np").mkdir()
    with pytest.raises(datasets.MissingFilesError, match="has no folders of classes"):
        Small(tmp_path)
    (tmp_path / "events_np/a").mkdir()
    with pytest.raises(datasets.MissingFilesError, match="has no samples in its folders"):
        Small(tmp_path)
    with pytest.raises(datasets.MissingFilesError, match=r"has no part 'train': in .*events_np there is a\. If these"):
        Small(tmp_path, True)


def test_a_set_that_does_not_say_enough_is_refused(tmp_path):
    class Nothing(NeuromorphicDatasetFolder):
        pass

    with pytest.raises(
        NotImplementedError, match=r"create_events_np_files.* how the recordings .* for each class into .*events_np\.$"
    ):
        Nothing(tmp_path)
    assert list(tmp_path.iterdir()) == []
    np.savez(put(tmp_path, {"events_np/a/0.npz": b""}) / "events_np/a/0.npz", **recording(5, H, W))
    with pytest.raises(NotImplementedError, match="how large its sensor is"):
        Nothing(tmp_path, data_type="frame", frames_number=1, split_by="time")


@pytest.mark.parametrize("place", [".", "extract", "events_np.part"])
@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_samples_in_another_folder_are_found_and_told_where_they_belong(tmp_path, place, ending):
    class Plain(NeuromorphicDatasetFolder):
        @staticmethod
        def get_H_W():
            return H, W

    names = [f"{kind}/0{ending}" for kind in "ab"]
    put(tmp_path, {f"{place}/{name}": b"" for name in names})
    there = tmp_path / place
    for owner in (Plain, Small) if place == "." else (Plain,):
        with pytest.raises((NotImplementedError, datasets.MissingFilesError)) as refused:
            owner(tmp_path)
        assert f"folders are in {there}: a, b. Move them to {tmp_path / 'events_np'}." in str(refused.value)
    (tmp_path / "events_np").mkdir()
    for kind in "ab":
        (there / kind).rename(tmp_path / "events_np" / kind)
    assert Plain(tmp_path).classes == ["a", "b"]


def test_failures_of_one_kind_are_told_once(tmp_path):
    def load(path):
        raise ValueError(f"{path}: x = {Path(path).stem} is outside" if Path(path).stem != "7" else "it is torn")

    files = [(tmp_path / f"{n}.raw", tmp_path / f"{n}.npz") for n in range(30)]
    with pytest.raises(datasets.ConversionError) as refused:
        datasets.convert_files(load, files)
    assert str(refused.value).splitlines()[:3] == [
        "30 of 30 recordings could not be converted:",
        f"ValueError: {tmp_path}/0.raw: x = 0 is outside (28 more fail so)",
        f"{tmp_path}/7.raw: ValueError: it is torn",
    ]


def test_settings_hold_for_a_conversion_alone(root, monkeypatch):
    seen = []

    class Watching(Small):
        @staticmethod
        def create_events_np_files(extract_root, events_np_root):
            seen.append((os.environ.get(WORKERS), os.environ.get(COMPRESSED)))
            Small.create_events_np_files(extract_root, events_np_root)

    Watching(root, True, workers=1, compressed=False)
    assert seen == [("1", "0")]
    assert WORKERS not in os.environ
    assert COMPRESSED not in os.environ
    plain = (root / "events_np/train/a/0.npz").stat().st_size
    Small(root, True, "frame", 30, "time", compressed=False)
    assert (root / "frames_number_30_split_by_time/train/a/0.npz").stat().st_size > 30 * 2 * H * W * 8
    assert plain > 4 * EACH * 8
    monkeypatch.setenv(WORKERS, "none")
    with pytest.raises(datasets.OptionError, match=f"{WORKERS} must be a whole number above 0, but is 'none'"):
        Small(root, True, "frame", 31, "time")
    monkeypatch.setenv(WORKERS, "1")
    monkeypatch.setenv(COMPRESSED, "yes")
    with pytest.raises(datasets.ConversionError, match=f"{COMPRESSED} must be 0 or 1"):
        Small(root, True, "frame", 32, "time")


def test_a_process_that_is_ended_from_outside_is_told_of(root):
    Small(root, True)

    def falls(events, H, W):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(datasets.ConversionError, match="ended from outside, perhaps for want of memory"):
        Small(root, True, "frame", custom_integrate_function=falls, workers=2)


def test_the_bar_of_a_conversion(root, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    Small(root, True)
    assert "8/8, 0 s left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("frames_num", 12, r"takes no frames_num: write data_type='frame', frames_number=12, and split_by="),
        ("use_frame", True, "takes no use_frame: write data_type='frame'"),
        ("use_frame", False, "takes no use_frame: write data_type='event'"),
        ("normalization", "max", "normalise them in transform"),
        ("normalization", None, "takes no normalization: leave it out"),
        ("split_ratio", 0.8, r"datasets.split_to_train_test_set\(0.8, dataset, num_classes\)"),
        ("frame_number", 4, r"Did you mean frames_number\? It takes root, .*compressed\."),
    ],
)
def test_an_argument_of_an_older_age_is_refused_in_words(name, given, words, root):
    for cls in (Small, datasets.CIFAR10DVS, datasets.DVS128Gesture):
        with pytest.raises(TypeError, match=f"{cls.__name__}.*{words}"):
            cls(root, **{name: given})
    assert "others" not in inspect.signature(Small).parameters
