"""Every data set, from small files as they are published to samples; and the words where files are missing."""

import hashlib
import inspect
import io
import wave

import numpy as np
import pytest
import torch
from recordings import (
    atis_bin,
    cifar_aedat,
    gesture_files,
    put,
    recording,
    same,
    structured,
    tarred,
    td_dat,
    zipped,
)

from spikescope import datasets

SETS = [
    datasets.ASLDVS,
    datasets.Bullying10kClassification,
    datasets.CIFAR10DVS,
    datasets.CIFAR10DVSTEBNSplit,
    datasets.DVS128Gesture,
    datasets.DVSLip,
    datasets.ESImageNet,
    datasets.HARDVS,
    datasets.NAVGestureSit,
    datasets.NAVGestureWalk,
    datasets.NCaltech101,
    datasets.NMNIST,
    datasets.SpikingHeidelbergDigits,
    datasets.SpikingSpeechCommands,
]
DIVIDED = {
    datasets.Bullying10kClassification: {"train": True},
    datasets.CIFAR10DVSTEBNSplit: {"train": True},
    datasets.DVS128Gesture: {"train": True},
    datasets.DVSLip: {"train": True},
    datasets.ESImageNet: {"train": True},
    datasets.HARDVS: {"train_test_val": "val"},
    datasets.NMNIST: {"train": False},
    datasets.SpikingHeidelbergDigits: {"train": True},
    datasets.SpikingSpeechCommands: {"split": "valid"},
}
OFFLINE = "urllib.request.urlopen"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise OSError("there is no network in a test")

    monkeypatch.setattr(OFFLINE, refuse)


def npz(**arrays):
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def npy(values, **options):
    held = io.BytesIO()
    np.save(held, values, **options)
    return held.getvalue()


@pytest.mark.parametrize("kind", SETS)
def test_missing_files_are_named_with_their_address_folder_and_checksum(kind, tmp_path):
    with pytest.raises(datasets.MissingFilesError) as refused:
        kind(tmp_path, **DIVIDED.get(kind, {}))
    said = str(refused.value)
    assert str(tmp_path / "download") in said
    for name, url, md5 in kind.resource_url_md5():
        size = f", {kind.sizes[name]}" if name in getattr(kind, "sizes", {}) else ""
        assert f"{name} is missing; from {url}, MD5 {md5 or 'not published'}{size}\n" in f"{said}\n"
        assert md5 is None or len(bytes.fromhex(md5)) == 16
    assert ("A download was tried and failed (there is no network" in said) == kind.downloadable()
    assert isinstance(refused.value, NotImplementedError | FileNotFoundError)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == []


SHARED = [
    "data_type",
    "frames_number",
    "split_by",
    "duration",
    "custom_integrate_function",
    "custom_integrated_frames_dir_name",
    "transform",
    "target_transform",
]


@pytest.mark.parametrize("kind", [*SETS, datasets.NeuromorphicDatasetFolder])
def test_every_set_shows_its_arguments_in_the_documented_order(kind):
    shown = inspect.signature(kind).parameters
    part = list(DIVIDED.get(kind, {})) or ["train"] * (kind is datasets.NeuromorphicDatasetFolder)
    assert [*shown] == ["root", *part, *SHARED, "workers", "compressed"]
    assert all(argument in inspect.getdoc(kind.__init__) for argument in (*part, *SHARED, "workers", "compressed"))


@pytest.mark.parametrize("kind", SETS)
def test_arguments_may_be_given_by_place(kind, tmp_path):
    with pytest.raises(datasets.OptionError, match="'events'"):
        kind(tmp_path, *DIVIDED.get(kind, {}).values(), "events")


@pytest.mark.parametrize("kind", SETS)
def test_every_set_answers_what_the_reference_asks(kind):
    H, W = kind.get_H_W()
    assert W > 0
    assert H is None or H > 0
    assert isinstance(kind.downloadable(), bool)


@pytest.mark.parametrize("kind", [kind for kind, options in DIVIDED.items() if "split" not in options])
def test_a_divided_set_asks_for_its_part(kind, tmp_path):
    with pytest.raises(datasets.OptionError, match="but got None") as refused:
        kind(tmp_path, None)
    assert isinstance(refused.value, AssertionError)


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
        (b"class,start,end\n1,zero,5\n", "is no table"),
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


def test_es_imagenet_says_how_to_unpack_it(tmp_path):
    files = {"ES-imagenet-0.18.part01.rar": b"Rar!"}
    put(tmp_path / "download", files)
    with pytest.raises(datasets.MissingFilesError, match=r"unrar x .*part01\.rar .*extract/"):
        fetched(datasets.ESImageNet, files)(tmp_path, True)


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


