"""Reading the files of tests from both ends.

Each worker collects all tests, and so would each turn the asserts of all files into what tells of their values, which
takes longer than to run them, unless another has done it. One goes through them from the front, as pytest does; the
other imports them from the end before, and either finds what the other wrote.
"""

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest


def read_from_the_end(places):
    """Import the files of tests below some places, in every second worker; what they raise comes up again."""
    if not os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw").endswith(tuple("13579")):
        return
    held = [Path(place.partition("::")[0]) for place in places]
    files = {file for place in held for file in ([place] if place.is_file() else place.rglob("test_*.py"))}
    for file in sorted(files, reverse=True):
        if (folder := str(file.parent.resolve())) not in sys.path:
            sys.path.insert(0, folder)
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(file.stem)
