"""The sizes of memory from which a kernel stores its output past the caches, and goes backwards in chunks.

A store into a cache reads what it overwrites. Past the caches it does not, and a forward pass of a LIF layer takes 6 to
22 % less time; but whoever reads the output next finds none of it in the cache. So it is worth it for runs of which the
cache would hold little. It was measured on a processor of AMD alone: those of Intel are said to lose with few threads.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["far_from", "streamed_from"]

SYSTEM = Path("/")
"""Below which Linux tells of the processor."""

USUAL = 32 << 20
"""Bytes of the last cache where nothing is known: those of the processor on which the share was measured."""

FAR = 8
"""A backward pass whose input takes this part of the last cache, in which its gradients and all else are to be as well,
reads it from memory."""


@cache
def streamed_from() -> float:
    """Bytes of input and output together from which it is worth it; infinite where it is not, or nothing is known."""
    try:
        told = (SYSTEM / "proc/cpuinfo").read_text()
    except OSError:
        return math.inf
    return (_last_level() or math.inf) if "AuthenticAMD" in told else math.inf


@cache
def far_from() -> int:
    """Bytes of the input from which a backward pass reads from memory."""
    return (_last_level() or USUAL) // FAR


def _last_level() -> int:
    """Bytes of the third-level caches of the processors that this process may run on; 0 if that is not known."""
    size, left = 0, os.sched_getaffinity(0)
    while left:
        number = min(left)
        held, shared = _third_level(number)
        size += held
        left = left - shared - {number}
    return size


def _third_level(number: int) -> tuple[int, set[int]]:
    """Bytes of the third-level cache of a processor, and the processors that share it; none if that is not known."""
    for folder in (SYSTEM / f"sys/devices/system/cpu/cpu{number}/cache").glob("index*"):
        with suppress(OSError, ValueError):
            if _read(folder / "level") == "3" and (size := _read(folder / "size")).endswith("K"):
                return 1024 * int(size[:-1]), _numbers(_read(folder / "shared_cpu_list"))
    return 0, set()


def _read(path: Path) -> str:
    return path.read_text().strip()


def _numbers(told: str) -> set[int]:
    """The processors of a list as Linux writes it.

    >>> _numbers("0-2,8")
    {0, 1, 2, 8}
    """
    ends = (part.partition("-") for part in told.split(","))
    return {number for first, _, last in ends for number in range(int(first), int(last or first) + 1)}
