"""Memory that was made for one backward pass alone, over which a kernel may write its result.

What a saved tensor is computed again from is kept elsewhere; the copy has one reader. The gradient that the reader
makes of it is as large, and takes its place: so there is one large tensor less where memory is short. That the reader
is alone is asked of the memory: a checkpoint is given a copy too, and has it read by all that it runs again.
"""

from __future__ import annotations

import threading

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ..internals import holders, overlaps_itself

__all__ = ["as_result", "offer"]


class _Offer(threading.local):
    """The memory that this thread has made last; whoever makes it has a reader for it, which comes next."""

    storage: StorageWeakRef | None = None


_offer = _Offer()


def offer(x: Tensor) -> Tensor:
    """Say that the memory of `x` is for whoever is given it next, and for nobody else."""
    _offer.storage = StorageWeakRef(x.untyped_storage())
    return x


def as_result(x: Tensor, tensors: int = 1) -> Tensor | None:
    """`x` as the place for a result of its form, whose values are lost; None if its memory was not made for this.

    - `tensors`: how many with this memory the caller has; None too if there are more.
    """
    held = _offer.storage
    if held is None:
        return None
    _offer.storage, storage = None, x.untyped_storage()
    if held.expired() or held.cdata != storage._cdata:
        return None
    if holders(storage) != tensors + 1 or x.numel() * x.itemsize != storage.nbytes():
        return None
    return None if overlaps_itself(x) else x.detach()
