"""How the weights of a network move, and whether gradients arrive at them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...choose.modules import named
from .watcher import Rule, Watcher, by_name, either, longest, most, union

__all__ = ["Arrival", "Weights", "parameters"]

_SAMPLE = 1024  # elements of a weight that are compared
_USUAL = 0.5  # the norm of the weights of an output, as layers begin with it
_FAR = 0.5  # a factor that is so far from one is no decay of weights
_ASIDE = 0.05  # of a step, which goes aside: that of an update before somebody scaled the weight
_EVEN = 0.75  # the square of the mean over the mean of the squares: 1 of equal steps, 0.64 of a normal distribution


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
    stays = frozenset({"_hooks", "_due", "waiting"})

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        self.counts = dict.fromkeys(weights, 0)
        self._moving: dict[str, Tensor] = {}  # whether one was not zero, where it is: nobody waits for it
        self._due: dict[str, Tensor] = {}  # the same of those since the last update
        self.waiting: set[str] = set()  # weights to which one came since they moved last
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
            self.waiting.add(name)
            moving = _part(gradient.to_dense() if gradient.is_sparse else gradient).any()
            self._due[name] = moving | self._due[name] if name in self._due else moving

        return count


class Weights(Watcher):
    """How far each weight goes from one call of the network to the next, in units of its own norm.

    A part of each weight is compared, of even distances. Of a weight that is smaller than weights begin, the unit is
    their usual norm: that an update moves it far is then no wonder, and right. An update follows a gradient; what else
    moves a weight is somebody's hand, as a checkpoint that is loaded, and so is what does no more than scale it far.
    """

    joins: ClassVar[dict[str, Rule | None]] = {
        "moves": by_name(longest),
        "leaps": by_name(longest),
        "growth": by_name(longest),
        "sizes": by_name(longest),
        "changed": union,
    }
    stays = frozenset({"held", "_before"})

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        self.held = weights
        self._before = {name: _part(held) for name, held in weights.items()}
        self.moves: dict[str, list[float]] = {name: [] for name in weights}  # of updates that were no standstill
        self.leaps: dict[str, list[float]] = {name: [] for name in weights}  # the same, zero where all steps are alike
        self.growth: dict[str, list[float]] = {name: [] for name in weights}  # logarithms of factors, by each of them
        self.sizes: dict[str, list[float]] = {name: [] for name in weights}  # after each, in their usual norm
        self.changed: set[str] = set()  # by an update or by hand

    def look(self, waiting: set[str]) -> bool:
        """The network begins, or somebody reads; whether there was an update since.

        `waiting` are the weights to which a gradient came; those that have moved are taken out.
        """
        updated = False
        for name, held in self.held.items():
            now, before = _part(held), self._before[name]
            self._before[name] = now
            if now.shape != before.shape:  # a weight of another size was put in its place
                continue
            step, size = now - before, before.norm().item()
            way = step.norm().item()
            if not (way and size):
                continue
            self.changed.add(name)
            arrived = name in waiting
            waiting.discard(name)
            if not arrived or not math.isfinite(way) or _is_scaled(step, before):  # of infinity, no part is known
                continue
            usual = _USUAL * math.sqrt(len(now) / held[0].numel())
            unit = max(size, usual)
            self.moves[name].append(way / unit)
            self.leaps[name].append(0.0 if _is_even(step) else way / unit)
            self.sizes[name].append(max(now.norm().item(), usual) / usual)
            self.growth[name].append(math.log(self.sizes[name][-1] * usual / unit))
            updated = True
        return updated

    def fastest(self) -> tuple[str, float] | None:
        """The weight that moves most in a typical update, and how far."""
        means = {name: _typical(moves) for name, moves in self.moves.items() if moves}
        return max(means.items(), key=lambda item: item[1], default=None)

    def farthest(self) -> tuple[str, float] | None:
        """The weight that one update moved most, and how far: not of those that give all its numbers the same step."""
        found = {name: max(leaps) for name, leaps in self.leaps.items() if leaps}
        return max(found.items(), key=lambda item: item[1], default=None)

    def grown(self, within: int, factor: float) -> tuple[str, float] | None:
        """The weight that became largest, in its usual norm, by updates so few that made it this factor as large."""
        found = {}
        for name, growth in self.growth.items():
            sums = [sum(growth[max(0, end - within) : end]) for end in range(1, len(growth) + 1)]
            sizes = [size for size, held in zip(self.sizes[name], sums, strict=True) if held > math.log(factor)]
            found[name] = max(sizes, default=0.0)
        return max(found.items(), key=lambda item: item[1], default=None)

    def still(self) -> list[str]:
        """Weights that never moved while others did."""
        return [name for name in self.moves if name not in self.changed] if any(self.moves.values()) else []


def _is_scaled(step: Tensor, before: Tensor) -> bool:
    """Whether a weight became a multiple of itself, far from what it was: no update goes only along the weight."""
    factor = (step.dot(before) / before.dot(before)).item()
    return abs(factor) > _FAR and bool((step - factor * before).norm() < _ASIDE * step.norm())


def _is_even(step: Tensor) -> bool:
    """Whether all numbers that move do so by about the same, as those that Adam moves first."""
    moved = step[step != 0].abs()
    return bool(moved.mean().square() > _EVEN * moved.square().mean())


def _typical(moves: list[float]) -> float:
    """The median of the updates."""
    return sorted(moves)[len(moves) // 2]


def _part(weight: Tensor) -> Tensor:
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLE)].to(torch.float64, copy=True)
