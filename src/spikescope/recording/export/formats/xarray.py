"""Labelled arrays for xarray, in memory or read when they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import ObjectFormat
from ..grid import Variable, coordinates, variables
from ..source import Source, as_array

__all__ = ["XarrayFormat"]


class XarrayFormat(ObjectFormat):
    """Signals as an `xarray.Dataset`."""

    name = "xarray"
    extra = "arrays"
    packages = ("xarray",)
    saving = ("h5netcdf",)
    seconds = False
    values = True
    suffixes: ClassVar[tuple[str, ...]] = (".nc",)
    keeps = (
        "every value in its place, the run and sample of each trial, time where dt is known, chosen neurons by number"
    )
    loses = "nothing of the signals, but takes a byte for each spike that might be; runs must have one length"

    def make(self, source: Source, chunks: Any = None) -> Any:
        """A data set of arrays [trial, step, *neurons]; a trial is one sample of one run.

        - `chunks`: None reads all into memory. Anything else is read when it is looked at, by dask: `{}` in pieces of
          one run, or sizes as `Dataset.chunk` takes them, such as `{"step": 100}`.
        """
        import xarray

        if chunks is not None:
            self.check("dask.array")
        held = variables(source)
        arrays = {}
        for variable in held:
            values = _dense(source, variable) if chunks is None else _lazy(source, variable, chunks)
            arrays[variable.name] = (variable.dims, values)
        about = {} if source.dt is None else {"dt": source.dt}
        return xarray.Dataset(arrays, coordinates(source, held), about)

    def save(self, made: Any, path: Path) -> None:
        """NetCDF by h5netcdf, which has no bool: spikes are bytes of 0 and 1 that are marked as bool."""
        made.to_netcdf(path, engine="h5netcdf")


def _dense(source: Source, variable: Variable) -> np.ndarray[Any, Any]:
    made = np.zeros((*variable.shape[:2], len(source.neurons(variable.signal))), dtype=variable.dtype)
    for piece in source.pieces(variable.signal):
        steps, samples = piece.values.shape[:2]
        made[piece.trial : piece.trial + samples, piece.step : piece.step + steps] = piece.values.swapaxes(0, 1)
    return made.reshape(variable.shape)


def _lazy(source: Source, variable: Variable, chunks: Any) -> Any:
    """A run is one array of dask, cut as `chunks` says, and the runs are joined."""
    import dask.array as da

    sizes = chunks if isinstance(chunks, Mapping) else dict.fromkeys(variable.dims, chunks)
    cut = tuple(sizes.get(dim, -1) for dim in variable.dims)
    runs = [_Run(variable, run) for run in source.runs(variable.signal)]
    joined = da.concatenate([da.from_array(run, chunks=cut, name=False, meta=run.empty) for run in runs])
    wanted = {axis: sizes[dim] for axis, dim in enumerate(variable.dims) if dim in sizes and sizes[dim] != "auto"}
    return joined.rechunk(wanted) if wanted else joined


class _Run:
    """One run of a signal as dask takes an array: with a shape, and read where it is indexed."""

    def __init__(self, variable: Variable, run: Any) -> None:
        self.signal, self.index = variable.signal, run.index
        self.shape = (run.samples, run.steps, *variable.shape[2:])
        self.dtype, self.ndim = variable.dtype, len(self.shape)
        self.empty = np.empty((0,) * self.ndim, dtype=self.dtype)

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        sample, step = key[:2]
        held = self.signal.read(run=self.index, step=step, sample=sample)
        values = as_array(held, self.signal.packed).swapaxes(0, 1)
        return values.reshape(*values.shape[:2], *self.shape[2:])[(slice(None), slice(None), *key[2:])]
