"""Kernels that were compiled elsewhere: for a machine without a compiler, and to begin without waiting for one.

A folder of them holds a folder for each level of processors, in which a kernel is named by its text and the level. They
run as this process, so that they are under the same rules as the kernels that it has compiled itself; see `cache.py`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

from .cache import distrust, open_library

__all__ = ["LEVELS", "carried_folders", "carried_name", "carries", "level_flags", "levels", "open_carried", "processor"]

_V3 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"])

LEVELS = {
    "x86-64-v4": _V3 | frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
    "x86-64-v3": _V3,
}
"""The levels of processors, the highest first, and what Linux calls the abilities that each asks for."""


@cache
def processor() -> str:
    """What the processor can do, in the words of Linux."""
    with suppress(OSError), open("/proc/cpuinfo") as file:
        return next((line for line in file if line.startswith(("flags", "Features"))), "")
    return ""


@cache
def levels() -> tuple[str, ...]:
    """The levels that this processor reaches, the highest first."""
    able = set(processor().split())
    return tuple(level for level, asked in LEVELS.items() if asked <= able)


def level_flags(level: str) -> tuple[str, ...]:
    """What tells a compiler for which processors it compiles.

    >>> level_flags("x86-64-v3")
    ('-march=x86-64-v3',)
    """
    wide = ("-mprefer-vector-width=512",) if "avx512f" in LEVELS[level] else ()
    return (f"-march={level}", *wide)


def carried_folders() -> list[Path]:
    """Where such kernels lie: in `$SPIKESCOPE_KERNELS`, folders with colons between, and in what came with us."""
    given = [Path(name) for name in os.environ.get("SPIKESCOPE_KERNELS", "").split(os.pathsep) if name]
    for folder in given:
        if not os.path.isdir(folder):
            _warn_once(
                f"SPIKESCOPE_KERNELS names {folder}, which is not a folder, or not to be seen by this user: no kernel "
                "is taken from there."
            )
    return [folder for folder in (*given, Path(__file__).parents[1] / "kernels") if os.path.isdir(folder)]


def carried_name(source: str, level: str) -> str:
    """The name of the kernel of a text for a level, whoever compiled it."""
    return hashlib.sha256(f"{level}\n{source}".encode()).hexdigest()[:32]


def _places(source: str) -> list[tuple[Path, str]]:
    """The folder and the name of each file in which the kernel of a text may be, the best first."""
    places = [(folder / level, carried_name(source, level)) for folder in carried_folders() for level in levels()]
    return [(folder, name) for folder, name in places if _is_there(folder, name)]


def _is_there(folder: Path, name: str) -> bool:
    try:
        os.stat(folder / f"{name}.so")
    except FileNotFoundError:
        return False
    except OSError as error:  # it belongs to others, as after a build as root under a strict umask
        _warn_once(f"The kernels in {folder} are not used: {(error.strerror or str(error)).lower()}.")
        return False
    return True


def carries(source: str) -> bool:
    """Whether the kernel of a text came from elsewhere; whether it can be used shows when it is loaded.

    >>> carries("no program")
    False
    """
    return bool(_places(source))


def open_carried(source: str) -> ctypes.CDLL | None:
    """The kernel of a text, if it came from elsewhere, is whole, and runs here."""
    for folder, name in _places(source):
        if reason := distrust(folder, make=False):
            _warn_once(f"The kernels in {folder} are not used: {reason}. They would run as this process.")
            continue
        with suppress(OSError):  # of another system, or a file that others may write to
            library = open_library(folder, name)
            if library is not None:
                return library
    return None


@cache
def _warn_once(told: str) -> None:
    warnings.warn(told, RuntimeWarning, stacklevel=3)
