"""What has changed in a network since a monitor chose its modules."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import nn

from ...warn import warn
from .modules import Selector, by_role, named

__all__ = ["Members"]


class Members:
    """The modules of a network when a monitor was made, and which of them it chose; held weakly.

    Looking costs a walk over the network, so it is done when somebody asks, and at the end.

    - `chosen`: names of the modules that are watched. `selector`: what would be watched if it were chosen now.
    """

    def __init__(self, net: nn.Module, chosen: Iterable[str], selector: Selector | None = None) -> None:
        modules = named(net)
        self._net, self._selector = weakref.ref(net), by_role("neuron") if selector is None else selector
        self._chosen = {name: weakref.ref(modules[name]) for name in chosen}
        self._before = weakref.WeakSet(modules.values())
        self._end: list[str] | None = None

    def changes(self) -> list[str]:
        """In words, which modules are others now than those that were chosen, and which have come."""
        if self._end is not None:
            return self._end
        net = self._net()
        known = {} if net is None else named(net)
        gone = [name for name, held in self._chosen.items() if known and known.get(name) is not held()]
        come = [
            name
            for name, module in known.items()
            if module not in self._before and name not in gone and self._selector.matches(name, module)
        ]
        told = []
        if gone:
            told.append(
                f"{', '.join(map(repr, gone))} of the network is not the module any more that was watched: what was "
                "seen is of the old one. Exchange modules before the block."
            )
        if come:
            told.append(
                f"{', '.join(map(repr, come))} came into the network later and is not watched. Add modules before the "
                "block."
            )
        return told

    def close(self, owner: str = "", stacklevel: int = 4) -> None:
        """Note how the network is at the end, and let the `owner` warn of it; a second time does nothing."""
        if self._end is not None:
            return
        self._end = self.changes()
        for words in self._end if owner else ():
            warn(f"{owner}: {words}", stacklevel=stacklevel)
