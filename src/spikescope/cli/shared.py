"""What several commands have: pairs of names and values, and refusals."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Pair", "Strict", "in_flags", "plain", "refuse", "run_written"]


class Strict(argparse.ArgumentParser):
    """The parser of a command, which refuses an argument that it does not know itself, beside its own usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest


class Pair(argparse.Action):
    """NAME=VALUE, gathered into a dictionary; a value that is JSON is that, another is text."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name, sign, text = values.partition("=")
        if not sign or not name:
            raise argparse.ArgumentError(self, f"NAME=VALUE is wanted, but got {values!r}")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), name: plain(text)})


def plain(text: str) -> Any:
    """What a text says as JSON, or the text.

    >>> plain("2.5"), plain("true"), plain("LIFNode")
    (2.5, True, 'LIFNode')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def in_flags(words: object, flags: Mapping[str, str]) -> str:
    """Words that say `name=value`, as code has it, with the options of the command line in their place.

    What stands in a call, as `Recipe(T=3)`, is of code and stays.

    >>> in_flags("Give overwrite=True, or signals='spike'.", {"overwrite": "--overwrite", "signals": "--signal"})
    'Give --overwrite, or --signal spike.'
    """

    def put(found: re.Match[str]) -> str:
        value = found[2].strip("'")
        return flags[found[1]] if value == "True" else f"{flags[found[1]]} {value}"

    return re.sub(rf"(?<![\w(])({'|'.join(map(re.escape, flags))})=('[^']*'|\w+(?:\.\w+)*)", put, str(words))


def refuse(error: Exception | str, flags: Mapping[str, str] | None = None) -> int:
    """Say why a command cannot do its work; its exit status.

    - `flags`: the options of the command by the names that code has for them.
    """
    print(f"spikescope: {in_flags(error, flags) if flags else error}", file=sys.stderr)
    return 2


def run_written(folder: Path) -> str:
    """The last lines of a run: where it is, and what to open in a browser."""
    page = folder / "report.html"
    return f"Run folder         {folder}" + (f"\nTo see it          {page}, in a browser" if page.exists() else "")
