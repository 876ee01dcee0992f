"""Laws over all data sets: the words where files are missing, and the documented arguments."""

import inspect

import pytest

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


PARTS = {"train", "train_test_val", "split"}
UNDIVIDED = [cls for cls in SETS if not PARTS & set(inspect.signature(cls).parameters)]


@pytest.mark.parametrize("cls", UNDIVIDED, ids=lambda cls: cls.__name__)
def test_a_part_of_what_is_published_in_one_is_refused_in_words(cls, tmp_path):
    for train in (True, False):
        with pytest.raises(TypeError, match=rf"{cls.__name__} takes no train: .* datasets\.split_to_train_test_set\("):
            cls(tmp_path, train=train)
    with pytest.raises(datasets.OptionError, match=f"{cls.__name__}: data_type must be one of"):
        cls(tmp_path, train=None, data_type="pictures")


@pytest.mark.parametrize(
    "cls", [datasets.DVS128Gesture, datasets.SpikingHeidelbergDigits], ids=lambda cls: cls.__name__
)
def test_a_part_is_true_or_false(cls, tmp_path):
    with pytest.raises(datasets.OptionError, match=rf"{cls.__name__}: train must be True.*but got 'test'"):
        cls(tmp_path, train="test")