def spikes_file(path, labels, number=40):
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = [recording(number + n, 1, 700, seed=n) for n in range(len(labels))]
    with h5py.File(path, "w") as file:
        for name, column, kind in (("times", "t", np.float16), ("units", "x", np.int64)):
            held = file.create_dataset(f"spikes/{name}", (len(labels),), h5py.vlen_dtype(kind))
            for n, sample in enumerate(samples):
                held[n] = (sample[column] / (1e5 if name == "times" else 1)).astype(kind)
        file["labels"] = np.array(labels, np.uint16)
    return samples


@pytest.mark.parametrize("place", ["extract", "events_h5"])  # the ages of the reference differ
def test_spiking_heidelberg_digits(place, tmp_path):
    samples = spikes_file(tmp_path / place / "shd_train.h5", [3, 19, 3])
    spikes_file(tmp_path / place / "shd_test.h5", [0])
    events, label = datasets.SpikingHeidelbergDigits(tmp_path, True)[1]
    assert (label, events["t"].dtype) == (19, np.float16)
    assert np.array_equal(events["x"], samples[1]["x"])
    frames = datasets.SpikingHeidelbergDigits(tmp_path, True, "frame", 5, "time")
    assert [name.split("/")[-3:] for name, _ in frames.samples] == [
        ["train", "3", "0.npz"],
        ["train", "3", "2.npz"],
        ["train", "19", "1.npz"],
    ]
    assert frames.targets == [3, 3, 19]
    assert np.array_equal(frames[2][0], datasets.integrate_spikes(events, 700, 5, "time"))
    assert frames.classes_number() == 20
    by_duration = datasets.SpikingHeidelbergDigits(tmp_path, False, "frame", duration=0.25)
    assert by_duration[0][0].sum() == 40


def test_spiking_speech_commands_and_a_function_of_ones_own(tmp_path):
    for part in ("train", "valid", "test"):
        spikes_file(tmp_path / f"extract/ssc_{part}.h5", [34, 1])

    def halves(h5_file, i, output_dir, W):
        counts = np.bincount(h5_file["spikes"]["units"][i], minlength=W)
        datasets.np_savez(f"{output_dir}/{h5_file['labels'][i]}/{i}", frames=np.stack([counts, counts]))

    held = datasets.SpikingSpeechCommands(tmp_path, "valid", "frame", custom_integrate_function=halves)
    assert held.targets == [1, 34]
    assert held[0][0].shape == (2, 700)
    assert (tmp_path / "halves/test/34/0.npz").exists()


def test_damaged_files_of_spikes_are_refused_in_words(tmp_path):
    h5py = pytest.importorskip("h5py")
    spikes_file(tmp_path / "extract/shd_train.h5", [3, 4])
    whole = (tmp_path / "extract/shd_train.h5").read_bytes()
    (tmp_path / "extract/shd_train.h5").write_bytes(whole[:500])
    with pytest.raises(datasets.FormatError, match=r"shd_train\.h5 cannot be read as HDF5"):
        datasets.SpikingHeidelbergDigits(tmp_path, True)
    (tmp_path / "extract/shd_train.h5").write_bytes(whole)
    with h5py.File(tmp_path / "extract/shd_train.h5", "r+") as file:
        del file["labels"]
        file["labels"] = np.zeros(5, np.uint16)
    with pytest.raises(datasets.FormatError, match="it has 5 labels, times of 2 samples"):
        datasets.SpikingHeidelbergDigits(tmp_path, True)
    with h5py.File(tmp_path / "extract/shd_train.h5", "r+") as file:
        del file["labels"]
    with pytest.raises(datasets.FormatError, match="lacks spikes/times"):
        datasets.SpikingHeidelbergDigits(tmp_path, True)


def write_wave(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.asarray(samples, "<i2").tobytes())


def test_speech_commands(tmp_path):
    place = tmp_path / "SpeechCommands/speech_commands_v0.02"
    for word, number in (("yes", 3), ("no", 2)):
        for n in range(number):
            write_wave(place / f"{word}/{n:02x}_nohash_0.wav", [0, 100, -200 * (n + 1), 50])
    write_wave(place / "_background_noise_/hum.wav", np.arange(100))
    (place / "validation_list.txt").write_text("yes/02_nohash_0.wav\n")
    (place / "testing_list.txt").write_text("no/01_nohash_0.wav\n")
    labels = {"yes": 0, "no": 1, "_silence_": 2}
    train = datasets.SPEECHCOMMANDS(labels, tmp_path, silence_cnt=2, silence_size=10)
    assert [label for _, label in train] == [1, 0, 0, 2, 2]
    assert train[0][0].tolist() == [[0.0, 0.5, -1.0, 0.25]]
    assert train[3][0].shape == (1, 10)
    assert torch.allclose(train.weights * 4, torch.tensor([2, 1, 1, 1, 1], dtype=torch.float64))
    assert [label for _, label in datasets.SPEECHCOMMANDS(labels, tmp_path, split="val")] == [0]
    assert len(datasets.SPEECHCOMMANDS(labels, tmp_path, split="test", transform=lambda x: x.sum())[0]) == 2
    with pytest.raises(datasets.MissingFilesError, match=r"speech_commands_v0\.01\.tar\.gz is missing; from https"):
        datasets.SPEECHCOMMANDS(labels, tmp_path, url="speech_commands_v0.01")
    (place / "yes/00_nohash_0.wav").write_bytes(b"RIFF")
    with pytest.raises(datasets.FormatError, match="cannot be read as WAV"):
        train[1]


