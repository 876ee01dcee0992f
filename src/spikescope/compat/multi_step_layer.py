"""The layers of the clock-driven interface that take whole sequences: ours, in `step_mode='m'` from the start."""

from __future__ import annotations

from ..layer import Dropout, Dropout2d

__all__ = ["MultiStepDropout", "MultiStepDropout2d"]


class MultiStepDropout(Dropout):
    """`layer.Dropout` for sequences: `step_mode='m'` from the start."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class MultiStepDropout2d(Dropout2d):
    """`layer.Dropout2d` for sequences: `step_mode='m'` from the start."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")
