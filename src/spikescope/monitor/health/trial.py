"""Advice tried out: a copy of a neuron on a part of what it was given, with one number changed."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from .watch.seen import Seen

__all__ = ["best"]

_WANTED = 0.25  # spikes of a neuron in a step
_POWERS = range(-12, 17)


class Change(Protocol):
    """Changes a copy of a neuron before its first call, and gives what it is to be given."""

    def __call__(self, node: Any, x: list[Tensor], number: float) -> list[Tensor]:
        """`x`: a sequence, or steps."""


def best(seen: Seen, name: str, change: Change, rate: float | None = None) -> float | None:
    """The power of two with which neurons fire at about a quarter of the steps, and few never do; or at this `rate`.

    None where no number brings them nearer to that than they are, or the neuron cannot be run by itself.
    """
    given, neuron = seen.origin.samples.get(name), seen.modules[name]
    if not given:
        return None
    try:
        now = _off(neuron, given, rate, lambda node, x, number: x, 1.0)
        off = {number: _off(neuron, given, rate, change, number) for number in (2.0**power for power in _POWERS)}
    except Exception:  # a neuron of somebody else, which cannot be copied or run alone: then nothing was tried
        return None
    found = min(off, key=off.__getitem__)
    return found if off[found] < now else None


def _off(neuron: Any, given: list[Tensor], rate: float | None, change: Change, number: float) -> float:
    """How far the spikes are from what is wanted."""
    node = copy.deepcopy(neuron)
    node.reset()
    with torch.no_grad():
        steps = [node(x) for x in change(node, given, number)]
    spikes = steps[0] if node.step_mode == "m" else torch.stack(steps)
    fired = spikes.flatten(0, 1) != 0
    mean = float(fired.double().mean())
    if rate is not None:
        return abs(mean - rate)
    return abs(mean - _WANTED) + float((~fired.any(0)).double().mean())
