"""How much a packed file may become: a file of some kilobytes can be made that unpacks to more than any disk holds."""

from __future__ import annotations

from .events import StoredPath
from .faults import FormatError

__all__ = ["check_unpacked", "most_unpacked"]

ALWAYS = 1 << 30
"""Bytes that any file may unpack to."""

TIMES = 100
"""How often larger than itself a larger one may become; recordings of cameras come to ten, mostly."""


def most_unpacked(packed: int) -> int:
    """The bytes that so many packed ones may unpack to.

    >>> most_unpacked(1 << 20) == 1 << 30
    True
    """
    return max(ALWAYS, TIMES * packed)


def check_unpacked(file_name: StoredPath, packed: int, unpacked: int) -> None:
    """Refuse a file of `packed` bytes that unpacks to so many."""
    if unpacked > most_unpacked(packed):
        raise FormatError(
            f"{file_name} is refused: its {packed:,} bytes unpack to at least {unpacked:,}, which is over a gigabyte "
            f"and over {TIMES} times as many. Unpack it by hand if that is intended."
        )
