"""What is constant in one call of a fused run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .key import kinds_of

__all__ = ["Call", "call_of", "tap_names"]


class Call(NamedTuple):
    """What is constant in one call of a fused run."""

    numbers: tuple[float, ...]  # of the equations, then of the states that start from one
    starts: str  # 'n' or 't' for each state: a number or a tensor
    key: str
    backend: str
    keep_v: bool
    keep_checkpoints: bool
    taps: str  # names, with commas between them: an operator takes no list of texts
    single: bool = False  # the input is one step, without the axis of time

    @property
    def owner(self) -> str:
        """The name of the neuron."""
        return self.key.partition("@")[0]

    @property
    def kinds(self) -> str:
        """A letter for each number of the equations; see `key.py`."""
        return kinds_of(self.key)

    @property
    def states(self) -> int:
        """How many states the neuron has."""
        return len(self.starts)

    @property
    def held(self) -> int:
        """How many of them start from a tensor."""
        return self.starts.count("t")

    def forwards(self) -> tuple[Any, ...]:
        """What the operator of a run takes besides tensors."""
        numbers, taps = list(self.numbers), self.taps
        return numbers, self.starts, self.key, self.backend, self.keep_v, self.keep_checkpoints, taps

    def backwards(self, wanted: Sequence[int]) -> tuple[Any, ...]:
        """What the operator of its vector-Jacobian product does; `wanted` are the fields with a gradient."""
        return list(self.numbers), self.starts, list(wanted), self.key, self.backend

    def with_time(self, x: Tensor) -> Tensor:
        """The input, or a gradient of its shape, as a sequence."""
        return x.unsqueeze(0) if self.single else x

    def without_time(self, y: Tensor) -> Tensor:
        """The output, or the gradient of the input, as it was given."""
        return y.squeeze(0) if self.single else y


def call_of(
    backend: str,
    key: str,
    state: Sequence[Any],
    numbers: Sequence[float],
    learning: Sequence[Any],
    keep_v: bool = False,
    taps: Sequence[str] = (),
    single: bool = False,
) -> Call:
    """The call that starts from `state`, with these `numbers` in the equations.

    - `learning`: what a gradient may be wanted of; checkpoints are kept where one is.
    """
    starts = "".join(["t" if isinstance(held, Tensor) else "n" for held in state])
    numbers = (*numbers, *[held for held in state if not isinstance(held, Tensor)])
    learns = (
        backend != "torch"
        and torch.is_grad_enabled()
        and any(isinstance(held, Tensor) and held.requires_grad for held in learning)
    )
    return Call(numbers, starts, key, backend, keep_v, learns, ",".join(taps), single)


def tap_names(taps: str) -> list[str]:
    """The names in the text of a call.

    >>> tap_names("count,packed"), tap_names("")
    (['count', 'packed'], [])
    """
    return taps.split(",") if taps else []
