"""Folders of samples: the same folders elsewhere, and a part of a data set as one of its own."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np

from ..events import StoredPath
from ..faults import OptionError

__all__ = ["create_same_directory_structure", "create_sub_dataset"]


def create_same_directory_structure(source_dir: StoredPath, target_dir: StoredPath) -> None:
    """Make the folders that are in one folder in another, empty."""
    for folder, names, _ in os.walk(source_dir):
        for name in names:
            (Path(target_dir) / Path(folder).relative_to(source_dir) / name).mkdir(parents=True, exist_ok=True)


def create_sub_dataset(
    source_dir: StoredPath, target_dir: StoredPath, ratio: float, use_soft_link: bool = True, randomly: bool = False
) -> None:
    """Make a data set of a share of another's samples, of each folder alike: links to them, or copies.

    - `randomly`: drawn by the global generator of NumPy; otherwise the first in alphabetical order.
    """
    if not ratio > 0:
        raise OptionError(f"ratio must be above 0, but got {ratio!r}.")
    for folder, names, files in os.walk(source_dir, followlinks=True):
        names.sort()
        made = Path(target_dir) / Path(folder).relative_to(source_dir)
        made.mkdir(parents=True, exist_ok=True)
        chosen = sorted(files)
        number = len(chosen) if ratio >= 1 else int(ratio * len(chosen))
        if chosen and not number:
            warnings.warn(f"A share of {ratio} of the {len(chosen)} samples in {folder} is none.", stacklevel=2)
        if randomly:
            np.random.shuffle(chosen)  # noqa: NPY002  # the generator that the caller seeds
        for name in chosen[:number]:
            if use_soft_link:
                (made / name).symlink_to(Path(folder, name).resolve())
            else:
                shutil.copyfile(Path(folder, name), made / name)
