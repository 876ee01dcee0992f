"""The reference: a page for each room, with every public name, its signature, its text and where it is defined."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import spikescope

from .text import bare, cell, doc_of, fields_said, first_sentence, is_method, markdown, signature, where
from .words import say

INNER = ("compat", "datasets.transform", "monitor.reduce", "report", "train", "view", "view.document")
"""Rooms that are no attributes of the package, and rooms inside rooms whose names are used."""

KINDS = (dict, tuple, list, set, frozenset, str, int, float)


def rooms() -> list[str]:
    """The rooms that the reference has a page for."""
    there = [name for name in INNER if (_found(f"spikescope.{name}"))]
    return sorted([*spikescope.__all__, *there])


def _found(name: str) -> bool:
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return False
    return True


def names(module: ModuleType) -> dict[str, Any]:
    """The public names of a room: classes and functions of the package, and values."""
    found = {}
    for name in getattr(module, "__all__", None) or dir(module):
        held = getattr(module, name)
        ours = str(getattr(held, "__module__", "")).startswith("spikescope")
        if (
            not name.startswith("_")
            and (callable(held) or not isinstance(held, ModuleType))
            and (ours or isinstance(held, KINDS))
        ):
            found[name] = held
    return found


def _source(held: Any, up: str) -> str:
    place = where(held)
    if place is None:
        return ""
    path, line = place
    return f' <a class="source" href="{up}source/{path}.html#L-{line}">{path}:{line}</a>'


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class itself defines and documents."""
    for name, held in vars(cls).items():
        if not name.startswith("_") and is_method(held) and inspect.getdoc(bare(held)):
            yield name, held


def _fields(cls: type, language: str) -> Iterator[str]:
    """What the bases say of arguments that the class itself says nothing of."""
    try:
        wanted = list(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        return
    own, said = doc_of(cls), fields_said(cls)
    further = [name for name in wanted if name in said and f"- `{name}`" not in own and f", `{name}`" not in own]
    if further:
        yield f"\n{say('further', language)}\n"
        yield from (f"- `{name}`: {said[name]}" for name in further)


def entry(name: str, held: Any, language: str, up: str) -> str:
    """What the reference says of one name."""
    lines = [f"## {name} {{#{name}}}", ""]
    own = getattr(held, "__name__", name)
    if own != name and (inspect.isclass(held) or inspect.isfunction(held)):
        return "\n".join([*lines, f"{say('alias', language)} `{own}`.", ""])
    if not callable(held):
        shown = type(held).__name__ + (f", {len(held)} {say('entries', language)}" if hasattr(held, "__len__") else "")
        return "\n".join([*lines, f"`{name}`: {shown}", ""])
    kind = "class " if inspect.isclass(held) else ""
    lines += ["```python", kind + signature(name, held), "```", "", _source(held, up), "", markdown(doc_of(held)), ""]
    if inspect.isclass(held):
        lines += [*_fields(held, language), ""]
        for method, function in _methods(held):
            told = signature(method, bare(function)) if not isinstance(function, property) else method
            lines += [
                f'<div class="method" markdown="1" id="{name}.{method}">',
                "",
                "```python",
                f"{'@property ' if isinstance(function, property) else ''}{told}",
                "```",
                "",
                markdown(doc_of(bare(function))),
                "",
                "</div>",
                "",
            ]
    return "\n".join(lines)


def page(room: str, language: str, up: str) -> str:
    """The page of a room."""
    module = import_module(f"spikescope.{room}")
    held = names(module)
    lines = [f"# {room}", "", markdown(inspect.getdoc(module) or ""), ""]
    if language != "en":
        lines += [f"*{say('english docstrings', language)}*", ""]
    lines += ["| | |", "|---|---|"]
    lines += [
        f"| [`{name}`](#{name}) | {cell(first_sentence(doc_of(value))) if callable(value) else ''} |"
        for name, value in held.items()
    ]
    return "\n".join([*lines, "", *(entry(name, value, language, up) for name, value in held.items())])


def index(language: str) -> str:
    """The page that leads to all others."""
    lines = [f"# {say('reference', language)}", "", say("reference says", language), "", "| | |", "|---|---|"]
    lines += [
        f"| [{say(name, language)}]({name}.md) | {say(f'{name} says', language)} |"
        for name in ("neurons", "surrogates", "reducers", "findings", "measures", "exports", "backends", "benchmarks")
    ]
    lines += ["", f"## {say('rooms', language)} {{#rooms}}", "", "| | |", "|---|---|"]
    for room in rooms():
        told = cell(first_sentence(inspect.getdoc(import_module(f"spikescope.{room}")) or ""))
        lines.append(f"| [`spikescope.{room}`](api/{room}.md) | {told} |")
    return "\n".join(lines) + "\n"
