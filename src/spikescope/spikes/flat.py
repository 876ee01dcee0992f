"""Where the spikes are: the train and the step of each, as flat arrays. No object a neuron."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import check_sequence, check_tensor
from .kernel import SMALL, find_spikes
from .packed import PackedSpikes

__all__ = ["Places", "places"]

Places = tuple[NDArray[np.int64], NDArray[np.int64]]

AT_ONCE = 1 << 20
"""Spikes and gaps that are turned at a time: their bytes stay in the cache."""


def places(spikes: Tensor | PackedSpikes) -> Places:
    """The train and the step of each spike of `[T, N, *F]`, in the order of the trains, then of time.

    Trains are numbered through samples and neurons: the train of neuron f of sample n is `n * F + f`. Any value but 0
    is a spike; NaN is a ValueError.

    >>> places(torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]))  # the first neuron at both steps, the second at the last
    (array([0, 0, 1]), array([0, 1, 1]))
    """
    if isinstance(spikes, PackedSpikes):
        return _of_bits(spikes)
    check_tensor("places", "the spikes", spikes)
    check_sequence("places", spikes, least=2)
    held = spikes.detach().reshape(len(spikes), spikes.shape[1:].numel())
    if held.is_floating_point() and bool(held.isnan().any()):
        raise ValueError("places: a spike is any value but 0, but some values are NaN. Look for where they come from.")
    fired = (held != 0).cpu().numpy()
    if fired.size >= SMALL and (
        found := find_spikes(np.packbits(fired, axis=1, bitorder="little"), fired.shape[1], by_row=False)
    ):
        return found
    return _turned(fired.shape[0], fired.shape[1], lambda first, last: fired[:, first:last])


def _of_bits(spikes: PackedSpikes) -> Places:
    steps, trains = spikes.shape[0], spikes.shape[1:].numel()
    bits = spikes.bits.cpu().numpy()
    if found := find_spikes(bits, trains, by_row=spikes.order == "time"):
        return found
    if spikes.order == "step":

        def some(first: int, last: int) -> NDArray[Any]:
            return np.unpackbits(bits[:, first // 8 : -(-last // 8)], axis=1, bitorder="little")[:, : last - first]

        return _turned(steps, trains, some)
    filled = np.flatnonzero(bits)  # most bytes of a sparse train are empty
    at = np.flatnonzero(np.unpackbits(bits.reshape(-1)[filled], bitorder="little"))
    byte = filled[at >> 3]
    train = byte // max(1, bits.shape[1])
    return train, ((byte - train * bits.shape[1]) << 3) + (at & 7)


def _turned(steps: int, trains: int, some: Callable[[int, int], NDArray[Any]]) -> Places:
    """The places from columns `[T, last - first]` that hold a byte a step, some trains at a time."""
    width = max(8, AT_ONCE // max(1, steps) // 8 * 8)
    found = [np.zeros(0, dtype=np.int64)]
    for first in range(0, trains if steps else 0, width):
        held = np.ascontiguousarray(some(first, min(trains, first + width)).T).reshape(-1)
        found.append(np.flatnonzero(held.view(np.bool_)) + first * steps)
    at = np.concatenate(found)
    train = at // max(1, steps)
    return train, at - train * steps
