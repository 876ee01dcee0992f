"""The flight recorder: it keeps the last steps of a training, and writes them down when something goes wrong."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from ...background import BackgroundThread
from ...errors import check_listening
from ...recording import open_recording
from ...warn import warn
from ..header import header
from ..probe.group import weakly
from ..probe.single import GradScale
from .dump import free_place, write
from .judge import Judge
from .ring import Ring
from .signals import Listener
from .steps import Steps
from .triggers import Trigger

__all__ = ["FlightRecorder"]


class FlightRecorder:
    """What `flight_recorder` gives; it listens until `close()`, or while the `with` block runs.

    - `dumps`: the recordings that were written, and `triggers` why.
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
        report: bool,
        dt: float | None,
        scaler: GradScale | None,
    ) -> None:
        self.to, self.at_most, self.report = to, at_most, report
        self._drawing: list[threading.Thread] = []
        self.dumps: list[Path] = []
        self.triggers: list[Trigger] = []
        self._errors: list[Exception] = []
        self.ring = Ring(keep, limit)
        self._judge, self._full = Judge(net, self.ring, on, scaler is not None), False
        self._writing = threading.Lock()
        self._steps = Steps(
            net,
            self.ring,
            self,
            signals=signals,
            samples=samples,
            evaluation=evaluation,
            scaler=scaler,
            caller="flight_recorder",
        )
        self._head = header(net, self._steps.told, dt=dt)
        self._listener = Listener(weakly(self._on_signal)) if "signal" in self._judge.outside else None

    # what the steps ask

    def wants(self) -> bool:
        """All steps are kept."""
        return True

    def given(self, x: Tensor | None, call: int | None) -> int | None:
        """The sample in which the input is not finite, if it is one."""
        found = self._judge.look(x, call)
        return None if found is None else found.sample

    def over(self, wait: bool = False) -> None:
        """A step is over: it is judged, and what is to be written is."""
        self._judge.end(wait=wait)
        found, self._judge.found = self._judge.found, []
        if found:
            self._write(found)

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
        self.ring.settle()
        with self._writing:
            if not asked and len(self.dumps) >= self.at_most:
                if not self._full:
                    self._full = True
                    warn(
                        f"The flight recorder has written {self.at_most} recordings, as many as it may, and leaves "
                        f"this out: {trigger.words}."
                    )
                return None
            try:
                return self._write_whole(trigger)
            except Exception as error:  # whatever it is, the training goes on
                self._errors.append(error)
                warn(f"The flight recorder could not write the last steps ({trigger.words}): {error}")
                return None

    def _write_whole(self, trigger: Trigger) -> Path:
        frames, dropped = self.ring.snapshot(), self.ring.dropped
        missing = [f"{dropped} steps that went because of the budget"] if dropped else []
        missing += [*self._steps.errors, *self._steps.members.changes()]
        about = self.ring.about
        layers = {name: {**held, **about.get(name, {})} for name, held in self._head["layers"].items()}
        self.to.mkdir(parents=True, exist_ok=True)
        place = free_place(self.to, trigger.kind)
        write(place, frames, trigger, {**self._head, "layers": layers}, self._steps.followed, missing)
        self.triggers.append(trigger)
        self.dumps.append(place)
        if self.report:
            drawing = BackgroundThread(target=self._draw, args=(place, trigger), name="spikescope flight report")
            self._drawing.append(drawing)
            drawing.start()
        return place

    def _draw(self, place: Path, trigger: Trigger) -> None:
        """Write the report of a recording beside it, in a thread of its own: the training goes on."""
        try:
            recording = open_recording(place)
            run = recording.head["flight"]["trigger"]["run"]
            title = f"Step {trigger.step}, {trigger.kind}: {trigger.words}"
            recording.report(place.with_suffix(".html"), run=run, title=title)
        except Exception as error:
            self._errors.append(error)
            warn(f"The flight recorder could not write the report of {place}: {type(error).__name__}: {error}")

    # its end

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong: with recordings and reports, and what has ended the watching of a signal or of all."""
        return [*self._errors, *self._steps.failures]

    @property
    def unjudged(self) -> list[str]:
        """What cannot be seen, and why."""
        said = [*self._judge.unjudged, *self._steps.members.changes()]
        if self._listener is not None and not self._listener.there:
            said.append("signals: a handler is set in the main thread alone, and the recorder was made in another")
        return said

    @property
    def milliseconds(self) -> float:
        """What it has cost so far, in the thread of the network."""
        return self._steps.milliseconds

    @property
    def closed(self) -> bool:
        """Whether it has stopped listening."""
        return self._steps.closed

    def close(self) -> None:
        """Stop; what was seen last and is to be written is. A second time does nothing."""
        if self.closed:
            return
        self.over(wait=True)
        self._steps.members.close("flight_recorder")
        self._steps.close()
        if self._listener is not None:
            self._listener.close()
        with self._writing:  # a signal may be on its way to disk
            drawing = list(self._drawing)
        for thread in drawing:
            thread.join()

    def __enter__(self) -> Self:
        check_listening("flight_recorder", not self.closed)
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
