"""The traces of neurons, cached on disk: a new process does not trace them again, which would take most of its start.

A trace is remembered under a hash of what it depends on: the files of the rooms that trace and what they have made of
the neuron and its surrogates, the options, the rows of operations, PyTorch, Python, and the processor. Of a class from
elsewhere, or one that got a function from elsewhere, it cannot be known what it calls: it is traced in each process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
import time
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch.nn import functional

from ...fields.class_form import PLAIN, forms
from ...toolchain.notes import note, write_note
from ..key import parted_key
from .graph import Graph, Node
from .ops import OPS
from .trace import Traced

__all__ = ["Memory", "recall", "remember"]

_PACKAGE = __name__.partition(".")[0]

_ROOMS = ("base", "dynamics", "fields", "form", "internals", "neuron", "surrogate")
"""Where there is code that a trace of one of our neurons may run."""

_IMPORTED = time.time()
_OURS = str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), str(contextlib.__file__), "<"
"""Where the functions of our classes are from; `<` begins what is said of a function that Python itself has made."""

_TYPES = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}


class Memory:
    """Where the traces of one key are remembered."""

    def __init__(self, key: str) -> None:
        told, kinds = parted_key(key)
        of_forms = [_of_form(form) for form in told]
        about = _surroundings()
        self.known = None if about is None or None in of_forms else repr((of_forms, kinds, about))

    def name(self, *what: object) -> str | None:
        """The name of one of them, which depends on `what` besides; None where nothing can be remembered.

        >>> Memory("a form that nobody has|").name()
        """
        if self.known is None:
            return None
        made_of = self.known, *map(str, what), str(torch.get_default_dtype())
        return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]


def recall(name: str | None) -> Traced | None:
    """What was found out under a name; None where it is not remembered, or in a way that nobody here can read."""
    text = None if name is None else note(name)
    try:
        return None if text is None else _decoded(json.loads(text))
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None


def remember(name: str | None, found: Traced) -> None:
    """Keep a trace for other processes, where it can be written down."""
    if name is not None and (told := _encoded(*found)) is not None:
        write_note(name, json.dumps(told).encode())


def _of_form(form: str) -> str | None:
    """A class as it is now, with its options; None where that cannot be told for sure."""
    if form not in forms:
        return None
    cls, fixed = forms[form]
    options = {name: _of_option(value) for name, value in fixed.items()}
    if None in options.values():
        return None
    told: list[object] = [f"{cls.__module__}.{cls.__qualname__}", options]
    places = dict.fromkeys(place for base in cls.__mro__ if _is_ours(base) for place in (base, _module(base)))
    for place in places:
        for name, held in vars(place).items():
            if isinstance(place, ModuleType) and name.startswith("__"):
                continue  # what the compiler of PyTorch puts there as it goes
            function = _function_in(held)
            if function is not None:
                code, room = function.__code__, (function.__module__ or "").partition(".")[0]
                if room not in sys.stdlib_module_names and not code.co_filename.startswith(_OURS):
                    return None
                told.append((name, function.__module__, code.co_qualname, code.co_firstlineno))
            elif isinstance(held, PLAIN) and not name.startswith("__"):
                told.append((name, held))
    elsewhere = {base.__module__.partition(".")[0] for base in cls.__mro__ if not _is_ours(base)}
    return repr(told) if elsewhere <= {"torch", "builtins", "abc", "typing"} else None


def _of_option(held: object) -> str | None:
    """A text that stands for an option in any process: a plain value, or a function of PyTorch."""
    name = getattr(held, "__name__", "")
    if isinstance(held, PLAIN):
        return repr(held)
    return next((f"{room.__name__}.{name}" for room in (torch, functional) if getattr(room, name, None) is held), None)


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _PACKAGE


def _module(cls: type) -> ModuleType:
    return sys.modules[cls.__module__]


def _function_in(held: object) -> FunctionType | None:
    """The function that a name in a class or a module stands for, if it is one."""
    if isinstance(held, (staticmethod, classmethod)):
        held = held.__func__
    elif isinstance(held, property):
        held = held.fget
    return held if isinstance(held, FunctionType) else None


@cache
def _surroundings() -> str | None:
    """The rest of what traces depend on; None where a file was changed after it was read, so that it tells nothing."""
    files = sorted(
        (name, module.__file__)
        for name, module in sys.modules.items()
        if name.startswith(f"{_PACKAGE}.") and name.split(".")[1] in _ROOMS and getattr(module, "__file__", None)
    )
    try:
        told = [(name, os.stat(str(file))) for name, file in files]
    except OSError:  # in an archive
        return None
    if any(held.st_ctime > _IMPORTED for _, held in told):
        return None
    of_files = [(name, held.st_size, held.st_mtime_ns) for name, held in told]
    about = torch.__version__, torch.version.git_version, torch.backends.cpu.get_cpu_capability()
    return repr(
        (
            of_files,
            sorted(map(str, OPS)),
            about,
            sys.version,
            platform.machine(),
            Path(torch.__file__).stat().st_mtime_ns,
        )
    )


def _encoded(graph: Graph, alike: bool) -> list[Any] | None:
    """A graph as JSON takes it; None where it has operations or arguments of an unknown kind."""
    place = {node: i for i, node in enumerate((*graph.inputs, *graph.nodes))}
    try:
        inputs = [[node.name, _told_type(node.dtype), node.shape] for node in graph.inputs]
        nodes = [
            [
                *(node.name, _target(node.target), [_told(held, place) for held in node.args]),
                {name: _told(held, place) for name, held in node.kwargs.items()},
                *(_told_type(node.dtype), node.shape),
            ]
            for node in graph.nodes
        ]
        return [inputs, nodes, [_told(held, place) for held in graph.outputs], alike]
    except TypeError:
        return None


def _told(held: Any, place: dict[Node, int]) -> Any:
    if isinstance(held, Node):
        return {"node": place[held]}
    if held is None or type(held) in (bool, int, float):
        return held
    if type(held) in (list, tuple):
        return [_told(part, place) for part in held]
    if isinstance(held, torch.device):
        return {"device": str(held)}
    return _told_type(held)


def _told_type(held: object) -> dict[str, str]:
    for name, kind in _TYPES.items():
        if isinstance(held, kind):
            return {name: str(held).removeprefix("torch.")}
    raise TypeError(f"no text stands for {held!r}")


def _target(target: Any) -> str:
    name = str(target)
    if name.startswith("aten.") and name.count(".") == 2 and _operation(name) is target:
        return name
    raise TypeError(f"no text stands for {name}")


def _operation(name: str) -> Any:
    _, packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), overload)


def _decoded(text: list[Any]) -> Traced:
    inputs, nodes, outputs, alike = text
    made = [Node(name, dtype=_held(dtype, []), shape=tuple(shape)) for name, dtype, shape in inputs]
    for name, target, args, kwargs, dtype, shape in nodes:
        given = tuple(_held(held, made) for held in args)
        named = {key: _held(held, made) for key, held in kwargs.items()}
        made.append(Node(name, _operation(target), given, named, _held(dtype, made), tuple(shape)))
    first = len(inputs)
    graph = Graph(tuple(made[:first]), tuple(made[first:]), tuple(_held(held, made) for held in outputs))
    return Traced(graph, alike)


def _held(told: Any, made: list[Node]) -> Any:
    if isinstance(told, list):
        return [_held(part, made) for part in told]
    if not isinstance(told, dict):
        return told
    ((kind, value),) = told.items()
    if kind == "node":
        return made[value]
    return torch.device(value) if kind == "device" else getattr(torch, value)
