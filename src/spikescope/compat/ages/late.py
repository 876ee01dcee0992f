"""The spiking LSTM up to 0.0.0.0.14: its layers hand on a step late, and its last states have an axis in front."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import rnn

__all__ = ["SpikingLSTM"]


class SpikingLSTM(rnn.SpikingLSTM):
    """`rnn.SpikingLSTM` whose layers above the first take the output of the step before from the layer below.

    Layers of both directions are not late. The last states come as `[1, num_layers * directions, N, H]`; the first ones
    are given as to `rnn.SpikingLSTM`.

    >>> y, (h, c) = SpikingLSTM(3, 4, 2)(torch.rand(5, 1, 3))
    >>> h.shape
    torch.Size([1, 2, 1, 4])
    """

    def _handed_on(self, y: Tensor, start: Tensor) -> Tensor:
        return y if self.bidirectional else torch.cat((start.unsqueeze(0), y[:-1]))

    def forward(self, x: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Outputs `[T, N, H]`, or `[T, N, 2 H]`, and the last states `(h, c)`."""
        y, ends = super().forward(x, states)
        return y, tuple(end.unsqueeze(0) for end in ends)
