"""Files of events and of frames as NumPy keeps them, each written whole or not at all."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...files import open_regular, write_whole
from ..events import Array, StoredPath
from ..faults import FormatError, damage_told
from ..unpacking import check_unpacked
from .settings import compressed

__all__ = ["load_events", "load_npz_frames", "np_savez", "save_frames_to_npz_and_print"]


LEVEL = 4
"""Of zlib: six times as fast as its own default, 6, on events and frames, for files that are a twentieth larger."""


def np_savez(file: StoredPath, *unnamed: Any, **arrays: Any) -> None:
    """Save arrays as `np.savez` does, compressed unless that is switched off; a killed process leaves no half file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     np_savez(Path(place) / "sample", frames=np.ones(2))
    ...     load_npz_frames(Path(place) / "sample.npz")
    array([1., 1.], dtype=float32)
    """
    path = Path(file)
    if path.suffix != ".npz":
        path = path.with_name(f"{path.name}.npz")
    content = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compressed() else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", method, compresslevel=LEVEL) as archive:
        for name, values in {**{f"arr_{number}": values for number, values in enumerate(unnamed)}, **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)
    write_whole(path, [content.getbuffer()], sync=False)


def save_frames_to_npz_and_print(fname: StoredPath, frames: Array) -> None:
    """Save frames, and say so."""
    np_savez(fname, frames=frames)
    print(f"Frames [{fname}] saved.")


def load_npz_frames(file_name: StoredPath) -> Array:
    """The frames in a file, as float32."""
    held = _opened(file_name)
    if not isinstance(held, np.ndarray):
        if "frames" not in held:
            raise FormatError(f"{file_name} holds {', '.join(held) or 'nothing'}, but no 'frames'.")
        held = held["frames"]
    if held.dtype.kind not in "biuf":
        raise FormatError(f"{file_name} holds frames of {held.dtype}, which are no real numbers.")
    return held.astype(np.float32)


def load_events(file_name: StoredPath) -> Any:
    """The events in a file: a dict of arrays from .npz, what .npy holds otherwise (a structured array).

    Arrays of Python objects are refused: reading them would run code that the file brings.
    """
    return _opened(file_name)


_NPY = b"\x93NUMPY"


def _opened(file_name: StoredPath) -> Any:
    advice = "; datasets.check names all that are, and says how to have them made again"
    with damage_told(file_name, "NumPy's .npy or .npz", advice), open_regular(file_name) as file:
        begin = file.read(len(_NPY))
        file.seek(0)
        if begin and not begin.startswith((_NPY, b"PK")):  # np.load would take it for a pickle
            raise FormatError(
                f"{file_name} cannot be read as NumPy's .npy or .npz: it begins as neither. It is of another "
                f"format, for which datasets.formats may have a reader, or damaged{advice}."
            )
        held = np.load(file)
        if isinstance(held, np.ndarray):
            return held
        check_unpacked(
            file_name, os.fstat(file.fileno()).st_size, sum(member.file_size for member in held.zip.infolist())
        )
        return {name: held[name] for name in held.files}
