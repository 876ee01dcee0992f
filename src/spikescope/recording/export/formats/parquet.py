"""Tables of events as Parquet files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..base import FileFormat
from ..events import columns
from ..source import Source

__all__ = ["ParquetFormat"]

ROWS = 1 << 20
"""Rows of a group: many enough to compress, few enough to read a part."""


class ParquetFormat(FileFormat):
    """Events as an Apache Parquet file."""

    name = "parquet"
    extra = "tables"
    packages = ("pyarrow",)
    seconds = False
    values = False
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    keeps = "run, sample, step, layer and neuron of each spike; dt, shapes and lengths in its metadata, as JSON"
    loses = "potentials and other numbers; a neuron that was silent is no row"

    def write(self, source: Source, path: Path) -> None:
        """The table of `to_pandas` as a file, written piece by piece; its metadata say more by the key `spikescope`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        labels = pa.array([source.label(held) for held in source.spikes])
        kinds = {"run": pa.int32(), "sample": pa.int32(), "step": pa.int32(), "neuron": pa.int64()}
        fields = {name: kinds.get(name, pa.dictionary(pa.int32(), pa.string())) for name in next(columns(source))}
        schema = pa.schema(list(fields.items()), metadata={"spikescope": json.dumps(source.about())})

        def group(parts: list[dict[str, Any]]) -> Any:
            joined = {name: np.concatenate([part[name] for part in parts]) for name in fields}
            layer = pa.DictionaryArray.from_arrays(pa.array(joined.pop("layer")), labels)
            return pa.table({**joined, "layer": layer}).select(list(fields)).cast(schema)

        with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["layer"]) as writer:
            waiting: list[dict[str, Any]] = []
            for part in columns(source):
                waiting.append(part)
                if sum(len(held["step"]) for held in waiting) >= ROWS:
                    writer.write_table(group(waiting), row_group_size=ROWS)
                    waiting = []
            if waiting:
                writer.write_table(group(waiting), row_group_size=ROWS)
