"""How often each module runs while the network runs once."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ...choose.kinds import in_sequences, is_neuron
from ...choose.modules import by_role, named
from ...foreign.known import adapter_of
from .watcher import Rule, Watcher, by_name, most

__all__ = ["Uses"]


class Uses(Watcher):
    """Counts the calls of neurons and of layers with weights in each call of the network.

    A neuron that runs more often than every layer with weights stands in two places, though it has one state. It may
    take single steps of a sequence inside a container, which is no second place; nor is there one for a neuron that is
    passed its state.
    """

    joins: ClassVar[dict[str, Rule | None]] = {"_twice": by_name(most), "_counts": lambda values: {}}
    stays = frozenset({"synapses", "neurons", "names"})

    def __init__(self, net: nn.Module) -> None:
        held = named(net)
        weighted = by_role("synapse")
        self.synapses = {name for name, module in held.items() if weighted.matches(name, module)}
        self.neurons = {name for name, module in held.items() if _has_place(module)}
        self.neurons -= {name for name in self.neurons if _stepped(name, held)}
        self._twice: dict[str, int] = {}
        self.names = _names(net)
        self._counts: dict[str, int] = {}

    def look(self, name: str) -> None:
        """A module has run."""
        if name in self.synapses or name in self.neurons:
            self._counts[name] = self._counts.get(name, 0) + 1

    def begin(self) -> None:
        """The network begins, so that the call before is over."""
        self._twice, self._counts = self.twice, {}

    def told(self) -> dict[str, Any]:
        return {"_twice": self.twice, "_counts": {}}  # what a call in its midst has counted is in `twice`

    @property
    def twice(self) -> dict[str, int]:
        """Neurons that ran too often in a call of the network, and how often they ran for once of a layer."""
        found = dict(self._twice)
        layers = max((self._counts.get(name, 0) for name in self.synapses), default=0)
        for name in self.neurons if layers else ():
            number = self._counts.get(name, 0)
            if number > layers:
                found[name] = max(number // layers, 2, found.get(name, 0))
        return found

    def shared(self) -> dict[str, tuple[str, ...]]:
        """Neurons that stand under several names, by the first one."""
        return {name: others for name, others in self.names.items() if len(others) > 1}


def _has_place(module: nn.Module) -> bool:
    """Whether it is a neuron with a state of its own."""
    adapter = adapter_of(module)
    return is_neuron(module) and (adapter is None or adapter.keeps(module))


def _stepped(name: str, held: dict[str, nn.Module]) -> bool:
    """Whether a module around the neuron runs it step by step."""
    if in_sequences(held[name]):
        return False
    parts = name.split(".")
    around = (held.get(".".join(parts[:end])) for end in range(len(parts)))
    return any(module is not None and in_sequences(module) for module in around)


def _names(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """All names of each neuron, by the first one."""
    known: dict[int, list[str]] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        if _has_place(module):
            known.setdefault(id(module), []).append(name)
    return {names[0]: tuple(names) for names in known.values()}
