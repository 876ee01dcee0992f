"""Compiling C++ text to a library, which is kept on disk, safe with many processes at once."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

from .cache import cache_folder, distrust, drafted, is_cut, kernel_folder, open_library, private_folder, seal

__all__ = [
    "CompileError",
    "cache_folder",
    "command",
    "compiler",
    "function",
    "is_kept",
    "load",
    "private_folder",
    "trouble",
]

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

PATIENCE = 60.0
"""Seconds that a compiler may take; the largest kernel takes a few."""

SHORT_PATIENCE = 10.0
"""Seconds that it may take to say its version."""

WORDY = 1 << 22
"""Bytes that a compiler may print."""

PROBE = 'extern "C" int answer() { return 42; }'
"""What shows whether a compiler works."""

_lock = RLock()
_making: dict[str, RLock] = {}  # threads that want the same kernel wait for the first of them to make it


def _after_fork() -> None:
    global _lock
    _lock = RLock()  # the thread of the parent that held it does not exist in the child
    _making.clear()


os.register_at_fork(after_in_child=_after_fork)


class CompileError(RuntimeError):
    """A kernel could not be compiled, or what the compiler made of it could not be loaded."""


class CompilerHangsError(CompileError):
    """The compiler did not come to an end."""


@cache
def command() -> tuple[str, ...]:
    """The C++ compiler with its arguments: `$CXX`, `$CC`, or the first of g++, clang++ and c++ on the path; else empty.

    A variable may hold arguments too, as in `CXX="ccache g++ -m64"`.
    """
    for name in ("CXX", "CC"):
        try:
            given = shlex.split(os.environ.get(name, ""))
        except ValueError:  # a quotation mark without its partner
            given = [os.environ[name]]
        if given and (found := shutil.which(given[0])):
            return (os.path.abspath(found), *given[1:])
        if given:
            warnings.warn(
                f"The environment variable {name} names the compiler {given[0]!r}, which is not there or cannot be "
                "run; the next that is found is taken. Correct the variable, or remove it.",
                RuntimeWarning,
                stacklevel=2,
            )
    return next(((found,) for name in ("g++", "clang++", "c++") if (found := shutil.which(name))), ())


def compiler() -> str | None:
    """The program of the C++ compiler; None if there is none, or none that works."""
    return None if trouble() else command()[0]


def trouble() -> str:
    """Why no kernel can be compiled here, told in one warning; empty if one can."""
    with _lock:
        return _trouble()


@cache
def _trouble() -> str:
    if not command():
        found, reason = "No C++ compiler was found", "there is no C++ compiler; the warning named the cure"
    else:
        try:
            if load(PROBE).answer() == 42:
                return ""
            told = "the program that it made of a test gives a wrong answer"
        except CompileError as error:
            told = str(error)
        name = shlex.join(command())
        found, reason = f"The C++ compiler {name} does not work ({told})", f"the C++ compiler does not work: {told}"
    warnings.warn(
        f"{found}, so neurons run as the slower eager loop on the CPU, and events are counted by NumPy. Install g++ or "
        "clang++ (on Debian: apt install g++), or name one in the environment variable CXX.",
        RuntimeWarning,
        stacklevel=3,
    )
    return reason


@cache
def _identity() -> str:
    """Compiler, its version and the processor: what makes a compiled kernel of another machine unusable."""
    version = _run([*command(), "--version"], SHORT_PATIENCE)
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        flags = platform.processor()
    return f"{shlex.join(command())}\n{version}\n{platform.machine()}\n{flags}"


@cache
def _own_flags() -> tuple[str, ...]:
    """What not every compiler takes: full-width vectors where the processor has them, and for GCC no jump threading,
    by which a choice of two values becomes two copies of all that follows, in vectors a blend for each.
    """
    wide = ("-mprefer-vector-width=512",) if "avx512f" in _identity() else ()
    return (*wide, "-fno-thread-jumps") if "Free Software Foundation" in _identity() else wide


_failed: dict[str, CompileError] = {}  # a compiler that failed once is not asked again at every call of a neuron


def is_kept(source: str) -> bool:
    """Whether the library of `source` lies in the cache; whether it can be used shows when it is loaded.

    >>> is_kept("no program")
    False
    """
    return (kernel_folder() / f"{_name(source)}.so").exists()


def _name(source: str) -> str:
    """The name of a library: a hash of all that it is made of."""
    made_of = source, *FLAGS, *_own_flags(), _identity()
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]


def load(source: str) -> ctypes.CDLL:
    """The library of `source`, compiled now or taken from the cache."""
    name = _name(source)
    with _lock:
        making = _making.setdefault(name, RLock())
    with making:
        if name in _failed:
            raise _failed[name]
        try:
            return _load(source, (*FLAGS, *_own_flags()), name)
        except CompileError as error:
            _failed[name] = error
            raise


def function(source: str, name: str, *arguments: Any) -> Callable[..., Any] | None:
    """A function of the library of `source`, given the types of its arguments; None where none can be made."""
    if trouble():
        return None
    try:
        made: Callable[..., Any] = getattr(load(source), name)
    except CompileError:
        return None
    made.argtypes = list(arguments)  # type: ignore[attr-defined]  # of ctypes
    return made


def _load(source: str, flags: tuple[str, ...], name: str) -> ctypes.CDLL:
    """From the folder of kernels; where it cannot hold or run one, from a folder that lasts as long as the process."""
    try:
        return _load_from(kernel_folder(), source, flags, name)
    except CompilerHangsError:
        raise
    except (OSError, CompileError):  # a full disk may stop us or the compiler; an error in the source comes up again
        pass
    try:
        return _load_from(private_folder(), source, flags, name)
    except OSError as error:
        raise CompileError(f"what {shlex.join(command())} made cannot be written or loaded: {error}") from error


def _load_from(folder: Path, source: str, flags: tuple[str, ...], name: str) -> ctypes.CDLL:
    """The library in a folder, put there if need be."""
    if reason := distrust(folder):
        raise CompileError(f"there is no safe place for a kernel: {reason}")
    return open_library(folder, name) or _build(source, flags, folder, name)


def _build(source: str, flags: tuple[str, ...], folder: Path, name: str) -> ctypes.CDLL:
    """Compile in a draft, and move what can be loaded to its place in one step: others see all of it or nothing."""
    with drafted(folder) as draft:
        text, built = draft / "kernel.cpp", draft / "kernel.so"
        text.write_text(source)
        _run([*command(), *flags, str(text), "-o", str(built)], PATIENCE, draft)
        if not built.is_file() or not built.stat().st_size:
            raise CompileError(f"{shlex.join(command())} says that all went well, and wrote nothing")
        if is_cut(built.read_bytes()):
            raise CompileError(f"{shlex.join(command())} wrote a part of a library")
        seal(built, name)
        library = ctypes.CDLL(str(built))
        for function in re.findall(r'^extern "C" \w+ (\w+)', source, re.MULTILINE):
            if not hasattr(library, function):
                raise CompileError(f"{shlex.join(command())} wrote a library without the function {function}")
        os.replace(built, folder / f"{name}.so")
    return library


def _run(words: list[str], patience: float, folder: Path | None = None) -> str:
    """What a command prints; an error with its words if it fails. Its own drafts go into `folder`."""
    name = " ".join(words)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ if folder is None else {**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,  # it has children, which end with it
        )
    except (OSError, ValueError) as error:
        raise CompileError(f"{name} could not be started: {error}") from error
    try:
        told = _printed(process, name, patience).decode(errors="replace")
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        with process:
            pass
    if process.returncode < 0:
        told += f"\nended by {signal.Signals(-process.returncode).name}, as when memory runs out"
    if process.returncode:
        raise CompileError(f"{name} failed:\n{told[-3000:]}")
    return told


def _printed(process: subprocess.Popen[bytes], name: str, patience: float) -> bytes:
    """What a process prints until its end, for which there is patience."""
    assert process.stdout is not None
    told, end = b"", time.monotonic() + patience
    waiting = select.poll()
    waiting.register(process.stdout, select.POLLIN | select.POLLHUP)
    while (left := end - time.monotonic()) > 0:
        if waiting.poll(1000 * left):
            part = os.read(process.stdout.fileno(), 1 << 16)
            told += part
            if len(told) > WORDY:
                raise CompileError(f"{name} prints without end")
            if not part:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, end - time.monotonic()))
                    return told
    raise CompilerHangsError(f"{name} did not end within {patience:g} seconds")
