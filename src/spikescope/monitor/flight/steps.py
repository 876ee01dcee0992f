"""The steps of a training as they come: where each begins and ends, and what is kept of it in a ring."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn

from ...form import tensors_of
from ...neuron import PointwiseNeuron
from ...sockets import Signal
from ..choose.changed import Members
from ..choose.kinds import fires, in_sequences
from ..choose.modules import by_role, named, select, unwrapped
from ..choose.signals import keeps_state, signal_of
from ..choose.subset import Subset
from ..delivery import Line, lines
from ..probe.group import Probes, weakly
from ..probe.single import GradScale, Probe, Short
from .checks.gpu import capturing
from .ear import Ear
from .potentials import follows_from_input, learned
from .ring import Ring
from .short import Chosen, short_way

__all__ = ["SIGNALS", "Owner", "Steps"]

SIGNALS = ("spike", "h", "grad_output")


class Owner(Protocol):
    """Who wants the steps."""

    def wants(self) -> bool:
        """Whether the step that begins is to be kept."""

    def given(self, x: Tensor | None, call: int | None) -> int | None:
        """The network is given this; the one sample whose potentials and gradients are to be kept, if not the first.

        - `call`: of a network that is called for each step of a sequence, which one it is.
        """

    def over(self) -> None:
        """The step that is open in the ring is over."""


class Steps:
    """Keeps what comes of a network in a ring, a frame for each step of training, until `close()`.

    - `signals`: some of `SIGNALS`: the spikes of all samples, potentials before the reset and gradients of the first
      `samples`. Where potentials follow from what comes in, that is kept as `'current'`; `followed` are these modules.
    - `modules`: what is plugged in, by signal and name. `members`: the neurons.
    """

    def __init__(
        self,
        net: nn.Module,
        ring: Ring,
        owner: Owner,
        *,
        signals: Sequence[str] = SIGNALS,
        samples: int = 1,
        evaluation: bool = False,
        scaler: GradScale | None = None,
        caller: str,
    ) -> None:
        self.net, self.ring, self.evaluation = net, ring, evaluation
        self.count = 0  # steps that have begun
        self._owner = weakref.ref(owner)
        self._run, self._calls, self._asleep, self._chosen = -1, 0, False, Chosen(samples)
        neurons = select(net, by_role("neuron"), caller)
        self._neurons, self.members = list(neurons.values()), Members(net, neurons)
        self._choose(neurons, signals)
        self._learning = {name: held for name, held in self.followed.items() if any(True for _ in held.parameters())}
        runs = any(map(keeps_state, named(net).values()))
        made = {label: {n: signal_of(label, m) for n, m in held.items()} for label, held in self.modules.items()}
        self._inside, come = unwrapped(net), weakly(self._come)
        self._root = Probe("", self._inside, Signal("input"), lambda value, moment: come(value), root=net)
        self._root.short = come
        self.kept: list[Probe] = []
        shorts: dict[tuple[str, str], Any] = {}  # by signal and module
        outputs: dict[tuple[str, str], Line] = {}
        options: dict[str, Any] = {"runs": runs, "scaler": scaler, "outputs": outputs}
        for subset, whole in ((None, True), (Subset(samples=self._chosen), False)):
            some = {label: held for label, held in self.modules.items() if (label == "spike") == whole}
            short = partial(self._short_way, shorts, chosen=None if whole else self._chosen)
            self.kept += lines(net, some, made, ring, subset=subset, short=short, **options)[1]
        self.probes = Probes(self, [self._root, *self.kept])
        ring.turn = self._root.turn
        labels = "spike", "current", "h", "grad_output"
        heard = [self._ear(held, *[shorts.get((label, name)) for label in labels]) for name, held in neurons.items()]
        self._ears = [ear for ear in heard if ear is not None]

    def _short_way(self, shorts: dict[tuple[str, str], Any], line: Line, chosen: Chosen | None) -> Short | None:
        short = short_way(line, self.ring, chosen)
        if short is not None and line.probe is not None:
            shorts[line.label, line.probe.name] = short
        return short

    def _ear(self, module: nn.Module, spikes: Any, current: Any, h: Any, gradients: Any) -> Ear | None:
        """One ear for a neuron, where each signal that is kept of it has a short way."""
        kept = sum(probe.module is module for probe in self.kept)
        ways = [held for held in (spikes, current, gradients) if held is not None]
        if spikes is None or h is not None or len(ways) != kept:
            return None
        return Ear(module, self.ring, self._chosen, spikes, current, gradients)

    def _choose(self, neurons: Mapping[str, nn.Module], signals: Sequence[str]) -> None:
        firing = {name: held for name, held in neurons.items() if fires(held)}
        charged = {name: m for name, m in neurons.items() if "h" in signals and isinstance(m, PointwiseNeuron)}
        self.followed: dict[str, nn.Module] = {name: m for name, m in charged.items() if follows_from_input(m)}
        found: dict[str, dict[str, nn.Module]] = {
            "spike": firing if "spike" in signals else {},
            "current": self.followed,
            "h": {name: m for name, m in charged.items() if name not in self.followed},
            "grad_output": firing if "grad_output" in signals else {},
        }
        self.modules = {name: held for name, held in found.items() if held}

    @property
    def told(self) -> dict[str, dict[str, nn.Module]]:
        """The modules of each signal that a recording of the ring has."""
        potentials = {**self.followed, **self.modules.get("h", {})}
        return {**self.modules, "h": potentials} if potentials else self.modules

    def _come(self, value: Any) -> bool:
        """The network is called: where this begins a step, the one before is over. It is all that there is to do."""
        root = self._root
        root.go_on(1)
        given = value if type(value) is Tensor and value.dtype.is_floating_point else _numbers(value)
        if capturing(given):  # what a graph holds is done again without us
            self._switch(False)
            return True
        if not self._begins(root.run):
            self._calls += 1
            if not self._asleep and (owner := self._owner()) is not None:
                owner.given(given, self._calls)
            return True
        self.finish()
        self._run, self._calls = root.run, 0
        training = self.evaluation or self._inside.training
        owner = self._owner()
        self._switch(training and owner is not None and owner.wants())
        if training:
            self.ring.open.number = self.count
            self.count += 1
        if owner is not None and not self._asleep:
            self._begin(owner, given)
        return True

    def _begins(self, run: int) -> bool:
        """Whether a call is not a further one of the same sequence."""
        if run != self._run:
            return True
        entries = self.ring.open.entries
        backward = bool(entries) and entries[-1].signal == "grad_output"
        return backward or any(map(in_sequences, self._neurons))

    def _switch(self, on: bool) -> None:
        if on == self._asleep:
            self._asleep = not on
            for probe in self.kept:
                probe.enabled = on

    def _begin(self, owner: Owner, given: Tensor | None) -> None:
        for ear in self._ears:
            ear.offer()
        self.ring.open.learned = {name: learned(held) for name, held in self._learning.items()}
        in_steps = not any(map(in_sequences, self._neurons))
        sample = owner.given(given, 0 if in_steps else None)
        self._chosen.only(sample)
        if sample is not None:
            self.ring.tell({"samples": [sample]})

    def finish(self) -> None:
        """The step that is open is over."""
        self.ring.settle()
        for probe in self.kept:
            if probe.finish is not None:
                probe.finish()
        if (owner := self._owner()) is not None:
            owner.over()
        self.ring.begin()

    @property
    def failures(self) -> list[BaseException]:
        """The errors that ended probes."""
        return [held.error for held in self.probes if held.error is not None]

    @property
    def errors(self) -> list[str]:
        """What ended a probe."""
        return [f"{held.signal.kind} of {held.name!r}: {held.error}" for held in self.probes if held.error is not None]

    @property
    def milliseconds(self) -> float:
        """What it has cost so far, in the thread of the network."""
        return sum(probe.nanoseconds for probe in self.probes) / 1e6

    @property
    def closed(self) -> bool:
        """Whether it has stopped listening."""
        return not self.probes.alive

    def close(self) -> None:
        """Stop listening; a second time does nothing."""
        self.members.close()
        self.probes.close()


def _numbers(value: Any) -> Tensor | None:
    """The first tensor of real numbers that a network is given."""
    return next((held for held in tensors_of(value) if held.is_floating_point()), None)
