"""How the weights of a network move, and whether gradients arrive at them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...choose.modules import named
from .watcher import Rule, Watcher, by_name, either, longest, most

__all__ = ["Arrival", "Weights", "parameters"]

_SAMPLE = 1024  # elements of a weight that are compared
_USUAL = 0.5  # the norm of the weights of an output, as layers begin with it


def parameters(net: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that learn, by the name of their module and their own: those of two axes and more."""
    found: dict[str, nn.Parameter] = {}
    for name, module in named(net).items():
        for own, held in module.named_parameters(recurse=False):
            lazy = isinstance(held, nn.parameter.UninitializedParameter)
            if not lazy and held.requires_grad and held.ndim > 1 and held.is_floating_point() and not held.is_meta:
                found[f"{name}.{own}" if name else own] = held
    return found


class Arrival(Watcher):
    """Counts the gradients that arrive at each weight, by hooks that are taken off at the end."""

    joins: ClassVar[dict[str, Rule | None]] = {"counts": by_name(most), "_moving": by_name(either)}
    stays = frozenset({"_hooks", "_due"})

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        self.counts = dict.fromkeys(weights, 0)
        self._moving: dict[str, Tensor] = {}  # whether one was not zero, where it is: nobody waits for it
        self._due: dict[str, Tensor] = {}  # the same of those since the last update
        self._hooks = [held.register_hook(self._counting(name)) for name, held in weights.items()]

    def moves(self, name: str) -> bool:
        """Whether a gradient that is not zero came before an update, which would have moved the weight.

        Of a gradient it is the part that counts of which `Weights` sees whether it moves.
        """
        return name in self._moving and bool(self._moving[name])

    def updated(self) -> None:
        """There was an update: what came before it was due."""
        for name, due in self._due.items():
            self._moving[name] = due | self._moving[name] if name in self._moving else due
        self._due.clear()

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _counting(self, name: str) -> Any:
        def count(gradient: Tensor) -> None:
            self.counts[name] += 1
            moving = _part(gradient.to_dense() if gradient.is_sparse else gradient).any()
            self._due[name] = moving | self._due[name] if name in self._due else moving

        return count


class Weights(Watcher):
    """How far each weight goes from one call of the network to the next, in units of its own norm.

    A part of each weight is compared, of even distances. Of a weight that is smaller than weights begin, the unit is
    their usual norm: that an update moves it far is then no wonder, and right.
    """

    joins: ClassVar[dict[str, Rule | None]] = {"moves": by_name(longest)}
    stays = frozenset({"held", "_before"})

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        self.held = weights
        self._before = {name: _part(held) for name, held in weights.items()}
        self.moves: dict[str, list[float]] = {name: [] for name in weights}  # those that were no standstill

    def look(self) -> bool:
        """The network begins, or somebody reads; whether there was an update since."""
        updated = False
        for name, held in self.held.items():
            now, before = _part(held), self._before[name]
            if now.shape != before.shape:  # a weight of another size was put in its place
                self._before[name] = now
                continue
            way, size = (now - before).norm().item(), before.norm().item()
            if way and size and math.isfinite(way):  # of what is not finite, no part is known
                self.moves[name].append(way / max(size, _USUAL * math.sqrt(len(now) / held[0].numel())))
                updated = True
            self._before[name] = now
        return updated

    def fastest(self) -> tuple[str, float] | None:
        """The weight that moves most in a typical update, and how far."""
        means = {name: _typical(moves) for name, moves in self.moves.items() if moves}
        return max(means.items(), key=lambda item: item[1], default=None)

    def farthest(self) -> tuple[str, float] | None:
        """The weight that one update moved most, and how far."""
        found = {name: max(moves) for name, moves in self.moves.items() if moves}
        return max(found.items(), key=lambda item: item[1], default=None)

    def still(self) -> list[str]:
        """Weights that never moved while others did."""
        return [name for name, moves in self.moves.items() if not moves] if any(self.moves.values()) else []


def _typical(moves: list[float]) -> float:
    """The median of the updates."""
    return sorted(moves)[len(moves) // 2]


def _part(weight: Tensor) -> Tensor:
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLE)].to(torch.float64, copy=True)
