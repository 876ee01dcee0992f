"""Encoders whose `encode(x)` puts the code into `spike`, which the calls after it give out."""

from __future__ import annotations

from torch import Tensor

from ... import encoding
from .encoders import exchange

__all__ = ["LatencyEncoder", "PeriodicEncoder", "WeightedPhaseEncoder"]


class LatencyEncoder(encoding.LatencyEncoder):
    """`encoding.LatencyEncoder` of that kind."""

    def encode(self, x: Tensor) -> Tensor:
        self.spike = made = super().encode(x)
        return made


class WeightedPhaseEncoder(encoding.WeightedPhaseEncoder):
    """`encoding.WeightedPhaseEncoder` of that kind."""

    def encode(self, x: Tensor) -> Tensor:
        self.spike = made = super().encode(x)
        return made


class PeriodicEncoder(encoding.PeriodicEncoder):
    """`encoding.PeriodicEncoder` that takes another train by `encode(spike)`."""

    def encode(self, x: Tensor | None = None) -> Tensor:
        return super().encode() if x is None else exchange(self, x)
