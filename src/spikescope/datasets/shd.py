"""Spiking Heidelberg Digits and Spiking Speech Commands: words that a model of the cochlea hears, 700 units."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import Dataset

from .events import Array, StoredPath, columns
from .faults import FormatError, MissingFilesError, OptionError
from .folders.convert import run_jobs, under_construction
from .folders.options import Options, followed_by
from .folders.resources import Resource, require_files, unpack_all
from .folders.settings import COMPRESSED, WORKERS, setting
from .folders.storage import load_npz_frames, np_savez
from .formats import SpikesFile
from .frames.integrate import cal_fixed_frames_number_segment_index, duration_bounds, integrate_units

__all__ = ["SpikingHeidelbergDigits", "SpikingSpeechCommands", "integrate_spikes"]

SHD_N_CLASSES, SSC_N_CLASSES = 20, 35

UNITS = 700


def integrate_spikes(
    events: Any, W: int, frames_number: int | None = None, split_by: str | None = None, duration: float | None = None
) -> Array:
    """Frames `[T, W]` of one sample of a sensor of one line, with times in seconds that are not rounded.

    >>> import numpy as np
    >>> integrate_spikes({"t": np.array([0.0, 0.1, 0.9]), "x": np.array([1, 0, 1])}, 2, 2, "time").tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    t, x = columns(events, "tx")
    if frames_number is not None:
        left, right = cal_fixed_frames_number_segment_index(t, str(split_by), frames_number, whole=False)
    else:
        bounds = duration_bounds(t, 0 if duration is None else duration)
        left, right = bounds[:-1], bounds[1:]
    return integrate_units(x, W, left, right)


