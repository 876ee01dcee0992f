"""What can be set for a whole process: how many processes convert, and whether they compress."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..faults import OptionError

__all__ = ["COMPRESSED", "WORKERS", "compressed", "setting", "workers"]

WORKERS = "SPIKESCOPE_DATASET_WORKERS"
COMPRESSED = "SPIKESCOPE_DATASET_COMPRESSED"


def workers() -> int:
    """How many processes convert: the environment variable `SPIKESCOPE_DATASET_WORKERS`, or one a processor."""
    there = len(os.sched_getaffinity(0))
    asked = os.environ.get(WORKERS)
    if asked is None:
        return there
    if not asked.isdecimal() or int(asked) < 1:
        raise OptionError(f"The environment variable {WORKERS} must be a whole number above 0, but is {asked!r}.")
    return int(asked)


def compressed() -> bool:
    """Whether files are compressed: yes, unless the environment variable `SPIKESCOPE_DATASET_COMPRESSED` is 0."""
    asked = os.environ.get(COMPRESSED, "1")
    if asked not in ("0", "1"):
        raise OptionError(f"The environment variable {COMPRESSED} must be 0 or 1, but is {asked!r}.")
    return asked == "1"


@contextmanager
def setting(name: str, value: object) -> Iterator[None]:
    """One of the two for the time of a block; None leaves it as it is. Processes started in the block have it too."""
    if name == WORKERS and value is not None and (type(value) is not int or value < 1):
        raise OptionError(f"workers must be a whole number above 0, but got {value!r}.")
    if name == COMPRESSED and value not in (None, True, False):
        raise OptionError(f"compressed must be True or False, but got {value!r}.")
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = str(int(value)) if isinstance(value, bool) else str(value)
    try:
        yield
    finally:
        if value is not None:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
