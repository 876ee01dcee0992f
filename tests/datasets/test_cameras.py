"""Data sets of event cameras, from small files as they are published to samples."""

import numpy as np
import pytest
from recordings import (
    atis_bin,
    cifar_aedat,
    gesture_files,
    npy,
    npz,
    put,
    recording,
    same,
    structured,
    td_dat,
)

from spikescope import datasets


def test_cifar10_dvs_is_divided_as_in_the_paper_on_tebn(tmp_path):
    numbers = [*range(97, 103), 999]
    held = {
        f"{name}/cifar10_{name}_{n}.aedat": cifar_aedat(recording(20, seed=n))
        for n in numbers
        for name in datasets.CIFAR10DVS_CLASS_NAMES
    }
    put(tmp_path / "extract", held)
    asked = {"data_type": "frame", "duration": 40_000}  # their names end with one more number
    train, test = (datasets.CIFAR10DVSTEBNSplit(tmp_path, part, **asked) for part in (True, False))
    assert (len(train), len(test)) == (40, 30)
    assert train.targets == [label for label in range(10) for _ in range(4)]
    assert {"cifar10_bird_97", "cifar10_bird_99"} <= {
        name.split("/")[-1].rpartition("_")[0] for name, _ in test.samples
    }
    for part, chosen in (("test", numbers[:3]), ("train", numbers[3:])):  # the links that SpikingJelly makes inside
        for name in datasets.CIFAR10DVS_CLASS_NAMES:
            folder = tmp_path / "events_np" / part / name
            folder.mkdir(parents=True)
            for n in chosen:
                (folder / f"cifar10_{name}_{n}.npz").symlink_to(folder.parents[1] / name / f"cifar10_{name}_{n}.npz")
    assert len(datasets.CIFAR10DVS(tmp_path)) == 70
    assert len(datasets.CIFAR10DVSTEBNSplit(tmp_path, False, "frame", 2, "time")) == 30
    assert sorted(path.name for path in (tmp_path / "frames_number_2_split_by_time").iterdir()) == sorted(
        datasets.CIFAR10DVS_CLASS_NAMES
    )
    (tmp_path / "events_np" / "bird" / "mine.npz").write_bytes(npz(**recording(5)))
    with pytest.raises(datasets.FormatError, match=r"must be cifar10_<class>_<number>\.npz"):
        datasets.CIFAR10DVSTEBNSplit(tmp_path)


def test_dvs128_gesture(tmp_path):
    a, b = recording(600, seed=1), recording(400, seed=2)
    rows = [(3, 0, 30_000), (11, 20_000, 60_000), (3, 60_000, 99_999)]
    files = gesture_files({"train": {"user01_lab": (a, rows)}, "test": {"user24_led": (b, [(1, 10, 50_000)])}})
    put(tmp_path / "extract", files)
    with pytest.warns(UserWarning, match="has no samples of the classes 0, 1, 3"):
        train = datasets.DVS128Gesture(tmp_path, train=True)
    names = [name.removeprefix(str(tmp_path / "events_np" / "train")) for name, _ in train.samples]
    assert names == ["/10/user01_lab_0.npz", "/2/user01_lab_0.npz", "/2/user01_lab_1.npz"]
    assert train.targets == [2, 3, 3]  # of the folders in alphabetical order: 0, 1, 10, 2, ...
    for (sample, _), (_, start, end) in zip((train[n] for n in (1, 0, 2)), rows, strict=True):
        inside = (a["t"] >= start) & (a["t"] < end)
        same(sample, {name: values[inside] for name, values in a.items()})
    with pytest.warns(UserWarning, match="no samples"):
        frames, label = datasets.DVS128Gesture(tmp_path, False, "frame", 4, "number")[0]
    assert (frames.shape, frames.dtype, frames.sum(), label) == (
        (4, 2, 128, 128),
        np.float32,
        (b["t"] < 50_000).sum(),
        0,
    )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"class,start,end\n12,0,5\n", "1 to 11"),
        (b"class,start,end\n1,0\n", "rows of class"),
        (b"class,start,end\n1,zero,5\n", "is not a table"),
    ],
)
def test_a_damaged_table_of_gestures_is_named(table, said, tmp_path):
    files = gesture_files({"train": {"user01_lab": (recording(60), [(1, 0, 9)])}, "test": {}})
    put(tmp_path / "extract", files | {"DvsGesture/user01_lab_labels.csv": table})
    with pytest.raises(datasets.ConversionError, match=said) as refused:
        datasets.DVS128Gesture(tmp_path, train=True)
    assert "user01_lab_labels.csv" in str(refused.value)


