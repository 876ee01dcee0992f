"""The versions of PyTorch that the library runs on."""

from __future__ import annotations

import logging

__all__ = ["NEWEST", "OLDEST", "check_version"]

OLDEST, NEWEST = (2, 11), (2, 15)
"""The oldest PyTorch that is let in, and the newest that the test suite has passed on: see docs/versions.md."""


def check_version(version: str) -> None:
    """Refuse a PyTorch on which monitors would see nothing; note one that nobody has tried yet.

    >>> check_version("2.6.0+cu124")
    Traceback (most recent call last):
    ImportError: Spikescope needs PyTorch 2.11 or newer, but this is 2.6.0+cu124. Install one: pip install 'torch>=2.11'
    """
    found = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split("+")[0].split(".")[:2])
    if found < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImportError(
            f"Spikescope needs PyTorch {oldest} or newer, but this is {version}. "
            f"Install one: pip install 'torch>={oldest}'"
        )
    if found > NEWEST:
        logging.getLogger("spikescope").warning(
            "PyTorch %s is newer than any that this version of Spikescope was tested on (up to %d.%d). It goes on; if "
            "something looks wrong, try an older PyTorch or a newer Spikescope.",
            version,
            *NEWEST,
        )
