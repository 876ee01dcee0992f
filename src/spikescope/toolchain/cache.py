"""The kernels on disk: code that this process runs, so nobody else may have written it, and damage must be seen.

A folder is trusted if it, and all that leads to it, belongs to the user or to root and cannot be written to by others.
A library is kept with its name and a checksum of the whole behind its last byte. What is being made lies in a draft,
a folder that is locked by whoever works in it: the system frees the lock when a process dies, however it dies.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import stat
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "cache_folder",
    "distrust",
    "drafted",
    "is_cut",
    "kernel_folder",
    "open_library",
    "private_folder",
    "read_whole",
    "seal",
]

DIGEST = 64
"""Characters of the checksum, SHA-256 as text, at the end of a library."""

LARGEST = 1 << 28
"""Bytes of a library that are read; a kernel has some ten thousand."""

LINKS = 40
"""Symbolic links that are followed on the way to a folder, as many as Linux follows."""

STALE = 3600.0
"""Seconds after which a draft is taken for left behind on a file system that knows no locks."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$SPIKESCOPE_CACHE`, or `spikescope` in the user's cache folder."""
    given = os.environ.get("SPIKESCOPE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikescope"


def kernel_folder() -> Path:
    """The folder of kernels: that of the cache, or, with one warning, a private one where others could change it."""
    folder = cache_folder()
    reason = distrust(folder)
    if not reason:
        return folder
    _warn_once(folder, reason)
    return private_folder()


@cache
def _warn_once(folder: Path, reason: str) -> None:
    warnings.warn(
        f"The folder of compiled kernels, {folder}, is not used: {reason}. What lies there would run as this process. "
        "Kernels are compiled anew in each process until that is mended, or SPIKESCOPE_CACHE names another folder.",
        RuntimeWarning,
        stacklevel=3,
    )


def distrust(folder: Path, make: bool = True) -> str:
    """Why others could bring code of theirs into a folder, which is made if it may be; empty if they cannot.

    >>> distrust(Path("/")), distrust(Path("/dev/null"))
    ('', '/dev/null is not a folder')
    """
    try:
        if make:
            _make(folder)
        if folder.is_symlink():
            return f"it is a symbolic link to {os.readlink(folder)}"
        return next(filter(None, (_weakness(place, place == folder) for place in _way_to(folder))), "")
    except FileNotFoundError:
        return ""  # nothing is there to be trusted, and nothing can be made
    except NotADirectoryError:
        return f"a part of {folder} is not a folder"
    except OSError as error:
        return f"it cannot be looked at: {(error.strerror or str(error)).lower()}"


def _make(folder: Path) -> None:
    """Make a folder and those above it, for the user alone; where that is impossible, another kind of place is used."""
    missing = [place for place in (folder, *folder.parents) if not place.exists() and not place.is_symlink()]
    for place in reversed(missing):
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:  # by another process, just now
            pass
        except OSError:  # a file system that is read only, or full
            return


def _way_to(folder: Path) -> Iterator[Path]:
    """All that leads to a folder, and the folder: whoever owns or may change one of these decides what lies there."""
    place, links = Path("/"), 0
    todo = list(reversed(folder.absolute().parts[1:]))
    yield place
    while todo:
        part = todo.pop()
        entry = place.parent if part == ".." else place / part
        yield entry
        if not entry.is_symlink():
            place = entry
            continue
        links += 1
        if links > LINKS:
            raise OSError(f"too many symbolic links lead to {folder}")
        target = Path(os.readlink(entry))
        place = Path("/") if target.is_absolute() else place
        todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _weakness(place: Path, last: bool) -> str:
    """What lets others change a place on the way to a folder, or the folder itself, the `last`; empty for nothing."""
    held = place.lstat()
    if stat.S_ISLNK(held.st_mode):
        return "" if _is_ours(held, last) else f"the link {place} belongs to the user {held.st_uid}"
    if not stat.S_ISDIR(held.st_mode):
        return f"{place} is not a folder"
    if not _is_ours(held, last):
        return f"{place} belongs to the user {held.st_uid}, not to you (chown)"
    sticky = held.st_mode & stat.S_ISVTX and not last  # as /tmp: what is in there can be replaced by its owner alone
    if held.st_mode & 0o022 and not sticky:
        return f"{place} can be written to by others (chmod go-w)"
    return ""


def _is_ours(held: os.stat_result, last: bool = True) -> bool:
    """Whether something belongs to the user or to root; on the way there to the owner of `/`, who can do all anyway.

    In a container without root of its own that is another number.
    """
    return held.st_uid in (os.geteuid(), 0) or (not last and held.st_uid == os.stat("/").st_uid)


@cache
def private_folder() -> Path:
    """A folder that lasts as long as the process, where the cache cannot be used."""
    import atexit

    parent = tempfile.gettempdir()
    _sweep(parent, "spikescope-")
    made, process = _new_draft(parent, "spikescope-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:  # a process that forked from it leaves it alone
            shutil.rmtree(made.path, ignore_errors=True)

    atexit.register(remove)
    return made.path


class _Draft(NamedTuple):
    """A folder of one process, and the lock that says that it is in use."""

    path: Path
    lock: int


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` to work in, gone at the end; those that killed processes left go now."""
    _sweep(folder, "draft-")
    made = _new_draft(folder, "draft-")
    try:
        yield made.path
    finally:
        _remove(made.path)
        os.close(made.lock)


def _new_draft(parent: str | Path, prefix: str) -> _Draft:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # swept away between its making and its lock
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if _locked(lock) is False or not path.exists():
                os.close(lock)
                continue
            return _Draft(path, lock)


def _locked(folder: int) -> bool | None:
    """Whether an open folder is locked now; None where the file system knows no locks."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _sweep(folder: str | Path, prefix: str) -> None:
    """Remove the drafts whose processes have ended."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(prefix):
                _remove_if_left(Path(folder) / name)


def _remove_if_left(path: Path) -> None:
    import time

    with suppress(OSError):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            held, free = os.fstat(folder), _locked(folder)
            left = free or (free is None and time.time() - held.st_mtime > STALE)
            if left and held.st_uid == os.geteuid():
                _remove(path)
        finally:
            os.close(folder)


def _remove(path: Path) -> None:
    """Delete a draft, in which a compiler that outlived its process may still write."""
    for _ in range(3):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return


def seal(path: Path, name: str) -> None:
    """Close a library: from now on it says what it is, and that it is whole; and nobody else writes to it."""
    content = path.read_bytes() + name.encode()
    with path.open("ab") as file:
        file.write(name.encode() + hashlib.sha256(content).hexdigest().encode())
    path.chmod(0o700)


def is_cut(content: bytes) -> bool:
    """Whether a library of 64 bits ends before its segments or its sections do: loading it ends the process."""
    if content[:6] != b"\x7fELF\x02\x01":
        return False  # the loader refuses what it does not know
    if len(content) < 64:
        return True
    segments, sections = struct.unpack_from("<QQ", content, 32)
    size, count, section_size, section_count = struct.unpack_from("<HHHH", content, 54)
    if max(segments + size * count, sections + section_size * section_count) > len(content):
        return True
    held = (struct.unpack_from("<8xQ16xQ", content, segments + i * size) for i in range(count))
    return any(start + length > len(content) for start, length in held)


def open_library(folder: Path, name: str) -> ctypes.CDLL | None:
    """Load a library that is whole and of nobody else; None if there is none. An OSError if it cannot be run.

    The folder is held open from the look at the file to its loading, and the path to it goes through what is held:
    whatever is put in its place meanwhile is neither looked at nor loaded. The name, which is one of the content, is
    the end of that path, because a loader takes an equal path for the library that it has.
    """
    opened = _open_folder(folder)
    try:
        if _whole(opened, f"{name}.so", name) is None:
            return None
        through = Path(f"/proc/self/fd/{opened}")
        return ctypes.CDLL(str((through if through.exists() else folder) / f"{name}.so"))
    finally:
        os.close(opened)


def _open_folder(folder: Path) -> int:
    """Open a folder, and look at what was opened: it is trusted by itself."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    held = os.fstat(opened)
    if _is_ours(held) and not held.st_mode & 0o022:
        return opened
    os.close(opened)
    raise PermissionError(f"others may write to {folder}")


def read_whole(folder: Path, name: str) -> bytes | None:
    """What `seal` closed in the file `<name>.note`, under the rules of a library; None if there is no such file."""
    opened = _open_folder(folder)
    try:
        return _whole(opened, f"{name}.note", name)
    finally:
        os.close(opened)


def _whole(folder: int, file: str, name: str) -> bytes | None:
    """What a file of an open folder held when `seal` closed it; None if it is not as it was then.

    Loading a damaged library ends the process, or worse.
    """
    try:
        found = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    with open(found, "rb") as opened:
        held = os.fstat(found)
        if not stat.S_ISREG(held.st_mode) or not _is_ours(held) or held.st_mode & 0o022 or held.st_size > LARGEST:
            return None
        content = opened.read(LARGEST + 1)
    body, digest = content[:-DIGEST], content[-DIGEST:]
    whole = body.endswith(name.encode()) and hashlib.sha256(body).hexdigest().encode() == digest
    return body.removesuffix(name.encode()) if whole else None