class SpikesInFiles(Dataset[Any]):
    """What the two sets share: a file of HDF5 a part, and frames as .npz files beside."""

    name: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    number_of_classes: ClassVar[int]

    def __init__(
        self,
        root: StoredPath,
        part: str,
        data_type: str = "event",
        frames_number: int | None = None,
        split_by: str | None = None,
        duration: float | None = None,
        custom_integrate_function: Callable[..., Any] | None = None,
        custom_integrated_frames_dir_name: str | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        *,
        workers: int | None = None,
        compressed: bool | None = None,
    ) -> None:
        owner, self.root = type(self).__name__, os.fspath(root)
        self.data_type, self.transform, self.target_transform = data_type, transform, target_transform
        self.frames_number, self.split_by, self.duration = frames_number, split_by, duration
        custom = custom_integrate_function, custom_integrated_frames_dir_name
        options = Options(owner, data_type, frames_number, split_by, duration, *custom)
        with setting(WORKERS, workers), setting(COMPRESSED, compressed):
            if not options.frames:
                self.spikes = self._spikes(part)
                self.targets = [int(label) for label in self.spikes.labels]
                return
            folder = Path(root) / options.folder
            with under_construction(folder) as draft:
                if draft is not None:
                    self._make_frames(draft, options)
        self.frames_np_root = os.fspath(folder)
        classes = [folder / part / str(label) for label in range(self.number_of_classes)]
        self.samples = [
            (os.fspath(file), label)
            for label, held in enumerate(classes)
            for file in sorted(held.glob("*.npz"), key=lambda file: (len(file.stem), file.stem))
        ]
        self.targets = [label for _, label in self.samples]
        if not self.samples:
            raise MissingFilesError(f"{folder / part} has no frames. Delete {folder}, and it is made anew.")

    def _extracted(self) -> Path:
        """The folder of the files of HDF5: where SpikingJelly's ages put them, or made from what was published."""
        root = Path(self.root)
        for place in (root / "extract", root / "events_h5"):
            if (place / f"{self.name}_{self.parts[0]}.h5").exists():
                return place
        with under_construction(root / "extract") as unpacked:
            if unpacked is not None:  # two at once download once
                require_files(type(self).__name__, root / "download", self.resource_url_md5(), self.downloadable())
                self.extract_downloaded_files(root / "download", unpacked)
        if not (root / "extract" / f"{self.name}_{self.parts[0]}.h5").exists():
            raise MissingFilesError(f"{root / 'extract'} has no {self.name}_{self.parts[0]}.h5. Put all parts there.")
        return root / "extract"

    def _spikes(self, part: str) -> SpikesFile:
        """The spikes of a part, with labels that are classes."""
        held = SpikesFile(self._extracted() / f"{self.name}_{part}.h5")
        labels, most = held.labels, self.number_of_classes - 1
        if labels.dtype.kind not in "iu" or (len(labels) and (labels.min() < 0 or labels.max() > most)):
            raise FormatError(f"{held.path} is damaged: labels must be whole numbers from 0 to {most}.")
        return held

    def _make_frames(self, draft: Path, options: Options) -> None:
        jobs: list[Any] = []
        for part in self.parts:
            spikes = self._spikes(part)
            for label in range(self.number_of_classes):
                (draft / part / str(label)).mkdir(parents=True, exist_ok=True)
            made = [draft / part / str(label) / f"{number}.npz" for number, label in enumerate(spikes.labels)]
            jobs += [
                (_integrate_sample, (spikes, number, options, file))
                for number, file in enumerate(made)
                if not file.exists()
            ]
        run_jobs(jobs, "samples")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        sample: Any
        if self.data_type == "event":
            sample, label = self.spikes[index], self.spikes.labels[index]
        else:
            file, label = self.samples[index]
            sample = load_npz_frames(file)
        if self.transform is not None:
            sample = self.transform(sample)
        return sample, label if self.target_transform is None else self.target_transform(label)

    def classes_number(self) -> int:
        """How many classes there are."""
        return self.number_of_classes

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        raise NotImplementedError

    @staticmethod
    def downloadable() -> bool:
        """Whether a program may fetch the files."""
        return True

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Unpack the published files."""
        unpack_all(download_root, extract_root)

    @staticmethod
    def get_W() -> int:
        """How many units the model of the cochlea has."""
        return UNITS

    @staticmethod
    def get_H_W() -> tuple[None, int]:
        """No height, and the number of units."""
        return None, UNITS


def _integrate_sample(spikes: SpikesFile, number: int, options: Options, file: Path) -> None:
    if options.frames_number is None and options.duration is None:
        assert options.custom is not None
        # a function of the user's own saves its frames itself, as <folder>/<label>/<number>.npz
        options.custom(spikes.opened(), number, os.fspath(file.parent.parent), UNITS)
        return
    try:
        frames = integrate_spikes(spikes[number], UNITS, options.frames_number, options.split_by, options.duration)
    except ValueError as error:
        raise type(error)(f"{spikes.path}, sample {number}: {error}") from error
    np_savez(file, frames=frames)


class SpikingHeidelbergDigits(SpikesInFiles):
    """Spiking Heidelberg Digits: digits in two languages, 20 classes, 8,156 samples for training and 2,264 for testing.

    - `train`: must be True or False.
    - `data_type`: `'event'` for dicts with `t` (seconds) and `x` (0 to 699), `'frame'` for frames `[T, 700]`.

    Durations are in seconds; a function of your own is called as `f(h5_file, index, folder, W)` and saves
    `<folder>/<label>/<index>.npz` itself. Needs h5py.

    Paper: B. Cramer et al., The Heidelberg spiking data sets for the systematic evaluation of spiking neural networks,
    IEEE TNNLS 2022.
    """

    name, parts, number_of_classes = "shd", ("train", "test"), SHD_N_CLASSES

    @followed_by(SpikesInFiles.__init__)
    def __init__(self, root: StoredPath, train: bool | None = None, *arguments: Any, **options: Any) -> None:
        """Make what is not there yet, and take the part for training or that for testing."""
        if train is None:
            raise OptionError("SpikingHeidelbergDigits is divided: train must be True or False, but got None.")
        if not isinstance(train, (bool, int)):
            raise OptionError(f"SpikingHeidelbergDigits: train must be True or False, but got {train!r}.")
        self.train = train
        super().__init__(root, "train" if train else "test", *arguments, **options)

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        host = "https://zenkelab.org/datasets"
        return [
            ("shd_train.h5.zip", f"{host}/shd_train.h5.zip", "f3252aeb598ac776c1b526422d90eecb"),
            ("shd_test.h5.zip", f"{host}/shd_test.h5.zip", "1503a5064faa34311c398fb0a1ed0a6f"),
        ]


class SpikingSpeechCommands(SpikesInFiles):
    """Spiking Speech Commands: 35 words, 700 units; `split` is `'train'`, `'valid'` or `'test'`.

    Otherwise as `SpikingHeidelbergDigits`.
    """

    name, parts, number_of_classes = "ssc", ("train", "valid", "test"), SSC_N_CLASSES

    @followed_by(SpikesInFiles.__init__)
    def __init__(self, root: StoredPath, split: str = "train", *arguments: Any, **options: Any) -> None:
        """Make what is not there yet, and take one part: `split` is `'train'`, `'valid'` or `'test'`."""
        if split not in self.parts:
            raise OptionError(f"SpikingSpeechCommands: split must be one of {self.parts}, but got {split!r}.")
        self.split = split
        super().__init__(root, split, *arguments, **options)

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        host = "https://zenkelab.org/datasets"
        return [
            (f"ssc_{part}.h5.zip", f"{host}/ssc_{part}.h5.zip", md5)
            for part, md5 in (
                ("train", "d102be95e7144fcc0553d1f45ba94170"),
                ("valid", "b4eee3516a4a90dd0c71a6ac23a8ae43"),
                ("test", "a35ff1e9cffdd02a20eb850c17c37748"),
            )
        ]
