"""The heap of the GNU C library: how much freed memory it keeps, and which settings decide that."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

__all__ = ["keep_heap", "show_a_large_block"]

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
"""The numbers by which `mallopt` of the GNU C library knows its settings."""
NEVER = -1
AT_A_TIME = 64 << 20
"""Bytes by which the heap grows: few calls of the system, and nothing is touched before it is used."""

LARGEST = 32 << 20
"""Bytes of the largest block from which that library learns: DEFAULT_MMAP_THRESHOLD_MAX of its `malloc.c`."""


def keep_heap() -> bool:
    """Have this process keep the memory that it frees, instead of giving it back and taking it again at every step.

    A training step on a CPU frees all its activations. The GNU C library gives a part of them back to the system, and
    in the next step the system hands out as many pages and fills each with zeros: up to several thousand page faults
    and a quarter of the time of a step, more or less by the luck of sizes. With what a monitor keeps between the
    activations there are more of them. After this call there are none, and any network gains, of this library or not.

    It holds until the process ends, and so long the process stays as large as it ever was. Call it once, before the
    training and before there are threads, which then share one heap. `spikescope train` and `spikescope bench-model`
    do. Memory of a GPU and pinned memory are not concerned.

    Returns whether the C library can: False where it is another than that of GNU (musl, macOS, Windows) or does not
    give out the memory itself (jemalloc or tcmalloc is loaded before it), and nothing changes.

    Source: `mallopt(3)` of the GNU C library: `M_TRIM_THRESHOLD`, `M_TOP_PAD`, `M_MMAP_MAX`, `M_ARENA_MAX`.

    >>> keep_heap() in (True, False)
    True
    """
    library = _c_library()
    if library is None:
        return False
    settings = {MMAP_MAX: 0, TRIM_THRESHOLD: NEVER, TOP_PAD: AT_A_TIME, ARENA_MAX: 1}
    done = [library.mallopt(name, value) == 1 for name, value in settings.items()]
    return all(done)


@cache
def show_a_large_block() -> None:
    """Have the heap learn at once what it learns from the first large block that a process frees.

    It asks the system for each block that is larger than all it has been given back, and gives the system what it has
    free at its end beyond twice that. So in a process whose tensors have a few MB each, a training step takes thousands
    of pages and gives them back, up to a fifth of its time. It goes by the largest block freed; this frees one of
    `LARGEST` bytes that nobody has written to, of which there never was a page. From then on twice that is kept.

    Where the environment or `keep_heap` says how the heap shall be, or there is another, this changes nothing.
    """
    library = _c_library()
    if library is None:
        return
    malloc, free = library.malloc, library.free
    malloc.argtypes, malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    free.argtypes, free.restype = (ctypes.c_void_p,), None
    free(malloc(LARGEST - (1 << 16)))  # with what the heap itself writes before a block, and whole pages


def _c_library() -> Any:
    """What the process runs on, if it is that of GNU, and what is asked of it does not go to another allocator."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallopt", "dladdr")):
        return None
    homes = {_home(library, name) for name in ("gnu_get_libc_version", "mallopt", "malloc")}
    return library if len(homes) == 1 else None


class _Place(ctypes.Structure):
    """What `dladdr` tells of an address."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _home(library: Any, name: str) -> int | None:
    """Where the file lies in memory from which the process has a function."""
    place = _Place()
    found = library.dladdr(ctypes.cast(getattr(library, name), ctypes.c_void_p), ctypes.byref(place))
    base: int | None = place.base if found else None
    return base
