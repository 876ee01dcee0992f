"""What the first call of a kernel costs: with an empty cache, and in a new process that finds it in the cache."""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch

from spikescope import neuron

from ..harness import Options, Row, subprocess_json

__all__ = ["rows"]


def rows(options: Options) -> Iterator[Row]:
    """Milliseconds of the first calls after the imports, medians over fresh processes."""
    for name in ("LIFNode", "IzhikevichNode"):
        cold: list[dict[str, float]] = []
        warm: list[dict[str, float]] = []
        for _ in range(1 if options.quick else 3):
            with tempfile.TemporaryDirectory() as cache:
                for taken in (cold, warm):
                    taken.append(subprocess_json("bench.cases.startup", name, environment={"SPIKESCOPE_CACHE": cache}))
        for kind, taken in (("empty cache", cold), ("from the disk cache", warm)):
            imports = statistics.median(held["imports"] for held in taken)
            note = f"of which PyTorch's import of torch._inductor: {imports:.0f} ms" if imports else ""
            for what in ("forward", "backward"):
                middle = statistics.median(held[what] for held in taken)
                yield Row(
                    "startup", f"{name}, {kind}", f"first {what}", "ms", middle, note=note if what == "forward" else ""
                )


class _Clock(importlib.abc.MetaPathFinder):
    """Measures one import wherever it happens: from when it is looked for to when it is asked for its last line."""

    def __init__(self, name: str) -> None:
        self.name, self.milliseconds = name, 0.0

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == self.name:
            sys.meta_path.remove(self)
            start = time.perf_counter()
            importlib.import_module(name)  # here, so that its end is known; the import that asked finds it made
            self.milliseconds = (time.perf_counter() - start) * 1e3


def _first_calls(name: str) -> dict[str, float]:
    """Milliseconds of the first forward and backward in this process, and of the import of PyTorch's among them."""
    node = getattr(neuron, name)(step_mode="m", backend="cpp")
    x_seq = torch.randn(4, 64, requires_grad=True)
    torch.autograd.grad(torch.sigmoid(x_seq).sum(), x_seq)  # PyTorch's own first backward starts its threads
    gc.collect()  # what the imports have left to the garbage collector comes up at any time later, 50 ms of it
    clock = _Clock("torch._inductor")
    sys.meta_path.insert(0, clock)
    start = time.perf_counter()
    y = node(x_seq)
    ran = time.perf_counter()
    y.sum().backward()
    done = time.perf_counter()
    return {"imports": clock.milliseconds, "forward": (ran - start) * 1e3, "backward": (done - ran) * 1e3}


if __name__ == "__main__":
    print(json.dumps(_first_calls(sys.argv[1])))
