"""What to say of an argument that a data set does not take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ...errors import did_you_mean

__all__ = ["refuse_unknown", "refusing_others"]

F = TypeVar("F", bound=Callable[..., None])


def _frames(given: Any) -> str:
    return f"write data_type='frame', frames_number={given!r}, and split_by='time' or 'number'"


OF_OLD: dict[str, Callable[[Any], str]] = {
    "frames_num": _frames,
    "use_frame": lambda given: f"write data_type={'frame' if given else 'event'!r}",
    "normalization": lambda given: (
        "frames hold numbers of events; normalise them in transform, as with "
        "transform=lambda frames: frames / frames.max()"
        if given is not None
        else "leave it out: frames hold numbers of events"
    ),
    "split_ratio": lambda given: (
        f"divide the set with datasets.split_to_train_test_set({given!r}, dataset, num_classes)"
    ),
}
"""Arguments of SpikingJelly 0.0.0.0.4, and what stands for them."""


def refusing_others(constructor: F) -> F:
    """Let a constructor that refuses all others show the arguments that it takes."""
    signature = inspect.signature(constructor)
    known = [held for held in signature.parameters.values() if held.kind is not held.VAR_KEYWORD]
    constructor.__signature__ = signature.replace(parameters=known)  # type: ignore[attr-defined]
    return constructor


def refuse_unknown(cls: type[Any], others: Mapping[str, Any]) -> None:
    """A TypeError that says what to write in place of the first of `others`, which `cls` does not take; none if empty.

    >>> refuse_unknown(spikescope.datasets.NMNIST, {"frames_num": 10})
    Traceback (most recent call last):
    TypeError: NMNIST takes no frames_num: write data_type='frame', frames_number=10, and split_by='time' or 'number'.
    """
    for name, given in others.items():
        if name in OF_OLD:
            raise TypeError(f"{cls.__name__} takes no {name}: {OF_OLD[name](given)}.")
        known = [key for key in inspect.signature(cls.__init__).parameters if key != "self"]
        raise TypeError(f"{cls.__name__} takes no {name}.{did_you_mean(name, known)} It takes {', '.join(known)}.")
