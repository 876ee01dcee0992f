"""Conversions of many files: in processes, each file whole or not at all, going on where a killed one stopped.

A folder is built under another name, `<name>.part`, and takes its own when everything is in it.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import re
import shutil
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..events import StoredPath
from ..faults import ConversionError
from .settings import workers
from .storage import np_savez

__all__ = ["Job", "convert_files", "run_jobs", "under_construction"]

Job = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""

Failure = tuple[str, str]
"""The file that could not be converted, and why."""

SHOWN = 8  # kinds of failures that an error names


@contextmanager
def under_construction(target: Path) -> Iterator[Path | None]:
    """The folder in which `target` is built, for one process at a time; None where it is there already.

    It becomes `target` when the block ends well; otherwise it stays, and the next one goes on with it.
    """
    marker = target.with_name(f"{target.name}.building")
    if marker.is_file():
        raise ConversionError(
            f"{marker} says that SpikingJelly began to fill {target} and was interrupted. Delete both, and they are "
            "made anew."
        )
    if target.exists():
        yield None
        return
    draft = target.with_name(f"{target.name}.part")
    held = None
    try:
        draft.mkdir(parents=True, exist_ok=True)
        held = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, FileNotFoundError):
        if not target.exists():  # else another process was done at this moment, and the draft has become the target
            raise
    if held is None:
        yield None
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # another process that builds it is waited for
        if target.exists():
            yield None
            return
        _drop_torn(draft)
        yield draft
        draft.rename(target)
    finally:
        os.close(held)


def _drop_torn(draft: Path) -> None:
    """Delete what a conversion that was broken off left half: drafts of files, and files that a power cut tore."""
    for folder, _, files in os.walk(draft):
        for path in (Path(folder, file) for file in files):
            unfinished = path.name.startswith(".") and ".npz." in path.name
            if unfinished or (path.suffix == ".npz" and not path.is_symlink() and not zipfile.is_zipfile(path)):
                path.unlink()


def convert_files(
    load: Callable[[StoredPath], Any], files: Sequence[tuple[StoredPath, StoredPath]], what: str = "recordings"
) -> None:
    """Read each source with `load` and save what it gives, arrays by name, as the .npz file beside it in `files`.

    Files that are there already are passed over; of sources for the same file the first is taken, and the others told.
    """
    kept: dict[Path, StoredPath] = {}
    for source, made in files:
        kept.setdefault(Path(made), source)
    if left := [source for source, made in files if kept[Path(made)] != source]:
        warnings.warn(
            f"{len(left)} of {len(files)} {what} have the name of another of their class, and are left out, among them "
            f"{left[0]}. Rename them in {Path(left[0]).parent}, delete what was made, and all are converted.",
            stacklevel=2,
        )
    run_jobs([(_convert, (load, source, made)) for made, source in kept.items() if not made.exists()], what)


def _convert(load: Callable[[StoredPath], Any], source: StoredPath, made: Path) -> None:
    events = load(source)
    made.parent.mkdir(parents=True, exist_ok=True)
    np_savez(made, **{name: events[name] for name in ("t", "x", "y", "p")})


def run_jobs(jobs: Sequence[Job], what: str) -> None:
    """Run all jobs, in as many processes as are set, with a bar in a terminal; what fails is told when all are done."""
    count = min(workers(), len(jobs))
    inside = multiprocessing.current_process().daemon  # a worker of a loader may not start processes
    done = _serially(jobs) if count < 2 or inside else _in_processes(jobs, count)
    failures: list[Failure] = []
    began = time.monotonic()
    for number, failure in enumerate(done, 1):
        failures += [failure] if failure else []
        _show(number, len(jobs), what, began)
    if failures:
        raise ConversionError(
            f"{len(failures)} of {len(jobs)} {what} could not be converted:\n"
            + "\n".join(_told(failures))
            + "\nMend or remove these files; what is converted is kept, and the next call goes on from there."
        )


def _told(failures: Sequence[Failure]) -> Iterator[str]:
    """A line for each kind of failures, which are of one where they differ in the file and in numbers alone."""
    kinds: dict[str, list[Failure]] = {}
    for about, said in failures:
        kinds.setdefault(re.sub(r"\d+", "#", said.replace(about, "")), []).append((about, said))
    for (about, said), *more in list(kinds.values())[:SHOWN]:
        line = said if about in said else f"{about}: {said}"
        yield f"{line} ({len(more)} more fail so)" if more else line
    if left := sum(map(len, list(kinds.values())[SHOWN:])):
        yield f"... and {left} more"


def _serially(jobs: Sequence[Job]) -> Iterator[Failure | None]:
    for job in jobs:
        yield _attempt(*job)


def _in_processes(jobs: Sequence[Job], count: int) -> Iterator[Failure | None]:
    # forked: what converts may be a function of a script, or a lambda, which no other process could import
    context = multiprocessing.get_context("fork")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: ours touch NumPy alone
            with ProcessPoolExecutor(
                count, mp_context=context, initializer=_take_over, initargs=(jobs, os.getpid())
            ) as pool:
                chunk = max(1, min(32, len(jobs) // (8 * count)))
                yield from pool.map(_attempt_number, range(len(jobs)), chunksize=chunk)
    except BrokenProcessPool as error:
        raise ConversionError(
            "A process that converted was ended from outside, perhaps for want of memory. What is converted is kept; "
            "run it again, with fewer processes (SPIKESCOPE_DATASET_WORKERS=1) if it was memory."
        ) from error


_given: Sequence[Job] = ()  # in a forked process alone, which inherited its jobs: nothing of them has to be sent


def _take_over(jobs: Sequence[Job], parent: int) -> None:
    """Keep the jobs, and let this process end when its parent has, even if that was killed."""
    global _given
    _given = jobs

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _attempt_number(number: int) -> Failure | None:
    return _attempt(*_given[number])


def _attempt(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Failure | None:
    try:
        work(*arguments)
    except Exception as error:  # a file must not keep the others from being converted
        about = next((str(part) for part in arguments if isinstance(part, (str, Path))), "")
        return about, f"{type(error).__name__}: {error}"
    return None


def _show(number: int, whole: int, what: str, began: float) -> None:
    if not sys.stderr.isatty():
        return
    left = (time.monotonic() - began) / number * (whole - number)
    width = max(10, min(40, shutil.get_terminal_size().columns - 50))
    bar = "#" * (width * number // whole)
    end = "\n" if number == whole else ""
    print(f"\r{what} [{bar:<{width}}] {number}/{whole}, {left:.0f} s left  ", end=end, file=sys.stderr, flush=True)
