"""Docstrings and signatures of the running package as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import spikescope

BULLET = re.compile(r"^- (?=`)", re.MULTILINE)
WIDTH = 96


def markdown(doc: str) -> str:
    """A docstring as Markdown: examples become blocks of code, and lists stand apart from what is before them."""
    made: list[str] = []
    inside = listed = False
    for line in doc.splitlines():
        if not inside and line.startswith(">>>"):
            made += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            made.append("```")
            inside = False
        starts = not inside and line.startswith("- ")
        if starts and not listed and made and made[-1].strip():
            made.append("")
        listed = not inside and (starts or (listed and line.startswith(" ")))
        made.append(line)
    return "\n".join([*made, "```"] if inside else made).strip()


def doc_of(held: Any) -> str:
    """The docstring of an object, or nothing where it only has that of its type."""
    doc = inspect.getdoc(held) or ""
    return "" if not inspect.isclass(held) and doc == inspect.getdoc(type(held)) else doc


def fields_said(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field."""
    said: dict[str, str] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("spikescope"):
            for item in BULLET.split(inspect.cleandoc(vars(base).get("__doc__") or ""))[1:]:
                names, _, words = re.split(r"\n(?! )", item)[0].partition(": ")
                for name in re.findall(r"`(\w+)`", names):
                    said.setdefault(name, " ".join(words.split()))
    return said


def _shown(value: Any) -> str:
    """A default as it would be written, without addresses."""
    if inspect.isclass(value) or inspect.isfunction(value) or inspect.isbuiltin(value):
        return str(value.__name__)
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _annotation(held: Any) -> str:
    text = held if isinstance(held, str) else inspect.formatannotation(held)
    return re.sub(
        r"\b(?:typing|collections\.abc|torch|torch\.nn\.modules\.\w+|spikescope(?:\.\w+)*)\.(?=[A-Z])", "", text
    )


def signature(name: str, held: Any) -> str:
    """`name(arguments)`, on one line or a line each; what has no signature is its name."""
    try:
        parts = list(inspect.signature(held).parameters.values())
    except (TypeError, ValueError):
        return name
    shown, starred = [], False
    for part in parts:
        if part.name == "self":
            continue
        text = str(part.name)
        if part.kind is part.VAR_POSITIONAL:
            text, starred = f"*{text}", True
        elif part.kind is part.VAR_KEYWORD:
            text = f"**{text}"
        elif part.kind is part.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        if part.annotation is not part.empty:
            text += f": {_annotation(part.annotation)}"
        if part.default is not part.empty:
            text += f" = {_shown(part.default)}" if part.annotation is not part.empty else f"={_shown(part.default)}"
        shown.append(text)
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= WIDTH else f"{name}(\n" + "".join(f"    {text},\n" for text in shown) + ")"


@cache  # to find a class, its file is parsed; a page in another language has the same
def where(held: Any) -> tuple[str, int] | None:
    """The file of the package and the line where an object is defined."""
    try:
        made = inspect.unwrap(held) if callable(held) else held
        path, line = inspect.getsourcefile(made) or "", inspect.findsource(made)[1] + 1
    except (TypeError, OSError, ValueError):
        return None
    root = inspect.getsourcefile(spikescope)
    assert root is not None
    folder = root.removesuffix("__init__.py")
    return (path.removeprefix(folder), line) if path.startswith(folder) else None


def cell(text: str) -> str:
    r"""A text as one cell of a table, which a stroke would end, except within code; a formula may call it `\vert`."""

    def put(found: re.Match[str]) -> str:
        if found[0].startswith("$"):
            return found[0].replace(r"\|", r"\Vert ").replace("|", r"\vert ")
        return r"\|" if found[0] == "|" else found[0]

    return re.sub(r"`[^`]*`|\$[^$]*\$|\|", put, text)


def first_sentence(doc: str) -> str:
    """The first paragraph of a docstring in one line."""
    return " ".join(doc.split("\n\n")[0].split())


def is_method(held: Any) -> bool:
    return inspect.isfunction(held) or isinstance(held, (property, classmethod, staticmethod))


def bare(held: Any) -> Callable[..., Any]:
    """The function behind a property, a class method or a static method."""
    return held.fget if isinstance(held, property) else getattr(held, "__func__", held)
