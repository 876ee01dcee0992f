"""The fewest values of a step that the backward pass has to keep when it runs a segment again: a minimal cut.

The gradients read a few values that come from input and state. Any set of values would do that lies on every way from
these to the gradients; the smallest is a minimal cut of the graph, found by a maximal flow. Of a LIF neuron it is the
potential before the reset alone: neither input nor state is read again, and nothing of the charging is computed twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import pairwise

import torch

from ..cpp.phases import needed
from .printing import Assignment

__all__ = ["kept"]

_Place = tuple[str, bool]  # a value, and whether it is meant as it comes out
_FROM, _TO = ("", True), ("", False)  # no value has an empty name
_MANY = 1 << 20
_Room = defaultdict[_Place, defaultdict[_Place, int]]


def kept(
    made: Sequence[Assignment],
    gradients: Sequence[str],
    sources: Collection[str],
    others: Collection[str],
    costly: Collection[str] = (),
) -> list[str]:
    """The fewest of `sources`, and of the values computed from them alone, that all else of the gradients comes from.

    - `others`: the inputs that are not given when a segment is run again: the gradients of what comes later.
    - `costly`: values that are not computed a second time: where they come from is as good as nothing.

    Of several such sets it is the one nearest to the result. A condition is not kept, for it is computed at no cost.
    """
    made = needed(made, gradients)
    late, ends = set(others), set(gradients)
    for line in made:
        if not late.isdisjoint(line.reads):
            late.add(line.name)
            ends.update(line.reads)
    early = [line for line in made if line.name not in late]
    values = [*sources, *(line.name for line in early)]
    room: _Room = defaultdict(lambda: defaultdict(int))
    for name in values:
        room[name, False][name, True] = 1
        if name in ends:
            room[name, True][_TO] = _MANY
    for name in (*sources, *(line.name for line in early if line.name in costly)):
        room[_FROM][name, False] = _MANY
    for line in early:
        if line.node.dtype is torch.bool:
            room[line.name, False][line.name, True] = _MANY
        for name in line.reads:
            if name in values and line.name not in costly:
                room[name, True][line.name, False] = _MANY
    while way := _way(room):
        for here, there in pairwise(way):
            room[here][there] -= 1
            room[there][here] += 1
    beyond = _reaching(room)
    return [name for name in values if (name, True) in beyond and (name, False) not in beyond]


def _way(room: _Room) -> list[_Place]:
    """A way from start to end on which there is room; empty if there is none."""
    came: dict[_Place, _Place] = {_FROM: _FROM}
    queue = [_FROM]
    for here in queue:
        for there, left in room[here].items():
            if left and there not in came:
                came[there] = here
                queue.append(there)
    if _TO not in came:
        return []
    way = [_TO]
    while way[-1] != _FROM:
        way.append(came[way[-1]])
    return way[::-1]


def _reaching(room: _Room) -> set[_Place]:
    """The places from which there is room on a way to the end."""
    found, queue = {_TO}, [_TO]
    for there in queue:
        for here in [*room]:
            if room[here][there] and here not in found:
                found.add(here)
                queue.append(here)
    return found
