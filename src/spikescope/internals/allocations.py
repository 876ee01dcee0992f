"""The profiler of PyTorch, for what some work allocates on a CPU, of which there is no public count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["allocations_of"]


def allocations_of(work: Callable[[], object]) -> list[int]:
    """The bytes that `work` allocates on a CPU, call by call, and as negative numbers what it frees.

    The profiler writes down every allocation, those of oneDNN included; the older one of two does so without a library
    that speaks to the terminal.
    """
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
    return [event.cpu_memory_usage() for held in events for event in held if event.kind() == "memory_alloc"]
