"""Donated memory: made for one backward pass alone, so that a kernel may write its result over it.

Where a saved tensor is computed again, the copy has one reader. The gradient that this reader makes is as large as the
copy and takes its place, so there is one large tensor less where memory is short. Whether there is one reader is asked
of the memory itself: a checkpoint is given such a copy too, and all that it runs again reads it.
"""

from __future__ import annotations

import threading

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ..internals import holders, overlaps_itself

__all__ = ["donate", "take_donated"]


class _Donation(threading.local):
    """The memory that this thread has donated last; its reader comes next."""

    storage: StorageWeakRef | None = None


_donation = _Donation()


def donate(x: Tensor) -> Tensor:
    """Give the memory of `x` away to whoever is given `x` next, and to nobody else."""
    _donation.storage = StorageWeakRef(x.untyped_storage())
    return x


def take_donated(x: Tensor, tensors: int = 1) -> Tensor | None:
    """`x` as the place for a result of its form, whose values are lost; None if its memory was not donated.

    - `tensors`: how many with this memory the caller has; None too if there are more.
    """
    held = _donation.storage
    if held is None:
        return None
    _donation.storage, storage = None, x.untyped_storage()
    if held.expired() or held.cdata != storage._cdata:
        return None
    if holders(storage) != tensors + 1 or x.numel() * x.itemsize != storage.nbytes():
        return None
    return None if overlaps_itself(x) else x.detach()
