"""The store of packed spikes that hand-written kernels of the older ages kept, on `spikescope.spikes`."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from ..spikes import bool_spike_to_float, float_spike_to_bool

__all__ = ["BOOL_TENSOR_CACHE", "BoolTensorCache", "tensor_key"]


def tensor_key(x: Tensor) -> tuple[int, int, str]:
    """What tells a tensor from others while both live: its address, size and device."""
    return x.data_ptr(), x.numel(), str(x.device)


class BoolTensorCache:
    """Spikes kept as bits, once for all who store the same tensor, until each has taken it back.

    >>> cache, spike = BoolTensorCache(), torch.tensor([1.0, 0.0, 1.0])
    >>> key = cache.store_bool(spike)
    >>> cache.get_float(key, spike.shape)
    tensor([1., 0., 1.])
    >>> cache.get_float(key, spike.shape)
    Traceback (most recent call last):
    KeyError: 'these spikes were taken back as often as they were stored'
    """

    def __init__(self) -> None:
        self._held: dict[Any, tuple[Any, int]] = {}
        self._lock = threading.Lock()

    def store_bool(self, spike: Tensor) -> tuple[int, int, str]:
        """Keep the bits of `spike`; returns the key by which they are taken back."""
        key = tensor_key(spike)
        with self._lock:
            packed, users = self._held.get(key) or (float_spike_to_bool(spike), 0)
            self._held[key] = packed, users + 1
        return key

    def get_float(self, tk: tuple[int, int, str], spike_shape: torch.Size) -> Tensor:
        """The spikes of the key `tk` as they were; the bits go when the last who stored them has asked."""
        with self._lock:
            if tk not in self._held:
                raise KeyError("these spikes were taken back as often as they were stored")
            packed, users = self._held.pop(tk)
            if users > 1:
                self._held[tk] = packed, users - 1
        return bool_spike_to_float(*packed).view(spike_shape)


BOOL_TENSOR_CACHE = BoolTensorCache()
