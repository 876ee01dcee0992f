"""`layer.DropConnectLinear` with the last argument that it had in 0.0.0.0.14."""

from __future__ import annotations

from typing import Any

from ... import layer

__all__ = ["DropConnectLinear"]


class DropConnectLinear(layer.DropConnectLinear):
    """`layer.DropConnectLinear` that takes a `state_mode`, which no release does anything with.

    >>> DropConnectLinear(4, 2, state_mode="m").step_mode
    's'
    """

    same_as = layer.DropConnectLinear

    def __init__(self, *args: Any, state_mode: str = "s", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state_mode = state_mode
