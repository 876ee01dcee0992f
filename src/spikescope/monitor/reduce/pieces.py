"""Sequences that grow piece by piece, in nearly linear time."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Pieces", "join", "whole"]

Pieces = tuple[Tensor, ...]


def join(a: Pieces, b: Pieces) -> Pieces:
    """The pieces of a and then of b, along the first axis.

    Neighbours are joined when the later one has grown to the size of the earlier: n pieces become at most about log n,
    and each value is copied as often, where joining all at each step would copy it n times.

    >>> pieces = (torch.tensor([0]),)
    >>> for i in range(1, 6):
    ...     pieces = join(pieces, (torch.tensor([i]),))
    >>> pieces
    (tensor([0, 1, 2, 3]), tensor([4, 5]))
    """
    held = list(a)
    for piece in b:
        held.append(piece)
        while len(held) > 1 and len(held[-2]) <= len(held[-1]):
            last = held.pop()
            held[-1] = torch.cat((held[-1], last))
    return tuple(held)


def whole(pieces: Pieces) -> Tensor:
    """All pieces as one tensor."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
