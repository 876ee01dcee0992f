"""Folders and files: claimed before the work starts, written whole or not at all. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "FolderLock",
    "LineFile",
    "OutputError",
    "append_line",
    "claim_folder",
    "draft",
    "drop_drafts",
    "open_regular",
    "sync_folder",
    "write_whole",
]


class OutputError(OSError):
    """An output folder or file that cannot be written."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def claim_folder(path: str | os.PathLike[str]) -> Path:
    """Make `path` an empty folder that can be written to, or say why that is impossible.

    A folder that already holds files is refused: two runs in one folder would mix their results.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     claim_folder(Path(place) / "runs" / "first").relative_to(place)
    PosixPath('runs/first')
    """
    folder = Path(path)
    blocking = next((part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()), None)
    if blocking is not None:
        raise OutputError(
            f"The output folder {folder} cannot be made: {blocking} is a file. Choose another folder, or move the file."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        held = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise OutputError(
            f"The output folder {folder} cannot be written: {_reason(error)}. Choose a folder that you may write to."
        ) from error
    if held:
        raise OutputError(
            f"The output folder {folder} already holds {held[0]}{' and more' if held[1:] else ''}. "
            "Choose a new folder, or empty this one."
        )
    return folder


class FolderLock:
    """A folder for one writer: another, in this process or in one beside it, is refused as long as this lives.

    The lock goes with the process, however it ends, and leaves no file behind. A file system without locks has none.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     lock = FolderLock(place)
    ...     try:
    ...         FolderLock(place)
    ...     except OutputError as error:
    ...         print(str(error).replace(place, "PLACE"))
    The output folder PLACE is being written to by another run. Choose a new folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise OutputError(f"The output folder {folder} cannot be read: {_reason(error)}.") from error
        self.release = weakref.finalize(self, os.close, held)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise OutputError(
                f"The output folder {folder} is being written to by another run. Choose a new folder."
            ) from None
        except OSError:
            pass


def write_whole(
    path: str | os.PathLike[str], content: bytes | str | Iterable[bytes | memoryview], sync: bool = True
) -> None:
    """Write a file so that a reader sees the old content or the new one, and never a part.

    - `content`: text, bytes, or parts that are written one after the other, for what is too large to copy.
    - `sync`: wait until it is on the disk, so that this holds where the power fails too.

    A symbolic link in the place of the file is replaced; what it leads to stays as it is.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_whole(Path(place) / "note.txt", "new")
    ...     (Path(place) / "note.txt").read_text()
    'new'
    """
    target = Path(path)
    draft = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}")  # nobody can have put a link there
    try:
        if target.exists() and not target.is_file():
            raise OutputError(f"{target} could not be written: it is there, and is not a file. Choose another name.")
        with open(draft, "xb") as file:
            parts = [content] if isinstance(content, (str, bytes)) else content
            file.writelines(part.encode() if isinstance(part, str) else part for part in parts)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(target)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{target} could not be written: {_reason(error)}.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}")


def drop_drafts(folder: str | os.PathLike[str]) -> None:
    """Empty a folder that holds nothing but what `write_whole` had not finished when its process was killed.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     (Path(place) / ".note.txt.0123456789abcdef").touch()
    ...     drop_drafts(place)
    ...     list(Path(place).iterdir())
    []
    """
    with suppress(OSError):
        drafts = list(Path(folder).iterdir())
        if drafts and all(_DRAFT.fullmatch(entry.name) and entry.is_file() for entry in drafts):
            lock = FolderLock(folder)  # whoever writes there at this moment keeps them
            try:
                for entry in drafts:
                    entry.unlink(missing_ok=True)
            finally:
                lock.release()


@contextmanager
def draft(path: str | os.PathLike[str], folder: bool = False) -> Iterator[Path]:
    """A place beside `path` for another library to write to: it takes the name when the block is done, and goes away
    when the block fails.

    - `folder`: give an empty folder instead of the name of a file that there is not.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     with draft(Path(place) / "note.txt") as file:
    ...         _ = file.write_text("new")
    ...     [entry.name for entry in Path(place).iterdir()]
    ['note.txt']
    """
    target = Path(path)
    made = target.with_name(f".{secrets.token_hex(8)}.{target.name[-200:]}")  # with the suffix of the target
    try:
        if folder:
            made.mkdir()
        elif not target.parent.is_dir():
            raise OutputError(f"{target} could not be written: there is no folder {target.parent}.")
        yield made
        if not folder:
            with open(made, "rb") as file:
                os.fsync(file.fileno())
        made.replace(target)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{target} could not be written: {_reason(error)}.") from error
    finally:
        if folder:
            shutil.rmtree(made, ignore_errors=True)
        else:
            with suppress(OSError):
                made.unlink(missing_ok=True)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Have the names in a folder outlast a power cut; a file system that cannot promise it promises nothing."""
    with suppress(OSError):
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(held)
        finally:
            os.close(held)


class LineFile:
    """A file that grows by whole lines, kept open; a link, a pipe, a device or a folder in its place is refused.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     with closing(LineFile(Path(place) / "log")) as file:
    ...         file.add("one\\ntwo\\n")
    ...         file.add("three\\n")
    ...     (Path(place) / "log").read_text()
    'one\\ntwo\\nthree\\n'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            held = os.open(path, flags, 0o666)
        except OSError as error:
            why = "it is a symbolic link; give the file itself" if error.errno == errno.ELOOP else _reason(error)
            raise OutputError(f"{path} could not be written: {why}.") from error
        self.close = weakref.finalize(self, os.close, held)
        self._file = held
        if not stat.S_ISREG(os.fstat(held).st_mode):
            self.close()
            raise OutputError(f"{path} could not be written: it is there, and is not a file.")

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return not self.close.alive

    def add(self, text: str) -> None:
        """Add whole lines, all of them or nothing: where the disk is full, the file ends as it did before."""
        content = memoryview(text.encode())
        before = self.size
        try:
            while content:  # what a first write leaves gets the reason from the second
                content = content[os.write(self._file, content) :]
        except OSError as error:
            self.cut(before)
            raise OutputError(f"{self.path} could not be written: {_reason(error)}.") from error

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self._file).st_size

    def read(self, start: int, count: int) -> bytes:
        """The bytes from `start` on."""
        return os.pread(self._file, count, start)

    def cut(self, size: int) -> None:
        """Drop what comes after `size` bytes."""
        os.ftruncate(self._file, size)


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add a line to a file as `LineFile` does, and close it.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     append_line(Path(place) / "log", "one")
    ...     append_line(Path(place) / "log", "two")
    ...     (Path(place) / "log").read_text()
    'one\\ntwo\\n'
    """
    with closing(LineFile(path)) as file:
        file.add(f"{line}\n")


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read it; a ValueError for a pipe, a device or a folder: they may have no end, or never begin."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return open(opened, "rb")
    os.close(opened)
    raise ValueError(f"{path} is not a file.")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
