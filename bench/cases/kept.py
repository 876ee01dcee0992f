"""The LIF layer, the taps, a training step and what watching it costs once more, in a process that keeps its heap.

Fresh memory costs page faults: those of a large output take as long as the kernel itself, those of a training step up
to a quarter of its time, and when the C library gives memory back is a matter of sizes and luck. After
`functional.keep_heap()`, which all contenders have here, everything lies in memory that was used before.
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

AGAIN = "lif", "taps", "training", "monitors", "streaming", "flight", "live"


def rows(options: Options) -> Iterator[Row]:
    """The same rows under another group."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "rows.json"
        threads = str(torch.get_num_threads())
        arguments = ["--rows", ",".join(AGAIN), "--output", str(target), "--threads", threads, "--keep-heap"]
        run_module("bench", *arguments, *(["--quick"] if options.quick else []))
        for held in json.loads(target.read_text())["rows"]:
            row = Row(**held)
            yield replace(row, group="kept", case=f"{row.case}, heap kept")
