"""Spikes of cochlea models in HDF5: Spiking Heidelberg Digits and Spiking Speech Commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import missing_extra
from ...files import open_regular
from ..events import Array, StoredPath
from ..faults import FormatError, damage_told

__all__ = ["SpikesFile"]

WHAT, ADVICE = "HDF5 with spikes/times, spikes/units and labels", "; extract it again"

SMALL = 1 << 20
"""Bytes that the labels of any file may take."""

DENSE = 1100
"""How often larger than the file they may be; the compression of HDF5 comes to 1032."""


class SpikesFile:
    """A file with `spikes/times` (seconds), `spikes/units` and `labels`, opened anew in each process that reads it."""

    def __init__(self, file_name: StoredPath) -> None:
        self.path = Path(file_name)
        self._held: Any = None
        self._process = 0
        with damage_told(self.path, WHAT, ADVICE):
            columns = [self._column(name) for name in ("labels", "spikes/times", "spikes/units")]
            counts = [len(held) for held in columns]
            if columns[0].nbytes > max(SMALL, DENSE * self.path.stat().st_size):
                raise FormatError(f"{self.path} is damaged: it counts {counts[0]} samples, which it is too small for.")
            self.labels: Array = columns[0][:]
        if counts != [len(self.labels)] * 3:
            raise FormatError(
                f"{self.path} is damaged: it has {counts[0]} labels, times of {counts[1]} samples and units of "
                f"{counts[2]}."
            )

    def _column(self, name: str) -> Any:
        """A data set with a value, or values, for each sample."""
        try:
            held = self.opened()[name]
        except KeyError as error:
            raise FormatError(f"{self.path} lacks spikes/times, spikes/units or labels: {error}.") from error
        if len(held.shape) != 1:
            raise FormatError(f"{self.path} is damaged: {name} has {len(held.shape)} axes, and must have one.")
        return held

    def opened(self) -> Any:
        """The file, as h5py opens it."""
        if self._held is None or self._process != os.getpid():
            try:
                import h5py
            except ImportError as error:
                raise missing_extra("h5py", "events", "HDF5 files") from error
            try:
                open_regular(self.path).close()
            except FileNotFoundError:
                raise FileNotFoundError(f"There is no file {self.path}.") from None
            except ValueError as error:
                raise FormatError(str(error)) from error
            try:
                self._held, self._process = h5py.File(self.path, "r"), os.getpid()
            except OSError as error:
                raise FormatError(
                    f"{self.path} cannot be read as HDF5: {error}. It may be cut off or damaged; extract it again."
                ) from error
        return self._held

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Array]:
        """The events of a sample: `t` in seconds, as stored, and the units `x`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} samples, and no sample {index}.")
        spikes = self.opened()["spikes"]
        with damage_told(self.path, WHAT, ADVICE):
            t, x = (np.atleast_1d(spikes[name][index]) for name in ("times", "units"))
        if len(t) != len(x):
            raise FormatError(f"{self.path} is damaged: sample {index} has {len(t)} times and {len(x)} units.")
        return {"t": t, "x": x}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}
