"""The spiking LSTM of the clock-driven interface, whose memory had no bound."""

from __future__ import annotations

import math
from typing import Any

from ... import rnn
from . import late

__all__ = ["SpikingLSTM", "SpikingLSTMCell"]


class SpikingLSTMCell(rnn.SpikingLSTMCell):
    """`rnn.SpikingLSTMCell` without the bound that keeps its memory a spike."""

    highest = math.inf


class SpikingLSTM(late.SpikingLSTM):
    """`late.SpikingLSTM` of such cells."""

    @staticmethod
    def base_cell() -> type[Any]:
        return SpikingLSTMCell
