"""Whether a neuron begins with the state of the sequence before, as a forgotten reset leaves it."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

from torch import nn

from ....form import tensors_of
from ....recording.records import Moment
from ....sockets import Signal, subscribe, unsubscribe
from ...choose.kinds import held_state, in_sequences
from ...probe.single import Probe
from .watcher import Rule, Watcher

__all__ = ["Carried"]


class Carried(Watcher):
    """Counts the runs of a neuron that began with the state of the one before, as a forgotten reset leaves it.

    A run is a call for a sequence; of single steps it is what follows a backward pass over several of them, for one
    after each step is online learning, whose sequence goes on. The state is meant to go on where it was cut from its
    graph, where the graph goes on without a backward pass, and where the program does reset it, at another time.

    One such run is enough: autograd stops at the backward pass of it, so that in training there may be no second.
    """

    enabled = True
    joins: ClassVar[dict[str, Rule | None]] = dict.fromkeys(
        ("ran", "reset", "_runs", "_chunks", "_trained", "longest", "learns")
    )
    stays = frozenset({"neuron", "backwards", "point", "fired", "_calls", "_joined", "_graph", "_learns"})

    def __init__(self, neuron: nn.Module, backwards: list[Probe]) -> None:
        self.neuron = neuron
        self.backwards = backwards  # the probes of the gradients that tell a backward pass
        self.fired = 0  # of these, up to the last call
        self.ran = self.reset = False  # reset: and began anew after that
        self._learns: bool | None = None  # of what is joined, whether a backward pass came on that process
        self._calls = 0  # since the last backward pass
        self._joined = self._graph = False  # the state has a graph: before this call; after the last one
        self._runs = self._chunks = 0  # chunks: runs that go on with the graph of the one before
        self._trained = 0  # of both, those in training
        self.longest = 0  # single steps from one reset to the next
        self.point = subscribe(neuron, Signal("before", "training"), self)

    def receive(self, value: Any, compiled: bool, cut: bool, call: int | None = None) -> None:
        """A call comes. Also in compiled code, which writes the state at its end, the one before is still there."""
        self._joined = _has_graph(self.neuron)

    def look(self, moment: Moment) -> None:
        """A call is over."""
        fired = sum(probe.fired for probe in self.backwards)
        learned, self.fired = fired != self.fired, fired
        cut = (learned or self._graph) and not self._joined
        sequence, before = in_sequences(self.neuron), self._runs + self._chunks
        if not sequence:
            self.longest = max(self.longest, (moment.start or 0) + 1)
        if moment.start == 0:
            self.reset = self.reset or self.ran
        elif learned and not cut:
            self._runs += sequence or self._calls > 1
        elif sequence and not cut:
            self._runs += not self._joined
            self._chunks += self._joined
        self._trained += (self._runs + self._chunks - before) * self.neuron.training
        self._calls = 1 if learned or moment.start == 0 else self._calls + 1
        self._graph, self.ran = _has_graph(self.neuron), True

    def joined(self, parts: list[dict[str, Any]]) -> Self:
        """That of the process on which most began so: what one does wrong, another does not mend."""
        made = []
        for part in parts:
            one = copy.copy(self)
            one.__dict__.update({("_learns" if name == "learns" else name): held for name, held in part.items()})
            made.append(one)
        return max(made, key=lambda one: (one.ran, one.number, 0 if one.reset else one.longest))

    @property
    def learns(self) -> bool:
        """Whether a backward pass came."""
        return any(probe.fired for probe in self.backwards) if self._learns is None else self._learns

    @property
    def number(self) -> int:
        """How many runs began so, by mistake as it seems."""
        if self.reset:
            return 0
        return self._runs + (0 if self.learns else self._chunks)  # without a backward pass the graph serves nobody

    def past(self, steps: int) -> int:
        """How many sequences of so many single steps began where the one before had ended."""
        return 0 if self.reset else max(0, -(-self.longest // steps) - 1)

    @property
    def unknown(self) -> bool:
        """Whether nothing tells where its sequences end: single steps, no reset, no backward pass."""
        return self.longest > 1 and not self.reset and not self.learns

    @property
    def evaluating(self) -> bool:
        """Whether all of these runs were in evaluation."""
        return self.number > 0 and not self._trained

    def close(self) -> None:
        unsubscribe(self.point, self)


def _has_graph(neuron: nn.Module) -> bool:
    return any(held.requires_grad for held in tensors_of(held_state(neuron)))
