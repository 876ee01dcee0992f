"""Dropout whose mask lasts as long as the sequence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..base import MemoryModule, input_of
from ..errors import check_bound, check_floating, check_sequence
from ..neuron.fast.row import known_to_rows
from .fold import frame_of, is_expanded, repeat_in_time

__all__ = ["Dropout", "Dropout2d"]


class Dropout(MemoryModule):
    r"""Dropout with one mask for all steps until `reset()`: $y_t = m \odot x_t$.

    $m$ is 0 with the probability `p` and $1/(1 - p)$ otherwise, drawn at the first step in training, in both step
    modes. In eval the layer is the identity. A mask drawn anew at every step would average out over time.

    Lee et al., *Enabling spike-based backpropagation for training deep neural network architectures* (2020).

    >>> layer = Dropout(0.5, step_mode="m")
    >>> y = layer(torch.ones(3, 8))
    >>> torch.equal(y[0], y[1]), sorted(set(y.flatten().tolist()))
    (True, [0.0, 2.0])
    """

    mask: Tensor | None

    def __init__(self, p: float = 0.5, step_mode: str = "s") -> None:
        super().__init__()
        check_bound(type(self).__name__, "p", p, least=0, most=1)
        self.p = p
        self.register_memory("mask", None)
        self.step_mode = step_mode

    def rests_of_samples(self) -> Iterator[tuple[MemoryModule, str, Any]]:
        if self.mask is not None:
            yield self, "mask", partial(self.draw, self.mask)

    def draw(self, x: Tensor) -> Tensor:
        """A new mask for steps like `x`."""
        return F.dropout(torch.ones_like(x), self.p, training=True)

    def forward(self, x: Tensor | None = None, **named: Tensor) -> Tensor:
        """One step or one sequence, by `step_mode`; in eval the input itself, as PyTorch's dropout gives it."""
        if x is None or named:
            x = input_of(type(self).__name__, x, named)
        assert x is not None
        check_floating(type(self).__name__, x)
        if self._step_mode == "m":
            check_sequence(type(self).__name__, x)
        y: Tensor = super().forward(x) if self.training else x
        return y

    def single_step_forward(self, x: Tensor) -> Tensor:
        return x * self._mask_for(x)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if not len(x_seq):
            return x_seq
        mask = self._mask_for(x_seq[0])
        if is_expanded(x_seq, self):
            return repeat_in_time(frame_of(x_seq) * mask, len(x_seq))
        return x_seq * mask

    def _mask_for(self, x: Tensor) -> Tensor:
        """The mask in force, drawn now if there is none, in the dtype of the step `x`."""
        held: Tensor | None = self.fitting("mask", x.shape)
        if held is None:
            held = self.mask = self.draw(x.detach())
        return held.to(x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}" + (", step_mode=m" if self._step_mode == "m" else "")


class Dropout2d(Dropout):
    """Dropout of whole channels of `[N, C, *]`, with one mask for all steps until `reset()`; see `Dropout`.

    Tompson et al., *Efficient object localization using convolutional networks* (CVPR 2015).

    >>> y = Dropout2d(0.5)(torch.ones(2, 6, 3, 3))
    >>> torch.equal(y.amin((2, 3)), y.amax((2, 3)))
    True
    """

    def __init__(self, p: float = 0.2, step_mode: str = "s") -> None:
        super().__init__(p, step_mode)

    def draw(self, x: Tensor) -> Tensor:
        channels = x.new_ones(x.shape[:2])
        mask = F.dropout(channels, self.p, training=True)
        return mask.view(*mask.shape, *[1] * (x.ndim - 2)).expand(x.shape)


known_to_rows(__name__)
