"""What a recording keeps of one module: the summaries of its reducers, merged as the chunks come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_sequence
from ..form import Told, tensors_of
from ..internals import is_left_behind
from ..recording.budget import BudgetError
from ..recording.records import Moment
from ..sockets import Signal
from .choose.kinds import has_time
from .probe.single import Probe
from .probe.walk import Walk, Walks
from .reduce import Along, Reducer, nbytes
from .reduce.count import CountReducer
from .reduce.tally import Tally

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
    """The summary of one reducer: of closed runs, of the open one, and of a backward pass that is on its way.

    Closed runs are merged at once, but where a summary grows with each of them: there the later ones are merged with
    those before when they have grown to their size, so that each is copied about log n times, and not at every run.
    """

    def __init__(self, reducer: Reducer) -> None:
        self.reducer = reducer
        self._closed: list[tuple[Any, int]] = []  # one after the other, each with its bytes
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
        held, self.pending = self.pending, None
        self.open = held if self.open is None else self.joined(self.open, held, "time")

    def end(self) -> None:
        """The run is over."""
        if self.open is not None:
            self.add(self.reducer.close(self.open))
        self.open = None

    def whole(self) -> Any:
        """The summary of everything so far, closed; None where nothing was seen. Changes nothing."""
        held, closed = self.open, self.closed
        return closed if held is None else self.joined(closed, self.reducer.close(held), "batch")

    def add(self, closed: Any) -> None:
        """The summary of other runs, closed."""
        held, size = self._closed, nbytes(closed)
        if held and self.reducer.gathers and held[-1][1] > size:
            self.reducer.check_beside(held[-1][0], closed)
        while held and (held[-1][1] <= size or not self.reducer.gathers):
            closed = self.reducer.merge(held[-1][0], closed, "batch")
            held.pop()
            size = nbytes(closed)
        held.append((closed, size))

    @property
    def closed(self) -> Any:
        """The summary of all runs that are over; None where there are none."""
        found: Any = None
        for part, _ in self._closed:
            found = self.joined(found, part, "batch")
        return found

    @property
    def empty(self) -> bool:
        """Whether nothing was seen."""
        return not self._closed and self.open is None and self.pending is None

    @property
    def nbytes(self) -> int:
        total = 0 if self.open is None else nbytes(self.open)
        if self.pending is not None:
            total += nbytes(self.pending)
        for _, size in self._closed:
            total += size
        return total


class Track:
    """Measures what one module gives. `runs` is False where nothing tells the runs apart: then each call is one.

    - `tapped`: the labels of the reducers that are fed by the taps of a kernel, and `tallied`: by its counts, added up.
    - `trusted`: asked at each call whether the taps tell what the value holds; else the value is measured.
    """

    def __init__(
        self, module: nn.Module, reducers: Mapping[str, Reducer], ledger: Ledger, every: int, runs: bool, signal: Signal
    ) -> None:
        self.module, self.ledger, self.every, self.runs = module, ledger, every, runs
        self.signal = signal
        self.probe: Probe  # that brings the values
        self.totals = {label: Total(reducer) for label, reducer in reducers.items()}
        self.tapped: frozenset[str] = frozenset()
        self.tallied: Mapping[str, CountReducer] = {}
        self.trusted: Callable[[], bool] = lambda: True
        self.tally = Tally()
        self.steps = self.run = self.held = 0
        self.taken = 0  # values that were measured
        self._counted: int | None = None  # of the open run, the samples in the tally; None before its first chunk

    def take_told(self, told: Any, moment: Moment) -> None:
        """One value of the module, and what its kernel told besides."""
        value, taps = told
        self._take(value, moment, taps if self.trusted() else None)

    def take(self, value: Any, moment: Moment) -> None:
        """One value of the module; a step or a sequence."""
        self._take(value, moment, None)

    def _take(self, value: Any, moment: Moment, taps: dict[str, Tensor] | None) -> None:
        if is_left_behind(value):
            raise ValueError(
                "A value without numbers came: of a meta tensor, FakeTensorMode or a transform. Record "
                "a run on tensors with values."
            )
        chunk = self._chunk(value, moment.name)
        if self._turn(moment) % self.every:
            return
        start = self.steps
        self.steps += len(chunk)
        self.taken += 1
        for label, total in self.totals.items():
            if taps is not None and label in self.tapped:
                total.append(total.reducer.measure_taps(taps, chunk, start))
            elif taps is None or label not in self.tallied:
                total.append(total.reducer.measure(chunk, start))
        if self.tallied:
            self._count(chunk, None if taps is None else taps["count"])
        self._weigh()

    def fits(self, value: Tensor, told: Told) -> bool:
        """Whether a value and its taps, which are trusted, lie in memory like those before."""
        return value.ndim > 1 and (not self.tallied or self.tally.adds_alike(told["count"], value.shape[0]))

    def take_alike(self, value: Tensor, told: Told, run: int) -> bool:
        """One value that fits, and its taps, which are of this call alone; or say that it is not taken."""
        if self.tallied and not self.tally.add_alike(told["count"]):
            return False
        if run != self.run:
            self._end_run(run)
        steps, samples = value.shape[:2]
        if self._counted is None and self.tallied:
            self.tally.samples += samples
            self._counted = samples
        start = self.steps
        self.steps += steps
        self.taken += 1
        if self.tapped:
            for label in self.tapped:
                total = self.totals[label]
                total.append(total.reducer.kept(told, value, start))
            self._weigh()
        return True

    def _count(self, chunk: Tensor, count: Tensor | None) -> None:
        """Add the counts of a kernel up. If there are none, the chunk was measured, and its samples are told there."""
        if count is None:
            self.tally.samples -= self._counted or 0
            self._counted = 0
            return
        check_sequence("record", chunk, least=2)
        if not self.tally.fits(count):
            self._fold()
        first, new = self.tally.empty, len(count) if self._counted is None else 0
        self.tally.add(count, len(chunk), new)
        self._counted = new if self._counted is None else self._counted
        if first:
            self._try_out()

    def _fold(self) -> None:
        """Other neurons are counted from now on: what was counted so far goes to the summaries."""
        for label in self.tallied:
            self.totals[label].add(self._tallied(label))
        self.tally = Tally()

    def _try_out(self) -> None:
        """Have an error of a reducer come up at the first run, not when the training is over."""
        try:
            for label in self.tallied:
                self.summary(label)
        except Exception:
            self.tally = Tally()
            raise

    def _chunk(self, value: Any, name: str) -> Tensor:
        """`[T, N, *]`."""
        if not isinstance(value, Tensor):
            raise TypeError(
                f"record reduces a tensor, but {name!r} ({type(self.module).__name__}) gives "
                f"{type(value).__name__}. Choose modules that give one tensor; OutputMonitor keeps other values."
            )
        return value if has_time(self.module, self.signal) else value.unsqueeze(0)

    def _turn(self, moment: Moment) -> int:
        """The run that the moment belongs to; what was open before is closed."""
        run = moment.run if self.runs else moment.call
        if run != self.run:
            self._end_run(run)
        return run

    def _end_run(self, run: int) -> None:
        """The run is over; another begins."""
        for total in self.totals.values():
            if total.open is not None:
                total.end()
        self.run, self.steps, self._counted = run, 0, None

    def _weigh(self) -> None:
        before, held = self.held, self.tally.nbytes if self.tallied else 0
        for total in self.totals.values():
            held += total.nbytes
        if held != before:
            self.held = held
            self.ledger.change(before, held)

    def summary(self, label: str) -> Any:
        """The closed summary of everything so far; None where nothing was seen."""
        total = self.totals[label]
        return total.joined(total.whole(), self._tallied(label), "batch")

    def _tallied(self, label: str) -> Any:
        """What follows from the counts of a kernel; None where there are none."""
        counts = self.tally.counts if label in self.tallied else None
        return None if counts is None else self.tallied[label].counted(counts)

    @property
    def seen(self) -> bool:
        """Whether anything was measured."""
        return not self.tally.empty or any(not total.empty for total in self.totals.values())


class GradientTrack(Track):
    """Gradients come from the last step to the first. The forward pass is counted, so that each finds its step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._walks = Walks()
        self._walk = self._walks.last
        self._stop = 0  # of the open steps
        self._form: tuple[torch.Size, torch.dtype, torch.device]  # of the gradient that came last

    def take_forward(self, value: Any, moment: Moment) -> None:
        """The forward pass goes on."""
        steps = len(self._chunk(next(iter(tensors_of(value)), value), moment.name))
        self.go_ahead(steps, moment.run if self.runs else moment.call)

    def go_ahead(self, steps: int, run: int) -> None:
        """The forward pass goes on, by so many steps."""
        walk, walks = self._walk, self._walks
        if walk.came:
            self._land()
        anew = run != self.run
        if anew:
            self._end_run(run)
            self._stop = 0
            walks.begin(run)
        elif walk is not walks.last:
            self._end()
        walk = self._walk = walks.last
        walk.go_on(self.probe.point.number(), steps, anew)

    def miss(self) -> None:
        """A call of the forward pass has no gradient."""
        walk, number = self._walk, self.probe.asked if self.runs else None
        if number is None or walk.has(number):  # of a run before, nothing has come so far
            self._pass_by(walk.miss(number))

    def take(self, value: Any, moment: Moment) -> None:
        there = tensors_of(value)
        self.take_chunk(self._chunk(there[0] if len(there) == 1 else value, moment.name))  # of several one wants it

    def take_chunk(self, chunk: Tensor) -> None:
        """The gradient of some steps."""
        walk, number, shape = self._walk, self.probe.asked if self.runs else None, chunk.shape  # else a call is a run
        if number is not None and not (walk is self._walks.last and number >= walk.begin):
            walk = self._turn_to(number)
        if walk.run % self.every:
            return
        self._form = shape, chunk.dtype, chunk.device
        start = walk.come(number, shape[0])
        if start is None:
            if walk.came:
                self._land()
            self._end()
            start = walk.again(number, shape[0])
        self.taken += 1
        if walk.gap:
            self._pass_by(walk.gap)
        for total in self.totals.values():
            total.prepend(total.reducer.measure(chunk, start))
        self._weigh()

    def _turn_to(self, number: int) -> Walk:
        """The run of a gradient, where that may be another one than before."""
        found = self._walks.of(number)
        if found is not self._walk:
            if self._walk.came:
                self._land()
            self._end()
            self._walk, self._stop = found, -1  # nothing is open
        return found

    def _nothing(self, steps: range) -> Iterator[tuple[Tensor, int]]:
        """The gradients of steps by which a backward pass did not come, in parts from the last to the first."""
        stop, (shape, dtype, device) = steps.stop, self._form
        while stop > steps.start:
            part = min(max(1, shape[0]), stop - steps.start)
            stop -= part
            yield torch.zeros((part, *shape[1:]), dtype=dtype, device=device), stop

    def _pass_by(self, steps: range) -> None:
        for chunk, start in self._nothing(steps) if steps else ():
            for total in self.totals.values():
                total.prepend(total.reducer.measure(chunk, start))

    def _land(self) -> None:
        """The backward pass is over."""
        walk = self._walk
        first = walk.first
        if first > walk.floor and (rest := walk.rest(self.probe.point.bare)):
            self._pass_by(rest)
            self._weigh()
            first = walk.first = rest.start
        if first != self._stop:  # steps in between have none, or these have theirs already
            self._end()
        for total in self.totals.values():
            total.land()
        self._stop = walk.steps

    def _end(self) -> None:
        for total in self.totals.values():
            total.end()

    def summary(self, label: str) -> Any:
        total, walk = self.totals[label], self._walk
        pending = total.pending
        if pending is None:
            return total.whole()
        rest = walk.rest(self.probe.point.bare)
        for chunk, start in self._nothing(rest):
            pending = total.joined(total.reducer.measure(chunk, start), pending, "time")
        if (rest.start if rest else walk.first) == self._stop and total.open is not None:
            held = total.reducer.close(total.joined(total.open, pending, "time"))
            return total.joined(total.closed, held, "batch")
        return total.joined(total.whole(), total.reducer.close(pending), "batch")
