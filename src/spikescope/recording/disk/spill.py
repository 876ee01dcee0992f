"""Records beyond the memory: what is over the budget of a recorder goes to files and is read back from there."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
import warnings
import weakref
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from ...errors import check_choice
from ...files import OutputError
from ..budget import Budget, nbytes
from ..records import Moment, Records
from .segment import Chunk, check_record, write_chunk

__all__ = ["SpilledRecords", "open_records", "records_within"]

SUFFIX = ".records"
NAME = re.compile(r"[0-9]{8,}-[0-9]+\.records")
AT_MOST = 1 << 14
"""Records in a file: the head of the file, which says where each belongs, has to fit into memory as well."""


def records_within(budget: Budget, keep_graph: bool = False) -> Records | SpilledRecords:
    """No records yet, to be kept by the rules of a budget."""
    if budget.policy != "spill":
        return Records(budget)
    if keep_graph:
        raise ValueError("A graph cannot go to disk: with keep_graph=True choose another policy than 'spill'.")
    return SpilledRecords(budget)


def open_records(folder: str | os.PathLike[str], damaged: str = "error") -> SpilledRecords:
    """The records that a recorder with the policy `'spill'` wrote to its folder, which its `records.folder` names.

    It may be running still, or have been killed: all files that it finished are read.

    - `damaged`: what becomes of files and records that are not as they were written, or are none of ours. `'error'`: a
      ValueError that names them, of a file here, of a record where it is read. `'skip'`: they are left out, with one
      warning that names them; all that is there is read for that once.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     net = nn.Identity()
    ...     with spikescope.monitor.OutputMonitor(net, budget=Budget(8, "spill", place)) as monitor:
    ...         _ = [net(torch.tensor([float(i)])) for i in range(5)]
    ...     found = open_records(monitor.records.folder)
    ...     found[:], found.moments[-1].call
    ([tensor([0.]), tensor([1.]), tensor([2.]), tensor([3.]), tensor([4.])], 4)
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"open_records: there is no folder {place}.")
    check_choice("open_records", "damaged", damaged, ("error", "skip"))
    paths = sorted(path for path in place.iterdir() if path.suffix == SUFFIX)
    inside = sorted(path.name for path in place.iterdir() if path.is_dir())
    if not paths and inside:
        raise ValueError(
            f"open_records: {place} holds no records, but folders; open one of them: {', '.join(inside[:8])}."
        )
    made = SpilledRecords(Budget(1, "spill"), opened=True)
    made.folder = place
    lost = made.add_files(paths, skip=damaged == "skip")
    if lost:
        warnings.warn(
            f"open_records left out what is damaged in {place}: {' '.join(lost)}", RuntimeWarning, stacklevel=2
        )
    return made


def _check_numbers(paths: Sequence[Path]) -> None:
    """Refuse files that are not numbered as a recorder numbers them."""
    for path in paths:
        if not NAME.fullmatch(path.name):
            raise ValueError(
                f"open_records: {path} is not named as a recorder names its files, as 00000000-4711{SUFFIX}. If it is "
                "none of its files, move it away."
            )
    numbers = [int(path.name.split("-")[0]) for path in paths]
    if numbers != list(range(len(paths))):
        raise ValueError(
            f"open_records: the files in {paths[0].parent} should be numbered from 0 without a gap, but are {numbers}. "
            "A file was removed, or a process that forked after the recorder was made wrote here too. "
            "open_records(folder, damaged='skip') reads those that are there."
        )


