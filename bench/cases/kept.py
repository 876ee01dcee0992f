"""The LIF layer and the taps once more, in a process whose allocator never gives memory back.

A fresh large output costs page faults, as long as the kernel itself, and when the C library gives memory back is a
matter of sizes and luck. Here every output lies in memory that was used before.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ..harness import Options, Row, run_module

__all__ = ["rows"]

KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_TOP_PAD_": str(2**28)}


def rows(options: Options) -> Iterator[Row]:
    """The same rows under another group."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "rows.json"
        arguments = ["--rows", "lif,taps", "--output", str(target), "--threads", str(torch.get_num_threads())]
        run_module("bench", *arguments, *(["--quick"] if options.quick else []), environment=KEEP)
        for held in json.loads(target.read_text())["rows"]:
            row = Row(**held)
            yield replace(row, group="kept", case=f"{row.case}, memory kept")
