"""Writing a recording: values gather in memory, and go out as whole segments from a thread of their own."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...background import BackgroundThread
from ...files import OutputError, claim_folder
from ...spikes import PackedSpikes
from ..budget import Budget
from ..records import Moment
from .grid import Tiles
from .head import write_head
from .lock import LOCK, WriterLock, holder
from .segment import write_chunk
from .spill import SUFFIX

__all__ = ["Writer"]

Values = Tensor | PackedSpikes

FILL = 8 << 20
"""Bytes of a segment: large enough to be written at the speed of a disk, small enough to lose."""
AT_MOST = 1 << 14
"""Values of a segment: its head has to fit into memory as well."""


class _Batch:
    """What becomes one segment."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[tuple[Moment, Values]]] = {}
        self.notes: list[dict[str, Any]] = []
        self.nbytes = self.count = 0

    def __bool__(self) -> bool:
        return bool(self.values or self.notes)

    def add(self, signal: str, values: Values, moment: Moment) -> None:
        self.values.setdefault((moment.name, signal), []).append((moment, values))
        self.nbytes += values.nbytes
        self.count += 1

    def write(self, path: Path) -> None:
        """Write all of it, neighbours in time as one record."""
        values, moments = [], []
        for (_, signal), held in self.values.items():
            for moment, joined in _joined(held):
                values.append(Tiles(signal, joined))
                moments.append(moment)
        write_chunk(path, values, moments, self.notes)


