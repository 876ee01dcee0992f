"""Compiling C++ text to a library, and the cache on disk, safe with many processes at once."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path
from threading import RLock

__all__ = ["CompileError", "cache_folder", "compiler", "load", "private_folder"]

FLAGS = (
    "-O3",
    "-march=native",
    "-ffp-contract=off",  # no fused multiply-add in the exact part: a flipped spike is an error
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-std=c++17",
    "-shared",
    "-fPIC",
)


_lock = RLock()  # threads that want the same kernel wait for the first of them to make it


def _after_fork() -> None:
    global _lock
    _lock = RLock()  # the thread of the parent that held it does not exist in the child


os.register_at_fork(after_in_child=_after_fork)


class CompileError(RuntimeError):
    """The compiler refused a kernel."""


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$SPIKESCOPE_CACHE`, or `spikescope` in the user's cache folder."""
    given = os.environ.get("SPIKESCOPE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikescope"


@cache
def compiler() -> str | None:
    """The C++ compiler: `$CXX`, `$CC`, or the first of g++, clang++ and c++ on the path; None if there is none."""
    for name in (os.environ.get("CXX"), os.environ.get("CC"), "g++", "clang++", "c++"):
        if name and (found := shutil.which(name)):
            return found
    warnings.warn(
        "No C++ compiler was found, so neurons run as the slower eager loop on the CPU. Install g++ or clang++ "
        "(on Debian: apt install g++), or name one in the environment variable CXX.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


@cache
def _identity() -> str:
    """Compiler, its version and the processor: what makes a compiled kernel of another machine unusable."""
    command = compiler()
    version = _run([str(command), "--version"])
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{command}\n{version}\n{platform.machine()}\n{flags}"


@cache
def _own_flags() -> tuple[str, ...]:
    """What not every compiler takes: full-width vectors where the processor has them, and for GCC no jump threading,
    by which a choice of two values becomes two copies of all that follows, in vectors a blend for each.
    """
    wide = ("-mprefer-vector-width=512",) if "avx512f" in _identity() else ()
    return (*wide, "-fno-thread-jumps") if "Free Software Foundation" in _identity() else wide


def load(source: str) -> ctypes.CDLL:
    """The library of `source`, compiled now or taken from the cache."""
    flags = (*FLAGS, *_own_flags())
    key = hashlib.sha256("\n".join((source, *flags, _identity())).encode()).hexdigest()[:32]
    library = cache_folder() / f"{key}.so"
    with _lock:
        if not _is_whole(library):
            library = _build(source, flags, library)
        try:
            return ctypes.CDLL(str(library))
        except OSError:  # a file system from which no code may be run
            return ctypes.CDLL(str(_build(source, flags, private_folder() / library.name)))


def _is_whole(library: Path) -> bool:
    """Whether the file is there to its end, which is its own name: loading a part of a library ends the process."""
    mark = library.stem.encode()
    try:
        with library.open("rb") as file:
            file.seek(-len(mark), os.SEEK_END)
            return file.read() == mark
    except OSError:
        return False


def _build(source: str, flags: tuple[str, ...], library: Path) -> Path:
    """Compile into the cache; where that cannot be written to, into a folder that lasts as long as the process."""
    try:
        return _compile(source, flags, library)
    except (OSError, CompileError):  # a full disk may stop us or the compiler; an error in the source comes up again
        return _compile(source, flags, private_folder() / library.name)


def _compile(source: str, flags: tuple[str, ...], library: Path) -> Path:
    """Compile beside the target and move the result there in one step: another process sees all of it or nothing."""
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    work = tempfile.mkdtemp(dir=library.parent)
    try:
        text, built = Path(work) / "kernel.cpp", Path(work) / "kernel.so"
        text.write_text(source)
        _run([str(compiler()), *flags, str(text), "-o", str(built)])
        with built.open("ab") as file:
            file.write(library.stem.encode())
        os.replace(built, library)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return library


def _run(command: list[str]) -> str:
    """What a command prints; an error with its words if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CompileError(f"{' '.join(command)} could not be started: {error}") from error
    if done.returncode:
        raise CompileError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


@cache
def private_folder() -> Path:
    """A folder that lasts as long as the process, where the cache cannot be written to."""
    import atexit

    folder = tempfile.mkdtemp(prefix="spikescope-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
