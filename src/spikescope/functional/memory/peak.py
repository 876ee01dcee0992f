"""The peak of memory during some work."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import accumulate

import torch

from ...internals import allocations_of

__all__ = ["most_allocated"]


def most_allocated(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that `work` has allocated at a time, beyond what was there.

    That memory of an earlier such work is let go of counts on a CPU too: what nobody can reach any more goes before, or
    it would be taken for room.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return max(accumulate(allocations_of(work)), default=0)
