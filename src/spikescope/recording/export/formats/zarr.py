"""Labelled arrays as a Zarr group, which xarray, dask and others open without reading it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

from ..base import FileFormat
from ..grid import coordinates, variables
from ..source import Source, path_name

__all__ = ["ZarrFormat"]

CHUNK = 1 << 22
"""Bytes of a chunk before it is compressed, about."""


class ZarrFormat(FileFormat):
    """Signals as a folder of Zarr, version 3."""

    name = "zarr"
    extra = "arrays"
    packages = ("zarr",)
    seconds = False
    values = True
    suffixes: ClassVar[tuple[str, ...]] = ()
    keeps = "what xarray keeps, compressed"
    loses = "nothing of the signals; runs must have one length"

    def write(self, source: Source, path: Path) -> None:
        """A group with the arrays of `to_xarray`, which `xarray.open_zarr` opens; memory holds a piece at a time."""
        import zarr

        held = variables(source, path_name)
        group = zarr.open_group(path, mode="w", zarr_format=3, attributes=source.about())
        labelled = coordinates(source, held, path_name)
        beside = " ".join(name for name, (dim, _) in labelled.items() if name != dim)  # as xarray marks coordinates
        for name, (dim, labels) in labelled.items():
            kind = "string" if labels.dtype.kind == "U" else labels.dtype  # texts of fixed width have no specification
            axis = group.create_array(path_name(name), shape=labels.shape, dtype=kind, dimension_names=[dim])
            axis[:] = labels
        for variable in held:
            chunks = _chunks(variable.shape, variable.dtype.itemsize, source.runs(variable.signal))
            options: dict[str, Any] = {"chunks": chunks, "dimension_names": variable.dims, "fill_value": 0}
            name, shape, dtype = variable.name, variable.shape, variable.dtype
            made = group.create_array(name, shape=shape, dtype=dtype, attributes={"coordinates": beside}, **options)
            for piece in source.pieces(variable.signal, multiple=chunks[1]):
                steps, samples = piece.values.shape[:2]
                place = slice(piece.trial, piece.trial + samples), slice(piece.step, piece.step + steps)
                made[place] = piece.values.swapaxes(0, 1).reshape(samples, steps, *variable.shape[2:])


def _chunks(shape: tuple[int, ...], itemsize: int, runs: list[Any]) -> tuple[int, ...]:
    """Whole runs where they are small, fewer samples where they are large, and cut in time last."""
    room = max(1, CHUNK // max(1, itemsize * math.prod(shape[2:])))
    steps = max(1, min(shape[1], room))
    samples = max(1, min(max((run.samples for run in runs), default=1), room // steps))
    return samples, steps, *(max(1, size) for size in shape[2:])
