"""Encoders whose `encode(x)` puts the code into `spike`, which the calls after it give out.

They take the names that arguments had in 0.0.0.0.4, and a device, which does nothing: a code is where its input is.
What that release gave out by `step()`, the next step of the code, is a call without an input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ... import encoding
from .encoders import exchange

__all__ = ["LatencyEncoder", "PeriodicEncoder", "WeightedPhaseEncoder"]


def as_later(
    owner: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Mapping[str, str], places: int, *ignored: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of 0.0.0.0.4 as those of a later age: under their `names` there, and without a device.

    - `ignored`: what has no meaning here.
    - `places`: the arguments by place that both ages have; after these comes a step mode, or what has no meaning here.
    """
    given = {name: held for name, held in kwargs.items() if name not in ("device", *ignored)}
    known = {names.get(name, name): held for name, held in given.items()}
    if len(known) < len(given):
        raise TypeError(f"{owner}: got {' and '.join(kwargs)}, of which two are the same argument. Give one of them.")
    return (*args[:places], *(held for held in args[places:] if held in ("s", "m"))), known


class Stepping:
    """What 0.0.0.0.4 called the next step of a code, and the code."""

    spike: Tensor | None

    def step(self) -> Any:
        """The next step, once something was encoded."""
        encoder: Any = self
        return encoder()

    @property
    def out_spike(self) -> Tensor:
        """The code."""
        if self.spike is None:
            raise ValueError(f"{type(self).__name__} has no out_spike before it has encoded something: call it first.")
        return self.spike


class LatencyEncoder(Stepping, encoding.LatencyEncoder):
    """`encoding.LatencyEncoder` of that kind.

    >>> encoder = LatencyEncoder(max_spike_time=3, function_type="linear", device="cpu")
    >>> encoder.encode(torch.tensor([0.5])).shape, encoder.spike_time, encoder.out_spike
    (torch.Size([3, 1]), tensor([1]), tensor([[False,  True, False]]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = {"max_spike_time": "T", "function_type": "enc_function"}
        args, kwargs = as_later("LatencyEncoder", args, kwargs, names, 2)
        super().__init__(*args, **kwargs)

    def encode(self, x: Tensor) -> Tensor:
        self.spike = made = super().encode(x)
        return made

    @property
    def out_spike(self) -> Tensor:
        """The code `[N, *, T]` of booleans."""
        return super().out_spike.movedim(0, -1).bool()

    @property
    def spike_time(self) -> Tensor:
        """The step of each spike."""
        return self.out_spike.byte().argmax(-1)


class WeightedPhaseEncoder(Stepping, encoding.WeightedPhaseEncoder):
    """`encoding.WeightedPhaseEncoder` of that kind, whose `K` may be given as `phase`; a `period` does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        args, kwargs = as_later("WeightedPhaseEncoder", args, kwargs, {"phase": "K"}, 1, "period")
        super().__init__(*args, **kwargs)

    def encode(self, x: Tensor) -> Tensor:
        self.spike = made = super().encode(x)
        return made


class PeriodicEncoder(Stepping, encoding.PeriodicEncoder):
    """`encoding.PeriodicEncoder` that takes another train by `encode(spike)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        args, kwargs = as_later("PeriodicEncoder", args, kwargs, {"out_spike": "spike"}, 1)
        super().__init__(*args, **kwargs)

    def encode(self, spike: Tensor | None = None) -> Tensor:
        return super().encode() if spike is None else exchange(self, spike)

    def set_out_spike(self, out_spike: Tensor) -> None:
        """Take another train, from its first step on."""
        exchange(self, out_spike)
        self.t = 0
