"""Results by the name of the module: a mapping with a table, plain values and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..display import Displayed, Overview, amount, laid_out
from ..errors import did_you_mean
from .show.plain import means, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Recorded", "Results"]


class Threshold(NamedTuple):
    """Where a potential fires: `before` says that it was recorded before the reset, so that it is seen to fire."""

    value: float
    before: bool


class Row(dict[str, Any]):
    """The results of one module by the name of the reducer: a dict that says what there is."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Row, (dict(self),)

    def __missing__(self, name: object) -> Any:
        raise KeyError(
            f"There is no result {name!r}; there is {', '.join(map(repr, self))}.{did_you_mean(str(name), self)}"
        )


class Results(Displayed, Mapping[str, Any]):
    """The name of a module to its result, or, where several reducers were asked for, to their results by name.

    `courses` are the names of the reducers that give a value for each step, `wholes` of those that give the signal as
    it was; of a potential, `thresholds` says where each module fires.

    >>> Results({"layer1": {"rate": 0.25}}, single=True)["layer1"]
    0.25
    """

    wholes: frozenset[str] = frozenset({"raw"})
    thresholds: Mapping[str, Threshold] = MappingProxyType({})

    def __init__(self, rows: Mapping[str, Mapping[str, Any]], single: bool, courses: Iterable[str] = ()) -> None:
        self._rows = {name: dict(row) for name, row in rows.items()}
        self.single = single
        self.courses = frozenset(courses)

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
        return laid_out(_cells(self.rows())) if len(self) else self.todo()

    def todo(self) -> str:
        """What to do where nothing was seen."""
        return "Nothing was seen: run the network inside the block."

    def sound_rows(self) -> dict[str, dict[str, Any]]:
        """The results of the modules of which no probe has failed."""
        return self.rows()

    def failures(self) -> Mapping[str, BaseException]:
        """What ended the probes of the others."""
        return {}

    def overview(self) -> Overview:
        rows, failed = self.sound_rows(), self.failures()
        number = len(rows) + len(failed)
        remarks = [f"{name or '(network)'}: {error}" for name, error in failed.items()]
        if not number:
            remarks.append(self.todo())
        return Overview(f"{type(self).__name__} of {amount(number, 'module')}", _cells(rows), remarks)

    def plot(self) -> Figure:
        """A figure of matplotlib: bars of numbers, lines of courses, histograms, traces of signals. Needs `report`."""
        from .show.pictures import draw_results

        if not len(self):
            raise ValueError(self.table())
        return draw_results(self.rows(), self.courses, self.wholes, self.thresholds)


class Recorded(Results):
    """What a recording had seen when it was copied or saved: the same results, of which no more will come.

    - `never_fired`: the modules of which nothing was seen.
    - `errors`: by module, what ended its probe; reading raises it.
    """

    def __init__(
        self,
        rows: Mapping[str, Mapping[str, Any]],
        single: bool,
        courses: Iterable[str] = (),
        never_fired: Iterable[str] = (),
        errors: Mapping[str, str] | None = None,
        wholes: Iterable[str] = ("raw",),
        thresholds: Mapping[str, Iterable[Any]] | None = None,
    ) -> None:
        super().__init__(rows, single, courses)
        self.wholes = frozenset(wholes)
        self.thresholds = {name: Threshold(*held) for name, held in (thresholds or {}).items()}
        self.never_fired = tuple(never_fired)
        self.errors = {
            name: RuntimeError(f"The probe of {name!r} was ended: {text}") for name, text in (errors or {}).items()
        }

    def __getitem__(self, name: str) -> Any:
        if name in self.errors:
            raise self.errors[name]
        return super().__getitem__(name)

    def rows(self) -> dict[str, dict[str, Any]]:
        self._check()
        return super().rows()

    def __iter__(self) -> Iterator[str]:
        self._check()
        return super().__iter__()

    def __len__(self) -> int:
        self._check()
        return super().__len__()

    def sound_rows(self) -> dict[str, dict[str, Any]]:
        return {name: dict(row) for name, row in self._rows.items() if name not in self.errors}

    def failures(self) -> Mapping[str, BaseException]:
        return self.errors

    def _check(self) -> None:
        for error in self.errors.values():  # a table without the modules that failed would look whole
            raise error

    def close(self) -> None:
        """It listens to nothing."""

    def __reduce__(self) -> tuple[Any, ...]:
        errors = {name: str(error) for name, error in self.errors.items()}
        thresholds = {name: tuple(held) for name, held in self.thresholds.items()}
        wholes = sorted(self.wholes)
        return Recorded, (self._rows, self.single, sorted(self.courses), self.never_fired, errors, wholes, thresholds)


def _cells(rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The table: a row for each module, a column for each number."""
    lines = {name: _shown(row) for name, row in rows.items()}
    columns = list(dict.fromkeys(key for line in lines.values() for key in line))
    table = [[name or "(network)", *(line.get(key, "") for key in columns)] for name, line in lines.items()]
    return [["layer", *columns], *table]


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: f"{held:.4g}" for key, held in means(row).items()}


torch.serialization.add_safe_globals(
    [Results, Row, Recorded]
)  # what was saved of them is read by `torch.load` as it is
