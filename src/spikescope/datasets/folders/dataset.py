"""A data set of event recordings in folders: fetched, extracted, converted, integrated to frames, each once."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch.utils.data import Dataset

from ..events import StoredPath
from ..faults import MissingFilesError, OptionError
from .convert import run_jobs, under_construction
from .options import ARGUMENTS, Options, followed_by
from .resources import NO_SIZES, Resource, require_files, unpack_all
from .settings import COMPRESSED, WORKERS, setting
from .storage import load_events, load_npz_frames, np_savez
from .unknown import refuse_unknown, refusing_others

__all__ = ["NeuromorphicDatasetFolder", "SampleFolder", "UndividedDatasetFolder"]

SAMPLES = (".npz", ".npy")


class SampleFolder(Dataset[Any]):
    """Samples in files, a folder a class: `samples` are pairs of file and label, classes in alphabetical order."""

    def __init__(
        self,
        root: StoredPath,
        loader: Callable[[Any], Any],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        self.root, self.loader, self.extensions = os.fspath(root), loader, SAMPLES
        self.transform, self.target_transform = transform, target_transform
        if not os.path.isdir(self.root):
            raise MissingFilesError(
                f"There is no folder {self.root}. If a conversion was interrupted or another set was put here, delete "
                "the folder above it, and it is made anew; datasets.check says what is there."
            )
        there = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        self.classes = [name for name in there if names is None or name in names]
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples = [(file, label) for name, label in self.class_to_idx.items() for file in self._files_of(name)]
        self.targets = [label for _, label in self.samples]
        if not self.samples:
            raise MissingFilesError(
                f"{self.root} has {'no samples in its folders' if self.classes else 'no folders of classes'}. The "
                "conversion that made it was interrupted, or met nothing to convert: see datasets.check, and delete "
                "the folder to have it made anew."
            )
        filled = set(self.targets)
        if empty := [name for name, label in self.class_to_idx.items() if label not in filled]:
            warnings.warn(f"{self.root} has no samples of the classes {', '.join(empty)}.", stacklevel=3)

    def _files_of(self, name: str) -> list[str]:
        found = []
        for folder, _, files in sorted(os.walk(os.path.join(self.root, name), followlinks=True)):
            found += [os.path.join(folder, file) for file in sorted(files) if file.lower().endswith(SAMPLES)]
        return found

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        file, label = self.samples[index]
        sample, target = self.loader(file), label
        if self.transform is not None:
            sample = self.transform(sample)
        return sample, target if self.target_transform is None else self.target_transform(target)


class NeuromorphicDatasetFolder(SampleFolder):
    """The base of the data sets: a class of your own says where its files are, and how one recording is read.

    Under `root` are `download/` (the published files), `extract/`, `events_np/` (an .npz file a sample with `t`, `x`,
    `y`, `p`, or a .npy of a structured array with these fields), and a folder for each way of making frames:
    `frames_number_{T}_split_by_{how}/`, `duration_{d}/`, or one with the name of your function. What is there is used
    as it is, also if SpikingJelly made it; what is not is made, once, beside and then renamed.

    A set of your own gives `get_H_W` and `create_events_np_files`, and where it has files to be fetched,
    `resource_url_md5` (and `extract_downloaded_files`, where unpacking every archive is not all):

    >>> import numpy as np, tempfile
    >>> from spikescope.datasets import convert_files
    >>> class Blinks(NeuromorphicDatasetFolder):
    ...     @staticmethod
    ...     def get_H_W():
    ...         return 1, 2
    ...     @staticmethod
    ...     def create_events_np_files(extract_root, events_np_root):
    ...         for name, x in (("left", 0), ("right", 1)):
    ...             events = {"t": np.arange(4), "x": np.full(4, x), "y": np.zeros(4, int), "p": np.ones(4, int)}
    ...             convert_files(lambda _: events, [(name, Path(events_np_root) / name / "0.npz")])
    >>> with tempfile.TemporaryDirectory() as root:
    ...     frames, label = Blinks(root, data_type="frame", frames_number=2, split_by="time")[1]
    >>> frames.tolist(), label
    ([[[[0.0, 0.0]], [[0.0, 1.0]]], [[[0.0, 0.0]], [[0.0, 3.0]]]], 1)
    """

    divided: ClassVar[bool] = False
    """Whether the set is published in two parts, so that `train` must be given."""

    class_names: ClassVar[tuple[str, ...] | None] = None
    """The folders that are classes; None for all."""

    sizes: ClassVar[Mapping[str, str]] = NO_SIZES
    """How large published files are, in words, by their names, where that is known."""

    @refusing_others
    def __init__(
        self,
        root: StoredPath,
        train: bool | None = None,
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
        **others: Any,
    ) -> None:
        """Make what is not there yet.

        - `train`: the part for training or that for testing; None for a set that is not divided.
        """
        refuse_unknown(type(self), others)
        owner, place = type(self).__name__, Path(root)
        if train is not None and not isinstance(train, (bool, int)):
            raise OptionError(f"{owner}: train must be True, False or None, but got {train!r}.")
        if self.divided and train is None:
            raise OptionError(f"{owner} is divided: train must be True or False, but got None.")
        options = Options(
            owner,
            data_type,
            frames_number,
            split_by,
            duration,
            custom_integrate_function,
            custom_integrated_frames_dir_name,
        )
        with setting(WORKERS, workers), setting(COMPRESSED, compressed):
            chosen = self._prepare(place, options)
        held = chosen / ("train" if train else "test") if train is not None else Path(self._split_root(chosen))
        if train is not None and chosen.is_dir() and not held.is_dir():
            there = ", ".join(sorted(entry.name for entry in chosen.iterdir())) or "nothing"
            raise MissingFilesError(
                f"{owner} has no part {held.name!r}: in {chosen} there is {there}. If these are classes, the set is "
                f"not divided: leave train out. If another set was put here, delete {chosen}, and it is made anew."
            )
        load = load_npz_frames if options.frames else self.load_events_np
        super().__init__(held, load, transform, target_transform, self.class_names)
        if options.frames:
            self._compare_with_events(chosen, place / "events_np", held)

    assert __init__.__doc__ is not None
    __init__.__doc__ = f"{__init__.__doc__.rstrip()}\n{ARGUMENTS}"

    def _prepare(self, place: Path, options: Options) -> Path:
        """Make what is not there yet; the folder that is asked for."""
        events = place / "events_np"
        chosen = place / options.folder if options.frames else events
        if not options.frames or not chosen.exists():
            if not events.exists():
                self._check_placed(place)
            with under_construction(events) as draft:
                if draft is not None:
                    self._make_events(place, draft)
        if options.frames:
            with under_construction(chosen) as draft:
                if draft is not None:
                    self._make_frames(events, draft, options)
        return chosen

    def _check_placed(self, place: Path) -> None:
        """Refuse a set without events that has nothing to make them by, before anything is made."""
        if not self._converts():
            raise NotImplementedError(
                f"{type(self).__name__} has no create_events_np_files(extract_root, events_np_root), which says how "
                f"the recordings in {place / 'extract'} are converted. Files .npz or .npy with t, x, y, p need none: "
                f"put a folder of them for each class into {place / 'events_np'}.{_misplaced(place)}"
            )

    def _converts(self) -> bool:
        """Whether the class says how recordings are converted."""
        names = ("create_events_np_files", "create_raw_from_extracted")
        return any(getattr(type(self), name) is not getattr(NeuromorphicDatasetFolder, name) for name in names)

    def _make_events(self, place: Path, draft: Path) -> None:
        download, extract = place / "download", place / "extract"
        resources = self.resource_url_md5()
        if resources and not extract.exists():
            require_files(type(self).__name__, download, resources, self.downloadable(), self.sizes)
            with under_construction(extract) as unpacked:
                if unpacked is not None:
                    self.extract_downloaded_files(download, unpacked)
        try:
            self.create_raw_from_extracted(extract, draft)
        except FileExistsError:  # it does not go on with what is there: from the beginning
            for left in draft.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            self.create_raw_from_extracted(extract, draft)
        if not any(file.lower().endswith(SAMPLES) for _, _, files in os.walk(draft) for file in files):
            found = "found nothing to convert in" if extract.is_dir() else "has no folder of recordings:"
            raise MissingFilesError(
                f"{type(self).__name__} {found} {extract}. Put the recordings there.{_misplaced(place)}"
            )

    def _make_frames(self, events: Path, draft: Path, options: Options) -> None:
        H, W = self.get_H_W()
        jobs = []
        for folder, sources in self._sources(events):
            made = draft / folder.relative_to(events)
            made.mkdir(exist_ok=True)
            there = _by_source(made, options)
            jobs += [
                (_integrate_file, (source, self.load_events_np, options, H, W, made))
                for source in sources
                if source.stem not in there
            ]
        run_jobs(jobs, "samples")

    def _sources(self, root: Path) -> list[tuple[Path, list[Path]]]:
        """All folders under a folder, those that are no classes left out, and the samples in each."""
        names = self.class_names
        tops = [root] if names is None else [root / name for name in names if (root / name).is_dir()]
        return [
            (Path(folder), [Path(folder, file) for file in sorted(files) if file.lower().endswith(SAMPLES)])
            for top in tops
            for folder, _, files in sorted(os.walk(top, followlinks=True))
        ]

    def _split_root(self, root: Path) -> StoredPath:
        """The hook of either age by which a set without train and test chooses its own part."""
        newer = getattr(self, "get_root_when_train_is_none", None)
        return newer(root) if newer is not None else self.set_root_when_train_is_none(os.fspath(root))

    def set_root_when_train_is_none(self, _root: StoredPath) -> StoredPath:
        """The folder of the samples where `train` is None: all of them, unless a set says otherwise."""
        return _root

    def _compare_with_events(self, chosen: Path, events: Path, held: Path) -> None:
        """Warn of frames of fewer samples than there are events of, as an interrupted conversion leaves them."""
        source = events / held.relative_to(chosen) if held.is_relative_to(chosen) else events
        if not source.is_dir():
            return
        wanted, found = (sum(len(files) for _, files in self._sources(folder)) for folder in (source, held))
        if found < wanted:
            warnings.warn(
                f"{held} has frames of {found} samples, but there are events of {wanted}: the conversion that made it "
                f"was interrupted. Rename {chosen.name} to {chosen.name}.part; the next call makes the others, which "
                "datasets.check names.",
                stacklevel=3,
            )

    @staticmethod
    def load_events_np(fname: StoredPath) -> Any:
        """The events in a file of `events_np`."""
        return load_events(fname)

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        return []

    @staticmethod
    def downloadable() -> bool:
        """Whether a program may fetch the files."""
        return False

    @staticmethod
    def extract_downloaded_files(download_root: StoredPath, extract_root: StoredPath) -> None:
        """Unpack the published files."""
        unpack_all(Path(download_root), Path(extract_root))

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Convert the recordings to .npz files with `t`, `x`, `y`, `p`, for which there is `convert_files`."""
        raise NotImplementedError(
            f"A data set of your own says in create_events_np_files how the recordings in {extract_root} are converted."
        )

    def create_raw_from_extracted(self, extract_root: Any, raw_root: Any) -> None:
        """The same by its name of SpikingJelly 2.0."""
        self.create_events_np_files(extract_root, raw_root)

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        raise NotImplementedError("A data set of your own must say how large its sensor is.")


