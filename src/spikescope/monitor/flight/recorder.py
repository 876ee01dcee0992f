"""The flight recorder: it keeps the last steps of a training, and writes them down when something goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...base import StepModule
from ...form import tensors_of
from ...neuron import PointwiseNeuron
from ...neuron.readout import ReadOut
from ...recording import Moment
from ...sockets import Signal
from ...warn import warn
from ..choose.modules import by_role, named, select, unwrapped
from ..choose.signals import keeps_state, signal_of
from ..choose.subset import Subset
from ..header import header
from ..line import lines
from ..probe.group import Probes, weakly
from ..probe.single import GradScale, Probe
from .dump import free_place, write
from .judge import Judge
from .potentials import follows_from_input, learned
from .ring import Ring
from .signals import Listener
from .triggers import Trigger

__all__ = ["SIGNALS", "FlightRecorder"]

SIGNALS = ("spike", "h", "grad_output")


class Chosen:
    """The samples of a batch whose potentials and gradients are kept: a choice of a `Subset`."""

    def __init__(self, count: int) -> None:
        self.count, self.places = count, list(range(count))

    def __call__(self, size: int) -> slice | Tensor:
        if self.places[0] == 0:
            return slice(0, self.count)
        return torch.tensor([place for place in self.places if place < size], device="cpu")


class FlightRecorder:
    """What `flight_recorder` gives; it listens until `close()`, or while the `with` block runs.

    - `dumps`: the recordings that were written, and `triggers` why; `errors`: what went wrong with others.
    - `unjudged`: what cannot be seen, and why.
    """

    def __init__(
        self,
        net: nn.Module,
        keep: int,
        on: Any,
        to: Path,
        *,
        signals: tuple[str, ...],
        samples: int,
        limit: int | None,
        at_most: int,
        evaluation: bool,
        dt: float | None,
        scaler: GradScale | None,
    ) -> None:
        self.net, self.to, self.at_most, self.evaluation = net, to, at_most, evaluation
        self.dumps: list[Path] = []
        self.triggers: list[Trigger] = []
        self.errors: list[Exception] = []
        self.ring, self._chosen = Ring(keep, limit), Chosen(samples)
        self._judge = Judge(net, self.ring, on)
        self._run, self._calls, self._asleep, self._full = -1, 0, False, False
        self._writing = threading.Lock()
        neurons = select(net, by_role("neuron"), "flight_recorder")
        modules = self._modules(neurons, signals)
        potentials = {**self._followed, **modules.get("h", {})}
        self._head = header(net, {**modules, "h": potentials} if potentials else modules, dt=dt)
        self._neurons = [held for held in neurons.values() if isinstance(held, StepModule)]
        self._learning = {name: held for name, held in self._followed.items() if any(True for _ in held.parameters())}
        self._probes = self._plug(modules, scaler)
        self._listener = Listener(weakly(self._on_signal)) if "signal" in self._judge.outside else None

    def _modules(self, neurons: Mapping[str, nn.Module], signals: tuple[str, ...]) -> dict[str, dict[str, nn.Module]]:
        """The modules of each signal that is plugged in. Potentials that follow from what comes in are not."""
        firing = {name: held for name, held in neurons.items() if not isinstance(held, ReadOut)}
        potentials: dict[str, nn.Module] = {
            name: held for name, held in neurons.items() if isinstance(held, PointwiseNeuron)
        }
        self._followed = {name: m for name, m in potentials.items() if "h" in signals and follows_from_input(m)}
        found: dict[str, dict[str, nn.Module]] = {
            "spike": firing if "spike" in signals else {},
            "current": self._followed,
            "h": {name: m for name, m in potentials.items() if "h" in signals and name not in self._followed},
            "grad_output": firing if "grad_output" in signals else {},
        }
        return {name: held for name, held in found.items() if held}

    def _plug(self, modules: Mapping[str, Mapping[str, nn.Module]], scaler: GradScale | None) -> Probes:
        runs = any(map(keeps_state, named(self.net).values()))
        made = {label: {n: signal_of(label, m) for n, m in held.items()} for label, held in modules.items()}
        self._root = Probe("", unwrapped(self.net), Signal("input"), weakly(self._tick), root=self.net)
        self._kept: list[Probe] = []
        for subset, whole in ((None, True), (Subset(samples=self._chosen), False)):
            some = {label: held for label, held in modules.items() if (label == "spike") == whole}
            self._kept += lines(self.net, some, made, self.ring, runs=runs, subset=subset, scaler=scaler)[1]
        return Probes(self, [self._root, *self._kept])

    # a step of training

    def _tick(self, value: Any, moment: Moment) -> None:
        """The network is called: where this begins a step, the one before is over."""
        given = next((held for held in tensors_of(value) if held.is_floating_point()), None)
        if not self._begins(moment):
            self._calls += 1
            if not self._asleep:
                self._judge.look(given, self._calls)
            return
        self._finish_step()
        self._run = moment.run
        asleep = not (self.evaluation or unwrapped(self.net).training)
        if asleep != self._asleep:
            self._asleep = asleep
            for probe in self._kept:
                probe.enabled = not asleep
        if not asleep:
            self._begin_step(given)

    def _begins(self, moment: Moment) -> bool:
        """Whether a call is not a further one of the same sequence."""
        entries = self.ring.open.entries
        backward = bool(entries) and entries[-1].signal == "grad_output"
        return moment.run != self._run or backward or any(held.step_mode == "m" for held in self._neurons)

    def _begin_step(self, given: Tensor | None) -> None:
        self.ring.open.learned = {name: learned(held) for name, held in self._learning.items()}
        in_steps = not any(held.step_mode == "m" for held in self._neurons)
        self._calls = 0
        found = self._judge.look(given, 0 if in_steps else None)
        self._chosen.places = list(range(self._chosen.count))
        if found is not None and found.sample is not None:
            self._chosen.places = [found.sample]
            self.ring.tell({"samples": [found.sample]})

    def _finish_step(self, last: bool = False) -> None:
        self._judge.end(wait=last)
        found = self._judge.found
        if found:
            self._judge.found = []
            self._write(found)
        self.ring.begin()

    # what is told

    def loss(self, loss: Tensor | float) -> None:
        """Tell the loss of this step: for `'loss jump'`, `'nonfinite'`, and the notes of what is written."""
        self._judge.tell_loss(loss)

    def note(self, **told: Any) -> None:
        """Say what is known of this step, as `recorder.note(label=y.tolist())`: numbers, texts, and lists of them."""
        self.ring.tell(told)

    # what is written

    def dump(self, words: str = "dump() was called") -> Path | None:
        """Write the steps that are kept now; the folder, or None where that failed: a warning says why."""
        return self._write([Trigger("dump", self.ring.open.number, words)], asked=True)

    def _on_signal(self) -> None:
        """In a thread of its own, the training may be anywhere."""
        self._write([Trigger("signal", self.ring.open.number, "SIGUSR1 came")], asked=True)

    def _write(self, found: list[Trigger], asked: bool = False) -> Path | None:
        trigger = found[0]._replace(words="; ".join(held.words for held in found))
        with self._writing:
            if not asked and len(self.dumps) >= self.at_most:
                if not self._full:
                    self._full = True
                    warn(f"The flight recorder has written {self.at_most} recordings; no more: {trigger.words}.")
                return None
            try:
                return self._write_whole(trigger)
            except Exception as error:  # whatever it is, the training goes on
                self.errors.append(error)
                warn(f"The flight recorder could not write the last steps ({trigger.words}): {error}")
                return None

    def _write_whole(self, trigger: Trigger) -> Path:
        frames, dropped = self.ring.snapshot(), self.ring.dropped
        missing = [f"{dropped} steps that went because of the budget"] if dropped else []
        missing += [f"{probe.signal.kind} of {probe.name!r}: {probe.error}" for probe in self._kept if probe.error]
        about = self.ring.about
        layers = {name: {**held, **about.get(name, {})} for name, held in self._head["layers"].items()}
        self.to.mkdir(parents=True, exist_ok=True)
        place = free_place(self.to, trigger.kind)
        write(place, frames, trigger, {**self._head, "layers": layers}, self._followed, missing)
        self.dumps.append(place)
        self.triggers.append(trigger)
        return place

    # its end

    @property
    def unjudged(self) -> list[str]:
        """What cannot be seen, and why."""
        said = self._judge.unjudged
        if self._listener is not None and not self._listener.there:
            said.append("signals: a handler is set in the main thread alone, and the recorder was made in another")
        return said

    @property
    def milliseconds(self) -> float:
        """What it has cost so far, in the thread of the network."""
        return sum(probe.nanoseconds for probe in self._probes) / 1e6

    @property
    def closed(self) -> bool:
        """Whether it has stopped listening."""
        return not self._probes.alive

    def close(self) -> None:
        """Stop; what was seen last and is to be written is. A second time does nothing."""
        if self.closed:
            return
        self._finish_step(last=True)
        self._probes.close()
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not self.closed:
            self._judge.tell_exception(error)
        self.close()

    def __repr__(self) -> str:
        ring = self.ring
        held = f"{len(ring.frames) + bool(ring.open.entries)} of {ring.keep_steps} steps, {ring.nbytes:,} bytes"
        return f"FlightRecorder({held}, {len(self.dumps)} written)"
