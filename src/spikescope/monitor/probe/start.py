"""Noticing when a sequence begins: where a neuron starts from rest, or where the network does."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

from torch import nn

from ...form import tensors_of
from ...sockets import Signal, at_rest, subscribe, unsubscribe
from ..choose.kinds import is_foreign, is_neuron
from ..choose.modules import named, unwrapped
from ..choose.signals import keeps_state
from ..foreign.clock import Clock, clock_of
from ..foreign.known import adapter_of

__all__ = ["Root", "Start", "start_of"]


class Told(Protocol):
    """Who is told that a sequence begins."""

    @property
    def on(self) -> bool:
        """Whether it is to be told now."""

    def begin(self) -> None:
        """A sequence begins."""

    def fail(self, error: Exception) -> None:
        """It is not known whether one does."""


class Start:
    """Tells whom it is for where a sequence begins, while that is on.

    Of neurons of ours the sockets tell it, from their states; of foreign ones each call is looked at.
    """

    def __init__(
        self,
        owner: nn.Module,
        states: tuple[nn.Module, ...],
        clocks: tuple[Clock, ...],
        told: Told,
    ) -> None:
        self.states, self.clocks, self._told = states, clocks, told
        self._own = is_neuron(owner)
        signal = Signal("call" if clocks else "start")
        self.point = subscribe(owner, signal, self, () if clocks else states)

    @property
    def enabled(self) -> bool:
        return self._told.on

    def receive(self, value: Any, compiled: bool, cut: bool, call: int | None = None) -> None:
        """A call comes; of neurons of ours alone, one that begins a sequence."""
        try:
            if self.clocks and isinstance(value, Exception):
                raise value
            if not self.clocks or self._rest(tensors_of(value)):
                self._told.begin()
        except Exception as error:
            self._told.fail(error)

    def at_rest(self) -> bool:
        """Whether nothing has run since the reset, so that the next step is the first."""
        return self._rest([])

    def _rest(self, given: list[Any]) -> bool:
        return all(map(at_rest, self.states)) and all(clock.begins(given, self._own) for clock in self.clocks)

    def close(self) -> None:
        unsubscribe(self.point, self)
        for clock in self.clocks:
            clock.close()


class Root:
    """The network that the modules of a monitor are in; what has a state there is looked for once, if it is asked."""

    def __init__(self, net: nn.Module) -> None:
        self.net = unwrapped(net)

    @cached_property
    def stateful(self) -> tuple[nn.Module, ...]:
        return tuple(filter(keeps_state, named(self.net).values()))


def start_of(module: nn.Module, root: Root, told: Told) -> Start | None:
    """The start of the sequences of a neuron, or of a module in a network; None where nothing has a state."""
    alone = is_neuron(module)
    owner = module if alone else root.net
    held = (owner,) if alone else root.stateful
    states = tuple(one for one in held if keeps_state(one) and not is_foreign(one))
    clocks = tuple(clock_of(one, adapter) for one in held if is_foreign(one) and (adapter := adapter_of(one)))
    return Start(owner, states, clocks, told) if states or clocks else None
