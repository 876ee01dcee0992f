"""What several processes have told of what they have seen, in the form that judges read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...record import Recording

__all__ = ["Gathered", "Told", "errors_of"]


class Told(NamedTuple):
    """What one process has seen beside its recordings, as plain values."""

    watchers: dict[str, Any]
    errors: list[tuple[str, str]]
    learned: bool


class Gathered:
    """A recording whose summaries are those of all processes, without the modules of which a probe failed on any."""

    def __init__(self, own: Recording, summaries: Mapping[str, Mapping[str, Any]], failed: set[str]) -> None:
        self._tracks, self._own, self._summaries, self._failed = own._tracks, own, summaries, failed

    def sound(self) -> dict[str, Any]:
        """The results of the modules of which no probe has failed."""
        rows = {name: row for name, row in self._summaries.items() if name not in self._failed}
        return {
            name: self._own.given({k: self._tracks[name].totals[k].reducer.result(held) for k, held in row.items()})
            for name, row in rows.items()
        }

    def summary(self, name: str, label: str) -> Any:
        """The summary of one reducer of a module."""
        return self._summaries[name][label]


def errors_of(told: Sequence[Sequence[tuple[str, str]]]) -> list[tuple[str, BaseException]]:
    """Of each module the errors of the process that has most of them, with its rank."""
    found: list[tuple[str, BaseException]] = []
    for name in dict.fromkeys(name for errors in told for name, _ in errors):
        texts = [[text for other, text in errors if other == name] for errors in told]
        rank = max(range(len(texts)), key=lambda at: len(texts[at]))
        found += [(name, RuntimeError(f"on rank {rank}, {text}")) for text in texts[rank]]
    return found
