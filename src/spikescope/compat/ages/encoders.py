"""Encoders that in `step_mode='m'` take a sequence, as the layers after them do, and encode its first step."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import encoding
from ...errors import check_tensor

__all__ = ["LatencyEncoder", "PeriodicEncoder", "StatefulEncoder", "WeightedPhaseEncoder"]


class StatefulEncoder(encoding.StatefulEncoder):
    """`encoding.StatefulEncoder` that gives as many steps as it takes: `[T, N, *]` to `[T, N, *]`."""

    def multi_step_forward(self, x_seq: Tensor | None = None) -> Tensor:
        """The steps of the code, on from where it is; what is encoded is the first step of the first sequence."""
        check_tensor(type(self).__name__, "the input", x_seq)
        assert isinstance(x_seq, Tensor)
        return torch.stack([self.single_step_forward(x if self.spike is None else None) for x in x_seq.unbind(0)])


def exchange(encoder: encoding.PeriodicEncoder, spike: Tensor) -> Tensor:
    """Have an encoder give out another train, also after a reset, on from the step at which it is."""
    train = encoding.PeriodicEncoder(spike).encode()
    encoder.T, encoder.t = len(train), encoder.t % len(train)
    encoder.set_reset_value("spike", train)
    encoder.spike = train
    return train


class LatencyEncoder(StatefulEncoder, encoding.LatencyEncoder):
    """`encoding.LatencyEncoder` of that kind."""


class PeriodicEncoder(StatefulEncoder, encoding.PeriodicEncoder):
    """`encoding.PeriodicEncoder` of that kind, which takes another train by `single_step_encode(spike)`."""

    def single_step_encode(self, spike: Tensor) -> None:
        exchange(self, spike)


class WeightedPhaseEncoder(StatefulEncoder, encoding.WeightedPhaseEncoder):
    """`encoding.WeightedPhaseEncoder` of that kind."""