class SpilledRecords(Sequence[Any]):
    """The values of a recorder in the order in which they came, the latest in memory, those before on disk.

    A sequence to read, to slice and to clear. It is no list: a value is read from disk each time it is asked for, and
    `records[:]` reads all of them. `moments` says of each value where it belongs. A copy of records,
    and what is saved of them, is a plain list of all values, for the files may go away.
    """

    dropped = 0

    def __init__(self, budget: Budget, opened: bool = False) -> None:
        self.budget = budget
        self.folder: Path | None = None
        self._opened = opened
        self._held: list[Any] = []
        self._held_moments: list[Moment] = []
        self.nbytes = 0  # in memory
        self._paths: list[Path] = []
        self._whole: dict[Path, list[int]] = {}  # of files with damaged records the numbers of the others
        self._ends: list[int] = []  # how many records there are up to the end of each file
        self._chunk: Chunk | None = None  # that was read last
        self._finalizer: weakref.finalize[[Path, int], SpilledRecords] | None = None
        if budget.folder is not None:
            self.folder = _new_folder(Path(budget.folder))

    def keep(self, value: Any, moment: Moment) -> None:
        """Take a value; where it is over the budget, what was held before goes to disk first."""
        if self._opened:
            raise TypeError("Records that were opened are read only.")
        check_record(value)
        size, limit = nbytes(value), self.budget.bytes or 0
        over = bool(self._held) and (self.nbytes + size > limit or len(self._held) >= AT_MOST)
        try:
            if over:
                self.flush()
        finally:  # where the disk is full, this one stays in memory with the others
            self._held.append(value)
            self._held_moments.append(moment)
            self.nbytes += size
        if size > limit:
            self.flush()

    def flush(self) -> None:
        """Move all that is in memory to disk. Where that fails, it stays in memory, and an OutputError tells why."""
        if not self._held:
            return
        try:
            folder = self._place()
            path = folder / f"{len(self._paths):08d}-{os.getpid()}{SUFFIX}"
            write_chunk(path, self._held, self._held_moments)
        except OutputError as error:
            raise OutputError(
                f"{error} {self.on_disk} records are on disk in {self.folder}. Those from number {self.on_disk} on are "
                "in memory alone, as long as the process lives; incomplete_records() has all of them, and its flush() "
                "tries again. What comes after this is not recorded."
            ) from error
        self._paths.append(path)
        self._ends.append(self.on_disk + len(self._held))
        self._held, self._held_moments, self.nbytes = [], [], 0

    def _place(self) -> Path:
        if self.folder is None:
            self.folder = _new_folder(Path(tempfile.gettempdir()))
            self._finalizer = weakref.finalize(self, _remove, self.folder, os.getpid())
        return self.folder

    def add_files(self, paths: Sequence[Path], skip: bool) -> list[str]:
        """Read on from files that are there; with `skip` without what is damaged, of which the words come back."""
        lost: list[str] = []
        if not skip:
            _check_numbers(paths)
        old = []
        for path in paths:
            try:
                chunk = Chunk(path)
            except ValueError as error:
                if not skip:
                    raise
                lost.append(str(error))
                continue
            old += [] if chunk.has_sums else [path]
            count = len(chunk)
            if skip and len(found := chunk.whole()) < count:
                gone = sorted(set(range(count)) - set(found))
                lost.append(f"{path}: of {count} records those with the numbers {', '.join(map(str, gone))}.")
                self._whole[path], count = found, len(found)
            self._paths.append(path)
            self._ends.append(self.on_disk + count)
        if old:
            warnings.warn(
                f"{old[0]}{' and others' if old[1:] else ''} was written by an older version, without checksums: "
                "damage in its tensors cannot be seen.",
                RuntimeWarning,
                stacklevel=3,
            )
        return lost

    @property
    def on_disk(self) -> int:
        """How many records are on disk; these survive the end of the process, however it ends."""
        return self._ends[-1] if self._ends else 0

    @property
    def moments(self) -> list[Moment]:
        """Where each record belongs; read from disk at each call."""
        return list(itertools.chain(*(self._file(i).moments for i in range(len(self._paths))), self._held_moments))

    def _file(self, index: int) -> Chunk:
        path = self._paths[index]
        if self._chunk is None or self._chunk.path != path:
            self._chunk = Chunk(path, self._whole.get(path))
        return self._chunk

    def __len__(self) -> int:
        return self.on_disk + len(self._held)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        if place >= self.on_disk:
            return self._held[place - self.on_disk]
        file = bisect_right(self._ends, place)
        return self._file(file).read(place - (self._ends[file - 1] if file else 0))

    def of(self, name: str) -> list[Any]:
        """The records of one module, all in memory at once."""
        return [self[i] for i, moment in enumerate(self.moments) if moment.name == name]

    def close(self) -> None:
        """No more will come; in a folder that the user named, all records are on disk from now on."""
        if self.budget.folder is not None:
            self.flush()

    def clear(self) -> None:
        """Forget all records, those on disk too."""
        if self._opened:
            raise TypeError("Records that were opened are read only; delete their folder to be rid of them.")
        for path in reversed(self._paths):  # what a crash leaves can be opened
            path.unlink(missing_ok=True)
        self._paths, self._ends, self._chunk = [], [], None
        self._held, self._held_moments, self.nbytes = [], [], 0

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (self[:],)

    def __repr__(self) -> str:
        return f"SpilledRecords({len(self)} records, {self.on_disk} of them in {self.folder})"


def _new_folder(parent: Path) -> Path:
    """A folder that nobody else has."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="records-", dir=parent))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"Records cannot spill into {parent}: {reason}. Choose another folder.") from error


def _remove(folder: Path, process: int) -> None:
    """Delete the temporary folder of this process; a process that forked from it leaves it alone."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
