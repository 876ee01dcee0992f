"""Results by the name of the module: a mapping with a table, plain values and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import did_you_mean
from .plain import laid_out, means, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Results"]


class Row(dict[str, Any]):
    """The results of one module by the name of the reducer: a dict that says what there is."""

    def __missing__(self, name: object) -> Any:
        raise KeyError(
            f"There is no result {name!r}; there is {', '.join(map(repr, self))}.{did_you_mean(str(name), self)}"
        )


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
        return self.given(self._rows[name])

    def given(self, row: Mapping[str, Any]) -> Any:
        """What the mapping gives for the results of one module: its one result, or those of several by name."""
        return next(iter(row.values())) if self.single else Row(row)

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
        if not len(self):
            return "Nothing was seen: run the network inside the block."
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

        if not len(self):
            raise ValueError(self.table())
        return draw_results(self.rows(), self.courses)


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: f"{held:.4g}" for key, held in means(row).items()}
