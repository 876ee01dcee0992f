"""Tables of events for pandas, and for what reads its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ..base import ObjectFormat
from ..events import columns
from ..source import Source

__all__ = ["PandasFormat"]


class PandasFormat(ObjectFormat):
    """Events as a `pandas.DataFrame`."""

    name = "pandas"
    extra = "tables"
    packages = ("pandas",)
    seconds = False
    values = False
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".csv.gz", ".pkl")
    keeps = (
        "run, sample, step, layer and neuron of each spike; dt, shapes and lengths in `attrs`, of which a CSV has none"
    )
    loses = "potentials and other numbers; a neuron that was silent is no row"

    def make(self, source: Source) -> Any:
        """A table of all spikes: a row for each, with the columns run, sample, step, layer (a category) and neuron."""
        import numpy as np
        import pandas as pd

        parts = list(columns(source))
        labels = [source.label(held) for held in source.spikes]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        joined["layer"] = pd.Categorical.from_codes(joined["layer"], categories=labels)
        frame = pd.DataFrame(joined)
        frame.attrs.update(source.about())
        return frame

    def save(self, made: Any, path: Path) -> None:
        if path.suffix == ".pkl":
            made.to_pickle(path)
        else:
            made.to_csv(path, index=False)
