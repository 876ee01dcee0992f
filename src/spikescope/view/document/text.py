"""A document as text that JSON and HTML can hold, and back."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from ...files import open_regular
from .check import misfit
from .shape import FORMAT, VERSION, Document

__all__ = ["DATA", "json_of", "read_data"]

DATA = "spikescope-data"
"""The name of the element of a page that holds its documents."""

AT_MOST = 256 << 20
"""Bytes of a page that are read."""


def json_of(held: Any) -> str:
    r"""JSON without a character that means something to HTML.

    >>> print(json_of({"name": "</script>&"}))
    {"name":"\u003c/script\u003e\u0026"}
    """
    text = json.dumps(held, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


class _Reader(HTMLParser):
    """Finds the element with the data."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.parts = False, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "script" and ("id", DATA) in attrs

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.parts.append(data)


def read_data(path: Path) -> list[dict[str, Any]]:
    """The documents that a page was made of, a list also where it is of one; `view.document_of(path)` gives the first.

    ValueError for a file that is no such page.
    """
    with open_regular(path) as file:
        held = file.read(AT_MOST + 1)
    reader = _Reader()
    try:
        reader.feed(held.decode() if len(held) <= AT_MOST else "")
        found = json.loads("".join(reader.parts))
        whole = isinstance(found, list) and all(one["format"] == FORMAT and one["version"] >= 1 for one in found)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not a report of spikescope, or is damaged: there is no data in it.") from error
    if not whole or not found:
        raise ValueError(f"{path} is not a report of spikescope, or is damaged: its data is not of its format.")
    if any(one["version"] > VERSION for one in found):
        raise ValueError(
            f"{path} is of a version that this spikescope does not know; {VERSION} is the newest it reads."
        )
    wrong = next((words for one in found if (words := misfit(one, Document, "data")) is not None), None)
    if wrong is not None:
        raise ValueError(f"{path} is damaged: {wrong}. Write the report anew from its run or recording.")
    return found
