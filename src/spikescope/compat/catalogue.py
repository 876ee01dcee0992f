"""What releases of SpikingJelly have under which name: facts about its interface, read from its sources.

`tests/sweeps/catalogue.py` makes `names.json`. An age is "4", "12" or "14" for 0.0.0.0.4, .12, .14, and "2" for 2.0.0.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

__all__ = ["Entry", "catalogue"]


class Entry(NamedTuple):
    """One module: its ages, its public names with theirs, and what it imports, as `module` or `module:name`."""

    ages: str
    names: dict[str, str]
    imports: dict[str, str]


@functools.cache
def catalogue() -> dict[str, Entry]:
    """The modules of all releases by name, relative to the package.

    >>> catalogue()["clock_driven.monitor"].names["Monitor"]
    '4 12 14'
    """
    held = json.loads(Path(__file__).with_name("names.json").read_text())
    return {module: Entry(**entry) for module, entry in held.items()}
