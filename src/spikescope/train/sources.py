"""Data by name: what a recipe can ask for, each a function that gives the parts to train and to test on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from .. import datasets
from ..datasets.batches import split_to_train_test_set
from ..errors import UnknownNameError, check_choice, did_you_mean, missing_extra
from ..files import open_regular

__all__ = ["SOURCES", "Source", "Split", "by_import", "load_data"]


@dataclass(frozen=True)
class Split:
    """Data to train and to test on: two objects with `len()` and `[index]`, which gives a sample and its class.

    - `classes`: how many there are.
    - `sequences`: whether a sample is a sequence `[T, *]` already; else it is one frame, shown `T` times.
    """

    train: Any
    test: Any
    classes: int
    sequences: bool = False

    def __post_init__(self) -> None:
        for part, samples in (("train", self.train), ("test", self.test)):
            if not len(samples):
                raise ValueError(f"Split: the {part} part has no samples. Look whether root is the folder of the data.")


@dataclass(frozen=True)
class Source:
    """A row of the table: `load(root, T, **options)` gives a `Split`; `words` say what it is and what root means."""

    load: Callable[..., Split]
    words: str


def _digits(root: str | None, T: int) -> Split:
    from .demo.digits import load_digits

    held = load_digits()
    return Split(TensorDataset(held.x_train, held.y_train), TensorDataset(held.x_test, held.y_test), 10)


def _arrays(root: str | None, T: int) -> Split:
    """`x_train`, `y_train`, `x_test`, `y_test` in one .npz; `x` of five axes `[N, T, C, H, W]` are sequences."""
    path = _need(root, "a file .npz with x_train, y_train, x_test, y_test")
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as held:
            arrays = [torch.from_numpy(held[name]) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not an .npz file with {', '.join(names)}: {str(error).rstrip('.')}.") from error
    broken = any(held.is_floating_point() and (held != held.floor()).any() for held in arrays[1::2])
    if broken or any(held.is_complex() for held in arrays):
        raise ValueError(f"{path}: samples must be real numbers, and classes whole ones.")
    x_train, y_train, x_test, y_test = (held.float() if n % 2 == 0 else held.long() for n, held in enumerate(arrays))
    for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        if not x.dim() or y.shape != x.shape[:1] or not len(y) or int(y.min()) < 0:
            raise ValueError(f"{path}: the {part} part needs samples [N, *] and classes [N] from 0 on, with N above 0.")
    classes = int(torch.cat([y_train, y_test]).max()) + 1
    sequences = x_train.dim() == 5
    if sequences and x_train.shape[1] != T:
        raise ValueError(f"{path} holds sequences of {x_train.shape[1]} steps; train with -T {x_train.shape[1]}.")
    return Split(TensorDataset(x_train, y_train), TensorDataset(x_test, y_test), classes, sequences)


class _Frames:
    """The frames of an event data set as tensors of float32."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        frames, label = self.held[index]
        return torch.as_tensor(np.asarray(frames), dtype=torch.float32, device="cpu"), int(label)


def _events(name: str, classes: int, ready_split: bool) -> Callable[..., Split]:
    """A data set of `spikescope.datasets` by frames; one without a published split is split 9 to 1 by class."""

    def load(root: str | None, T: int, *, split_by: str = "number", train_ratio: float = 0.9, **options: Any) -> Split:
        made = getattr(datasets, name)
        common = {"data_type": "frame", "frames_number": T, "split_by": split_by, **options}
        folder = _need(root, f"the folder of {name}; datasets.check(root) tells what is in it")
        if ready_split:
            return Split(
                _Frames(made(folder, train=True, **common)), _Frames(made(folder, train=False, **common)), classes, True
            )
        held = made(folder, **common)
        train, test = split_to_train_test_set(train_ratio, held, classes)
        return Split(_Frames(train), _Frames(test), classes, True)

    return load


