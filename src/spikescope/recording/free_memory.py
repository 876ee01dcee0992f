"""The memory that is free, and a warning before records have used it up."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..warn import warn

__all__ = ["Room", "free_memory"]

SHARE = 4
"""Records that pass the free memory divided by this are warned of."""


def free_memory(device: torch.device) -> int | None:
    """The bytes that are free on a device now; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    found = [number for number in (_available(), _within_group()) if number is not None]
    return min(found, default=None)


def _available() -> int | None:
    """What Linux says that programs may still take; elsewhere the free pages."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # AttributeError: Windows
        return None


def _within_group() -> int | None:
    """What the control group of a container leaves of its limit."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # ValueError: the limit is "max"
        return None


class Room:
    """The memory that was free when records began, and whether they have been warned of."""

    def __init__(self) -> None:
        self.warned = False
        self._free: dict[torch.device, int | None] = {}
        self.look(torch.device("cpu"))

    def look(self, device: torch.device) -> int | None:
        """What was free on a device at the first look."""
        if device not in self._free:
            self._free[device] = free_memory(device)
        return self._free[device]

    def check(self, held: int, device: torch.device) -> None:
        """Warn, once, of records that have grown large."""
        free = None if self.warned else self.look(device)
        if free is None or held * SHARE <= free:
            return
        self.warned = True
        text = (
            f"The records hold {held / 2**30:.2f} GiB, over a quarter of the {free / 2**30:.2f} GiB that were free on "
            f"{device} when they began, and grow on. Pack spikes (function_on_output=PackedSpikes.from_dense takes an "
            "eighth of a byte each), record a summary with monitor.record, or give a limit: budget='1 GB', or "
            "budget=Budget('1 GB', 'spill'), which moves what is over it to disk."
        )
        warn(text)
