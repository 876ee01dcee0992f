"""Spikes of cochlea models in HDF5: Spiking Heidelberg Digits and Spiking Speech Commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import missing_extra
from ..events import Array, StoredPath
from ..faults import FormatError

__all__ = ["SpikesFile"]


class SpikesFile:
    """A file with `spikes/times` (seconds), `spikes/units` and `labels`, opened anew in each process that reads it."""

    def __init__(self, file_name: StoredPath) -> None:
        self.path = Path(file_name)
        self._held: Any = None
        self._process = 0
        try:
            self.labels: Array = np.asarray(self.opened()["labels"])
            counts = len(self.opened()["spikes"]["times"]), len(self.opened()["spikes"]["units"])
        except KeyError as error:
            raise FormatError(f"{self.path} lacks spikes/times, spikes/units or labels: {error}.") from error
        if counts != (len(self.labels), len(self.labels)):
            raise FormatError(
                f"{self.path} is damaged: it has {len(self.labels)} labels, times of {counts[0]} samples and units of "
                f"{counts[1]}."
            )

    def opened(self) -> Any:
        """The file, as h5py opens it."""
        if self._held is None or self._process != os.getpid():
            try:
                import h5py
            except ImportError as error:
                raise missing_extra("h5py", "events", "HDF5 files") from error
            if not self.path.exists():
                raise FileNotFoundError(f"There is no file {self.path}.")
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
        spikes = self.opened()["spikes"]
        t, x = spikes["times"][index], spikes["units"][index]
        if len(t) != len(x):
            raise FormatError(f"{self.path} is damaged: sample {index} has {len(t)} times and {len(x)} units.")
        return {"t": t, "x": x}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}
