"""A companion for Accelerate: the network out of its wrappers, numbers to its trackers. Needs the package."""

from __future__ import annotations

from typing import Any

try:
    from accelerate import Accelerator
except ImportError:
    from ..errors import missing_extra

    raise missing_extra("accelerate", "accelerate", "Helpers for Accelerate") from None

from torch import nn

from .companion import Companion

__all__ = ["AcceleratedCompanion"]


class AcceleratedCompanion(Companion):
    """A `Companion` of what `accelerator.prepare` gave; `log` sends an epoch to the trackers of the accelerator.

    - `net`: the prepared network. `rates`, `health`: as `Companion` has them.

    `for x, y in companion.batches(loader):` around a step with `accelerator.backward(loss)` is all there is to do;
    gradients that are accumulated are so over batches, each from rest.
    """

    def __init__(self, accelerator: Accelerator, net: nn.Module, **options: Any) -> None:
        super().__init__(accelerator.unwrap_model(net), **options)
        self.accelerator = accelerator

    def log(self, step: int, stage: str = "train") -> dict[str, float]:
        """Send what was counted since the last call to the trackers, and give it back; all processes call it."""
        held = {f"{stage}_{name}": value for name, value in self.epoch().items()}
        self.accelerator.log(held, step=step)
        return held