def test_cifar10_dvs(tmp_path):
    files = {f"{name}/cifar10_{name}_{n}.aedat": recording(90, seed=n) for name in ("cat", "truck") for n in (0, 1)}
    put(tmp_path / "extract", {name: cifar_aedat(events) for name, events in files.items()})
    held = datasets.CIFAR10DVS(tmp_path)
    assert held.class_to_idx == {"cat": 0, "truck": 1}
    for (sample, _), events in zip(held, files.values(), strict=True):
        same(sample, events)
    assert held[0][0]["t"].dtype == ">u4"  # as the caches of the reference have it


def test_n_mnist_and_n_caltech101(tmp_path):
    events = recording(80, 34, 34, last=2**18)
    put(tmp_path / "a/extract", {f"{split}/7/00001.bin": atis_bin(events) for split in ("Train", "Test")})
    for train in (True, False):
        held = datasets.NMNIST(tmp_path / "a", train)
        assert held.classes == ["7"]
        same(held[0][0], events)
    events = recording(80, 180, 240, last=2**18)
    put(tmp_path / "b/extract", {"Caltech101/airplanes/image_0001.bin": atis_bin(events)})
    frames, _ = datasets.NCaltech101(tmp_path / "b", "frame", duration=50_000)[0]
    assert frames.shape[1:] == (2, 180, 240)
    assert [path.name for path in (tmp_path / "b/duration_50000/airplanes").iterdir()] == [
        f"image_0001_{len(frames)}.npz"
    ]


def test_asl_dvs(tmp_path):
    matlab = pytest.importorskip("scipy.io")
    events = recording(80, 180, 240)
    turned = {"ts": events["t"], "x": 239 - events["x"], "y": 179 - events["y"], "pol": events["p"]}
    (tmp_path / "extract/a").mkdir(parents=True)
    matlab.savemat(tmp_path / "extract/a/a_0001.mat", {name: values[:, None] for name, values in turned.items()})
    same(datasets.ASLDVS(tmp_path)[0][0], events)


@pytest.mark.parametrize("kind", [datasets.NAVGestureSit, datasets.NAVGestureWalk])
def test_nav_gesture(kind, tmp_path):
    events = recording(80, 240, 304)
    events["t"] -= events["t"][0]
    turned = td_dat(events | {"y": 239 - events["y"]})
    names = [f"br/br_{label}_1_td.dat" for label in ("le", "ri", "up", "do", "ho", "se")]
    put(tmp_path / "extract", dict.fromkeys(names, turned))
    held = kind(tmp_path)
    assert held.classes == ["do", "ho", "le", "ri", "se", "up"]
    same(held[3][0], events)
    put(tmp_path / "other/extract", {"br/unnamed.dat": turned})
    with pytest.raises(datasets.FormatError, match="has no gesture"):
        kind(tmp_path / "other")


