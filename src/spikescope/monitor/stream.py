"""Signals on their way to disk while the network runs: `monitor.record(net, ..., to=path)`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, Self

from torch import nn

from ..base import StepModule
from ..errors import check_listening
from ..recording import OpenedRecording, Writer, open_recording
from ..sockets import Signal
from .choose.changed import Members
from .choose.modules import named, select, selector
from .choose.signals import GRADIENTS, SIGNALS, keeps_state, signal_of
from .choose.subset import Subset
from .delivery import lines
from .header import header
from .notes import Notes
from .probe.group import Probes
from .probe.single import GradScale

__all__ = ["Streamed", "stream"]

ATTRIBUTES = {"attribute:": "after", "attribute before:": "before"}
"""What a signal that is an attribute begins with: as it is after, or before, each call of the module."""


def stream(
    net: nn.Module,
    signals: Any,
    where: Any,
    chosen: Any,
    to: str | os.PathLike[str],
    *,
    dt: float | None,
    every: int,
    subset: Subset | None,
    scaler: GradScale | None,
    sync_every: float | str | None,
    seed: int | None,
    fill: int,
) -> Streamed:
    """See `record`. `chosen` gives the modules of a signal where the user has chosen none."""
    if dt is not None and (isinstance(dt, bool) or not isinstance(dt, (int, float)) or not 0 < dt < float("inf")):
        raise ValueError(
            f"record: dt is the seconds of a step, above 0, or None where a step has none, but got {dt!r}."
        )
    wanted = _wanted(signals, where)
    which = {name: chosen(name) if given is None else given for name, given in wanted.items()}
    modules = {name: select(net, held, "record") for name, held in which.items()}
    made = {name: {path: _signal(name, module) for path, module in held.items()} for name, held in modules.items()}
    head = header(net, modules, dt=dt, seed=seed, every=every, subset=subset)
    writer = Writer(to, head, sync_every, fill)
    try:
        members = Members(
            net, {path for held in modules.values() for path in held}, reduce(or_, map(selector, which.values()))
        )
        return Streamed(net, modules, made, writer, every, subset, scaler, members)
    except BaseException:
        writer.close()
        raise


def _wanted(signals: Any, where: Any) -> dict[str, Any]:
    """The names of the signals, and the modules of each."""
    if isinstance(signals, Mapping):
        found = {name: where if given is None else given for name, given in signals.items()}
    else:
        names = [signals] if isinstance(signals, str) else signals
        if not isinstance(names, Sequence):
            raise TypeError(
                f"record: with to= it takes names of signals, as 'spike' or ['spike', 'v'], not {signals!r}."
            )
        found = dict.fromkeys(names, where)
    for name in found:
        if not isinstance(name, str) or (name not in SIGNALS and not _attribute(name)):
            raise ValueError(
                f"record: with to= it streams signals, and {name!r} is not one; they are "
                f"{', '.join(map(repr, SIGNALS))}, and of an attribute 'attribute:NAME' or 'attribute before:NAME'. "
                "monitor.reduce(recording, 'rate') gives results afterwards."
            )
    if not found:
        raise ValueError("record: got no signals; give at least one, such as 'spike'.")
    return found


def _attribute(name: str) -> tuple[str, str] | None:
    """Of a signal that is an attribute, when it is read and its name."""
    for start, kind in ATTRIBUTES.items():
        if name.startswith(start) and name[len(start) :]:
            return kind, name[len(start) :]
    return None


def _signal(name: str, module: nn.Module) -> Signal:
    attribute = _attribute(name)
    if attribute is None:
        return signal_of(name, module)
    if attribute[1].endswith("_seq") and not (isinstance(module, StepModule) and module.step_mode == "m"):
        raise ValueError(f"record: {attribute[1]!r} grows with every single step; take 'v', or step_mode='m'.")
    return Signal(*attribute)


class Streamed:
    """What `record(net, ..., to=path)` gives. The recording grows until `close()`, or while the `with` block runs.

    - `path`: the folder. `errors`: by module and signal, what ended a probe. `never_fired`: what no value came of.
    """

    def __init__(
        self,
        net: nn.Module,
        modules: Mapping[str, Mapping[str, nn.Module]],
        signals: Mapping[str, Mapping[str, Signal]],
        writer: Writer,
        every: int,
        subset: Subset | None,
        scaler: GradScale | None,
        members: Members,
    ) -> None:
        self._members = members
        self._writer, self._notes = writer, Notes(writer, every, subset)
        self.path = writer.path
        self._runs = any(map(keeps_state, named(net).values()))
        self._streams, plugged = lines(
            net, modules, signals, self._notes, runs=self._runs, every=every, subset=subset, scaler=scaler
        )
        self._clocks = [probe for probe in plugged if probe.signal.kind not in GRADIENTS]
        self._plugged = Probes(self, plugged)
        self._end = weakref.finalize(self, _finish, writer)

    def note(self, **told: Any) -> None:
        """Say what is known of a call, as `recording.note(label=y, sample=numbers)`: before it, or after it.

        It belongs to the run that was seen last; if that has such notes already, or none was seen, to the next one.
        Numbers and texts are of all samples; lists, tensors and arrays have one value a sample. Of those with a value
        for each sample of the run the ones of recorded samples are kept. Lists of another length are warned of, and
        notes of one run that do not agree: then a reset between two batches is missing.
        """
        self._notes.take(told, self._begun())

    def _begun(self) -> int:
        """How many runs have begun."""
        return max((probe.begun if self._runs else probe.calls for probe in self._clocks), default=0)

    @property
    def errors(self) -> dict[tuple[str, str], BaseException]:
        """What ended a probe, by module and signal."""
        return {(probe.name, label): probe.error for label, probe in self._streams if probe.error is not None}

    @property
    def never_fired(self) -> tuple[tuple[str, str], ...]:
        """The modules and signals that no value came of."""
        return tuple((probe.name, label) for label, probe in self._streams if not probe.fired)

    @property
    def on_disk(self) -> int:
        """The values that are on disk: these survive the end of the process, however it ends."""
        return self._writer.on_disk

    @property
    def milliseconds(self) -> float:
        """What the recording has cost so far, in the thread of the network."""
        return sum(probe.nanoseconds for probe in self._plugged) / 1e6

    def flush(self) -> None:
        """Return when everything that came is on disk; where that fails, an OutputError says what is in memory."""
        self._writer.flush()

    def open(self) -> OpenedRecording:
        """What was recorded so far, to be read."""
        self.flush()
        return open_recording(self.path)

    if not TYPE_CHECKING:  # else every name would be taken for one of its own

        def __getattr__(self, name: str) -> Never:
            told = f" Read it by spikescope.open_recording({str(self.path)!r}); milliseconds says what it takes."
            told = "" if name.startswith("_") else told
            # with the name alone: of an object Python would put a guess of its own behind ours
            raise AttributeError(f"A recording to disk has no {name!r} while it is being written.{told}", name=name)

    def close(self) -> None:
        """Stop, and have everything on disk. An error that ended a probe is raised; all other signals are whole."""
        if not self._end.alive:
            return
        self._members.close("record")
        self._notes.close(self._begun())
        self._plugged.close()
        for _, probe in self._streams:
            if probe.finish is not None:
                probe.finish()
        self._writer.close()
        self._end.detach()
        for error in self.errors.values():
            raise error

    def __enter__(self) -> Self:
        check_listening("record", self._end.alive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._members.close("record")
            self.close()
        else:
            self._plugged.close()  # the error of the block is the one to be seen
            self._notes.leave()
            self._writer.close()
            self._end.detach()

    def __repr__(self) -> str:
        state = "closed" if not self._end.alive else "growing"
        return f"Streamed({self.path}, {len(self._streams)} signals, {self._writer.given} values, {state})"


def _finish(writer: Writer) -> None:
    """Have on disk what is in memory, when the recording is dropped or the program ends."""
    writer.close()
