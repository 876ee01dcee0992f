"""The spiking LSTM of the clock-driven interface, whose memory had no bound, and its GRU cell, which took a pair."""

from __future__ import annotations

import math
from typing import Any

from ... import rnn
from . import late

__all__ = ["SpikingGRUCell", "SpikingLSTM", "SpikingLSTMCell"]


class SpikingLSTMCell(rnn.SpikingLSTMCell):
    """`rnn.SpikingLSTMCell` without the bound that keeps its memory a spike."""

    highest = math.inf


class SpikingGRUCell(rnn.SpikingGRUCell):
    """`rnn.SpikingGRUCell` that takes its state as the first of a pair, too, and as `hc`, as in 0.0.0.0.4."""

    def __call__(self, x: Any, h: Any = None, *, hc: Any = None) -> Any:
        given = h if hc is None else hc
        return super().__call__(x, given[0] if isinstance(given, tuple | list) else given)


class SpikingLSTM(late.SpikingLSTM):
    """`late.SpikingLSTM` of such cells."""

    @staticmethod
    def base_cell() -> type[Any]:
        return SpikingLSTMCell
