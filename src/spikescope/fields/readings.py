"""What the code of a class reads from elsewhere than its fields: globals, closures, and what lies in these.

A kernel holds such a number as a constant. Where it is another one later, another kernel is made: so the numbers are
part of the form of a class, and each is read again at every call.
"""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from numbers import Number
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from ..internals import constant_when_compiled
from ..warn import warn

__all__ = ["Reading", "readings_of", "told_by", "told_now"]

_PACKAGE = __name__.partition(".")[0]
_SETTLED = sys.stdlib_module_names | {_PACKAGE, "torch", "numpy"}
"""Modules whose constants nobody changes, and whose functions are what they are."""

_PLAIN = (Number, str, bytes, type(None))
_NO_VALUES = (ModuleType, FunctionType, type, Tensor, nn.Module)
_ITSELF, _CALL = "the class", "__call__"
_MOST, _DEEPEST = 64, 6  # entries of a list and the like, and lists within lists: all is read at every call
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


_found: dict[type[Any], tuple[Reading, ...]] = {}
_known: dict[type[Any], set[tuple[str, ...]]] = {}
_alive: set[Any] = set()  # the functions that texts tell by their address


@constant_when_compiled
def told_now(cls: Any) -> tuple[str, ...] | None:
    """What a class reads now, as texts; None where that changes so often that no kernel is made of it any more."""
    if not (readings := readings_of(cls)):
        return ()
    told, known = told_by(readings), _known.setdefault(cls, set())
    if told not in known:
        _found[cls] = _looked_for(cls)  # another function may read other things, and a name may be there now
        told = told_by(_found[cls])
    if told in known:
        return told
    if len(known) < _KERNELS:
        known.add(told)
        return told
    if len(known) == _KERNELS:
        known.add(())  # once
        names = ", ".join(dict.fromkeys(reading.name for reading in _found[cls]))
        warn(
            f"{cls.__name__} reads from elsewhere than its fields ({names}), and a kernel was made for each of "
            f"{_KERNELS} values. For others its eager loop runs. Make it a field, `value(...)`: one kernel takes all."
        )
    return None


def _told(reading: Reading) -> str:
    try:
        return str(_text(reading.value()))
    except Exception as error:  # the step will say so itself, when it comes by
        return type(error).__name__


def _text(held: Any, depth: int = 0) -> str | None:
    """What tells a value from another: of a number itself, of lists, arrays and objects what is in them; else None."""
    if isinstance(held, _PLAIN):
        return repr(held)
    if isinstance(held, FunctionType) and _root(held.__module__) not in _SETTLED:
        _alive.add(held)
        return f"{held.__qualname__}@{id(held)}"
    if depth == _DEEPEST or isinstance(held, _NO_VALUES):
        return None
    if isinstance(held, np.ndarray):
        return _text(held.tolist(), depth + 1) if held.size <= _MOST else None
    if isinstance(held, partial):
        held = [_text(held.func) or str(held.func), held.args, held.keywords]
    if isinstance(held, dict):
        held = [*held.items()]
    elif not isinstance(held, (tuple, list, set, frozenset)):
        within = getattr(held, "__dict__", None)
        return _text(within, depth + 1) if isinstance(within, dict) else None
    texts = [_text(each, depth + 1) for each in held] if len(held) <= _MOST else [None]
    return None if None in texts else f"[{', '.join(map(str, texts))}]"


def readings_of(cls: Any) -> tuple[Reading, ...]:
    """Where the functions of a step read plain values, or lists, arrays and objects of such, from elsewhere.

    Functions that these call are looked into as well, and are readings themselves. Classes of the library read nothing
    that changes.

    >>> from spikescope.neuron import LIFNode
    >>> readings_of(LIFNode)
    ()
    """
    found = _found.get(cls)
    if found is None:
        found = _found[cls] = _looked_for(cls)
    return found


def _looked_for(cls: type[Any]) -> tuple[Reading, ...]:
    looking = _Looking(cls)
    for base in cls.__mro__:
        if _root(base.__module__) not in _SETTLED:
            for held in vars(base).values():
                function = held.__func__ if isinstance(held, (staticmethod, classmethod)) else held
                if isinstance(function, FunctionType) and function.__code__.co_varnames[:1] != ("self",):
                    looking.into(function, of_class=isinstance(held, classmethod))  # as the step is called
    return tuple(looking.found.values())


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


class _Looking:
    """What has been found, and where it has been looked."""

    def __init__(self, cls: type[Any]) -> None:
        self.itself, self.seen = {_ITSELF: cls}, set[int]()
        self.found: dict[tuple[object, ...], Reading] = {}

    def into(self, function: FunctionType, of_class: bool = False) -> None:
        """Add what a function reads, and what those read that it calls; `of_class`: its first argument is the class."""
        if id(function) in self.seen or _root(function.__module__) in _SETTLED:
            return
        self.seen.add(id(function))
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        for code in _codes(function.__code__):
            first = code.co_varnames[0] if of_class and code is function.__code__ else ""
            for scope, name, path in _paths(code, first):
                if scope == "class":
                    self.along(Reading(self.itself, _ITSELF, path))
                elif scope == "global":
                    known = name in function.__globals__ or not hasattr(builtins, name)
                    self.along(Reading(function.__globals__ if known else vars(builtins), name, path))
                elif name in cells:
                    self.along(Reading(cells[name], name, path))

    def along(self, reading: Reading) -> None:
        """Go along a path as far as it leads to something that may change."""
        best: Reading | None = None
        for length in range(len(reading.path) + 1):
            part = reading._replace(path=reading.path[:length])
            try:
                held = part.value()
            except Exception:  # not there yet, perhaps
                best = part
                break
            if isinstance(held, ModuleType) and _root(held.__name__) in _SETTLED:
                return
            function = held.func if isinstance(held, partial) else held
            function = function if isinstance(function, FunctionType) else getattr(type(held), _CALL, None)
            if isinstance(function, FunctionType) and not isinstance(held, nn.Module):
                self.into(function)
            if _text(held) is not None:
                best = part
        if best is not None:
            self.found[id(best.holder), best.name, *(name for _, name in best.path)] = best


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code, and that of the functions that are made within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _paths(code: CodeType, first: str) -> Iterator[tuple[str, str, tuple[Step, ...]]]:
    """The names that code reads from outside, each with the attributes and constant keys that it goes on to.

    `first`: the name of the argument that is the class, if one is.
    """
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
            name = told.argval[-1] if isinstance(told.argval, tuple) else told.argval
            if told.opname.startswith("LOAD_FAST") and name == first:
                scope = "class"
    if scope:
        yield scope, name, tuple(path)


def _item(held: Any, key: Any) -> Any:
    return held[key]


_SCOPES = {"LOAD_GLOBAL": "global", "LOAD_NAME": "global", "LOAD_DEREF": "cell"}
