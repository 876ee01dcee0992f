"""Splitting, padding, masks, playing, folders of samples, transforms."""

import math
import sys

import numpy as np
import pytest
import torch
from recordings import put, recording, structured
from torch.utils.data import DataLoader, TensorDataset

from spikescope import datasets
from spikescope.datasets import to_x_rep
from spikescope.datasets.transform import NeuromorphicAugment


class Labels(torch.utils.data.Dataset):
    """Samples that may not be read, since the labels are known."""

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        raise AssertionError("a sample was read")


def test_splitting_takes_the_first_of_each_class_without_reading():
    train, test = datasets.split_to_train_test_set(0.4, Labels([1, 0, 1, 0, 1, 2]), 3)
    assert (train.indices, test.indices) == ([1, 0, 2, 5], [3, 4])
    assert datasets.fast_split_to_train_test_set is datasets.split_to_train_test_set


def test_splitting_at_random_is_by_the_generator_of_numpy():
    """The indices that SpikingJelly 0.0.0.0.14 draws from the same seed."""
    held = TensorDataset(torch.arange(12), torch.arange(12) % 2)
    np.random.seed(5)  # noqa: NPY002
    train, test = datasets.split_to_train_test_set(0.5, held, 2, random_split=True)
    assert (train.indices, test.indices) == RANDOM_SPLIT


RANDOM_SPLIT = ([10, 4, 8, 11, 3, 9], [2, 0, 6, 5, 1, 7])


def test_labels_that_are_changed_are_read():
    held = TensorDataset(torch.arange(4), torch.tensor([0, 1, 0, 1]))
    held.targets, held.target_transform = [5, 5, 5, 5], lambda y: y
    train, _ = datasets.split_to_train_test_set(0.5, held, 2)
    assert train.indices == [0, 1]


@pytest.mark.parametrize(("ratio", "classes", "said"), [(1.5, 3, "train_ratio must be"), (0.5, 2, "has the label 2")])
def test_splits_that_cannot_be_are_refused(ratio, classes, said):
    with pytest.raises(datasets.OptionError, match=said):
        datasets.split_to_train_test_set(ratio, Labels([0, 1, 2]), classes)


def test_sequences_of_unequal_lengths_in_a_batch():
    samples = [(torch.full((n, 2, 3), float(n)), n % 2) for n in (3, 1, 4)]
    (x, y, length), *_ = DataLoader(samples, batch_size=3, collate_fn=datasets.pad_sequence_collate)
    assert (x.shape, y.tolist(), length.tolist()) == ((3, 4, 2, 3), [1, 1, 0], [3, 1, 4])
    mask = datasets.padded_sequence_mask(length)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True] * 3, [True, False, True], [True, False, True], [False, False, True]]
    assert torch.equal(datasets.time_first(x)[..., 0, 0] != 0, mask)
    assert datasets.padded_sequence_mask(length, T=6).shape == (6, 3)


def test_steps_are_deleted_at_random_in_order_and_seeded():
    x = torch.arange(20).reshape(10, 2)
    np.random.seed(1)  # noqa: NPY002
    kept = datasets.RandomTemporalDelete(6, batch_first=False)(x)
    np.random.seed(1)  # noqa: NPY002
    wanted = np.sort(np.random.choice(10, 6, replace=False))  # noqa: NPY002
    assert kept[:, 0].tolist() == (2 * wanted).tolist()
    assert datasets.random_temporal_delete(x.T.numpy(), 4, batch_first=True).shape == (2, 4)
    assert repr(datasets.RandomTemporalDelete(6, False)) == "RandomTemporalDelete(T_remain=6, batch_first=False)"
    for number in (0, 11):
        with pytest.raises(datasets.OptionError, match="T_remain must be from 1 to the number of steps, 10"):
            datasets.random_temporal_delete(x, number, batch_first=False)


@pytest.mark.parametrize("scale", [1, 3])
def test_a_video_has_its_frames_and_colours(scale, tmp_path):
    av = pytest.importorskip("av")
    frames = np.zeros((5, 2, 9, 17))
    frames[:, 0, :, :8] = 2  # OFF, green
    frames[3:, 1, :, 8:] = 2  # ON, blue
    datasets.play_frame(frames, tmp_path / "clip.mp4", scale=scale, seconds=0.25)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        shown = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert float(clip.streams.video[0].average_rate) == 4
    even = scale * 9 + scale % 2, scale * 17 + scale % 2
    assert [picture.shape for picture in shown] == [(*even, 3)] * 5
    left, right = shown[4][2, 2], shown[4][2, 12 * scale]
    assert left[1] > 180 > 60 > max(left[0], left[2])
    assert right[2] > 180 > 60 > max(right[0], right[1])
    assert shown[0][2, 12 * scale].max() < 60


def test_a_video_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"MP4 files need the package av.*\[video\]"):
        datasets.save_as_video(np.zeros((1, 2, 3, 4)), tmp_path / "clip.mp4")
    assert not (tmp_path / "clip.mp4").exists()


