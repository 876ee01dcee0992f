"""The most memory that a call needs beyond what is held before it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["peak_of"]

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(call: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that a call takes at its highest, on a GPU by PyTorch's own books, on a CPU by those of Linux; else None.

    The memory that the process has freed and kept is given back to the system before.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not _STATUS.exists():
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    try:
        _FORGET.write_text("5")
    except OSError:  # a system that does not let it
        return None
    before = _held("VmRSS")
    call()
    return max(0, _held("VmHWM") - before)


def _held(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
