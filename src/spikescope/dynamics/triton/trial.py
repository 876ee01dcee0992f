"""Trying at its first use whether a function of a GPU kernel gives the bits that PyTorch gives on that GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

from ..graphs.ops import CUDA
from ..layout import BLOCK
from .kernel import TRIAL, trial_source
from .launch import launch, load, of_nvidia

__all__ = ["otherwise"]

_OF_ITS_OWN = "a kernel on a GPU has a function of its own"
_STEP = 4099  # between the bits of two numbers that are tried: a million of all kinds


def otherwise(target: Any, real: torch.dtype) -> str | None:
    """Why the text of a function, for a state of the dtype `real`, does not give PyTorch's bits; None if it does.

    Where no GPU is at hand nothing is tried, and nothing is launched.
    """
    if target not in CUDA or real is not torch.float32 or not of_nvidia():
        return _OF_ITS_OWN
    if not torch.cuda.is_available():
        return None
    if torch.cuda.is_current_stream_capturing():
        return "it cannot be tried while a CUDA graph is captured: run the network once before"
    return _difference(target, torch.cuda.current_device())


@cache
def _difference(target: Any, index: int) -> str | None:
    """What a trial on a device finds. In a thread of its own: a caller may be under any mode of PyTorch."""
    with ThreadPoolExecutor(1) as thread:
        differs = thread.submit(_tried, target, torch.device("cuda", index)).result()
    return f"on {torch.cuda.get_device_name(index)} a kernel gives other bits than PyTorch" if differs else None


@torch.no_grad()
def _tried(target: Any, device: torch.device) -> bool:
    """Whether the text differs from PyTorch on numbers of all sizes, also those that are subnormal or none."""
    bits = torch.arange(-(2**31), 2**31, _STEP, dtype=torch.int64, device=device).to(torch.int32)
    x = bits.view(torch.float32)
    y, want = torch.empty_like(x), target(x)
    kernel = getattr(load(trial_source(CUDA[target])), TRIAL)
    launch(kernel, device, -(-x.numel() // BLOCK), [x, y, x.numel()])
    same = (y.view(torch.int32) == want.view(torch.int32)) | (y.isnan() & want.isnan())
    return not bool(same.all())
