"""How many axes an upsampling takes, which its mode says."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["UpsampleOfMode"]

AXES = {"linear": "N C L", "bilinear": "N C H W", "bicubic": "N C H W", "lanczos": "N C H W", "trilinear": "N C D H W"}
"""The axes of one step, of the modes that take but one number of them."""


class UpsampleOfMode(nn.Upsample):
    """PyTorch's upsampling, with the axes that its mode takes where these are told from others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.mode in AXES:
            self.axes = tuple(AXES[self.mode].split())
            self._ranks = (len(self.axes) - 1, len(self.axes))
