"""The classes that monitors know though they are not ours: those of libraries, and those that a user told of."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from ...base import StepModule
from ...errors import check_switches
from ...form import at_path
from ...sockets import Signal
from .adapter import Adapter
from .libraries import LIBRARIES

__all__ = ["adapter_of", "adopt"]


class Rule(Adapter):
    """What a user says of a class; see `adopt`."""

    def __init__(
        self,
        spikes: str | None,
        potential: str | None,
        threshold: str | None,
        time: int | None,
        state: tuple[str, ...],
        binary: bool,
    ) -> None:
        self._spikes, self._potential, self._threshold, self._time = spikes, potential, threshold, time
        self._state, self._binary = state, binary

    def spikes(self, module: nn.Module) -> str | None:
        return self._spikes

    def potential(self, module: nn.Module) -> Signal | str:
        if self._potential is None:
            return "adopt was not told where it is; give potential="
        in_output = self._potential.partition(".")[0].lstrip("-").isdigit()
        return Signal("output" if in_output else "after", self._potential)

    def threshold(self, module: nn.Module) -> str | None:
        return self._threshold

    def in_sequences(self, module: nn.Module) -> bool:
        return self._time is not None

    def time_first(self, module: nn.Module, value: Tensor, kind: str) -> Tensor:
        return value.transpose(0, 1) if self._time == 1 and value.ndim > 1 else value

    def held(self, module: nn.Module) -> Any:
        return tuple(_found(module, name) for name in self._state) or None

    def binary(self, module: nn.Module) -> bool:
        return self._binary

    def check(self, module: nn.Module, ran: bool) -> None:
        for said, names in (("threshold", (self._threshold,)), ("state", self._state if ran else ())):
            for name in names:
                if name is not None and _found(module, name) is _MISSING:
                    raise AttributeError(
                        f"{type(module).__name__} has no attribute {name!r}, which adopt was told as {said}."
                    )


_MISSING = object()


def _found(module: nn.Module, path: str) -> Any:
    """An attribute, which the first call may make."""
    try:
        return at_path(module, path)
    except (AttributeError, LookupError):
        return _MISSING


_rules: dict[type[nn.Module], Rule] = {}


def adopt(
    cls: type[nn.Module],
    *,
    spikes: str | None = "0",
    potential: str | None = None,
    threshold: str | None = None,
    time: int | None = None,
    state: Sequence[str] = (),
    binary: bool = True,
) -> type[nn.Module]:
    """Have monitors take the modules of a class, and of all that derive from it, for neurons. Gives the class back.

    - `spikes`: where they are in what the module gives, as `'0'` of a tuple or `'spikes'` of a dict, and `'0.out'`
      further inside; a tensor alone is them. None for a read-out, which gives none.
    - `potential`: the attribute that holds it after a call, or its place in the output, as `'1'` or `'1.v'`.
    - `threshold`: the attribute that holds it.
    - `time`: None where a call is one step `[N, *]`; the axis of time, 0 or 1, where it is a whole sequence.
    - `state`: the attributes that a call goes on from; leave it out where the state is passed as an argument. A
      sequence begins where there is no state, or one of zeros.
    - `binary`: whether spikes are 0 and 1, so that a bit each is kept of them.

    Calling it again replaces what was said before.

    >>> class Fires(nn.Module):
    ...     def forward(self, x, v):
    ...         v = v + x
    ...         return (v > 1).float(), v - (v > 1).float()
    >>> net = adopt(Fires, potential="1")()
    >>> v = torch.zeros(1, 2)
    >>> with spikescope.monitor.record(net, "rate") as recording:
    ...     for _ in range(4):
    ...         z, v = net(torch.tensor([[0.6, 0.1]]), v)
    >>> recording[""]
    tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"adopt takes a class of modules, but got {cls!r}.")
    if issubclass(cls, StepModule):
        raise ValueError(f"adopt: {cls.__name__} is of this library, which knows it.")
    if time not in (None, 0, 1):
        raise ValueError(f"adopt: time is None, for single steps, or the axis 0 or 1, but got {time!r}.")
    if isinstance(state, str):
        raise TypeError(f"adopt: state takes the names of attributes in a tuple; write ({state!r},).")
    check_switches("adopt", binary=binary)
    _rules[cls] = Rule(spikes, potential, threshold, time, tuple(state), binary)
    adapter_of_class.cache_clear()
    return cls


@lru_cache(maxsize=1024)
def adapter_of_class(cls: Any) -> Adapter | None:
    """The adapter of a class: what its user said of it or of its nearest base, or the row of its library."""
    if (rule := next((_rules[base] for base in cls.__mro__ if base in _rules), None)) is not None:
        return rule
    return next((adapter for adapter in LIBRARIES if any(_is_of(adapter, base) for base in cls.__mro__)), None)


def _is_of(adapter: Adapter, cls: type) -> bool:
    package = cls.__module__.partition(".")[0]
    return package == adapter.library and any(fnmatchcase(cls.__name__, name) for name in adapter.classes)


def adapter_of(module: nn.Module) -> Adapter | None:
    """What is known of a module that is not ours; None of ours, and of those that nobody knows."""
    cls: Any = type(module)
    return adapter_of_class(cls)
