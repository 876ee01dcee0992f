"""The causes that health knows, each registered in one place with what it means, explains and advises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .finding import Evidence, Finding

if TYPE_CHECKING:
    from .watch.seen import Seen

__all__ = ["FAMILIES", "Cause", "causes", "judged", "open_questions", "ranked", "register", "unjudged"]

FAMILIES = ("values", "inputs", "usage", "learning", "potentials", "activity", "gradients")
"""The modules of `causes`, in which causes are registered."""

Judge = Callable[["Seen"], Iterable[Finding]]


@dataclass(frozen=True)
class Cause:
    """A kind of finding.

    - `rank`: findings of a lower ten come first, and of the same ten those of earlier layers.
    - `means`: what it is, in a sentence. `advice`: what may help.
    - `explains`: other kinds, and where these follow from it: `'here'` in the same layer, `'after'` there or later in
      the order of the data, `'before'` there or earlier, `'anywhere'`.
    - `backwards`: whether it begins at the end of the network, as what happens to gradients.
    """

    kind: str
    rank: int
    means: str
    advice: str
    explains: Mapping[str, str]
    backwards: bool = False

    def found(
        self, layer: str, number: float, threshold: float, evidence: Evidence, line: str = "", advice: str = ""
    ) -> Finding:
        """A finding of this kind."""
        return Finding(layer, self.kind, float(number), float(threshold), advice or self.advice, line, evidence)


_causes: dict[str, Cause] = {}
_judges: list[Judge] = []
_open: list[Callable[[Seen], Iterable[str]]] = []


def register(*causes: Cause) -> Callable[[Judge], Judge]:
    """Decorate the function that finds these causes in what was seen."""

    def taken(judge: Judge) -> Judge:
        for cause in causes:
            if cause.kind in _causes:
                raise ValueError(f"The kind {cause.kind!r} of finding is registered twice.")
            _causes[cause.kind] = cause
        _judges.append(judge)
        return judge

    return taken


def unjudged(tell: Callable[[Seen], Iterable[str]]) -> Callable[[Seen], Iterable[str]]:
    """Decorate a function that tells what its family could not judge."""
    _open.append(tell)
    return tell


def open_questions(seen: Seen) -> list[str]:
    """What could not be judged, and why."""
    _loaded()
    return [text for tell in _open for text in tell(seen)]


def _loaded() -> None:
    """Have all families registered, and what they registered in their order, whichever somebody imported first."""
    for family in FAMILIES:
        import_module(f"{__package__}.causes.{family}")
    for held in (_judges, _open):
        held.sort(key=_family)


def _family(function: Callable[..., Any]) -> int:
    name = function.__module__.rpartition(".")[2]
    return FAMILIES.index(name) if name in FAMILIES else len(FAMILIES)


def causes() -> dict[str, Cause]:
    """All kinds of findings, those that come first before the others.

    >>> next(iter(causes()))
    'non-finite input'
    """
    _loaded()
    return dict(sorted(_causes.items(), key=lambda item: item[1].rank))


def judged(seen: Seen) -> list[Finding]:
    """The causes of all that is wrong, ranked, each with what follows from it."""
    _loaded()
    return ranked([finding for judge in _judges for finding in judge(seen)], seen.places)


def ranked(found: Iterable[Finding], places: Mapping[str, int]) -> list[Finding]:
    """Findings in the order of importance, each with what follows from it; `places` of layers in the order of data."""
    _loaded()

    def order(finding: Finding) -> tuple[int, int, int]:
        cause, place = _causes[finding.kind], places.get(finding.layer, -1)
        return cause.rank // 10, -place if cause.backwards else place, cause.rank

    return _joined(sorted(found, key=order), places)


def _joined(found: list[Finding], places: Mapping[str, int]) -> list[Finding]:
    """Each finding under the first cause that explains it, or that explains what explains it."""
    roots: dict[int, int] = {}
    for at, finding in enumerate(found):
        reason = next((b for b in range(at) if _explains(found[b], finding, places)), None)
        roots[at] = at if reason is None else roots[reason]
    return [
        replace(cause, consequences=tuple(held for other, held in enumerate(found) if roots[other] == at != other))
        for at, cause in enumerate(found)
        if roots[at] == at
    ]


def _explains(cause: Finding, effect: Finding, places: Mapping[str, int]) -> bool:
    where = _causes[cause.kind].explains.get(effect.kind)
    if where is None or where == "anywhere":
        return where is not None
    here, there = places.get(cause.layer, -1), places.get(effect.layer, -1)
    if where == "here":
        return cause.layer == effect.layer
    return there >= here if where == "after" else there <= here
