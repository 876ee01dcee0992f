"""Signs of trouble that no reducer tells: a threshold that moved, a state carried over, the first value gone wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..form import tensors_of
from ..neuron import Neuron
from ..neuron.online import OnlineLeakyIntegrateAndFire
from ..sockets import Signal, subscribe, unsubscribe
from .memory import Moment
from .probe import Probe
from .probes import Probes
from .reduce import NonFinite
from .select import named
from .track import Track

__all__ = ["Origin", "Threshold"]


class Threshold:
    """Listens before each call of a neuron for a threshold that is another number: then that is what counts."""

    enabled = True

    def __init__(self, probe: Probe, track: Track) -> None:
        self.probe, self.track = probe, track
        module: Any = probe.module
        self.now = module.v_threshold
        self.point = None if isinstance(self.now, Tensor) else subscribe(module, Signal("before", "v_threshold"), self)

    def receive(self, value: Any, compiled: bool) -> None:
        """The threshold of the call that comes; of compiled code, whose kernel has its orders, of the one after it."""
        if value is self.now:
            return
        if not isinstance(value, (int, float)):  # a tensor by now, perhaps one for each sample
            self.probe.close()
            self.close()
        elif value != self.now:
            self.now = value
            for total in self.track.totals.values():
                reducer: Any = total.reducer  # a SupportShare
                total.reducer = replace(reducer, v_threshold=value)
                if self.probe.signal.taps:
                    self.probe.retune(self.probe.signal._replace(taps=total.reducer.taps))

    def close(self) -> None:
        if self.point is not None:
            unsubscribe(self.point, self)


class Carried:
    """Counts the runs of each neuron that began with the state of the one before.

    Of a neuron in single steps a run is what follows a backward pass, unless it learns in each step.
    """

    def __init__(self, backwards: dict[str, Probe]) -> None:
        self.backwards = backwards  # the probes of the gradients
        self.fired: dict[str, int] = {}  # of these, up to the last step
        self.neurons: set[str] = set()  # that ran
        self.runs: Counter[str] = Counter()

    def look(self, neuron: Neuron, moment: Moment) -> None:
        """One call of a neuron."""
        name, carried = moment.name, moment.start != 0
        self.neurons.add(name)
        if neuron.step_mode == "s":
            if name not in self.backwards or isinstance(neuron, OnlineLeakyIntegrateAndFire):
                return
            before, self.fired[name] = self.fired.get(name, 0), self.backwards[name].fired
            carried = carried and before != self.fired[name]
        if carried:
            self.runs[name] += 1


class Origin:
    """The first run and step in which a module without children gave a value that is not finite, and which one.

    It sees each call of each neuron, so that what is `carried` over is told by it too.
    """

    def __init__(self, net: nn.Module, backwards: dict[str, Probe]) -> None:
        found: dict[str, tuple[int, int, int]] = {}  # run, step, place in the order of calls
        order: dict[str, int] = {}
        modules = named(net).items()
        inside = {part for _, held in modules if isinstance(held, Neuron) for part in held.modules()}
        leaves = {
            name: held
            for name, held in modules
            if isinstance(held, Neuron) or not (list(held.children()) or held in inside)
        }

        carried = Carried(backwards)

        def take(value: Any, moment: Moment) -> None:
            held = leaves[moment.name]
            if isinstance(held, Neuron):
                carried.look(held, moment)
            place = order.setdefault(moment.name, len(order))
            if moment.name in found:
                return
            for tensor in tensors_of(value):
                step = _first_bad(tensor, moment)
                if step is not None:
                    found[moment.name] = (moment.run, step, place)

        self._found, self._order = found, order
        self.carried = carried
        probes = [Probe(name, held, Signal("output"), take, root=net) for name, held in leaves.items()]
        self._probes = Probes(self, probes)

    def first(self) -> tuple[str, int] | None:
        """The module and the step of its run."""
        if not self._found:
            return None
        name = min(self._found, key=self._found.__getitem__)
        return name, self._found[name][1]

    def spoiled(self) -> set[str]:
        """The modules that come after it, and it."""
        if not self._found:
            return set()
        place = min(self._found.values())[2]
        return {name for name, held in self._order.items() if held >= place}

    def close(self) -> None:
        self._probes.close()


def _first_bad(value: Tensor, moment: Moment) -> int | None:
    """The first step since the reset with a value that is not finite."""
    start, stop = moment.start or 0, moment.stop or 1
    if not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return None
    timed = value.ndim > 0 and stop - start == len(value)
    chunk = value.reshape(len(value), 1, -1) if timed else value.reshape(1, 1, -1)
    bad = NonFinite().measure(chunk, start)
    step = NonFinite().result(bad).first_step
    return None if step < 0 else step
