"""What a finding is: where, how much, what follows from it, and which line of code to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Evidence", "Finding", "cells_of", "words_of"]


@dataclass(frozen=True)
class Evidence:
    """What was seen, in words, and the numbers of a picture: one for each label.

    - `unit`: what the numbers are. `limit`: the threshold, where it is of that unit.
    - `place`: the step, sample or neuron that the words speak of, or an empty text.
    """

    words: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    place: str = ""
    limit: float | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the layer, what it is, the number that tells, its threshold, and what may help.

    - `line`: the line of code to change, for a network named `net`, its input `x` and its `optimizer`.
    - `evidence`: what was seen. `consequences`: findings that this one explains.
    """

    layer: str
    kind: str
    number: float
    threshold: float
    advice: str
    line: str = ""
    evidence: Evidence = field(default=Evidence(""), compare=False)
    consequences: tuple[Finding, ...] = ()

    def whole(self) -> Iterator[Finding]:
        """The finding and its consequences."""
        yield self
        for held in self.consequences:
            yield from held.whole()

    def plot(self) -> Figure:
        """The evidence as a picture: a bar for each label, and the threshold as a line. Needs `report`."""
        from ..show.pictures import draw_evidence

        return draw_evidence(f"{self.kind}: {self.layer or 'the network'}", self.evidence)


def cells_of(findings: Iterable[Finding]) -> list[list[str]]:
    """A table: the causes in their order, and below each what follows from it."""
    cells = [["layer", "finding", "number", "threshold"]]
    for cause in findings:
        for depth, held in enumerate(cause.whole()):
            name = f"{'  ' if depth else ''}{held.layer or '(network)'}"
            cells.append([name, held.kind, f"{held.number:.3g}", f"{held.threshold:.3g}"])
    return cells


def words_of(findings: Iterable[Finding], unjudged: Iterable[str]) -> list[str]:
    """What was seen of each cause and what to do about it, and what could not be judged."""
    lines, questions = [], list(unjudged)
    for cause in findings:
        lines += ["", f"{cause.layer or '(network)'}, {cause.kind}: {cause.evidence.words}".rstrip(": "), cause.advice]
        lines += [f"    {cause.line}"] if cause.line else []
    return lines + (["", "Not judged:", *(f"  {text}" for text in questions)] if questions else [])
