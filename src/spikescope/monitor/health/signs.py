"""Signs of trouble that no reducer tells: a threshold that moved, a state carried over, the first value gone wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...form import tensors_of
from ...neuron import Neuron
from ...recording.records import Moment
from ...sockets import Signal, subscribe, unsubscribe
from ..choose.modules import named
from ..probe.group import closed_with
from ..probe.single import Probe
from ..reduce import NonFinite
from ..track import Track

__all__ = ["Origin", "Threshold"]


class Threshold:
    """Listens before each call of a neuron for a threshold that is another number: then that is what counts."""

    enabled = True

    def __init__(self, probe: Probe, track: Track) -> None:
        self.probe, self.track = probe, track
        module: Any = probe.module
        self.now = module.v_threshold
        self.point = None if isinstance(self.now, Tensor) else subscribe(module, Signal("before", "v_threshold"), self)

    def receive(self, value: Any, compiled: bool, cut: bool) -> None:
        """The threshold of the call that comes; of compiled code, whose kernel has its orders, of the one after it."""
        if value is self.now:
            return
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if not isinstance(number, (int, float)):  # one for each sample or neuron, which no reducer of one number knows
            form = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            self.probe.fail(TypeError(f"health judges potentials by one v_threshold, but it became {form}."))
            self.close()
        elif number != self.now:
            self.now = number
            for total in self.track.totals.values():
                reducer: Any = total.reducer  # a SupportShare
                total.reducer = replace(reducer, v_threshold=number)
                if self.probe.signal.taps:
                    self.probe.retune(self.probe.signal._replace(taps=total.reducer.taps))

    def close(self) -> None:
        if self.point is not None:
            unsubscribe(self.point, self)


class Carried:
    """Counts the runs of a neuron that began with the state of the one before, as a forgotten reset leaves it.

    A run is a call for a sequence; of single steps it is what follows a backward pass over several of them, for one
    after each step is online learning, whose sequence goes on. The state is meant to go on where it was cut from its
    graph, where the graph goes on without a backward pass, and where the program does reset it, at another time.

    One such run is enough: autograd stops at the backward pass of it, so that in training there may be no second.
    """

    enabled = True

    def __init__(self, neuron: Neuron, backwards: list[Probe]) -> None:
        self.neuron = neuron
        self.backwards = backwards  # the probes of the gradients that tell a backward pass
        self.fired = 0  # of these, up to the last call
        self.ran = self.reset = False  # reset: and began anew after that
        self._calls = 0  # since the last backward pass
        self._joined = self._graph = False  # the state has a graph: before this call; after the last one
        self._runs = self._chunks = 0  # chunks: runs that go on with the graph of the one before
        self.point = subscribe(neuron, Signal("before", "step_mode"), self)

    def receive(self, value: Any, compiled: bool, cut: bool) -> None:
        """A call comes. Also in compiled code, which writes the state at its end, the one before is still there."""
        self._joined = _has_graph(self.neuron)

    def look(self, moment: Moment) -> None:
        """A call is over."""
        fired = sum(probe.fired for probe in self.backwards)
        learned, self.fired = fired != self.fired, fired
        cut = (learned or self._graph) and not self._joined
        sequence = self.neuron.step_mode == "m"
        if moment.start == 0:
            self.reset = self.reset or self.ran
        elif learned and not cut:
            self._runs += sequence or self._calls > 1
        elif sequence and not cut:
            self._runs += not self._joined
            self._chunks += self._joined
        self._calls = 1 if learned or moment.start == 0 else self._calls + 1
        self._graph, self.ran = _has_graph(self.neuron), True

    @property
    def number(self) -> int:
        """How many runs began so, by mistake as it seems."""
        if self.reset:
            return 0
        learns = any(probe.fired for probe in self.backwards)
        return self._runs + (0 if learns else self._chunks)  # without a backward pass the graph serves nobody

    def close(self) -> None:
        unsubscribe(self.point, self)


def _has_graph(neuron: Neuron) -> bool:
    return any(held.requires_grad for held in tensors_of(neuron._memories))


class State:
    """What the state of a neuron shows after its calls; in compiled code, which writes it last, after the one before.

    Spikes tell nothing of it: a potential that is NaN, or far below rest, is as silent as one that lacks input.
    """

    def __init__(self, neuron: Neuron) -> None:
        self.neuron: Any = neuron
        self.broken: int | None = None  # the step after which it was not finite
        self.reach = 0.0  # the largest distance of a potential from rest, in those from rest to threshold
        self._side, self._calls = 0.0, 0  # the sum of the mean distances from rest, with their sign

    def look(self, step: int) -> None:
        """A call is over."""
        if self.broken is None and any(_bad_step(held, _ONE_STEP) is not None for held in self._tensors()):
            self.broken = step
        v = self.neuron._memories.get("v")
        if self.broken is None and isinstance(v, Tensor) and v.numel() and v.is_floating_point():
            rest = _number(getattr(self.neuron, "v_reset", None))
            distance = abs(_number(getattr(self.neuron, "v_threshold", None), 1.0) - rest)
            above = (v.detach() - rest) / (distance or 1.0)
            self.reach = max(self.reach, above.abs().amax().item())
            self._side, self._calls = self._side + above.mean(dtype=torch.float64).item(), self._calls + 1

    @property
    def below(self) -> bool:
        """Whether the potentials lie well below rest, on the whole: what drives them there is input, not its lack."""
        return self._side < -0.1 * self._calls

    def _tensors(self) -> list[Tensor]:
        return [held.detach() for held in tensors_of(self.neuron._memories)]


_ONE_STEP = Moment("", 0, 0, 0, 1, None)


def _number(value: Any, missing: float = 0.0) -> float:
    """A field as one number: of many the mean."""
    if value is None:
        return missing
    found = value.detach().double().mean().item() if isinstance(value, Tensor) else float(value)
    return found if math.isfinite(found) else missing


class Origin:
    """The first run and step in which a module without children gave a value that is not finite, and which one.

    It sees each call of each neuron, so that what is `carried` over is told by it too.
    """

    def __init__(self, net: nn.Module, backwards: dict[str, Probe]) -> None:
        found: dict[str, tuple[int, int, int]] = {}  # run, step, place in the order of calls
        order: dict[str, int] = {}
        fed: set[str] = set()  # neurons whose input was not finite
        modules = named(net).items()
        neurons = {name: held for name, held in modules if isinstance(held, Neuron)}
        inside = {part for held in neurons.values() for part in held.modules()}
        leaves = {
            name: held for name, held in modules if name in neurons or not (list(held.children()) or held in inside)
        }
        everyone = list(backwards.values())  # for neurons of which no gradient is recorded, as read-outs
        carried = {
            name: Carried(held, [backwards[name]] if name in backwards else everyone) for name, held in neurons.items()
        }

        states = {name: State(held) for name, held in neurons.items()}

        def take(value: Any, moment: Moment) -> None:
            if moment.name in carried:
                carried[moment.name].look(moment)
                states[moment.name].look((moment.stop or 1) - 1)
            place = order.setdefault(moment.name, len(order))
            if moment.name in found:
                return
            step = _first_bad(value, moment)
            if step is not None:
                found[moment.name] = (moment.run, step, place)

        def feed(value: Any, moment: Moment) -> None:
            if found and moment.name not in fed and _first_bad(value, moment) is not None:
                fed.add(moment.name)

        self._found, self._order, self._fed, self._carried, self._states = found, order, fed, carried, states
        self._probes = [Probe(name, held, Signal("input"), feed, root=net) for name, held in neurons.items()]
        self._probes += [Probe(name, held, Signal("output"), take, root=net) for name, held in leaves.items()]
        self._closed = closed_with(self, [*self._probes, *carried.values()])

    def first(self) -> tuple[str, int] | None:
        """The module and the step of its run."""
        if not self._found:
            return None
        name = min(self._found, key=self._found.__getitem__)
        return name, self._found[name][1]

    def spoiled(self) -> set[str]:
        """The first neuron that was given what is not finite, or gave it, and all that comes after it.

        Spikes are finite whatever a neuron was given, so that nothing tells how far it reaches. Before a neuron it may
        be meant, and end: a mask of infinities does in a softmax.
        """
        bad = self._fed | (self._found.keys() & self._carried.keys()) | self.broken_states().keys()
        first = min((self._order[name] for name in bad if name in self._order), default=len(self._order))
        return {name for name, place in self._order.items() if place >= first}

    def broken_states(self) -> dict[str, int]:
        """The first neuron whose state is not finite, though no value was before, and the step at which it was seen."""
        broken = {name: held.broken for name, held in self._states.items() if held.broken is not None}
        if self._found or not broken:
            return {}
        name = min(broken, key=lambda held: self._order.get(held, 0))
        return {name: broken[name]}

    @property
    def states(self) -> dict[str, State]:
        """What the state of each neuron shows."""
        return self._states

    @property
    def carried(self) -> dict[str, int]:
        """Of each neuron that ran, how many runs began with the state of the one before; see `Carried`."""
        return {name: held.number for name, held in self._carried.items() if held.ran}

    @property
    def errors(self) -> dict[str, BaseException]:
        """The errors that ended a probe, by the name of the module."""
        return {probe.name: probe.error for probe in self._probes if probe.error is not None}

    def close(self) -> None:
        self._closed()


def _first_bad(value: Any, moment: Moment) -> int | None:
    """The first step since the reset with a value that is not finite, in any of the tensors."""
    steps = (_bad_step(tensor, moment) for tensor in tensors_of(value))
    return min((step for step in steps if step is not None), default=None)


def _bad_step(value: Tensor, moment: Moment) -> int | None:
    if value.layout != torch.strided:  # a sparse one has no axes to look along
        return None
    start, stop = moment.start or 0, moment.stop or 1
    if not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return None
    timed = value.ndim > 0 and stop - start == len(value)
    chunk = value.reshape(len(value), 1, -1) if timed else value.reshape(1, 1, -1)
    bad = NonFinite().measure(chunk, start)
    step = NonFinite().result(bad).first_step
    return None if step < 0 else step
