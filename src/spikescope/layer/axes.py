"""How many axes a layer takes, where an argument says it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import check_whole

__all__ = ["FlattenOfAxes", "UpsampleOfMode"]

AXES = {"linear": "N C L", "bilinear": "N C H W", "bicubic": "N C H W", "lanczos": "N C H W", "trilinear": "N C D H W"}
"""The axes of one step, of the modes that take but one number of them."""

MOST_AXES = 64
"""Of a tensor of PyTorch."""


class UpsampleOfMode(nn.Upsample):
    """PyTorch's upsampling, with the axes that its mode takes where these are told from others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.mode in AXES:
            self.axes = tuple(AXES[self.mode].split())
            self._ranks = (len(self.axes) - 1, len(self.axes))


class FlattenOfAxes(nn.Flatten):
    """PyTorch's flattening, with at least the axes that it names."""

    _ranks: tuple[int, int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("start_dim", "end_dim"):
            place = check_whole("Flatten", f"{name}, an axis,", getattr(self, name), -MOST_AXES, MOST_AXES - 1)
            setattr(self, name, place)
        needed = max(place + 1 if place >= 0 else -place for place in (self.start_dim, self.end_dim))
        if needed > 2:
            self.axes = ("N", "C", *(f"F{axis}" for axis in range(1, needed - 1)), "*")
            self._ranks = (needed - 1, self._ranks[1])

    def of_sequence(self, input: Tensor) -> Tensor:
        """The axes of each step, time left alone: an exporter cannot follow N through a fold and a flattening."""
        start, end = (place + 1 if place >= 0 else place for place in (self.start_dim, self.end_dim))
        return input.flatten(start, end)
