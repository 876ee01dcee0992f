"""A recording on disk, opened: the heads of its files say what is in it; values are read where they are cut."""

from __future__ import annotations

import gc
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import check_choice
from ...files import open_regular
from ...spikes import PackedSpikes
from ..events import Whole
from ..held import Held
from ..records import Moment
from ..shape import StoredRecording
from ..signal import Layer, Piece, Signal
from ..steps import chosen_steps
from .grid import Grid
from .head import HEAD, read_head
from .lock import Holder, holder
from .segment import Chunk
from .spill import NAME, SUFFIX

__all__ = ["OpenedRecording", "open_recording"]

Values = Tensor | PackedSpikes

AT_MOST = 1 << 24
"""Files that a head may speak of."""


def open_recording(path: str | os.PathLike[str], damaged: str = "tell") -> OpenedRecording:
    """What `monitor.record(net, ..., to=path)` wrote, or writes: the name of a module to its signals.

    The heads of its files are read, which say where everything lies; nothing else is before it is asked for. Folders of
    recorders with the policy `'spill'` are read too; their signals are named `'record'`.

    - `damaged`: `'tell'` warns of files that cannot be read, leaves them out, and refuses a value that is not as it was
      written where it is read. `'skip'` reads everything once, and leaves such values out too. What is damaged stands
      in `recording.damage`.

    >>> import tempfile
    >>> net = nn.Sequential(spikescope.neuron.IFNode(step_mode="m"))
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with spikescope.monitor.record(net, "spike", to=f"{place}/run.spk"):
    ...         _ = net(torch.full((4, 1, 3), 0.5))
    ...     found = open_recording(f"{place}/run.spk")
    ...     found["0"]["spike"].read(run=0, neuron=1).flatten()
    tensor([0., 1., 0., 1.])
    """
    check_choice("open_recording", "damaged", damaged, ("tell", "skip"))
    made = OpenedRecording(Path(path), damaged == "skip")
    if made.damage:
        warnings.warn(
            f"{path} is damaged; what is whole can be read. {' '.join(made.damage)}", RuntimeWarning, stacklevel=2
        )
    return made


class OpenedRecording(StoredRecording):
    """What `open_recording` gives. It may be growing still: `refresh()` takes up what has come since."""

    def __init__(self, path: Path, skip: bool) -> None:
        self.path = path
        self._skip = skip
        self._read: set[str] = set()  # the files
        self._pieces: dict[str, dict[str, list[Piece]]] = {}
        self._told: dict[int, dict[str, Any]] = {}
        self._signals = False  # whether there are records that only a recording has
        _check_folder(path)
        super().__init__({}, {}, [], ())
        if not self.refresh():
            self._read_head()
            self._check_numbers()
            self._arrange()

    def _read_head(self) -> None:
        if (self.path / HEAD).exists():
            try:
                self.head = read_head(self.path)
            except (OSError, ValueError) as error:
                self._tell(str(error))
        elif self._signals:
            self._tell(f"{self.path / HEAD} is missing.")

    def _tell(self, words: str) -> None:
        if words not in self.damage:
            self.damage.append(words)

    @property
    def writer(self) -> Holder | None:
        """Whose process writes it, or was ended before it was closed; None of a closed one."""
        return holder(self.path)

    def refresh(self) -> bool:
        """Take up what was written since; whether something was."""
        paths = sorted(path for path in self.path.iterdir() if path.suffix == SUFFIX and path.name not in self._read)
        for path in paths:
            self._read.add(path.name)
            if not NAME.fullmatch(path.name):
                self._tell(f"{path} is not named as a writer names its files.")
                continue
            try:
                with _uncollected():
                    self._take(path)
            except (OSError, ValueError) as error:
                self._tell(str(error).split(" open_records(")[0])
        if paths:
            self._read_head()  # which knows more once values have come
            self._check_numbers()
            self._arrange()
        return bool(paths)

    def _check_numbers(self) -> None:
        found = Counter(int(name.split("-")[0]) for name in self._read if NAME.fullmatch(name))
        stated = self.head.get("files", 0)  # a closed recording says how many there are
        stated = stated if type(stated) is int else 0
        count = max(stated, max(found, default=-1) + 1)
        missing = [number for number in range(min(count, AT_MOST)) if number not in found]
        strange = [number for number, files in found.items() if self._signals and (files > 1 or 0 < stated <= number)]
        for numbers, words in ((missing, "are missing"), (strange, "came from elsewhere, or more than once")):
            if numbers:
                shown = ", ".join(map(str, sorted(numbers)[:8]))
                self._tell(f"Of the files in {self.path} those with the numbers {shown} {words}.")

    def _take(self, path: Path) -> None:
        chunk = Chunk(path)
        whole = set(chunk.whole()) if self._skip else None
        if whole is not None and len(whole) < len(chunk):
            gone = ", ".join(str(number) for number in range(len(chunk)) if number not in whole)
            self._tell(f"{path}: of {len(chunk)} records those with the numbers {gone}.")
        for number, moment, grid, size in chunk.grids():
            if whole is not None and number not in whole:
                continue
            if grid is None:
                self._take_plain(chunk, number, moment, size)
                continue
            if moment.start is None:
                raise ValueError(f"{path} is damaged: record {number} of a signal has no step.")
            piece = Stored(chunk.cutter(number), number, moment, grid)
            self._signals = True
            self._pieces.setdefault(moment.name, {}).setdefault(grid.signal, []).append(piece)
        for note in chunk.notes:
            self._told.setdefault(note["run"], {}).update(note)

    def _take_plain(self, chunk: Chunk, number: int, moment: Moment, size: int) -> None:
        """A record of a recorder: a call whose value is not cut. Without known steps, a call is a run."""
        run = moment.call if moment.start is None else moment.run
        piece = Plain(chunk.path, number, size, run, moment)
        self._pieces.setdefault(moment.name, {}).setdefault("record", []).append(piece)

    def _arrange(self) -> None:
        """Signals and layers of all pieces: those of the head first, in its order."""
        about: Mapping[str, Any] = self.head.get("layers", {})
        about = about if isinstance(about, dict) else {}
        lost, chosen = " See recording.damage." if self.damage else "", chosen_steps(self.head)
        layers = {}
        for name in dict.fromkeys([*about, *self._pieces]):
            held, told = self._pieces.get(name, {}), about.get(name, {})
            fitting = {
                signal: numbers
                for signal, numbers in told.get("neurons", {}).items()
                if self._fit(name, signal, numbers)
            }
            known = dict.fromkeys([*told.get("signals", []), *held])
            signals = {
                signal: Signal(name, signal, held.get(signal, ()), fitting.get(signal), lost, chosen)
                for signal in known
            }
            layers[name] = Layer(name, signals, told)
        self._layers = layers
        self.notes[:] = [self._told[run] for run in sorted(self._told)]

    def _fit(self, name: str, signal: str, numbers: list[int]) -> bool:
        """Whether the head names as many neurons of a signal as the files hold; else it is told."""
        held = self._pieces.get(name, {}).get(signal, ())
        sizes = {math.prod(piece.neuron_shape) for piece in held if isinstance(piece, Stored)}
        if not sizes <= {len(numbers)}:
            self._tell(
                f"{self.path / HEAD} names {len(numbers)} neurons of {signal!r} of {name!r}, but the files hold "
                f"{' and '.join(map(str, sorted(sizes)))}."
            )
        return sizes <= {len(numbers)}

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenedRecording, (self.path, self._skip)


