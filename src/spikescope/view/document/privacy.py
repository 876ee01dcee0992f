"""What a document may not tell of the machine and its user, unless they ask for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["told", "without_places"]

LEFT_OUT = "(a path, left out)"

_PLACES = re.compile(
    r"[A-Za-z][\w+.-]*://[^\s'\"<>]+"  # addresses
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)*:[^\s'\"<>]+"  # remotes of git
    r"|(?:(?<=\s)|(?<=['\"(=:,\[])|^)(?:~[\w.-]*|[A-Za-z]:|\.{1,2})?[/\\](?!\s)[^\s'\"<>,;:()\[\]]+"
)


def without_places(text: str) -> str:
    """A text without paths and addresses.

    >>> without_places("/home/ada/run.spk/0-1.records is damaged; 3 pJ/access")
    '(a path, left out) is damaged; 3 pJ/access'
    >>> without_places("from git@example.org:ada/net.git, see https://example.org/ada")
    'from (a path, left out) see (a path, left out)'
    """
    return _PLACES.sub(LEFT_OUT, text)


def told(held: Mapping[str, Any], places: bool, name: str = "") -> list[list[str]]:
    """A configuration as names and values, one below the other; of a value that looks like a path nothing.

    >>> told({"lr": 0.1, "root": "data/ada", "network": {"kind": "LIF"}}, places=False)
    [['lr', '0.1'], ['root', '(a path, left out)'], ['network.kind', 'LIF']]
    """
    rows = []
    for key, value in held.items():
        path = f"{name}.{key}" if name else str(key)
        if isinstance(value, Mapping):
            rows += told(value, places, path)
        elif value not in (None, "", [], {}):
            text = value if isinstance(value, str) else _text(value)
            rows.append([path, text if places or not re.search(r"[/\\@]", text) else LEFT_OUT])
    return rows


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
