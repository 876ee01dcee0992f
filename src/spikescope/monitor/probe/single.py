"""A probe: it hands one signal of one module to a function, and keeps that function's errors from the network."""

from __future__ import annotations

import threading
import time
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ...base import StepModule
from ...form import mapped
from ...recording.records import Moment
from ...sockets import Signal, forget, subscribe, unsubscribe
from ...sockets.gradient_squares import Squared
from ...warn import warn
from ..choose.kinds import in_sequences
from ..choose.signals import GRADIENTS
from ..choose.subset import Subset
from .axes import Axes, Reading
from .start import Root, Start, start_of

__all__ = ["GradScale", "Probe", "ProbeReport", "Short"]


_PATIENCE = 60.0  # seconds: no value takes as long, so that its turn would never come

_turns: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()


def _turn_of(root: nn.Module) -> threading.RLock:
    """The lock of all probes in a network, which may share what they write to; `take` may call the network again."""
    return _turns.setdefault(root, threading.RLock())


class GradScale(Protocol):
    """What is asked of a `torch.amp.GradScaler`."""

    def get_scale(self) -> float:
        """The factor that the gradients carry."""


Short = Callable[[Any], bool]
"""Takes a value as it came, whole, with its graph and its taps, and has the probe go on; or says that it does not."""


class ProbeReport(NamedTuple):
    """What a probe has done and cost."""

    name: str
    signal: str
    fired: int  # values that came
    recomputes: int  # that were skipped because an activation checkpoint computed them again
    transforms: int  # that were skipped because torch.func hides them
    milliseconds: float
    error: BaseException | None


