"""Packing spikes on a GPU: one kernel reads them once, and finds what is no spike on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..dynamics.layout import BLOCK
from ..dynamics.triton import launch

__all__ = ["is_vouched", "pack_on_gpu", "vouched"]

SOURCE = """import triton
import triton.language as tl


@triton.jit
def pack_spikes(X, BITS, ODD, columns, width, parts, BLOCK: tl.constexpr):
    row = (tl.program_id(0) // parts).to(tl.int64)
    part = (tl.program_id(0) % parts).to(tl.int64)
    i = part * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + row * columns + i, mask=i < columns, other=0)
    fired = x != 0
    tl.store(ODD + tl.zeros([BLOCK], tl.int32), 1, mask=fired & (x != 1))
    lanes = tl.reshape(fired.to(tl.int32), [BLOCK // 8, 8])
    packed = tl.sum(lanes << tl.arange(0, 8)[None, :], axis=1).to(tl.uint8)
    j = part * (BLOCK // 8) + tl.arange(0, BLOCK // 8)
    tl.store(BITS + row * width + j, packed, mask=j < width)
"""

PLACES = ("cuda", "xpu")  # the devices with the kernel

_vouching = threading.local()


@contextmanager
def vouched(spikes: Tensor | None) -> Iterator[None]:
    """Within, this very tensor is packed without looking whether it is 0 and 1, as long as nobody changes it: the host
    would wait for the GPU to tell. None is no tensor.
    """
    _vouching.held = None if spikes is None else (spikes, _version(spikes))
    try:
        yield
    finally:
        _vouching.held = None


def is_vouched(spikes: Any) -> bool:
    """Whether somebody knows that these are 0 and 1."""
    held = getattr(_vouching, "held", None)
    return held is not None and held[0] is spikes and held[1] == _version(spikes)


def _version(spikes: Tensor) -> int:
    return 0 if spikes.is_inference() else spikes._version  # nobody changes those of inference mode outside of it


@cache
def _kernel() -> Any:
    return launch.load(SOURCE).pack_spikes


def pack_on_gpu(spikes: Tensor, rows: int, columns: int, known: bool) -> Tensor | None:
    """The bits of spikes split into equal rows, `known` to be 0 and 1 or not; None for other values, or where no kernel
    runs on them.
    """
    if type(spikes) is not Tensor or spikes.device.type not in PLACES or not spikes.numel():
        return None
    if torch.compiler.is_compiling() or not launch.available() or launch.fault() is not None:
        return None
    held = spikes.contiguous()
    bits = torch.empty(rows, -(-columns // 8), dtype=torch.uint8, device=held.device)
    odd = torch.zeros((), dtype=torch.int32, device=held.device)
    parts = -(-columns // BLOCK)
    given = held.view(torch.uint8) if held.dtype is torch.bool else held
    launch.launch(_kernel(), held.device, rows * parts, [given, bits, odd, columns, bits.shape[1], parts])
    return bits if known or not odd.item() else None
