"""What the code of a class reads from elsewhere than its fields: globals, closures, and what lies in these.

A kernel holds such a number as a constant. Where it is another one later, another kernel is made: so the numbers are
part of the form of a class, and each is read again at every call.
"""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from .internals import constant_when_compiled

__all__ = ["Reading", "readings_of", "told_by", "told_now"]

_PACKAGE = __name__.partition(".")[0]
_SETTLED = sys.stdlib_module_names | {_PACKAGE, "torch", "numpy"}
"""Modules whose constants nobody changes, and whose functions are what they are."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MOST = 64  # entries of a list and the like: it is read at every call
_KERNELS = 16  # of a class, each for other readings
_IGNORED = {"CACHE", "PUSH_NULL", "NOP", "RESUME", "COPY_FREE_VARS", "EXTENDED_ARG", "NOT_TAKEN"}

Step = tuple[Callable[[Any, Any], Any], Any]
"""One step of a path: by an attribute or by a key, and its name."""


class Reading(NamedTuple):
    """Where a value is read: what holds the first name, and how it goes on from there."""

    holder: CellType | dict[str, Any]
    name: str
    path: tuple[Step, ...]

    def value(self) -> Any:
        """What is there now; LookupError or another error where nothing is."""
        held = self.holder.cell_contents if isinstance(self.holder, CellType) else self.holder[self.name]
        for read, name in self.path:
            held = read(held, name)
        return held


def told_by(readings: Iterable[Reading]) -> tuple[str, ...]:
    """What is read now, as texts."""
    return tuple([_told(reading) for reading in readings])


_known: dict[type[Any], set[tuple[str, ...]]] = {}


@constant_when_compiled
def told_now(cls: Any) -> tuple[str, ...] | None:
    """What a class reads now, as texts; None where that changes so often that no kernel is made of it any more."""
    if not (readings := readings_of(cls)):
        return ()
    told, known = told_by(readings), _known.setdefault(cls, set())
    if told not in known:
        if len(known) >= _KERNELS:
            return None
        known.add(told)
    return told


def _told(reading: Reading) -> str:
    try:
        return repr(reading.value())
    except Exception as error:  # the step will say so itself, when it comes by
        return type(error).__name__


def readings_of(cls: Any) -> tuple[Reading, ...]:
    """The plain values, and lists and the like of such, that the functions of a step read from elsewhere.

    Functions that these call are looked into as well. Classes of the library read nothing that changes.

    >>> from spikescope.neuron import LIFNode
    >>> readings_of(LIFNode)
    ()
    """
    return _readings_of(cls)


@cache
def _readings_of(cls: type[Any]) -> tuple[Reading, ...]:
    found: dict[tuple[object, ...], Reading] = {}
    seen: set[int] = set()
    for base in cls.__mro__:
        if _root(base.__module__) not in _SETTLED:
            for held in vars(base).values():
                function = held.__func__ if isinstance(held, (staticmethod, classmethod)) else held
                if isinstance(function, FunctionType) and _is_of_the_step(function):
                    _look(function, found, seen)
    return tuple(found.values())


def _is_of_the_step(function: FunctionType) -> bool:
    """Whether a step may call a member of a class: it does so of the class, without a `self`."""
    return function.__code__.co_varnames[:1] != ("self",) and _root(function.__module__) not in _SETTLED


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _look(function: FunctionType, found: dict[tuple[object, ...], Reading], seen: set[int]) -> None:
    """Add what a function reads, and what those read that it calls."""
    if id(function) in seen:
        return
    seen.add(id(function))
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    for code in _codes(function.__code__):
        for scope, name, path in _paths(code):
            if scope == "global":
                holder: Any = function.__globals__ if name in function.__globals__ else vars(builtins)
            else:
                holder = cells.get(name)
            if holder is not None:
                _follow(Reading(holder, name, path), found, seen)


def _follow(reading: Reading, found: dict[tuple[object, ...], Reading], seen: set[int]) -> None:
    """Go along a path as far as it leads to something that may change."""
    for length in range(len(reading.path) + 1):
        part = reading._replace(path=reading.path[:length])
        try:
            held = part.value()
        except Exception:  # not there yet, or never: the step will say so itself
            return
        if isinstance(held, ModuleType) and _root(held.__name__) in _SETTLED:
            return
        if isinstance(held, FunctionType):
            return _look(held, found, seen) if _root(held.__module__) not in _SETTLED else None
    if _is_plain(held):
        found[id(part.holder), part.name, *(name for _, name in part.path)] = part
    return None


def _is_plain(held: object) -> bool:
    if isinstance(held, (dict, tuple, list, set, frozenset)):
        return len(held) <= _MOST and all(map(_is_plain, held.values() if isinstance(held, dict) else held))
    return isinstance(held, _PLAIN)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of the functions that are made within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _paths(code: CodeType) -> Iterator[tuple[str, str, tuple[Step, ...]]]:
    """The names that code reads from outside, each with the attributes and constant keys that it goes on to."""
    scope, name, path, key = "", "", list[Step](), list[Any]()
    for told in dis.get_instructions(code):
        if told.opname in _IGNORED:
            continue
        if scope and told.opname in ("LOAD_ATTR", "LOAD_METHOD") and not key:
            path.append((getattr, told.argval))
        elif scope and told.opname in ("LOAD_CONST", "LOAD_SMALL_INT") and not key:
            key.append(told.argval)
        elif scope and key and (told.opname == "BINARY_SUBSCR" or told.argrepr == "[]"):
            path.append((_item, key.pop()))
        else:
            if scope:
                yield scope, name, tuple(path)
            scope, path, key = _SCOPES.get(told.opname, ""), [], []
            name = told.argval
    if scope:
        yield scope, name, tuple(path)


def _item(held: Any, key: Any) -> Any:
    return held[key]


_SCOPES = {"LOAD_GLOBAL": "global", "LOAD_NAME": "global", "LOAD_DEREF": "cell"}