def fetched(kind, files):
    """A data set whose published files are these."""

    class Fetched(kind):
        @staticmethod
        def resource_url_md5():
            return [(name, "https://example.org/files", hashlib.md5(held).hexdigest()) for name, held in files.items()]

    return Fetched


def test_from_published_archives_to_frames(tmp_path):
    events = recording(200)
    tree = gesture_files(
        {split: {f"{split}01": (events, [(n, 0, 90_000) for n in range(1, 12)])} for split in ("train", "test")}
    )
    files = {"DvsGesture.tar.gz": tarred(tree), "README.txt": b"read me"}
    kind = fetched(datasets.DVS128Gesture, files)
    put(tmp_path / "download", {"README.txt": b"read me"})
    with pytest.raises(datasets.MissingFilesError, match=r"DvsGesture\.tar\.gz is missing"):
        kind(tmp_path, True)
    put(tmp_path / "download", {"DvsGesture.tar.gz": files["DvsGesture.tar.gz"][:-5]})
    with pytest.raises(datasets.MissingFilesError, match=r"is there with [0-9,]+ bytes, but is another or was cut"):
        kind(tmp_path, True)
    assert (tmp_path / "download/DvsGesture.tar.gz").exists()  # nothing of the user's is deleted
    put(tmp_path / "download", files)
    held = kind(tmp_path, True, "frame", 2, "number")
    assert len(held) == 11
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "download",
        "events_np",
        "extract",
        "frames_number_2_split_by_number",
    ]


@pytest.mark.parametrize(
    ("kind", "name", "inner", "options"),
    [
        (datasets.NAVGestureWalk, "navgesture-walk.zip", {"a/a_le_1.dat": td_dat(recording(9, 240, 304))}, {}),
        (datasets.NAVGestureSit, "navgesture-sit.zip", {"a/a_le_1.dat": td_dat(recording(9, 240, 304))}, {}),
        (
            datasets.HARDVS,
            "MINI_HARDVS_files.zip",
            {"one.npz": npz(**recording(9, 260, 346))},
            {"train_test_val": "val"},
        ),
    ],
)
def test_archives_of_archives(kind, name, inner, options, tmp_path):
    packed = {"MINI_HARDVS_files/action_004.zip" if options else "people/a.zip": zipped(inner)}
    tables = {f"{split}_label.txt": b"action_004/one 3\n" for split in ("train", "val", "test")} if options else {}
    files = {name: zipped(packed), **tables}
    put(tmp_path / "download", files)
    with pytest.warns(UserWarning, match="has no samples of the classes"):
        assert len(fetched(kind, files)(tmp_path, **options)) == 1
    assert not list(tmp_path.glob("*.inside"))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_that_write_elsewhere_or_are_cut_are_refused(pack, tmp_path):
    ending = ".zip" if pack is zipped else ".tar.gz"
    whole = pack({"airplane/a.aedat": cifar_aedat(recording(5000))})
    for name, content in {"out": pack({"../escaped": b"x"}), "cut": whole[: len(whole) // 2]}.items():
        files = {name + ending: content}
        put(tmp_path / name / "download", files)
        with pytest.raises(datasets.FormatError, match=rf"{name}{ending}"):
            fetched(datasets.CIFAR10DVS, files)(tmp_path / name)
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "out/escaped").exists()


def test_a_download_is_kept_only_if_it_is_whole(tmp_path, monkeypatch):
    content = zipped({"airplane/a.aedat": cifar_aedat(recording(50))})
    kind = fetched(datasets.CIFAR10DVS, {"airplane.zip": content})
    monkeypatch.setattr(OFFLINE, lambda *_, **__: io.BytesIO(content[:-9]))
    with pytest.raises(datasets.MissingFilesError, match=r"tried and failed .what came from .* has the MD5"):
        kind(tmp_path)
    assert not list((tmp_path / "download").iterdir())
    monkeypatch.setattr(OFFLINE, lambda *_, **__: io.BytesIO(content))
    assert len(kind(tmp_path)) == 1
