"""What a neuron layer on a GPU takes of the host, measured without a GPU: all but the launch itself is run."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator

from ..harness import Options, Row, run_module

__all__ = ["rows"]

GROUP = "host"


def rows(options: Options) -> Iterator[Row]:
    """Microseconds of the host, the least of many calls: forward, and forward and backward."""
    if importlib.util.find_spec("triton") is None:
        yield Row(GROUP, "a neuron layer on a GPU", "host time", "us", None, note="triton is not installed")
        return
    for line in run_module("bench.absent_gpu", environment={"TRITON_INTERPRET": "0"}).splitlines():
        told = json.loads(line)
        for what, taken in told["us"].items():
            yield Row(GROUP, told["case"], what, "us", taken, note="launch stubbed")
