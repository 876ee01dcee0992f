"""When a sequence of a foreign neuron begins: seen from the state that it is given, and the one that it left."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ...form import tensors_of
from ...sockets import Point, Signal, found_sockets, subscribe, unsubscribe
from .adapter import Adapter

__all__ = ["Clock", "clock_of"]


class Clock:
    """Remembers the state that a neuron left at its last call, so that the next one tells whether it goes on from it.

    It does where the state that it is given is what it left, or the same changed; it begins where there is none, or
    zeros that somebody else has made. All that listen to a neuron share one.
    """

    enabled = True

    def __init__(self, module: nn.Module, adapter: Adapter) -> None:
        self.adapter, self._module = adapter, weakref.ref(module)
        self._left: list[tuple[Tensor, int]] = []
        self._error: Exception | None = None
        self.users = 0
        self.point: Point = subscribe(module, Signal("output"), self)

    def receive(self, value: Any, compiled: bool, cut: bool, call: int | None = None) -> None:
        """A call is over."""
        module = self._module()
        if module is None:
            return
        try:
            self.adapter.check(module, ran=True)
            passed = value[1:] if isinstance(value, (list, tuple)) else ()
            held = tensors_of((passed, self.adapter.held(module)))
        except Exception as error:  # of what a user said of a class: whoever asks is told
            held, self._error = [], error
        self._left = [(one.detach(), _version(one)) for one in held if one.numel()]

    def begins(self, given: Sequence[Tensor], own: bool) -> bool:
        """Whether what is called with `given` begins a sequence: the neuron itself, or with `own=False` the network."""
        if self._error is not None:
            raise self._error
        state = given[1:] if own else given
        if any(map(self._is_left, state)):
            return False
        module = self._module()
        if module is None:
            return True
        if not own or not state:
            keeps = own or self.adapter.keeps(module)
            state = tensors_of(self.adapter.held(module)) if keeps else []
        return not any(self._is_left(one) or (one.numel() and bool((one != 0).any())) for one in state)

    def _is_left(self, given: Tensor) -> bool:
        """Whether this is what the last call left, unchanged; it is held here, so that nothing else has its place."""
        return given.numel() > 0 and any(
            held.data_ptr() == given.data_ptr() and held.shape == given.shape and version == _version(given)
            for held, version in self._left
        )

    def close(self) -> None:
        """One that listened does no more."""
        self.users -= 1
        if not self.users:
            self._left = []
            unsubscribe(self.point, self)


def clock_of(module: nn.Module, adapter: Adapter) -> Clock:
    """The clock of a neuron, which there is one of while somebody uses it; close it once for each call of this."""
    sockets = found_sockets(module)
    points = sockets[1].points if sockets else ()
    there = (held for point in points for held in point.subscribers if isinstance(held, Clock))
    clock = next(there, None) or Clock(module, adapter)
    clock.users += 1
    return clock


def _version(held: Tensor) -> int:
    """How often it was changed in place; tensors of inference do not count."""
    return -1 if held.is_inference() else held._version