def _misplaced(place: Path) -> str:
    """Where there are folders of samples that nobody looks for, in words; nothing if there are none."""
    for there in (place, place / "extract", place / "events_np.part"):
        tops = sorted(path for path in there.glob("[!.]*/") if path.is_dir())
        names = [path.name for path in tops if any(file.suffix.lower() in SAMPLES for file in path.iterdir())]
        if names:
            return f" Such folders are in {there}: {', '.join(names)}. Move them to {place / 'events_np'}."
    return ""


def _by_source(made: Path, options: Options) -> set[str]:
    """The samples whose frames are there already."""
    by_duration = options.frames_number is None and options.duration is not None
    stems = [file.stem for file in made.glob("*.npz")]
    return {stem.rpartition("_")[0] if by_duration else stem for stem in stems}


def _integrate_file(source: Path, load: Callable[[Any], Any], options: Options, H: int, W: int, made: Path) -> None:
    frames = options.integrate(load(source), H, W)
    np_savez(made / options.file_name(source, frames), frames=frames)


class UndividedDatasetFolder(NeuromorphicDatasetFolder):
    """The base of the data sets that are not published in two parts; see `split_to_train_test_set`."""

    @followed_by(NeuromorphicDatasetFolder.__init__)
    def __init__(self, root: StoredPath, *arguments: Any, **options: Any) -> None:
        """Make what is not there yet."""
        if options.pop("train", None) is not None:
            raise TypeError(
                f"{type(self).__name__} takes no train: it is published in one part. Divide it with "
                "datasets.split_to_train_test_set(train_ratio, dataset, num_classes)."
            )
        super().__init__(root, None, *arguments, **options)