def test_a_gif_has_its_frames_and_colours(tmp_path):
    image = pytest.importorskip("PIL.Image")
    frames = torch.zeros(3, 2, 4, 5)
    frames[0, 0, 1, 2], frames[1, 1, 3, 4], frames[2, 0, 0, 0] = 2, 2, 1
    datasets.play_frame(frames, tmp_path / "clip.gif", scale=2)
    with image.open(tmp_path / "clip.gif") as clip:
        assert (clip.n_frames, clip.size) == (3, (10, 8))
        pictures = []
        for n in range(3):
            clip.seek(n)
            pictures.append(np.asarray(clip.convert("RGB")).astype(int))
    assert pictures[0][2, 4].tolist() == [0, 255, 0]
    assert pictures[1][7, 9].tolist() == [0, 0, 255]
    assert pictures[2][0, 0].tolist() == [0, 128, 0]


def test_pictures_and_a_window(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    frames = recording_frames()
    datasets.save_as_pic(frames, tmp_path / "made", "clip")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["clip_0.png", "clip_1.png"]
    datasets.play_frame(frames, seconds=0.001)  # without a window: once
    assert not pyplot.get_fignums()
    with pytest.raises(datasets.EventsError, match=r"\[T, 2, H, W\], but got \[2, 8, 8\]"):
        datasets.play_frame(frames[0], tmp_path / "no.gif")


def recording_frames():
    return datasets.integrate_events_by_fixed_frames_number(recording(100, 8, 8), "number", 2, 8, 8)


def test_folders_and_parts_of_data_sets(tmp_path):
    put(tmp_path, {f"whole/train/{label}/{n}.npz": b"x" for label in "ab" for n in range(4)})
    put(tmp_path, {"whole/train/c/0.npz": b"x"})
    datasets.create_same_directory_structure(tmp_path / "whole", tmp_path / "same")
    assert sorted(str(path.relative_to(tmp_path / "same")) for path in (tmp_path / "same").rglob("*")) == [
        "train",
        "train/a",
        "train/b",
        "train/c",
    ]
    with pytest.warns(UserWarning, match="is none"):
        datasets.create_sub_dataset(tmp_path / "whole", tmp_path / "part", 0.5)
    made = sorted((tmp_path / "part").rglob("*.npz"))
    assert [path.name for path in made] == ["0.npz", "1.npz"] * 2
    assert all(path.is_symlink() and path.read_bytes() == b"x" for path in made)
    datasets.create_sub_dataset(tmp_path / "whole", tmp_path / "copy", 1.0, use_soft_link=False, randomly=True)
    made = list((tmp_path / "copy").rglob("*.npz"))
    assert len(made) == 9
    assert not any(path.is_symlink() for path in made)
    with pytest.raises(datasets.OptionError, match="ratio must be above 0"):
        datasets.create_sub_dataset(tmp_path / "whole", tmp_path / "none", 0)


def frames_of_any_kind():
    x = np.arange(2 * 2 * 6 * 8, dtype=np.float32).reshape(2, 2, 6, 8)
    return [x, torch.from_numpy(x)]


@pytest.mark.parametrize("x", frames_of_any_kind(), ids=["array", "tensor"])
def test_frames_flip_roll_and_crop(x):
    assert np.array_equal(datasets.FlipHorizontally(1.0)(x), np.asarray(x)[..., ::-1])
    assert datasets.FlipHorizontally(0.0)(x) is x
    torch.manual_seed(0)
    rolled = np.asarray(datasets.Roll(3)(x))
    wanted = [np.roll(np.asarray(x), (a, b), (-2, -1)) for a in range(-3, 4) for b in range(-3, 4)]
    assert any(np.array_equal(rolled, other) for other in wanted)
    assert np.array_equal(datasets.CenterCrop(4, 2)(x), np.asarray(x)[..., 1:5, 3:5])
    with pytest.raises(datasets.OptionError, match="9 x 2 is larger than the frames, 6 x 8"):
        datasets.CenterCrop(9, 2)(x)


def test_events_flip_and_become_frames():
    events = recording(200, 6, 8)
    for held in (events, structured(events)):
        flipped = datasets.FlipHorizontally(1.0, W=8)(held)
        assert np.array_equal(flipped["x"], 7 - events["x"])
        frames = datasets.Compose([datasets.ToFrames(6, 8, 3, "time"), datasets.ToTensor()])(held)
        assert (frames.dtype, frames.sum()) == (torch.float32, 200)
    assert datasets.ToFrames(6, 8, duration=30_000)(events).sum() == 200
    with pytest.raises(datasets.OptionError, match="one of frames_number and duration"):
        datasets.ToFrames(6, 8)


def test_events_are_dropped_by_each_way_and_as_seeded():
    events, ways = recording(400, 12, 16), set()
    for seed in range(40):
        torch.manual_seed(seed)
        kept = datasets.EventDrop(12, 16)(events)
        torch.manual_seed(seed)
        again = datasets.EventDrop(12, 16)(structured(events))
        assert all(np.array_equal(kept[name], again[name]) for name in "txyp")
        lost = np.isin(events["t"], kept["t"], invert=True)
        assert (np.diff(kept["t"]) >= 0).all()
        if not lost.any():
            ways.add("none")
        elif np.ptp(np.flatnonzero(lost)) + 1 == lost.sum():
            ways.add("time")
        else:
            x, y = events["x"][lost], events["y"][lost]
            ways.add("area" if np.ptp(x) < 15 and np.ptp(y) < 11 else "random")
    assert ways == {"none", "time", "area", "random"}
    empty = {name: values[:0] for name, values in events.items()}
    assert len(datasets.EventDrop(12, 16)(empty)["t"]) == 0


def test_augmented_frames_have_the_same_kind_of_counts():
    frames, seen = recording_frames(), set()
    for seed in range(30):
        torch.manual_seed(seed)
        made = NeuromorphicAugment(roll=2, cut=3)(frames)
        assert made.shape == frames.shape
        assert torch.equal(made, made.round())
        assert made.sum() <= 1.5 * frames.sum()
        seen.add(tuple(made.flatten().tolist()))
    assert len(seen) > 10
    for odd in (90, 180, -15.0):
        torch.manual_seed(0)
        assert all(NeuromorphicAugment(degrees=odd)(frames).shape == frames.shape for _ in range(10))
    torch.manual_seed(4)
    nothing = NeuromorphicAugment(roll=0, degrees=0.0, shear=0.0, cut=0)
    whole, turned = (torch.from_numpy(held.copy()).float() for held in (frames, frames[..., ::-1]))
    for _ in range(20):
        made = nothing(frames)
        assert torch.equal(made, whole) or torch.equal(made, turned)
    still = NeuromorphicAugment(roll=0, degrees=0.0, shear=0.0, cut=1)
    torch.manual_seed(4)
    assert any(torch.equal(still(frames), torch.from_numpy(frames).float()) for _ in range(10))


class ElsewhereArray(np.ndarray):
    """An array of another library, whose device is none of PyTorch's."""

    device = property(lambda self: object())


def test_what_other_libraries_call_a_device_is_not_asked():
    held = recording_frames().view(ElsewhereArray)
    assert torch.equal(datasets.ToTensor()(held), torch.from_numpy(recording_frames()).float())
    assert NeuromorphicAugment()(held).device.type == "cpu"
    x, y, length = datasets.pad_sequence_collate([(held, 0), (held[:1], 1)])
    assert (x.device.type, y.tolist(), length.tolist()) == ("cpu", [0, 1], [len(held), 1])


@pytest.mark.parametrize("label", [torch.eye(3)[0], 0.5, torch.tensor(1.7), math.nan, math.inf, None, "one"], ids=str)
def test_a_label_that_is_no_class_is_refused_in_words(label):
    with pytest.raises(ValueError, match=r"(?s)Sample 1 has the label .*, which is no number of a class"):
        datasets.split_to_train_test_set(0.5, [(0, 1), (0, label)], 3)


OPTIONS = {
    "FlipHorizontally: p": lambda: datasets.FlipHorizontally(1.5),
    "FlipHorizontally: W": lambda: datasets.FlipHorizontally(W=0),
    "Roll: most": lambda: datasets.Roll(-1),
    "CenterCrop: height": lambda: datasets.CenterCrop(-3, 2),
    "CenterCrop: width": lambda: datasets.CenterCrop(3, 2.5),
    "EventDrop: H": lambda: datasets.EventDrop(0, 8),
    "EventDrop: most": lambda: datasets.EventDrop(8, 8, 1.5),
    "ToFrames: H": lambda: datasets.ToFrames(-1, 8, 4),
    "ToFrames: split_by": lambda: datasets.ToFrames(8, 8, 4, "events"),
    "NeuromorphicAugment: cut": lambda: NeuromorphicAugment(cut=-1),
    "NeuromorphicAugment: degrees": lambda: NeuromorphicAugment(degrees=math.nan),
    "NeuromorphicAugment: shear": lambda: NeuromorphicAugment(shear=math.inf),
    "in whole events": lambda: to_x_rep.SliceByEventCount(4, 0.5).get_slice_metadata({"t": np.arange(9)}, None),
}


@pytest.mark.parametrize("words", OPTIONS)
def test_options_of_transforms_are_checked_when_they_are_made(words):
    with pytest.raises(ValueError, match=words.replace(": ", ".*")):
        OPTIONS[words]()


def test_events_that_are_not_on_the_sensor_are_not_flipped():
    events = recording(50, 6, 8)
    with pytest.raises(datasets.EventsError, match="x must be from 0 to 3"):
        datasets.FlipHorizontally(1.0, W=4)(events)