@contextmanager
def _uncollected() -> Iterator[None]:
    """The collector of cycles, which looks at all that a head becomes again and again and finds none, has a break."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class Stored:
    """A piece that is tiles in a file."""

    __slots__ = ("file", "grid", "name", "number", "place", "run", "seed", "start")

    def __init__(self, cutter: tuple[Path, int, int], number: int, moment: Moment, grid: Grid) -> None:
        self.file, self.place, self.seed = cutter
        self.number, self.name, self.grid = number, moment.name, grid
        self.run, self.start = moment.run, moment.start or 0

    @property
    def packed(self) -> bool:
        return self.grid.packed

    @property
    def dtype(self) -> torch.dtype:
        return self.grid.dtype

    @property
    def steps(self) -> int:
        return self.grid.shape[0]

    @property
    def samples(self) -> int:
        return self.grid.shape[1]

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        return self.grid.shape[2:]

    @property
    def nbytes(self) -> int:
        return self.grid.nbytes

    def read(self, steps: range, samples: range, neurons: Whole | None) -> Values:
        with open_regular(self.file) as file:
            held = file.fileno()

            def part(start: int, size: int) -> bytes:
                found = os.pread(held, size, self.place + start)
                if len(found) != size:
                    raise ValueError("its end is missing")
                return found

            try:
                return self.grid.read(part, self.seed, steps, samples, neurons)
            except ValueError as error:
                raise ValueError(
                    f"{self.file} is damaged: record {self.number} ({self.name!r}): {error}. "
                    "open_recording(path, damaged='skip') leaves it out; the other records can be read."
                ) from error


class Plain:
    """A piece that is a record of a recorder, read as a whole."""

    def __init__(self, file: Path, number: int, size: int, run: int, moment: Moment) -> None:
        self.file, self.number, self.nbytes, self.run, self.moment = file, number, size, run, moment
        self.start = moment.start or 0
        self._shape: tuple[int, ...] | None = None

    def _held(self) -> Held:
        value = Chunk(self.file).read(self.number)
        if not isinstance(value, (Tensor, PackedSpikes)):
            raise TypeError(
                f"Record {self.number} of {self.file} is a {type(value).__name__}, and no tensor; open_records(folder) "
                "reads it."
            )
        moment = self.moment
        steps = None if moment.start is None or moment.stop is None else moment.stop - moment.start
        timed = len(value.shape) > 1 and tuple(value.shape[:2]) == (steps, moment.batch)
        if isinstance(value, Tensor) and not timed:
            value = value.reshape(1, *(value.shape if value.ndim else (1,)))
        return Held(self.run, self.start, value)

    def _of(self) -> tuple[int, ...]:
        if self._shape is None:
            held = self._held()
            self._shape = (held.steps, held.samples, *held.neuron_shape)
            self._dtype, self._packed = held.dtype, held.packed
        return self._shape

    @property
    def packed(self) -> bool:
        self._of()
        return self._packed

    @property
    def dtype(self) -> torch.dtype:
        self._of()
        return self._dtype

    @property
    def steps(self) -> int:
        return self._of()[0]

    @property
    def samples(self) -> int:
        return self._of()[1]

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        return self._of()[2:]

    def read(self, steps: range, samples: range, neurons: Whole | None) -> Values:
        return self._held().read(steps, samples, neurons)


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError(f"open_recording: {path} is a file, and a recording is a folder.")
    if not path.is_dir():
        raise FileNotFoundError(f"open_recording: there is no folder {path}.")
    entries = [entry for entry in path.iterdir() if entry.name == HEAD or entry.suffix == SUFFIX]
    inside = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    if not entries:
        hint = f" It has folders; open one of them: {', '.join(inside[:8])}." if inside else ""
        raise ValueError(f"open_recording: {path} is no recording: there is no {HEAD} in it.{hint}")
