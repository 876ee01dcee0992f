"""Delivering signals from the modules to whoever keeps them: a writer to disk, or a ring of the last steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..form import tensors_of, tuple_made
from ..neuron.spiking import gives_spikes
from ..recording import Moment
from ..sockets import Signal
from ..spikes import PackedSpikes
from .choose.kinds import gives_bits, has_time
from .choose.signals import GRADIENTS
from .choose.subset import Subset
from .probe.single import GradScale, Probe, Short
from .probe.start import Root
from .probe.taps import tapped
from .probe.walk import Walk, Walks
from .reduce import Packed
from .reduce.pieces import whole

__all__ = ["Line", "Sink", "lines"]

Form = tuple[torch.Size, torch.dtype, torch.device]

_ZEROS = 16  # steps that are written at once where nothing came


class Sink(Protocol):
    """Where values go."""

    @property
    def home(self) -> torch.device | None:
        """The device that it wants them on; None for where they are."""

    def keep(self, signal: str, values: Tensor | PackedSpikes, moment: Moment) -> None:
        """Take a value `[t, n, *F]`, which is its own from then on."""

    def copy(self, signal: str, values: Tensor, moment: Moment) -> None:
        """Take a copy of a value that belongs to somebody else, and has no graph."""
        here = self.home is None or self.home == values.device
        self.keep(signal, values.clone() if here else values.to(self.home), moment)

    def learn(self, name: str, signal: str, shape: Sequence[int], neurons: Sequence[int] | None) -> None:
        """Take what a first value shows: the axes of a sample, and which neurons of these are recorded."""

    def meet(self, run: int, samples: int) -> None:
        """Take how many samples a value of a run had, before some were chosen; not all ask."""
        return


def lines(
    net: nn.Module,
    modules: Mapping[str, Mapping[str, nn.Module]],
    signals: Mapping[str, Mapping[str, Signal]],
    sink: Sink,
    *,
    runs: bool,
    every: int = 1,
    subset: Subset | None = None,
    scaler: GradScale | None = None,
    outputs: dict[tuple[str, str], Line] | None = None,
    short: Callable[[Line], Short | None] | None = None,
) -> tuple[list[tuple[str, Probe]], list[Probe]]:
    """Have signals of modules, both by the name of the signal, go to a sink: their probes, and all that was plugged in.

    - `runs`: whether something in `net` keeps a state, so that resets tell the runs apart; else each call is one.
    - `outputs`: the lines of outputs by module, to which those that are made here are added: gradients follow one.
    - `short`: makes the short way of a line, for values that the sink can take without what a value of any kind needs.
    """
    outputs = {} if outputs is None else outputs
    whole = every == 1 and (subset is None or subset.time is None)  # so that a line of an output sees every call
    streams: list[tuple[str, Probe]] = []
    plugged: list[Probe] = []
    root = Root(net)
    options: dict[str, Any] = {"root": root, "every": every if runs else 1}
    untimed = None if subset is None else replace(subset, time=None)  # of gradients, whose steps the lines find
    for label, held in modules.items():
        for name, module in held.items():
            signal = signals[label][name]
            line = Line(sink, label, module, signal, every, runs)
            options["subset"] = untimed if line.backwards else subset
            if line.backwards and subset is not None and subset.time is not None:
                line.chosen = _Chosen(subset)
            if line.packed and (taps := tapped(module, signal, {"packed": Packed()}, subset)):
                signal, line.told = signal._replace(taps=taps["packed"]), True
            missed = line.miss if signal.kind in GRADIENTS else None
            probe = Probe(name, module, signal, line.take, scaler=scaler, missed=missed, makes_graph=False, **options)
            line.probe = probe
            probe.finish = line.finish if line.backwards else None
            probe.short = None if short is None or every != 1 else short(line)
            streams.append((label, probe))
            plugged.append(probe)
            place = name, signal.name
            if whole and signal.kind == "output":
                outputs[place] = line
            if signal.kind == "grad_output" and place in outputs:
                outputs[place].followers.append(line)
            elif signal.kind in GRADIENTS:
                forward = Signal(signal.kind.removeprefix("grad_"), signal.name)
                plugged.append(Probe(name, module, forward, line.take_forward, root=root))
    return streams, plugged


class _Chosen:
    """The steps of a run that a subset wants, which are kept one after the other."""

    def __init__(self, subset: Subset) -> None:
        self._subset = subset
        self._before = [0]  # of each step, how many are wanted before it

    def of(self, chunk: Tensor, place: Moment) -> tuple[Tensor, Moment] | None:
        """What is wanted of a value that has its place, with the place that this has; None where that is nothing."""
        first, stop = place.start or 0, place.stop or 0
        while len(self._before) <= stop:
            self._before.append(self._before[-1] + self._subset.wants(len(self._before) - 1))
        before = self._before
        wanted = [step - first for step in range(first, stop) if before[step + 1] > before[step]]
        return (chunk[wanted], place._replace(start=before[first], stop=before[stop])) if wanted else None


class Line:
    """One signal of one module: what came is put in its place in time, packed where it is spikes, and handed on."""

    def __init__(self, sink: Sink, label: str, module: nn.Module, signal: Signal, every: int, runs: bool) -> None:
        self.sink, self.label, self.module, self.signal = sink, label, module, signal
        self.every, self.runs = every, runs
        self.packed, self.backwards = label == "spike" and gives_bits(module), signal.kind in GRADIENTS
        self.trusted = partial(gives_spikes, module)
        self.run, self.steps, self.kept = 0, 0, 0
        self._walks = Walks()  # of gradients
        self._walk = self._walks.last
        self._form: Form  # of a step of the gradient that came last
        self._coming: Form  # of the one that comes
        self.followers: list[Line] = []  # of gradients, which are told that the forward pass goes on
        self.told = False  # whether what the kernel tells comes along
        self.probe: Probe | None = None
        self.chosen: _Chosen | None = None  # of gradients: of other signals the probe knows the step

    def take(self, value: Any, moment: Moment) -> None:
        """One value of the module."""
        value, taps = value if self.told else (value, None)
        chunk = self._chunk(value, moment)
        if not self.kept:
            self._learn(moment.name)
        steps, batch, *_ = chunk.shape
        self._coming = chunk.shape[1:], chunk.dtype, chunk.device
        place = self.place(steps, batch, moment)
        if place is not None and moment.batch is not None and not self.label.startswith("attribute"):
            self.sink.meet(place.run, moment.batch)
        if place is not None and self.chosen is not None:
            self._copy(chunk, place)
            self.kept += 1
        elif place is not None:
            self._keep(chunk, taps, place)

    def _copy(self, chunk: Tensor, place: Moment) -> None:
        """Hand on the steps that are wanted of a gradient."""
        found = (chunk, place) if self.chosen is None else self.chosen.of(chunk, place)
        if found is not None:
            self.sink.copy(self.label, *found)

    def _learn(self, name: str) -> None:
        """Have the head say which neurons the values are of, now that a value shows how many there are."""
        assert self.probe is not None
        held = tensors_of(self.probe.given)
        shape = tuple(held[0].shape[2 if self.timed() else 1 :]) if held else ()
        chosen = self.probe.subset.neurons
        every = torch.arange(math.prod(shape), device="cpu").unsqueeze(0)
        some = None if chosen is None else Subset(neurons=chosen).take(every, None)
        self.sink.learn(name, self.label, shape, None if some is None else some.flatten().tolist())

    def place(self, steps: int, batch: int, moment: Moment) -> Moment | None:
        """Where a value that came belongs, None where its run is not kept; time goes on by its steps."""
        for line in self.followers:
            line.go_on(steps, moment)
        if self.backwards:
            start = self._before(steps)
            turn = self._walk.run
        else:
            turn, start = self._turn(moment), self.steps
            self.steps = start + steps
        run, left = divmod(turn, self.every)
        if left:
            return None
        if moment.start == start and moment.run == run and moment.batch == batch:
            return moment
        return Moment(moment.name, moment.call, run, start, start + steps, batch, moment.scale)

    def next_moment(self, steps: int, batch: int) -> Moment:
        """The same for a value that is taken as it comes, and of every run; the probe goes on too."""
        probe = self.probe
        assert probe is not None
        call = probe.go_on(steps)
        if self.backwards:
            start = self._before(steps)
            return tuple_made(Moment, (probe.name, call, self._walk.run, start, start + steps, batch, 1.0))
        run = probe.run if self.runs else call
        if run != self.run:
            self.run, self.steps = run, 0
        start = self.steps
        self.steps = stop = start + steps
        moment = tuple_made(Moment, (probe.name, call, run, start, stop, batch, 1.0))
        for line in self.followers:
            line.go_on(steps, moment)
        return moment

    def _before(self, steps: int) -> int:
        """The step at which a gradient of so many begins."""
        assert self.probe is not None
        walk, number = self._walk, self.probe.asked
        if number is not None and not (walk is self._walks.last and number >= walk.begin):
            walk = self._turn_to(number)
        self._form = self._coming
        if walk.run % self.every:
            return 0
        start = walk.come(number, steps)
        if start is None or start < walk.floor:
            raise ValueError(
                "A backward pass came through steps that have their gradients already, or whose forward pass was not "
                "seen. Record one backward pass a run, from before its forward pass on."
            )
        if walk.gap:
            self._pass_by(walk.gap)
        return start

    def _turn_to(self, number: int) -> Walk:
        """The run of a gradient, where that may be another one than before."""
        found = self._walks.of(number)
        if found is not self._walk:
            self.finish()
            self._walk = found
        return found

    def _pass_by(self, steps: range) -> None:
        """A backward pass did not come by these steps: nothing depends on them."""
        if not steps:
            return
        probe, (shape, dtype, device) = self.probe, self._form
        assert probe is not None
        for stop in range(steps.stop, steps.start, -_ZEROS):
            start = max(steps.start, stop - _ZEROS)
            zeros = torch.zeros((stop - start, *shape), dtype=dtype, device=device)
            moment = Moment(probe.name, probe.calls, self._walk.run // self.every, start, stop, shape[0])
            self._copy(zeros, moment)

    def finish(self) -> None:
        """No more comes of a backward pass."""
        probe = self.probe
        assert probe is not None
        if probe.error is not None:  # what it missed is no zero
            return
        rest = self._walk.rest(probe.point.bare)
        self._walk.first -= len(rest)
        try:
            self._pass_by(rest)
        except Exception as error:
            probe.fail(error)

    def _turn(self, moment: Moment) -> int:
        run = moment.run if self.runs else moment.call
        if run != self.run:
            self.run, self.steps = run, 0
        return run

    def _keep(self, chunk: Tensor, taps: Any, place: Moment) -> None:
        spikes = self._spikes(chunk, taps) if self.packed else None
        if spikes is None:
            self.sink.copy(self.label, chunk, place)
        else:
            self.sink.keep(self.label, spikes, place)
        self.kept += 1

    def _spikes(self, chunk: Tensor, taps: Any) -> PackedSpikes | None:
        """The bits of the spikes; None where they are other numbers, that are kept as they are."""
        if taps is not None and self._may_keep(taps["packed"]) and chunk.is_contiguous() and self.trusted():
            return PackedSpikes.told(taps["packed"], chunk.shape, chunk.dtype)
        packed = Packed()
        try:
            told = taps is not None and self.trusted()
            course = packed.measure_taps(taps, chunk) if told else packed.measure(chunk)
        except ValueError:
            self.packed = False
            return None
        shape = torch.Size((len(chunk), *course.shape))
        bits = whole(course.pieces)
        return PackedSpikes(bits.to(self.sink.home or bits.device), shape, course.dtype)

    def _may_keep(self, bits: Tensor) -> bool:
        """Whether bits need no copy: a kernel makes them anew at each call, but compiled code may use its own again."""
        return self.probe is not None and not self.probe.compiled and self.sink.home in (None, bits.device)

    def _chunk(self, value: Any, moment: Moment) -> Tensor:
        """`[T, N, *]`."""
        if type(value) is Tensor and value.ndim > 1 and self.timed():
            return value
        if isinstance(value, (bool, int, float)):
            value = torch.tensor(value, device="cpu")
        there = [value] if isinstance(value, Tensor) else tensors_of(value)
        if len(there) != 1:
            raise TypeError(
                f"record: a signal is one tensor, but {self.label!r} of {moment.name!r} is {type(value).__name__}. "
                "Choose modules that give one tensor; OutputMonitor keeps other values."
            )
        held: Tensor = there[0]
        if self.timed():
            return held if held.ndim > 1 else held.unsqueeze(-1)
        return held.reshape(1, *(held.shape if held.ndim else (1,)))

    def timed(self) -> bool:
        """Whether the first axis is time."""
        assert self.probe is not None
        return self.probe.axes.timed

    def take_forward(self, value: Any, moment: Moment) -> None:
        """The forward pass goes on, of which another probe tells."""
        there = tensors_of(value)
        held = there[0] if there else self._chunk(value, moment)
        self.go_on(len(held) if has_time(self.module, self.signal) else 1, moment)

    def go_on(self, steps: int, moment: Moment) -> None:
        """The forward pass goes on: so the gradients find their steps."""
        assert self.probe is not None
        self.finish()
        before = self.run
        run = self._turn(moment)
        if run != before:
            self._walks.begin(run)
        self._walk = self._walks.last
        self._walk.go_on(self.probe.point.number(), steps, run != before)

    def miss(self) -> None:
        """A call of the forward pass has no gradient."""
        assert self.probe is not None
        walk, number = self._walk, self.probe.asked
        if number is None or walk.has(number):  # of a run before, nothing has come so far
            self._pass_by(walk.miss(number))
