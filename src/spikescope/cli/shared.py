"""What several commands have: pairs of names and values, and refusals."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

__all__ = ["Pair", "plain", "refuse"]


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


def refuse(error: Exception | str) -> int:
    """Say why a command cannot do its work; its exit status."""
    print(f"spikescope: {error}", file=sys.stderr)
    return 2
