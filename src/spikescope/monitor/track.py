"""What a recording keeps of one module: the summaries of its reducers, merged as the chunks come."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..base import StepModule
from ..neuron.readout import ReadOut
from .memory import BudgetError, Moment
from .reduce import Along, Reducer, nbytes

__all__ = ["GradientTrack", "Ledger", "Track"]


class Ledger:
    """The bytes that all tracks of a recording hold, within a limit."""

    def __init__(self, limit: int | None) -> None:
        self.limit, self.bytes = limit, 0

    def change(self, before: int, after: int) -> None:
        """Take note that summaries have grown or shrunk."""
        self.bytes += after - before
        if self.limit is not None and self.bytes > self.limit:
            raise BudgetError(
                f"The summaries hold {self.bytes:,} bytes, over the budget of {self.limit:,}. Give a larger budget, or "
                "'unlimited', record fewer modules or a subset, or choose a reducer of fixed size."
            )


class Total:
    """The summary of one reducer: of closed runs, of the open one, and of a backward pass that is on its way."""

    def __init__(self, reducer: Reducer) -> None:
        self.reducer = reducer
        self.closed: Any = None
        self.open: Any = None
        self.pending: Any = None

    def joined(self, a: Any, b: Any, along: Along) -> Any:
        if a is None or b is None:
            return b if a is None else a
        return self.reducer.merge(a, b, along)

    def append(self, summary: Any) -> None:
        """The steps right after the open ones."""
        self.open = self.joined(self.open, summary, "time")

    def prepend(self, summary: Any) -> None:
        """The steps right before the pending ones: a backward pass comes from the end."""
        self.pending = self.joined(summary, self.pending, "time")

    def land(self) -> None:
        """The backward pass is over."""
        self.open, self.pending = self.joined(self.open, self.pending, "time"), None

    def end(self) -> None:
        """The run is over."""
        self.closed, self.open = self.whole(), None

    def whole(self) -> Any:
        """The summary of everything so far, closed; None where nothing was seen. Changes nothing."""
        held = self.open
        return self.closed if held is None else self.joined(self.closed, self.reducer.close(held), "batch")

    @property
    def nbytes(self) -> int:
        return sum(nbytes(held) for held in (self.closed, self.open, self.pending) if held is not None)


class Track:
    """Measures what one module gives. `runs` is False where nothing tells the runs apart: then each call is one.

    - `tapped`: the names of the reducers that are fed by the taps of a kernel, through `take_tap`, and these taps.
    - `trusted`: asked at each call whether the taps tell what the value holds; else the value is measured.
    """

    def __init__(
        self, module: nn.Module, reducers: Mapping[str, Reducer], ledger: Ledger, every: int, runs: bool, decoded: bool
    ) -> None:
        self.module, self.ledger, self.every, self.runs = module, ledger, every, runs
        self.decoded = decoded  # the output of a read-out in step_mode='m' has no time axis
        self.totals = {label: Total(reducer) for label, reducer in reducers.items()}
        self.tapped: dict[str, tuple[str, ...]] = {}
        self.trusted: Callable[[], bool] = lambda: True
        self.steps = self.run = self.held = self.nanoseconds = 0
        self._waiting: tuple[Tensor | None, int] | None = None  # the chunk whose taps have not all come, its start
        self._taps: dict[str, Tensor] = {}

    def take(self, value: Any, moment: Moment) -> None:
        """One value of the module; a step or a sequence."""
        chunk = self._chunk(value, moment.name)
        if self._turn(moment) % self.every:
            self._waiting = (None, 0)
        else:
            start = self.steps
            self.steps += len(chunk)
            for label, total in self.totals.items():
                if label not in self.tapped:
                    total.append(total.reducer.measure(chunk, start))
            self._waiting = (chunk, start)
            self._weigh()
        self._pair()

    def take_tap(self, name: str, value: Tensor) -> None:
        """What the kernel told besides; it comes right before the value or right after it."""
        self._taps[name] = value
        self._pair()

    def forget(self) -> None:
        """The rest of what was told will not come: hold no output of the network any longer."""
        self._waiting, self._taps = None, {}

    @property
    def needed(self) -> set[str]:
        """The taps that the reducers are fed by."""
        return {name for names in self.tapped.values() for name in names}

    def _pair(self) -> None:
        if self._waiting is None or self.needed != self._taps.keys():
            return
        (chunk, start), taps = self._waiting, self._taps
        self._waiting, self._taps = None, {}
        if chunk is not None:
            for label in self.tapped:
                total = self.totals[label]
                told = self.trusted()
                total.append(
                    total.reducer.measure_taps(taps, chunk, start) if told else total.reducer.measure(chunk, start)
                )
            self._weigh()

    def _chunk(self, value: Any, name: str) -> Tensor:
        """`[T, N, *]`."""
        if not isinstance(value, Tensor):
            raise TypeError(
                f"record reduces a tensor, but {name!r} ({type(self.module).__name__}) gives "
                f"{type(value).__name__}. Choose modules that give one tensor; OutputMonitor keeps other values."
            )
        timed = isinstance(self.module, StepModule) and self.module.step_mode == "m" and not self.decoded
        return value if timed else value.unsqueeze(0)

    def _turn(self, moment: Moment) -> int:
        """The run that the moment belongs to; what was open before is closed."""
        run = moment.run if self.runs else moment.call
        if run != self.run:
            for total in self.totals.values():
                total.end()
            self.run, self.steps = run, 0
        return run

    def _weigh(self) -> None:
        before, self.held = self.held, sum(total.nbytes for total in self.totals.values())
        self.ledger.change(before, self.held)

    def summary(self, label: str) -> Any:
        """The closed summary of everything so far; None where nothing was seen."""
        return self.totals[label].whole()

    @property
    def seen(self) -> bool:
        """Whether anything was measured."""
        return any(total.whole() is not None for total in self.totals.values())


class GradientTrack(Track):
    """Gradients come from the last step to the first. The forward pass is counted, so that each finds its step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._ahead = 0  # the step before which the next gradient ends
        self._first = 0  # of the pending ones
        self._stop = 0  # of the open ones

    def take_forward(self, value: Any, moment: Moment) -> None:
        """The forward pass goes on."""
        self._land()
        before = self.run
        run = self._turn(moment)
        if run != before:
            self._stop = 0
        self.steps += len(self._chunk(value, moment.name))
        self._ahead = self.steps

    def take(self, value: Any, moment: Moment) -> None:
        if self.run % self.every:
            return
        chunk = self._chunk(value, moment.name)
        if len(chunk) > self._ahead:  # of a graph that was walked before, or whose forward pass was not seen
            self._land()
            self._end()
            self._ahead = max(self.steps, len(chunk))
        self._ahead -= len(chunk)
        self._first = self._ahead
        for total in self.totals.values():
            total.prepend(total.reducer.measure(chunk, self._ahead))
        self._weigh()

    def _land(self) -> None:
        if all(total.pending is None for total in self.totals.values()):
            return
        if self._first != self._stop:  # steps in between had no gradient
            self._end()
        for total in self.totals.values():
            total.land()
        self._stop = self.steps

    def _end(self) -> None:
        for total in self.totals.values():
            total.end()

    def summary(self, label: str) -> Any:
        total = self.totals[label]
        if total.pending is None:
            return total.whole()
        if self._first == self._stop and total.open is not None:
            held = total.reducer.close(total.joined(total.open, total.pending, "time"))
            return total.joined(total.closed, held, "batch")
        return total.joined(total.whole(), total.reducer.close(total.pending), "batch")

    @property
    def seen(self) -> bool:
        return any(self.summary(label) is not None for label in self.totals)


class TapListener:
    """Brings a tap of a kernel to a track. An error ends it, and is read from the probe beside it."""

    def __init__(self, track: Track, probe: Any, name: str) -> None:
        self.track, self.probe, self.name = track, probe, name

    @property
    def enabled(self) -> bool:
        return bool(self.probe.enabled)

    def receive(self, value: Any, compiled: bool) -> None:
        began = time.perf_counter_ns()
        try:
            if isinstance(value, Exception):
                raise value
            if torch.is_inference_mode_enabled():
                with torch.inference_mode(False):  # summaries are tensors like any other
                    self.track.take_tap(self.name, value.detach())
            else:
                self.track.take_tap(self.name, value.detach())
        except Exception as error:
            self.track.forget()
            self.probe._fail(error)
        self.track.nanoseconds += time.perf_counter_ns() - began


def decoded(module: nn.Module, kind: str) -> bool:
    """Whether a value of a module has no time axis even in `step_mode='m'`."""
    return isinstance(module, ReadOut) and kind in ("output", "grad_output")
