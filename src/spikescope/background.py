"""Threads for work in the background of a training, which take one processor: drawing a page, writing a recording."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["BackgroundThread", "work_alone"]

OF_A_THREAD = {
    re.compile(r"/lib(?:gomp|iomp5|omp)\b[^/]*$"): "omp_set_num_threads",
    re.compile(r"/lib(?:torch_cpu|mkl_rt)\b[^/]*$"): "MKL_Set_Num_Threads_Local",
}
"""Libraries that share work out, and the function of each that says among how many for the thread that calls it."""


class BackgroundThread(threading.Thread):
    """A thread that takes one processor at a time, whatever PyTorch does in it.

    Any thread in which PyTorch shares out an operation gets helpers of its own. Then there are more threads of OpenMP
    than processors, and that of GNU has those of the training sleep wherever they wait for each other, instead of
    looking again and again: every operation wakes them up, and a step takes up to half as long again, though the thread
    itself takes next to nothing.

    >>> found = []
    >>> thread = BackgroundThread(target=lambda: found.append(torch.get_num_threads()))
    >>> thread.start()
    >>> thread.join()
    >>> torch.get_num_threads() >= found[0]
    True
    """

    def run(self) -> None:
        """Run the target."""
        work_alone()
        super().run()


def work_alone() -> None:
    """Have OpenMP and MKL, where they are, know that this thread, and no other, works by itself."""
    torch.get_num_threads()  # PyTorch gives a thread its number when it is first asked, and would do so later
    for share_among in _switches():
        share_among(1)


@cache
def _switches() -> list[Callable[[int], Any]]:
    """The functions of the libraries that PyTorch has loaded; none but on Linux, which tells what is loaded."""
    try:
        mapped = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_bytes().splitlines()]
    except OSError:
        return []
    loaded = {os.fsdecode(fields[5]) for fields in mapped if len(fields) == 6}
    named = [(path, OF_A_THREAD[library]) for path in sorted(loaded) for library in OF_A_THREAD if library.search(path)]
    found = []
    for path, function in named:
        with suppress(OSError, AttributeError):  # a file that has gone since; a PyTorch without MKL
            found.append(getattr(ctypes.CDLL(path), function))
    return found
