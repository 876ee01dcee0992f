"""The last steps of a training, in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...form import tuple_made
from ...recording import Moment
from ...spikes import PackedSpikes
from ..delivery import Sink

__all__ = ["Entry", "Frame", "Ring"]

Values = Tensor | PackedSpikes


class Room(NamedTuple):
    """Memory on the host, of the ring's own, in which there is place for a value."""

    shape: torch.Size
    dtype: torch.dtype
    nbytes: int


Spare = tuple[Room, Tensor, int]
"""Memory that may be used again, and its address."""


class Entry(NamedTuple):
    """One value of a signal, and where it belongs.

    - `room`: of values that were copied into it.
    - `seen`: of spikes whether there is one, of others whether a number is not finite; None where nobody has looked.
    """

    signal: str
    values: Values
    moment: Moment
    room: Room | None = None
    seen: bool | None = None


class Frame:
    """What came during one step of training: a forward pass over a sequence, and its backward pass."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.entries: list[Entry] = []
        self.told: dict[str, Any] = {}  # what is known of it by name, such as the loss
        self.learned: dict[str, dict[str, Tensor]] = {}  # by module, what a neuron had learned when it began
        self.nbytes = 0
        self.cut = 0  # values that had to go
        self.lent = False  # whether somebody else may hold it: then its memory is not used again

    def of(self, signal: str) -> dict[str, list[Entry]]:
        """The entries of a signal by module, each in the order of time."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if entry.signal == signal:
                found.setdefault(entry.moment.name, []).append(entry)
        for held in found.values():
            held.sort(key=lambda entry: entry.moment.start or 0)
        return found

    @property
    def first(self) -> int:
        """The step since the reset that it begins at: 0, but where the network goes on without one."""
        return min((entry.moment.start or 0 for entry in self.entries), default=0)


class Ring(Sink):
    """The frames of the last `keep` steps, the one that goes on among them, in `limit` bytes; the oldest go first."""

    home: torch.device | None = None  # values stay where they are

    def __init__(self, keep: int, limit: int | None) -> None:
        self.keep_steps, self.limit = keep, limit
        self.lock = threading.RLock()  # a backward pass brings its values from threads of its own
        self.frames: deque[Frame] = deque()
        self._open = Frame(0)
        self._spare: dict[
            int, list[Spare]
        ] = {}  # of the step that went last what lies in memory that may be used again
        self._spare_bytes = 0
        self.nbytes = self.dropped = 0  # bytes that are held; steps that went because of the limit
        self.about: dict[str, dict[str, Any]] = {}  # what a first value shows of each module
        self.alarm: Callable[[], None] | None = None  # called where a number of a forward pass is not finite
        self.turn: AbstractContextManager[Any] = nullcontext()  # of the probes that bring values
        self._coming: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._coming_bytes = 0

    @property
    def open(self) -> Frame:
        """The step that goes on."""
        self.settle()
        return self._open

    def later(self, place: Callable[..., None], size: int, told: tuple[Any, ...]) -> None:
        """Have something that came, of so many bytes, put in its place by a call of `place` when the step is over.

        In the midst of a step each line of Python has to be fetched from memory first; at its end all values go one
        way.
        """
        self._coming.append((place, told))
        self._coming_bytes += size
        if self.limit is not None and self.nbytes + self._coming_bytes + self._spare_bytes > self.limit:
            self.settle()

    def settle(self) -> None:
        """Put all that came in its place."""
        coming = self._coming
        if coming:
            with self.turn, self.lock:
                while coming:
                    place, told = coming.popleft()
                    place(*told)
                self._coming_bytes = 0

    def begin(self) -> Frame | None:
        """The next step begins: the one that is over, where anything came of it."""
        self.settle()
        with self.lock:
            done = self._open
            if not done.entries and not done.told:
                return None
            self.frames.append(done)
            self._forget_spare()
            while len(self.frames) >= self.keep_steps:
                self._drop(again=True)
            self._open = Frame(done.number + 1)
            return done

    def room(self, wanted: Room) -> Spare:
        """Memory for a value: that of a step that went, where one had a value in such a room, the very same object.

        It is asked for where the probes' turn is held.
        """
        spare = self._spare.get(id(wanted))
        if spare:
            self._spare_bytes -= wanted.nbytes
            return spare.pop()
        held = torch.empty(wanted.shape, dtype=wanted.dtype, device="cpu")
        return wanted, held, held.data_ptr()

    def keep(
        self, signal: str, values: Values, moment: Moment, room: Room | None = None, seen: bool | None = None
    ) -> None:
        """Take a value into the step that goes on, the `room` that it lies in, and what was seen of it."""
        size = values.nbytes if room is None else room.nbytes
        entry = tuple_made(Entry, (signal, values, moment, room, seen))
        if seen and room is not None and signal != "grad_output" and self.alarm is not None:
            self.alarm()
        with self.lock:
            frame, limit = self._open, self.limit
            frame.entries.append(entry)
            frame.nbytes += size
            self.nbytes = held = self.nbytes + size
            if limit is not None and held + self._spare_bytes > limit:
                self._shrink(limit)

    def _shrink(self, limit: int) -> None:
        self._forget_spare()
        while self.nbytes > limit and self.frames:
            self._drop()
            self.dropped += 1
        while self.nbytes > limit and self._open.entries:
            gone = self._open.entries.pop(0).values.nbytes
            self._open.nbytes -= gone
            self.nbytes -= gone
            self._open.cut += 1

    def _drop(self, again: bool = False) -> None:
        gone = self.frames.popleft()
        self.nbytes -= gone.nbytes
        if again and not gone.lent:
            for entry in reversed(gone.entries):
                room, held = entry.room, entry.values
                if room is not None and isinstance(held, Tensor):
                    self._spare.setdefault(id(room), []).append((room, held, held.data_ptr()))
                    self._spare_bytes += room.nbytes

    def _forget_spare(self) -> None:
        self._spare.clear()
        self._spare_bytes = 0

    def lent(self) -> list[Frame]:
        """The frames that are over, the oldest first, for somebody who reads them while the training goes on."""
        with self.lock:
            for frame in self.frames:
                frame.lent = True
            return list(self.frames)

    def learn(self, name: str, signal: str, shape: Sequence[int], neurons: Sequence[int] | None) -> None:
        """Take what a first value shows of a module."""
        with self.lock:
            told = self.about.setdefault(name, {})
            told.setdefault("shapes", {})[signal] = list(shape)
            if neurons is not None:
                told.setdefault("neurons", {})[signal] = list(neurons)

    def tell(self, told: Mapping[str, Any]) -> None:
        """Take what is known of the step that goes on."""
        with self.lock:
            self._open.told.update(told)

    def snapshot(self) -> list[Frame]:
        """The frames as they are now, the oldest first; none of them changes any more.

        What has not been settled is not among them: whoever holds a lock of their own settles before they take it, for
        that waits for the probes' turn.
        """
        with self.lock:
            held = [*self.frames, *([self._open] if self._open.entries or self._open.cut else [])]
            made = []
            for frame in held:
                frame.lent = True
                copy = Frame(frame.number)
                copy.entries, copy.told, copy.learned = list(frame.entries), dict(frame.told), frame.learned
                copy.nbytes, copy.cut = frame.nbytes, frame.cut
                made.append(copy)
            return made
