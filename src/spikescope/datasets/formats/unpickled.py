"""Arrays of Python objects in .npy files, read without running what a pickle may ask for."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from ..events import StoredPath
from ..faults import damage_told
from .reading import content

__all__ = ["load_object_array"]

PLAIN = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _Plain(pickle.Unpickler):
    """Reads numbers, lists and arrays, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PLAIN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not run")
        return super().find_class(module, name)


def load_object_array(file_name: StoredPath) -> Any:
    """What an .npy file holds: an array of numbers, or of lists and arrays of numbers.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.array([[1, 2], [3]], object), allow_pickle=True)
    ...     load_object_array(file.name).tolist()
    [[1, 2], [3]]
    """
    held = io.BytesIO(content(file_name))
    with damage_told(file_name, "an .npy file of lists of numbers"):
        version = np.lib.format.read_magic(held)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read(held)
        if dtype.hasobject:
            return _Plain(held).load()
        held.seek(0)
        return np.load(held)
