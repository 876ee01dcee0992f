"""Compiling C++ text to a library, which is kept on disk, safe with many processes at once."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

from .cache import cache_folder, distrust, drafted, is_cut, kernel_folder, open_library, private_folder, seal
from .carried import carried_folders, carried_name, carries, level_flags, levels, open_carried, processor
from .heap import show_a_large_block
from .process import CompileError, CompilerHangsError, run

__all__ = [
    "CompileError",
    "cache_folder",
    "command",
    "function",
    "is_kept",
    "load",
    "ordered",
    "private_folder",
    "trouble",
]

FLAGS = (
    "-O3",
    "-ffp-contract=off",  # no fused multiply-add in the exact part: a flipped spike is an error
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-std=c++14",  # the <cmath> of later ones holds what takes a fifth of a compilation to read
    "-shared",
    "-fPIC",
    "-fno-exceptions",  # no kernel throws one; to make ready for those of what it calls is a tenth of a compilation
)

PATIENCE = 60.0
"""Seconds that a compiler may take; the largest kernel takes a few."""

SHORT_PATIENCE = 10.0
"""Seconds that it may take to say its version."""

_COMPILER = re.compile(r"([\w.]+-)*(g\+\+|gcc|clang\+\+|clang|c\+\+)(-[\d.]+)?")
"""The names of compilers themselves; a program of another name may run any of them."""

PROBE = 'extern "C" int answer() { return 42; }'
"""What shows whether a compiler works."""

_lock = RLock()
_making: dict[str, RLock] = {}  # threads that want the same kernel wait for the first of them to make it


def _after_fork() -> None:
    global _lock
    _lock = RLock()  # the thread of the parent that held it does not exist in the child
    _making.clear()


os.register_at_fork(after_in_child=_after_fork)


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


def trouble() -> str:
    """Why no kernel can be compiled here, told in one warning; empty if one can."""
    with _lock:
        return _trouble()


@cache
def _trouble() -> str:
    if not (command() or carries(PROBE)):
        found, reason = "No C++ compiler was found", "there is no C++ compiler; the warning named the cure"
    else:
        try:
            if load(PROBE).answer() == 42:
                return ""
            told = "the program that it made of a test gives a wrong answer"
        except CompileError as error:
            told = str(error)
        name = shlex.join(command() or ("none",))
        found, reason = f"The C++ compiler {name} does not work ({told})", f"the C++ compiler does not work: {told}"
    warnings.warn(
        f"{found}, so neurons run as the slower eager loop on the CPU, and events are counted by NumPy. Install g++ or "
        "clang++ (on Debian: apt install g++), or name one in the environment variable CXX.",
        RuntimeWarning,
        stacklevel=3,
    )
    return reason


@cache
def _version() -> str:
    """What the compiler says of itself."""
    return run([*command(), "--version"], SHORT_PATIENCE)


@cache
def _identity() -> str:
    """Compiler, its version and the processor: what makes a compiled kernel of another machine unusable.

    To be asked for its version a compiler takes as long as to find a kernel, so where it is a program of a known name,
    and not one that may run another, the file tells which it is.
    """
    program, told = Path(command()[0]).resolve(), None
    if len(command()) == 1 and _COMPILER.fullmatch(program.name):
        with suppress(OSError), program.open("rb") as file:
            held = os.fstat(file.fileno())
            told = (str(program), held.st_size, held.st_mtime_ns) if file.read(4) == b"\x7fELF" else None
    return f"{shlex.join(command())}\n{told or _version()}\n{platform.machine()}\n{processor() or platform.processor()}"


@cache
def _own_flags() -> tuple[str, ...]:
    """For this processor, with full-width vectors where it has them; and for GCC neither jump threading nor the
    elimination of partial redundancies, by which a choice of two values becomes two copies of all that follows, in
    vectors a blend for each.
    """
    wide = ("-mprefer-vector-width=512",) if "avx512f" in processor() else ()
    return ("-march=native", *wide, *_for_gcc())


def _for_gcc() -> tuple[str, ...]:
    return ("-fno-thread-jumps", "-fno-tree-pre") if "Free Software Foundation" in _version() else ()


_failed: dict[str, CompileError] = {}  # a compiler that failed once is not asked again at every call of a neuron


def is_kept(source: str) -> bool:
    """Whether the library of `source` lies in the cache; whether it can be used shows when it is loaded.

    >>> is_kept("no program")
    False
    """
    return carries(source) or (bool(command()) and (kernel_folder() / f"{_name(source)}.so").exists())


def _name(source: str) -> str:
    """The name of a library: a hash of all that it is made of."""
    made_of = source, *FLAGS, _identity()  # from which the flags of its own follow
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]


def load(source: str) -> ctypes.CDLL:
    """The library of `source`: one that came from elsewhere, or from the cache, or compiled now."""
    show_a_large_block()  # before the results of the first kernel are taken from the heap
    if _order is not None:
        return _order.fill(source)
    if (found := open_carried(source)) is not None:
        return found
    if not command():
        there = " nor".join(f" in {folder}" for folder in carried_folders())
        raise CompileError("there is no C++ compiler" + (f", and the kernel is not{there}" if there else ""))
    name = _name(source)
    with _lock:
        making = _making.setdefault(name, RLock())
    with making:
        if name in _failed:
            raise _failed[name]
        try:
            return _load(source, name)
        except CompileError as error:
            _failed[name] = error
            raise


class Order(NamedTuple):
    """Kernels that are compiled for other machines: where to, for which level of processors, and which there are."""

    folder: Path
    level: str
    names: list[str]
    failed: list[CompileError]

    def fill(self, source: str) -> ctypes.CDLL:
        """Compile a kernel, if it is not there."""
        name, place = carried_name(source, self.level), self.folder / self.level
        flags = (*FLAGS, *level_flags(self.level), *_for_gcc())
        try:
            library = _load_from(place, source, name, flags)
        except CompileError as error:  # after which a backward pass goes on without its kernel
            self.failed.append(error)
            raise
        (place / f"{name}.so").chmod(0o755)  # others than who made them may run them, and nobody else may change them
        if name not in self.names:
            self.names.append(name)
        return library


_order: Order | None = None


@contextmanager
def ordered(folder: Path, level: str) -> Iterator[list[str]]:
    """Meanwhile every kernel that is asked for is compiled into `folder`, for processors of a level that this one
    reaches, and runs from there; gives the list of their names, which grows. An error at the end if one failed.
    """
    global _order
    if level not in levels():
        raise ValueError(f"This processor reaches the levels {', '.join(levels()) or 'none'}, but got {level!r}.")
    (folder / level).mkdir(mode=0o755, parents=True, exist_ok=True)
    _order = order = Order(folder, level, [], [])
    try:
        load(PROBE)  # by which a machine without a compiler sees that it can run kernels
        yield order.names
        if order.failed:
            raise order.failed[0]
    finally:
        _order = None


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


def _load(source: str, name: str) -> ctypes.CDLL:
    """From the folder of kernels; where it cannot hold or run one, from a folder that lasts as long as the process."""
    try:
        return _load_from(kernel_folder(), source, name)
    except CompilerHangsError:
        raise
    except (OSError, CompileError):  # a full disk may stop us or the compiler; an error in the source comes up again
        pass
    try:
        return _load_from(private_folder(), source, name)
    except OSError as error:
        raise CompileError(f"what {shlex.join(command())} made cannot be written or loaded: {error}") from error


def _load_from(folder: Path, source: str, name: str, flags: Sequence[str] = ()) -> ctypes.CDLL:
    """The library in a folder, put there if need be."""
    if reason := distrust(folder):
        raise CompileError(f"there is no safe place for a kernel: {reason}")
    return open_library(folder, name) or _build(source, flags or (*FLAGS, *_own_flags()), folder, name)


def _build(source: str, flags: Sequence[str], folder: Path, name: str) -> ctypes.CDLL:
    """Compile in a draft, and move what can be loaded to its place in one step: others see all of it or nothing."""
    with drafted(folder) as draft:
        text, built = draft / "kernel.cpp", draft / "kernel.so"
        text.write_text(source)
        run([*command(), *flags, str(text), "-o", str(built)], PATIENCE, draft)
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