class Writer:
    """Takes values `[t, n, *F]`, and has them on disk in `folder`, which is new, or empty, and its own.

    - `head`: what `recording.json` says.
    - `sync_every`: seconds after which, or a text such as `'1 MB'` of bytes by which, what came is on disk at the
      latest. None writes where 8 MB have gathered.
    - `fill`: bytes that gather. Twice as many are in memory at most, and one value where it is larger.

    What comes is the writer's own from then on. A thread writes; `flush()` waits until all is on disk, and what was on
    disk survives the end of the process, however it ends. Where the disk is full, nothing that is in memory is lost.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        head: Mapping[str, Any],
        sync_every: float | str | None = None,
        fill: int = FILL,
    ) -> None:
        self._seconds, most = _intervals(sync_every)
        self.fill = min(fill, most or fill)
        self.home = torch.device("cpu")  # where values are wanted
        self.path = _claimed(Path(folder))
        self._lock = WriterLock(self.path)
        self._head = copy.deepcopy(dict(head))
        self._news = False  # whether the head on disk lacks something
        try:
            write_head(self.path, self._head)
        except BaseException:
            self._lock.release()
            raise
        self.process = os.getpid()
        self.given = self.on_disk = self.nbytes = 0  # values that came, that are on disk; bytes that are
        self.error: OutputError | None = None
        self._files = 0
        self._open, self._waiting, self._since = _Batch(), _Batch(), time.monotonic()
        self._ended = False
        self._state = threading.Condition()
        self._thread = BackgroundThread(target=self._work, name="spikescope recording", daemon=True)
        self._thread.start()

    def keep(self, signal: str, values: Values, moment: Moment) -> None:
        """Take a value; where too much has gathered, wait for the disk. An OutputError where that has failed."""
        with self._mine():
            self._check()
            self._open.add(signal, values, moment)
            self.given += 1
            if self._open.nbytes >= self.fill or self._open.count >= AT_MOST:
                self._hand_over()
                self._check()

    def learn(self, name: str, signal: str, shape: Sequence[int], neurons: Sequence[int] | None) -> None:
        """Take what a first value shows: the axes of a sample, and which neurons of these are recorded."""
        with self._mine():
            told = self._head["layers"].setdefault(name, {})
            told.setdefault("shapes", {})[signal] = list(shape)
            if neurons is not None:
                told.setdefault("neurons", {})[signal] = list(neurons)
            self._news = True

    def note(self, run: int, told: Mapping[str, Any]) -> None:
        """Take what is known of a run."""
        with self._mine():
            self._check()
            self._open.notes.append({"run": run, **told})

    def flush(self) -> None:
        """Return when all that came is on disk. Where that fails it stays in memory; another call tries again."""
        with self._mine():
            self.error = None
            self._state.notify_all()
            self._drain()
            if self._open:
                self._hand_over()
                self._drain()
            if self.error is not None:
                raise self.error

    def close(self) -> None:
        """Have all on disk, and leave the folder to readers. A second time does nothing."""
        if self._ended or os.getpid() != self.process:
            return
        self.flush()
        with self._state:
            self._ended = True
            self._state.notify_all()
        self._thread.join()
        write_head(self.path, {**self._head, "files": self._files})  # so that a reader misses the last one as well
        self._lock.release()

    def abandon(self) -> None:
        """Stop without what is in memory. What is on disk stays, and nobody is its writer."""
        if self._ended or os.getpid() != self.process:
            return
        with self._state:
            self._ended, self._open, self._waiting = True, _Batch(), _Batch()
            self._state.notify_all()
        self._thread.join()
        self._lock.release()

    def _mine(self) -> threading.Condition:
        if os.getpid() != self.process:
            raise RuntimeError(
                f"The recording {self.path} belongs to the process {self.process}, and this one was forked from it: "
                "begin a recording in a folder of its own here."
            )
        return self._state

    def _check(self) -> None:
        if self._ended:
            raise ValueError(f"The recording {self.path} is closed.")
        if self.error is not None:
            raise self.error

    def _drain(self) -> None:
        while self._waiting and self.error is None:
            self._state.wait()

    def _hand_over(self) -> None:
        """Leave what has gathered to the thread, once it is done with what it has."""
        self._drain()
        if self.error is None:
            self._waiting, self._open, self._since = self._open, _Batch(), time.monotonic()
            self._state.notify_all()

    def _work(self) -> None:
        while True:
            with self._state:
                while not self._waiting or self.error is not None:
                    if self._ended:
                        return
                    self._state.wait(self._patience())
                    if not self._waiting and self.error is None and self._open and self._late() <= 0:
                        self._waiting, self._open, self._since = self._open, _Batch(), time.monotonic()
                batch = self._waiting
            error, size = None, 0
            try:
                size = self._write(batch)
            except OutputError as met:
                error = met
            except Exception as met:  # nothing of a thread is lost in silence
                error = OutputError(f"{self.path} could not be written: {type(met).__name__}: {met}.")
                error.__cause__ = met
            with self._state:
                if error is None:
                    self.on_disk, self.nbytes, self._waiting = self.on_disk + batch.count, self.nbytes + size, _Batch()
                else:
                    self.error = self._told(error)
                self._state.notify_all()

    def _late(self) -> float:
        """Seconds until what has gathered has to go out."""
        return 1.0 if self._seconds is None else self._since + self._seconds - time.monotonic()

    def _patience(self) -> float | None:
        return None if self._seconds is None else max(0.01, self._late() if self._open else self._seconds)

    def _write(self, batch: _Batch) -> int:
        if self._news:
            with self._state:
                head, self._news = copy.deepcopy(self._head), False
            write_head(self.path, head)
        path = self.path / f"{self._files:08d}-{self.process}{SUFFIX}"
        batch.write(path)
        self._files += 1
        return path.stat().st_size

    def _told(self, error: OutputError) -> OutputError:
        made = OutputError(
            f"{error} {self.on_disk} of {self.given} values are on disk in {self.path}. The others are in memory "
            "alone, as long as the process lives; flush() tries again. What comes after this is not recorded."
        )
        made.__cause__ = error
        return made


def _claimed(folder: Path) -> Path:
    """A folder that is new or empty; words where it holds a recording."""
    if folder.is_dir() and (folder / LOCK).exists():
        raise OutputError(
            f"{folder} is a recording of {holder(folder) or 'another writer'}. Choose a new folder; "
            "open_recording(path) reads what is there."
        )
    return claim_folder(folder)


def _intervals(given: float | str | None) -> tuple[float | None, int | None]:
    """Seconds, and bytes."""
    if given is None:
        return None, None
    if isinstance(given, str):
        return None, Budget(given).bytes
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise ValueError(f"sync_every is a number of seconds above 0, or bytes as '1 MB', but got {given!r}.")
    return float(given), None


def _joined(held: list[tuple[Moment, Values]]) -> list[tuple[Moment, Values]]:
    """Neighbours in time as one value."""
    held = sorted(held, key=lambda one: (one[0].run, one[0].start or 0))  # gradients come backwards
    groups: list[list[tuple[Moment, Values]]] = []
    for moment, values in held:
        if groups and _fits(groups[-1][-1], (moment, values)):
            groups[-1].append((moment, values))
        else:
            groups.append([(moment, values)])
    made = []
    for group in groups:
        parts = [values for _, values in group]
        moment = group[0][0]._replace(stop=group[-1][0].stop)
        if len(parts) == 1:
            made.append((moment, parts[0]))
        elif isinstance(parts[0], PackedSpikes):
            made.append((moment, PackedSpikes.concat([part for part in parts if isinstance(part, PackedSpikes)])))
        else:
            made.append((moment, torch.cat([part for part in parts if isinstance(part, Tensor)])))
    return made


def _fits(before: tuple[Moment, Values], after: tuple[Moment, Values]) -> bool:
    (first, left), (then, right) = before, after
    return (
        (first.run, first.stop) == (then.run, then.start)
        and type(left) is type(right)
        and left.shape[1:] == right.shape[1:]
        and left.dtype == right.dtype
    )
