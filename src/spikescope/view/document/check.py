"""Whether what a file holds has the form of a document: it may come from anywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from types import NoneType
from typing import Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from .shape import Number

__all__ = ["misfit"]

NOT_FINITE = ("nan", "inf", "-inf")


def misfit(held: Any, form: Any, place: str = "it") -> str | None:
    """Where a value of JSON first is not of a type of `shape`, in words; None where it is. It may hold more.

    >>> from .shape import Difference
    >>> misfit({"words": ["a", 1]}, Difference)
    'it.words.1 is an int'
    """
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
        if of in (int, str) and {type(one) for one in held} <= {of}:  # the most that there is, and fast
            return None
        return _first(misfit(one, of, f"{place}.{at}") for at, one in enumerate(held))
    if get_origin(form) is Literal:
        return None if held in get_args(form) else f"{place} is {held!r:.40}"
    if NoneType in get_args(form):
        return None if held is None else misfit(held, next(iter(get_args(form))), place)
    return None if type(held) is form else _is_a(held, place)


def _of_parts(held: dict[str, Any], form: Any, place: str) -> str | None:
    parts = _parts(form)
    missing = [name for name, of in parts.items() if name not in held and get_origin(of) is not NotRequired]
    if missing:
        return f"{place}.{missing[0]} is missing"
    return _first(misfit(held[name], of, f"{place}.{name}") for name, of in parts.items() if name in held)


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


def _is_a(held: Any, place: str) -> str:
    return f"{place} is a{'n' if type(held) is int else ''} {type(held).__name__}"
