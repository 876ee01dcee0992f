"""The kernels that rooms declare when they are imported, beside those that neurons, cells and pools ask for by running.

So all of them can be compiled beforehand by who knows none of these rooms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, TypeVar

from .compiler import load

__all__ = ["build_declared", "declare", "declared", "parts"]

Text = TypeVar("Text", bound=Callable[..., str])


class Declared(NamedTuple):
    """What gives the texts of kernels, and for which dtypes or other choices."""

    text: Callable[..., str]
    dtypes: Collection[Any]
    choices: Collection[Any]


_declared: dict[str, list[Declared]] = {}


def declare(part: str, text: str | Callable[[], str]) -> None:
    """Declare that a part, by the name under which it is built, has a kernel: its text, or a function that gives it."""
    _declared.setdefault(part, []).append(Declared(lambda _: text if isinstance(text, str) else text(), (), (None,)))


def declared(part: str, dtypes: Collection[Any] = (), choices: Collection[Any] = ()) -> Callable[[Text], Text]:
    """Declare the function that it decorates, which gives the text of the kernel for a dtype or another choice.

    - `dtypes`: of which there is a kernel each; only those are built that are asked for.
    - `choices`: of which there is a kernel each, all of which are built.
    """

    def declare(text: Text) -> Text:
        _declared.setdefault(part, []).append(Declared(text, dtypes, choices))
        return text

    return declare


def parts() -> list[str]:
    """The names of what has declared kernels so far."""
    return sorted(_declared)


def build_declared(part: str, dtypes: Collection[Any]) -> None:
    """Ask for all kernels of a part, for these dtypes."""
    for text in _texts(part, dtypes):
        load(text)


def _texts(part: str, dtypes: Collection[Any]) -> Iterator[str]:
    for text, possible, choices in _declared[part]:
        for choice in (*(dtype for dtype in possible if dtype in dtypes), *choices):
            yield text(choice)
