"""Sums of squares of each step, as kernels leave them; see `squares.h`."""

from __future__ import annotations

from torch import Tensor

__all__ = ["squares_in"]


def squares_in(room: Tensor) -> Tensor:
    """Of each step the sum of squares and how many they are, `[T, 2]`, from memory `[2 + blocks, T]`."""
    return room[:2].view(-1, 2).clone()
