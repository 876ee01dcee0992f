"""From how much memory on a kernel stores its output past the caches, and goes backwards in chunks.

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
    found: dict[str, int] = {}
    for number in os.sched_getaffinity(0):
        for folder in (SYSTEM / f"sys/devices/system/cpu/cpu{number}/cache").glob("index*"):
            with suppress(OSError, ValueError):
                level, size, shared = (
                    (folder / name).read_text().strip() for name in ("level", "size", "shared_cpu_list")
                )
                if level == "3" and size.endswith("K"):
                    found[shared] = 1024 * int(size[:-1])
    return sum(found.values())
