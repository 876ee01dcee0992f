"""Peak memory of forward and backward of the LIF layer, one fresh process a contender."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from ..harness import Options, Row, subprocess_json, versus
from ..rivals import NAMES, lif, ours, training_call
from .lif import agreements

__all__ = ["forget_peak", "peak", "report", "rows"]

T = 16


def peak() -> float:
    """The most memory this process has held so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def forget_peak() -> float:
    """Start the count of `peak` anew, and return what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def report(megabytes: float) -> None:
    """Hand a number to the process that started this one."""
    print(json.dumps(round(megabytes, 1)))


def rows(options: Options) -> Iterator[Row]:
    """Beyond what the process held with its input and the gradient of its output, before the first call."""
    if not Path("/proc/self/status").exists():
        yield Row("memory", "LIF", "peak memory", "MB", None, note="needs /proc, as Linux has it")
        return
    size = options.size(262_144, 65_536)
    torch.manual_seed(0)
    found = agreements(torch.randn(T, size // 16) + 0.5, torch.randn(T, size // 16))
    values = {name: subprocess_json("bench.cases.memory", name, str(size)) for name in ("ours", *found)}
    input_size = T * size * 4 / 2**20
    note = f"output and gradient of the input, which all have, take {2 * input_size:.0f} MB"
    yield from versus("memory", f"LIF {T} x {size:,}", "peak, forward + backward", "MB", values, found, note)


def _contender(name: str, size: int) -> float:
    layer = ours() if name == "ours" else lif(name)
    assert layer is not None
    assert name in ("ours", *NAMES)
    small = torch.randn(T, 64)
    training_call(layer, small, small)()  # what a library loads or builds at its first call is not the layer's memory
    x_seq, g = torch.randn(T, size), torch.randn(T, size)
    work = training_call(layer, x_seq, g)
    del x_seq, g
    before = forget_peak()
    work()
    work()
    return peak() - before


if __name__ == "__main__":
    report(_contender(sys.argv[1], int(sys.argv[2])))
