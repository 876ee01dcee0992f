"""Results by the name of the module: a mapping with a table, plain values and a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..spikes import PackedSpikes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Results", "plain", "scalars", "words"]


def words(name: str) -> str:
    """A class name as words.

    >>> words("SilentShare"), words("SynOps")
    ('silent share', 'syn ops')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def scalars(value: Any, name: str = "") -> dict[str, float]:
    """A result as numbers with names: of a tensor the mean, the minimum and the maximum of all but NaN.

    NaN stands where there is nothing to tell, as the interval between the spikes of a neuron that fired once.

    >>> import torch
    >>> scalars(0.5, "rate"), scalars(torch.tensor([0.0, 1.0]), "rate")
    ({'rate': 0.5}, {'rate.mean': 0.5, 'rate.min': 0.0, 'rate.max': 1.0})
    """
    if isinstance(value, PackedSpikes):
        return {name: value.rate()}
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return {name: float(value)}
        held = value.detach().double().flatten()
        if not len(held):
            return dict.fromkeys((f"{name}.mean", f"{name}.min", f"{name}.max"), math.nan)
        held = held[~held.isnan()] if not held.isnan().all() else held
        return {f"{name}.mean": held.mean().item(), f"{name}.min": held.min().item(), f"{name}.max": held.max().item()}
    if (fields := _fields(value)) is not None:
        return {key: held for field, item in fields.items() for key, held in scalars(item, f"{name}.{field}").items()}
    return {name: float(value)}


def plain(value: Any) -> Any:
    """A result as numbers, lists and dicts. NaN and infinity, which JSON does not have, are None.

    >>> import torch
    >>> plain(torch.tensor([1.0, float("nan")]))
    [1.0, None]
    """
    if isinstance(value, PackedSpikes):
        return {"shape": list(value.shape), "spikes": int(value.count()), "rate": plain(value.rate())}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if (fields := _fields(value)) is not None:
        return {str(key): plain(item) for key, item in fields.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The parts of a mapping or a named tuple."""
    if isinstance(value, Mapping):
        return value
    return value._asdict() if isinstance(value, tuple) and hasattr(value, "_asdict") else None


class Results(Mapping[str, Any]):
    """The name of a module to its result, or, where several reducers were asked for, to their results by name.

    >>> Results({"layer1": {"rate": 0.25}}, single=True)["layer1"]
    0.25
    """

    def __init__(self, rows: Mapping[str, Mapping[str, Any]], single: bool) -> None:
        self._rows = {name: dict(row) for name, row in rows.items()}
        self.single = single

    def rows(self) -> dict[str, dict[str, Any]]:
        """The results of each module by the name of the reducer, whether there is one or several: what sinks take."""
        return {name: dict(row) for name, row in self._rows.items()}

    def __getitem__(self, name: str) -> Any:
        row = self._rows[name]
        return next(iter(row.values())) if self.single else dict(row)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def to_dict(self) -> dict[str, Any]:
        """The results as numbers, lists and dicts, ready for JSON."""
        return {name: plain(value) for name, value in self.items()}

    def table(self) -> str:
        """The results as text, a line for each module; of a tensor the mean is shown.

        >>> print(Results({"layer1": {"rate": 0.25, "silent share": 0.5}}, single=False).table())
        layer   rate  silent share
        layer1  0.25           0.5
        """
        lines = {name: _shown(row) for name, row in self.rows().items()}
        columns = list(dict.fromkeys(key for line in lines.values() for key in line))
        cells = [["layer", *columns]]
        cells += [[name or "(network)", *(line.get(key, "") for key in columns)] for name, line in lines.items()]
        return laid_out(cells)

    courses: frozenset[str] = frozenset()
    """The names of the reducers that give a value for each step."""

    def plot(self) -> Figure:
        """A figure of matplotlib: bars for numbers, lines for courses over time and histograms. Needs `report`."""
        from .pictures import draw_results

        return draw_results(self.rows(), self.courses)


def means(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, of each tensor the mean alone."""
    numbers = {key: held for label, value in row.items() for key, held in scalars(value, label).items()}
    spread = {key for key in numbers if f"{key.removesuffix('.mean')}.min" in numbers and key.endswith(".mean")}
    dropped = {f"{key.removesuffix('.mean')}.{end}" for key in spread for end in ("min", "max")}
    return {
        key.removesuffix(".mean") if key in spread else key: held for key, held in numbers.items() if key not in dropped
    }


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: f"{held:.4g}" for key, held in means(row).items()}


def laid_out(cells: list[list[str]]) -> str:
    """Columns of text, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    )