def _pictures(
    name: str, classes: int, mean: tuple[float, ...], std: tuple[float, ...], size: int
) -> Callable[..., Split]:
    """A data set of torchvision; images to train on are shifted, and mirrored unless they are of signs."""

    def load(root: str | None, T: int, *, download: bool = False, augment: bool = True) -> Split:
        try:
            from torchvision import datasets as pictures
            from torchvision import transforms as change
        except ImportError:
            raise missing_extra("torchvision", "vision", f"{name} of torchvision") from None
        plain = [change.ToTensor(), change.Normalize(mean, std)]
        moved = [change.RandomCrop(size, padding=size // 8)] + (
            [change.RandomHorizontalFlip()] if "CIFAR" in name else []
        )
        made = getattr(pictures, name)
        folder = _need(root, f"the folder of torchvision's {name}; --data-arg download=true fetches it")
        train = made(
            folder, train=True, download=download, transform=change.Compose((moved if augment else []) + plain)
        )
        test = made(folder, train=False, download=download, transform=change.Compose(plain))
        return Split(train, test, classes)

    return load


def _image_folders(
    root: str | None,
    T: int,
    *,
    train_crop_size: int = 176,
    val_resize_size: int = 232,
    val_crop_size: int = 224,
    interpolation: str = "bilinear",
    auto_augment: str | None = None,
    random_erase: float = 0.0,
) -> Split:
    """Folders `train` and `val` with a folder of images for each class, as ImageNet is laid out."""
    try:
        from torchvision import datasets as pictures
        from torchvision import transforms as change
    except ImportError:
        raise missing_extra("torchvision", "vision", "Folders of images") from None
    folder = _need(root, "a folder with train and val, in each a folder of images for each class")
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise ValueError(f"{folder} has no folder {part!r}. Wanted is train and val, and in each a folder a class.")
    known = {mode.value: mode for mode in change.InterpolationMode}
    check_choice("data 'imagenet'", "interpolation", interpolation, known)
    mode = known[interpolation]
    policies = {"ra": change.RandAugment, "ta_wide": change.TrivialAugmentWide, "augmix": change.AugMix}
    policies |= {name.value: partial(change.AutoAugment, name) for name in change.AutoAugmentPolicy}
    if auto_augment is not None:
        check_choice("data 'imagenet'", "auto_augment", auto_augment, policies)
    plain = [change.ToTensor(), change.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    moved = [change.RandomResizedCrop(train_crop_size, interpolation=mode), change.RandomHorizontalFlip()]
    drawn = [] if auto_augment is None else [policies[auto_augment](interpolation=mode)]
    erased = [change.RandomErasing(random_erase)] if random_erase > 0 else []
    still = [change.Resize(val_resize_size, interpolation=mode), change.CenterCrop(val_crop_size)]
    train = pictures.ImageFolder(str(folder / "train"), change.Compose([*moved, *drawn, *plain, *erased]))
    test = pictures.ImageFolder(str(folder / "val"), change.Compose([*still, *plain]))
    if train.classes != test.classes:
        unlike = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(
            f"{folder}: train and val have other classes; {', '.join(unlike[:5])} is in one of them alone."
        )
    return Split(train, test, len(train.classes))


SOURCES: dict[str, Source] = {
    "digits": Source(_digits, "1,797 scanned digits of 8 x 8 pixels, which come with scikit-learn; no root"),
    "npz": Source(_arrays, "arrays of your own: root is a file with x_train, y_train, x_test, y_test"),
    "dvs128gesture": Source(_events("DVS128Gesture", 11, True), "11 gestures, 2 x 128 x 128; root is its folder"),
    "cifar10dvs": Source(_events("CIFAR10DVS", 10, False), "10 classes, 2 x 128 x 128, split 9 to 1 by class"),
    "nmnist": Source(_events("NMNIST", 10, True), "10 digits, 2 x 34 x 34"),
    "ncaltech101": Source(_events("NCaltech101", 101, False), "101 classes, 2 x 180 x 240, split 9 to 1 by class"),
    "asldvs": Source(_events("ASLDVS", 24, False), "24 letters of a sign language, 2 x 180 x 240, split 9 to 1"),
    "mnist": Source(_pictures("MNIST", 10, (0.1307,), (0.3081,), 28), "10 digits, 1 x 28 x 28, by torchvision"),
    "fashionmnist": Source(
        _pictures("FashionMNIST", 10, (0.2860,), (0.3530,), 28), "10 kinds of clothes, 1 x 28 x 28, by torchvision"
    ),
    "cifar10": Source(
        _pictures("CIFAR10", 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 32),
        "10 classes, 3 x 32 x 32, by torchvision",
    ),
    "cifar100": Source(
        _pictures("CIFAR100", 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 32),
        "100 classes, 3 x 32 x 32, by torchvision",
    ),
    "imagenet": Source(
        _image_folders, "images in folders train/CLASS and val/CLASS, as ImageNet's are, 3 x 224 x 224, by torchvision"
    ),
}
"""Every name of data, what makes it, and what it is."""


def load_data(name: str, root: str | None, T: int, options: Mapping[str, Any]) -> Split:
    """The data called `name`: a row of `SOURCES`, or `module:function` for a function `(root, T, **options) -> Split`.

    >>> held = load_data("digits", None, 4, {})
    >>> len(held.train), held.train[0][0].shape, held.classes
    (1347, torch.Size([1, 8, 8]), 10)
    """
    if ":" in name:
        made = by_import(name, "data")(root, T, **options)
        if not isinstance(made, Split):
            raise TypeError(f"{name} must give a spikescope.train.Split(train, test, classes), but gave {made!r}.")
        return made
    if name not in SOURCES:
        raise UnknownNameError(
            f"There is no data {name!r}.{did_you_mean(name, SOURCES)} `spikescope train --list-data` has the names; "
            "module:function names a function of your own."
        )
    try:
        return SOURCES[name].load(root, T, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise TypeError(f"data {name!r}: {str(error).partition('()')[2].strip()}.") from error


def by_import(name: str, what: str) -> Callable[..., Any]:
    """The function that `module:function` names, looked for on Python's path.

    >>> by_import("spikescope.train:digits_network", "model").__name__
    'digits_network'
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(
            f"The {what} {name!r} cannot be imported: {error}. The part before the colon is a module on Python's path "
            "(PYTHONPATH=. for one in this folder), the part behind it a function of it."
        ) from error
    if not callable(found):
        raise TypeError(f"The {what} {name!r} is not a function, but {found!r}.")
    made: Callable[..., Any] = found
    return made


def _need(root: str | None, words: str) -> Path:
    if root is None:
        raise ValueError(f"--root is missing: {words}.")
    return Path(root)