def _without_frames(error: Exception) -> Exception:
    """An error to be kept: its traceback as a note, for the frames would keep all the values of that forward pass."""
    if error.__traceback__ is not None:
        error.add_note("Where it came up:\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip())
    held: BaseException | None = error
    while held is not None:
        held.__traceback__ = None
        held = held.__cause__ or held.__context__
    return error


class Probe:
    """Brings the values of a signal to `take(value, moment)` from the moment it is made until `close()`.

    The value has no graph unless `keep_graph`; what `take` keeps of it, it has to copy. An exception in `take` ends
    this probe and nothing else: it is warned of once and kept as `error`.

    - `signal`: if it has taps, `take` is given pairs of the value and the taps by name.
    - `root`: the network, for several probes as one `Root`; a module without a state of its own counts time from
      where the network begins.
    - `scaler`: a GradScaler, by whose scale gradients are divided.
    - `every`: take one run in `every`; during the others a kernel is not asked for anything.
    - `cut`: called where a value comes from compiled code, which had to leave its graph there.
    - `makes_graph`: whether `take` computes with other tensors than the value, so that gradients have to be off.
    - `missed`: called where a backward pass comes by without a gradient, which is no value.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        signal: Signal,
        take: Callable[[Any, Moment], None],
        *,
        root: nn.Module | Root | None = None,
        subset: Subset | None = None,
        keep_graph: bool = False,
        scaler: GradScale | None = None,
        every: int = 1,
        enabled: bool = True,
        missed: Callable[[], None] | None = None,
        cut: Callable[[], None] | None = None,
        makes_graph: bool = True,
    ) -> None:
        self.name, self.module, self.signal, self.take = name, module, signal, take
        self.subset = Subset() if subset is None else subset
        self.keep_graph, self.scaler, self.every, self.missed, self.cut = keep_graph, scaler, every, missed, cut
        self._backwards, self._as_it_comes = signal.kind in GRADIENTS, keep_graph or not makes_graph
        self._knows_time = signal.kind in ("input", "output", "tap")
        self._read = Reading(module, signal)
        self.axes: Axes  # of the value that came last
        self._check_time()
        root = root if isinstance(root, Root) else Root(module if root is None else root)
        self.turn = _turn_of(root.net)
        self.short: Short | None = None  # asked first: most values are like the one before
        self.given: Any = None  # the value that is being taken, whole and with its graph
        self.compiled = False  # whether compiled code gave it
        self.asked: int | None = None  # of a gradient: the number of its call, if it knows that
        self.finish: Callable[[], None] | None = None  # of a gradient: called where no more of a backward pass comes
        self._asleep = False  # in a run that is not taken
        self.error: BaseException | None = None
        self.fired = self.nanoseconds = 0
        self.began = False  # whether the start of a sequence was seen
        self._enabled = enabled
        self.start: Start | None = None
        self.restart()
        self.squared: Squared | None = None
        self.point = subscribe(module, signal, self)
        self._skipped = (self.point.recomputes, self.point.transforms)
        self._listen_for_start(root)
        self.restart()

    def _listen_for_start(self, root: Root) -> None:
        if self._backwards:
            return  # backwards, time is not counted
        self.start = start_of(self.module, root, self)

    def restart(self) -> None:
        """Count calls, runs and steps from zero."""
        self.calls, self.run, self.step, self._begun, self._asleep = 0, 0, 0, False, False
        self._timed = self._at_rest()

    def _at_rest(self) -> bool:
        """Whether nothing has run since the reset, so that the next step is the first."""
        return self.start is None or self.start.at_rest()

    def wait_for_turn(self) -> None:
        """One thread at a time; RuntimeError where the one before waits for this one."""
        if not self.turn.acquire(timeout=_PATIENCE):
            raise RuntimeError(
                f"A value came on another thread while a monitor was at work, and {_PATIENCE:g} seconds later it still "
                "was: its function seems to wait for this thread, as one that runs a backward pass through the network "
                "that it watches does on a GPU. Detach what the function works on, or run that after the call."
            )

    def begin(self) -> None:
        """A sequence begins."""
        if not self.turn.acquire(blocking=False):
            self.wait_for_turn()
        try:
            self.began = True
            self.run += self._begun
            asleep = self.run % self.every != 0
            self.step, self._begun, self._timed = 0, asleep, True
            if asleep != self._asleep:
                self._asleep = asleep
                self.point.refresh()
        finally:
            self.turn.release()

    @property
    def begun(self) -> int:
        """How many sequences have begun, those that are not taken among them."""
        return self.run + self._begun

    @property
    def on(self) -> bool:
        """Whether it is switched on, and no error has ended it."""
        return self._enabled and self.error is None

    @property
    def enabled(self) -> bool:
        """Whether values are taken now."""
        return self._enabled and self.error is None and not self._asleep

    @enabled.setter
    def enabled(self, given: bool) -> None:
        if given and not self._enabled:
            self._timed = self._at_rest()  # else the steps in between were not seen
        self._enabled = given
        self.refresh()

    def refresh(self) -> None:
        """Tell the sockets whether this probe is on."""
        self.point.refresh()
        if self.start is not None:
            self.start.point.refresh()

    def receive(self, value: Any, compiled: bool, cut: bool, call: int | None = None) -> None:
        """Take one value from the socket; of replicas that run in threads, one after the other."""
        if not self.turn.acquire(blocking=False):
            try:
                self.wait_for_turn()
            except RuntimeError as error:
                self.fail(error)
                return
        began = time.perf_counter_ns()
        self.compiled, self.asked = compiled, call
        try:
            if torch.is_inference_mode_enabled():
                with torch.inference_mode(False):  # records are tensors like any other
                    self._receive(value, cut)
            elif (short := self.short) is None or not short(value):
                self._take_whole(value, cut)
        except Exception as error:
            self.fail(error)
        finally:
            self.given = None
            self.nanoseconds += time.perf_counter_ns() - began
            self.turn.release()

    def _receive(self, value: Any, cut: bool) -> None:
        """By the short way, where there is one."""
        if self.short is None or not self.short(value):
            self._take_whole(value, cut)

    def _take_whole(self, value: Any, cut: bool) -> None:
        """The way of any value."""
        if isinstance(value, Exception):
            if self.signal.kind == "before" and self.calls == 0:  # the first call may make the attribute
                self.calls = 1
                return
            raise value
        if cut and self.cut is not None:
            self.cut()
        if value is None and self._backwards:
            if self.missed is not None:
                self.missed()
            return
        value, taps = value if self.signal.taps else (value, None)
        value, self.axes = self._read(value)
        moment, first = self._moment(self.axes)
        self.given = value
        if self._as_it_comes or not torch.is_grad_enabled():
            self._hand_on(value, taps, moment, first)
        else:
            with torch.set_grad_enabled(False):
                self._hand_on(value, taps, moment, first)

    def _hand_on(self, value: Any, taps: Any, moment: Moment, first: int) -> None:
        """Have the part that is wanted of a value taken."""
        if not self.keep_graph:
            value = value.detach() if type(value) is Tensor else mapped(Tensor.detach, value)
        if moment.scale != 1.0:
            value = mapped(lambda held: held / moment.scale, value)
        if not self.subset.everything:
            value = self._part(value, first)
            if value is None:
                return
        self.take(value if taps is None else (value, taps), moment)

    def _moment(self, axes: Axes) -> tuple[Moment, int]:
        """Where a value with these axes belongs, and its first step."""
        start, call = self.step, self.go_on(axes.steps)
        if self._backwards:
            scale = 1.0 if self.scaler is None else float(self.scaler.get_scale())
            return Moment(self.name, call, self.run, None, None, axes.batch, scale), 0
        if axes.grown:  # all that was stored since the reset
            self.step, start = start + 1, 0
        if not (self._timed and self._knows_time):
            return Moment(self.name, call, self.run, None, None, axes.batch), start
        return Moment(self.name, call, self.run, start, start + axes.steps, axes.batch), start

    def go_on(self, steps: int) -> int:
        """A value of so many steps came; gives the number of the call."""
        call = self.calls
        self.calls, self.fired = call + 1, self.fired + 1
        if not self._backwards:
            self._begun = True
            self.step += steps
        return call

    def _check_time(self) -> None:
        """Refuse to choose steps where a value of a whole sequence has none, or a gradient does not know its step."""
        if self.subset.time is None:
            return
        kind, module = self.signal.name or self.signal.kind, type(self.module).__name__
        if not in_sequences(self.module):
            if not self._backwards:
                return
            cure = "use step_mode='m'" if isinstance(self.module, StepModule) else "choose a layer with step_mode='m'"
            raise ValueError(
                f"Subset: the gradients of {self.name or 'the network'!r} ({module}) are of single steps, from the "
                f"last to the first, so that time= cannot choose among them. Leave time out, or {cure}."
            )
        if self._read.has_time():
            return
        raise ValueError(
            f"Subset: {kind!r} of {self.name or 'the network'!r} ({module}) has no time axis in step_mode='m', so that "
            "time= has no steps to choose from. Leave time out; the membrane potential of every step is 'v_seq'."
        )

    def _part(self, value: Any, first: int) -> Any:
        """What is chosen of a value whose first step this is; None where that is nothing."""
        if self.subset.time is not None:
            self._check_time()
        if not self.axes.timed and not self.subset.wants(first):
            return None
        steps = range(first, first + self.axes.steps) if self.axes.timed else None
        if type(value) is Tensor:
            return self.subset.take(value, steps)
        parts = mapped(lambda held: self.subset.take(held, steps), value)
        return None if isinstance(value, Tensor) and parts is None else parts

    def fail(self, error: Exception) -> None:
        """End this probe and nothing else."""
        self.error = _without_frames(error)
        self.refresh()
        text = (
            f"The probe of {self.signal.kind} of {self.name or 'the network'!r} is off: {type(error).__name__}: {error}"
            " The network runs on; reading the records raises this error."
        )
        warn(text)

    def retune(self, signal: Signal) -> None:
        """Listen to another signal of the module from now on."""
        before = self.point
        unsubscribe(before, self)
        forget(before)
        self.signal, self.point = signal, subscribe(self.module, signal, self)
        so_far = before.recomputes - self._skipped[0], before.transforms - self._skipped[1]
        self._skipped = self.point.recomputes - so_far[0], self.point.transforms - so_far[1]

    def close(self) -> None:
        """Unplug; a second time does nothing."""
        unsubscribe(self.point, self)
        if self.start is not None:
            self.start.close()
            self.start = None

    def report(self) -> ProbeReport:
        """What the probe has done and cost so far."""
        recomputes, transforms = self.point.recomputes - self._skipped[0], self.point.transforms - self._skipped[1]
        signal = ":".join(filter(None, self.signal[:2]))
        return ProbeReport(self.name, signal, self.fired, recomputes, transforms, self.nanoseconds / 1e6, self.error)
