"""CIFAR10-DVS: 10,000 pictures of CIFAR-10, moved before an event camera of 128 x 128 pixels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .events import Array, StoredPath
from .faults import FormatError, OptionError
from .folders.dataset import NeuromorphicDatasetFolder, UndividedDatasetFolder
from .folders.options import followed_by
from .folders.recordings import convert_tree
from .folders.resources import Resource
from .formats import load_aedat2

__all__ = ["CIFAR10DVS", "CIFAR10DVS_CLASS_NAMES", "CIFAR10DVSTEBNSplit"]

FILES = (
    ("airplane", 7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    ("automobile", 7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    ("bird", 7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    ("cat", 7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    ("deer", 7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    ("dog", 7712818, "f379ebdf6703d16e0a690782e62639c3"),
    ("frog", 7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    ("horse", 7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    ("ship", 7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    ("truck", 7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
)
CIFAR10DVS_CLASS_NAMES = tuple(name for name, _, _ in FILES)
TESTED = 100
"""Samples of each class for testing, by the division of the paper on TEBN."""


class CIFAR10DVS(UndividedDatasetFolder):
    """CIFAR10-DVS: 10 classes of 1,000 samples, 128 x 128, AEDAT 2.0; no official division (`split_to_train_test_set`).

    Paper: H. Li et al., CIFAR10-DVS: an event-stream dataset for object classification, Frontiers in Neuroscience 2017.
    """

    class_names = CIFAR10DVS_CLASS_NAMES

    @staticmethod
    def resource_url_md5() -> list[Resource]:
        """The published files: name, address and MD5 of each."""
        return [(f"{name}.zip", f"https://ndownloader.figshare.com/files/{number}", md5) for name, number, md5 in FILES]

    @staticmethod
    def downloadable() -> bool:
        """Whether a program may fetch the files."""
        return True

    @staticmethod
    def load_origin_data(file_name: StoredPath) -> dict[str, Array]:
        """The events of a recording: bit 0 of an address is 1 for OFF, 1 to 7 are x, 8 to 14 are y, both turned."""
        held = load_aedat2(file_name)
        address = held["address"]
        return {
            "t": held["t"],
            "x": 127 - ((address & 0x7F00) >> 8),
            "y": 127 - ((address & 0xFE) >> 1),
            "p": 1 - (address & 1).astype(int),
        }

    @staticmethod
    def create_events_np_files(extract_root: StoredPath, events_np_root: StoredPath) -> None:
        """Convert the recordings, a folder a class."""
        convert_tree(CIFAR10DVS.load_origin_data, Path(extract_root), events_np_root, ".aedat")

    @staticmethod
    def get_H_W() -> tuple[int, int]:
        """Height and width of the sensor."""
        return 128, 128


class CIFAR10DVSTEBNSplit(CIFAR10DVS):
    """CIFAR10-DVS divided as in the paper below: samples 0 to 99 of a class are for testing, the others for training.

    Accuracies on this division are above those on a random one: compare like with like.

    Paper: C. Duan et al., Temporal effective batch normalization in spiking neural networks, NeurIPS 2022.
    """

    @followed_by(NeuromorphicDatasetFolder.__init__)
    def __init__(self, root: StoredPath, train: bool | None = True, *arguments: Any, **options: Any) -> None:
        """Make what is not there yet, and take the part for training or that for testing."""
        if train is None:
            raise OptionError("CIFAR10DVSTEBNSplit is divided: train must be True or False, but got None.")
        super().__init__(root, *arguments, **options)
        self.samples = [sample for sample in self.samples if (_number(sample[0]) >= TESTED) == bool(train)]
        self.targets = [label for _, label in self.samples]


def _number(file: str) -> int:
    """The number of a sample, `cifar10_<class>_<number>`, which frames by duration end with one more."""
    found = re.match(r"cifar10_[a-z]+_(\d+)", Path(file).name)
    if found is None:
        raise FormatError(f"The name of {file} must be cifar10_<class>_<number>.npz to tell the part that it is of.")
    return int(found[1])
