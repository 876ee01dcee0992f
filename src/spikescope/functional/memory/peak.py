"""How much memory some work has taken at most."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch

__all__ = ["most_allocated"]


def most_allocated(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that `work` has allocated at a time, beyond what was there.

    On a CPU PyTorch has no public count of it. Its profiler writes down every allocation, those of oneDNN included;
    the older one of two does so without a library that speaks to the terminal. It also writes down that memory of an
    earlier such work is let go of: what nobody can reach any more goes before, or it would be taken for room.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    kinds: Any = torch._C._profiler
    options = kinds._ExperimentalConfig()
    torch._C._autograd._enable_profiler_legacy(
        kinds.ProfilerConfig(kinds.ProfilerState.CPU, False, True, False, False, False, options)
    )
    events: Any = []
    try:
        work()
    finally:
        events = torch._C._autograd._disable_profiler_legacy()
    changes = (event.cpu_memory_usage() for held in events for event in held if event.kind() == "memory_alloc")
    return max(accumulate(changes), default=0)