def test_es_imagenet(tmp_path):
    table = np.array([[3, 5, 2], [4, 6, 1], [5, 7, 3]])
    sample = npz(pos=table[:2], neg=table[2:])
    files = {"train/class0/a.npz": sample, "train/class7/b.npz": sample, "val/c.npz": sample, "val/d.npz": sample}
    files = {f"ES-imagenet-0.18/{name}": content for name, content in files.items()}
    files["ES-imagenet-0.18/vallabel.txt"] = b"c.npz 7 word\nd.npz 0 word\n"
    put(tmp_path / "extract", files)
    assert datasets.ESImageNet(tmp_path, True).targets == [0, 1]
    test = datasets.ESImageNet(tmp_path, False, "frame", 1, "time")
    assert [name.rsplit("/", 2)[1:] for name, _ in test.samples] == [["class0", "d.npz"], ["class7", "c.npz"]]
    assert test[0][0][0, 1, 4, 6] == test[0][0][0, 1, 3, 5] == test[0][0][0, 0, 5, 7] == 1
    events, _ = datasets.ESImageNet(tmp_path, False)[0]
    assert {name: values.tolist() for name, values in events.items()} == {
        "t": [1, 2, 3],
        "x": [6, 5, 7],
        "y": [4, 3, 5],
        "p": [1, 1, 0],
    }


def test_hardvs(tmp_path):
    events = recording(60, 260, 346)
    names = {"train": "action_001/one", "val": "action_300/two", "test": "action_002/three"}
    files = {f"{split}_label.txt": f"{name} 0\n\n".encode() for split, name in names.items()}
    put(tmp_path / "extract", files | {f"{name}.npz": npz(**events) for name in names.values()})
    for split, label in (("train", 0), ("val", 299), ("test", 1)):
        with pytest.warns(UserWarning, match="has no samples"):
            held = datasets.HARDVS(tmp_path, split)
        assert held.targets == [label]
        same(held[0][0], events)
    put(tmp_path / "other/extract", files | {"val_label.txt": b"../../etc/passwd 0\n"})
    put(tmp_path / "other/extract", {"action_001/one.npz": npz(**events)})
    with pytest.raises(datasets.FormatError, match=r"names '\.\./\.\./etc/passwd'"):
        datasets.HARDVS(tmp_path / "other", "val")


def test_dvs_lip(tmp_path):
    events = recording(60)
    put(tmp_path / "extract/DVS-Lip", {f"{split}/about/0.npy": npy(structured(events)) for split in ("train", "test")})
    sample, label = datasets.DVSLip(tmp_path, True)[0]
    assert label == 0
    assert np.array_equal(sample, structured(events))
    assert datasets.DVSLip(tmp_path, False, "frame", 3, "time")[0][0].sum() == 60


def test_bullying10k(tmp_path):
    events = recording(20, 260, 346)
    rows = [(*(int(events[name][n]) for name in "txyp"), 0) for n in range(20)]
    held = np.empty(2, object)
    held[:] = [rows[:5], rows[5:]]
    files = {f"kicking/{n}/{n}.npy": npy(held, allow_pickle=True) for n in range(6)}
    put(tmp_path / "extract", files)
    with pytest.warns(UserWarning, match="has no samples"):
        train = datasets.Bullying10kClassification(tmp_path)
    with pytest.warns(UserWarning, match="has no samples"):
        test = datasets.Bullying10kClassification(tmp_path, train=False)
    assert [name.rsplit("/", 1)[1] for name, _ in test.samples] == ["0.npz", "5.npz"]
    assert train.targets == [9] * 4
    same(train[0][0], events)


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("run",))

    held = np.empty(1, object)
    held[0] = Bomb()
    put(tmp_path, {"a.npy": npy(held, allow_pickle=True)})
    with pytest.raises(datasets.FormatError, match=r"asks for builtins\.print, which is not run"):
        datasets.Bullying10kClassification.load_origin_data(tmp_path / "a.npy")


def test_recordings_that_would_become_the_same_file_are_told_and_the_first_is_taken(tmp_path):
    for time, folder in enumerate("abc"):  # the first of five is for testing
        held = np.empty(1, object)
        held[:] = [[(time, 2, 3, 0)]]
        put(tmp_path / "extract", {f"kicking/{folder}/1.npy": npy(held, allow_pickle=True)})
    with (
        pytest.warns(UserWarning, match=r"1 of 3 recordings have the name of another .*c/1\.npy\."),
        pytest.warns(UserWarning, match="no samples of the classes"),
    ):
        held = datasets.Bullying10kClassification(tmp_path, workers=1)
    assert held[0][0]["t"].tolist() == [1]
