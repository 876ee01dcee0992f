"""The calls of neurons and of modules without children: their order, and where the first value went wrong."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ....base import StepModule
from ....form import at_path
from ....recording.records import Moment
from ....sockets import Signal
from ...choose.kinds import in_sequences, is_neuron, most_spikes, time_first
from ...choose.modules import named
from ...choose.signals import signal_of, spikes_of
from ...probe.group import closed_with
from ...probe.single import Probe
from ...probe.start import Root
from .carried import Carried
from .crowd import Crowd
from .nonfinite import Place, first_bad
from .state import State
from .uses import Uses
from .watcher import Rule, Watcher, by_name, earliest, first, total, union

__all__ = ["Origin"]

_KEPT, _STEPS = 2, 16  # samples and steps of an input that are kept


class Origin(Watcher):
    """The first run and step in which a module without children gave a value that is not finite, and which one.

    It sees each call of each neuron, so that what is `carried` over, its `states`, its `crowds` and its `uses` are told
    by it too.
    """

    joins: ClassVar[dict[str, Rule | None]] = {
        "_found": by_name(earliest),
        "_order": lambda values: {
            name: at for at, name in enumerate(dict.fromkeys(n for held in values for n in held))
        },
        "_fed": union,
        "shapes": by_name(first),
        "_drives": by_name(total),
        "_carried": None,
        "_states": None,
        "crowds": None,
        "uses": None,
    }
    stays = frozenset({"samples", "_probes", "_closed"})  # samples: to try a line out those of one process do

    def __init__(self, net: nn.Module, backwards: dict[str, Probe], firing: set[str]) -> None:
        found: dict[str, tuple[int, Place]] = {}  # run, place in the value
        order: dict[str, int] = {}
        fed: set[str] = set()  # neurons whose input was not finite
        shapes: dict[str, tuple[int, ...]] = {}  # of the first input of a neuron
        drives: dict[str, list[float]] = {}  # the sum of all inputs of a neuron, and how many there were
        samples: dict[str, list[Tensor]] = {}  # a part of the last inputs of a neuron: a sequence, or steps
        modules = named(net).items()
        neurons = {name: held for name, held in modules if is_neuron(held)}
        inside = {part for held in neurons.values() for part in held.modules()}
        leaves = {
            name: held for name, held in modules if name in neurons or not (list(held.children()) or held in inside)
        }
        everyone = list(backwards.values())  # for neurons of which no gradient is recorded, as read-outs
        carried = {
            name: Carried(held, [backwards[name]] if name in backwards else everyone) for name, held in neurons.items()
        }
        states = {name: State(held) for name, held in neurons.items()}
        crowds = {name: Crowd() for name in firing}
        uses = Uses(net)

        def take(value: Any, moment: Moment) -> None:
            name = moment.name
            uses.look(name)
            if name in carried:
                carried[name].look(moment)
                states[name].look((moment.stop or 1) - 1, value)
            if name in crowds:
                neuron = neurons[name]
                spikes = _spikes(neuron, value)
                crowds[name].look(spikes, in_sequences(neuron), neuron.training, most_spikes(neuron))
            order.setdefault(name, len(order))
            if name in found:
                return
            bad = first_bad(value, moment, isinstance(leaves[name], StepModule))
            if bad is not None:
                found[name] = (moment.run, bad)

        def feed(value: Any, moment: Moment) -> None:
            if isinstance(value, Tensor) and value.ndim:
                shapes.setdefault(moment.name, tuple(value.shape))
                _keep(samples.setdefault(moment.name, []), value, in_sequences(neurons[moment.name]))
                total = drives.setdefault(moment.name, [0.0, 0])
                total[0], total[1] = total[0] + _sum(value.detach()), total[1] + value.numel()
            if found and moment.name not in fed and first_bad(value, moment) is not None:
                fed.add(moment.name)

        self._found, self._order, self._fed, self._carried, self._states = found, order, fed, carried, states
        self.crowds, self.uses, self.shapes, self.samples, self._drives = crowds, uses, shapes, samples, drives
        root = Root(net)
        self._probes = [Probe(name, held, signal_of("input", held), feed, root=root) for name, held in neurons.items()]
        self._probes += [Probe(name, held, Signal("output"), take, root=root) for name, held in leaves.items()]
        self._closed = closed_with(self, [*self._probes, *carried.values()])

    def first(self) -> tuple[str, Place] | None:
        """The module and where in its value, with the step of its run."""
        if not self._found:
            return None
        name = min(self._found, key=lambda one: (self._found[one][0], self._found[one][1].step, self._order[one]))
        return name, self._found[name][1]

    def spoiled(self) -> set[str]:
        """The first neuron that was given what is not finite, or gave it, and all that comes after it.

        Spikes are finite whatever a neuron was given, so that nothing tells how far it reaches. Before a neuron it may
        be meant, and end: a mask of infinities does in a softmax.
        """
        bad = self._fed | (self._found.keys() & self._carried.keys()) | self.broken_states().keys()
        first = min((self._order[name] for name in bad if name in self._order), default=len(self._order))
        return {name for name, place in self._order.items() if place >= first}

    def broken_states(self) -> dict[str, Place]:
        """The first neuron whose state is not finite, though no value was before, and where it was seen."""
        broken = {name: held.broken for name, held in self._states.items() if held.broken is not None}
        if self._found or not broken:
            return {}
        name = min(broken, key=lambda held: self._order.get(held, 0))
        return {name: broken[name]}

    def drive(self, name: str) -> float:
        """The mean input of a neuron, in distances of its threshold from rest; 0 if there was none."""
        total, count = self._drives.get(name, (0.0, 0))
        return total / count / self._states[name].scale if count else 0.0

    @property
    def order(self) -> dict[str, int]:
        """To each module that ran its place in the order of the first calls."""
        return self._order

    @property
    def states(self) -> dict[str, State]:
        """What the state of each neuron shows."""
        return self._states

    def carried(self, steps: int | None) -> dict[str, int]:
        """Of each neuron that ran, how many runs began with the state of the one before; see `Carried`.

        `steps`: those of a sequence, where they are known: then single steps have an end as well.
        """
        ran = {name: held for name, held in self._carried.items() if held.ran}
        return {name: max(held.number, held.past(steps) if steps else 0) for name, held in ran.items()}

    def evaluating(self) -> bool:
        """Whether runs that began with the state of the one before were all in evaluation."""
        found = [held for held in self._carried.values() if held.ran and held.number]
        return all(held.evaluating for held in found) if found else not any(h.neuron.training for h in self.single())

    def single(self) -> list[Carried]:
        """What of the neurons ran in single steps."""
        return [held for held in self._carried.values() if held.longest]

    @property
    def errors(self) -> dict[str, BaseException]:
        """The errors that ended a probe, by the name of the module."""
        return {probe.name: probe.error for probe in self._probes if probe.error is not None}

    def close(self) -> None:
        self._closed()


def _sum(value: Tensor) -> float:
    """The sum, for which half precision may have no number."""
    return float(value.sum(dtype=torch.float32 if value.dtype in (torch.float16, torch.bfloat16) else None))


def _keep(samples: list[Tensor], value: Tensor, sequence: bool) -> None:
    """Keep a part of an input in the place of an older one."""
    part = (value[:, :_KEPT] if sequence and value.ndim > 1 else value[:_KEPT]).detach().clone()
    if sequence or (samples and samples[0].shape != part.shape):
        samples.clear()
    samples.append(part)
    del samples[:-_STEPS]


def _spikes(neuron: nn.Module, value: Any) -> Any:
    """The spikes of what a neuron gives, which may be one of several."""
    signal = spikes_of(neuron)
    if not isinstance(value, (list, tuple, dict)) or not value:
        return value
    return time_first(neuron, signal, at_path(value, signal.name or "0"))
