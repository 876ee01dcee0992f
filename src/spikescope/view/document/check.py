"""Whether what a file holds has the form of a document: it may come from anywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from types import NoneType
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from .shape import Course, Document, Finding, Flow, Number, Potential, Raster

__all__ = ["misfit"]

NOT_FINITE = ("nan", "inf", "-inf")
LARGEST = 1 << 50  # of whole numbers, which count something: a float has room for half of one beside it
ABREAST: dict[Any, tuple[str, ...]] = {
    Finding: ("labels", "values"),
    Raster: ("rows", "marks"),
    Potential: ("x", "values"),
    Flow: ("layers", "norms"),
}
"""Parts that go side by side, and so are of one length."""
PAIRS = ("facts", "configuration", "versions")


def misfit(held: Any, form: Any, place: str = "it") -> str | None:
    """Where a value of JSON first is not of a type of `shape`, in words; None where it is. It may hold more.

    >>> from .shape import Difference
    >>> misfit({"words": ["a", 1]}, Difference)
    'it.words.1 is an int'
    """
    try:
        return _misfit(held, form, place)
    except RecursionError:  # findings have findings as their consequences
        return f"{place} goes too deep"


def _misfit(held: Any, form: Any, place: str) -> str | None:
    if get_origin(form) is NotRequired:
        (form,) = get_args(form)
    if form == Number:
        return None if held is None or _is_number(held) else f"{place} is {held!r:.40}"
    if is_typeddict(form):
        return _of_parts(held, form, place) if isinstance(held, dict) else _is_a(held, place)
    if get_origin(form) is list:
        if not isinstance(held, list):
            return _is_a(held, place)
        (of,) = get_args(form)
        if of in (int, str) and {type(one) for one in held} <= {of} and (of is str or _are_counts(held)):
            return None  # the most that there is, and fast
        return _first(_misfit(one, of, f"{place}.{at}") for at, one in enumerate(held))
    if get_origin(form) is Literal:
        return None if held in get_args(form) else f"{place} is {held!r:.40}"
    if NoneType in get_args(form):
        return None if held is None else _misfit(held, next(iter(get_args(form))), place)
    if type(held) is not form:
        return _is_a(held, place)
    return None if form is not int or _are_counts([held]) else f"{place} is {held!r:.40}"


def _of_parts(held: dict[str, Any], form: Any, place: str) -> str | None:
    parts = _parts(form)
    missing = [name for name, of in parts.items() if name not in held and get_origin(of) is not NotRequired]
    if missing:
        return f"{place}.{missing[0]} is missing"
    wrong = _first(_misfit(held[name], of, f"{place}.{name}") for name, of in parts.items() if name in held)
    return _uneven(held, form, place) if wrong is None else wrong


def _uneven(held: dict[str, Any], form: Any, place: str) -> str | None:
    """Where lists that belong together are not of one length, in words."""
    sides = {name: held[name] for name in ABREAST.get(form, ())}
    if form is Course:
        sides = {"x": held["x"], **{f"series.{at}.values": one["values"] for at, one in enumerate(held["series"])}}
    if form is Document:
        pairs = {f"{name}.{at}": pair for name in PAIRS for at, pair in enumerate(held[name])}
        sides = {"a pair": ("name", "value"), **pairs}
    (name, first), *others = sides.items() or [("", ())]
    return _first(
        f"{place}.{other} has a length of {len(side)}, but {name} of {len(first)}" if len(side) != len(first) else None
        for other, side in others
    )


@cache
def _parts(form: Any) -> dict[str, Any]:
    return get_type_hints(form, include_extras=True)


def _first(found: Iterable[str | None]) -> str | None:
    return next((wrong for wrong in found if wrong is not None), None)


def _is_number(held: Any) -> bool:
    """Whether it can be computed with: a number of JSON may be larger than any float."""
    return (
        held in NOT_FINITE
        if isinstance(held, str)
        else (type(held) in (int, float) and bool(abs(held) <= sys.float_info.max))
    )


def _are_counts(held: list[int]) -> bool:
    return not held or (min(held) >= 0 and max(held) <= LARGEST)


def _is_a(held: Any, place: str) -> str:
    return f"{place} is a{'n' if type(held) is int else ''} {type(held).__name__}"
