"""The report: how large a page is and how long it takes to write, for networks of 50 and of 1,000 layers."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from spikescope.view import report
from spikescope.view.document import Document, empty
from spikescope.view.document.parts import course_of, flow_of, layer_of, raster_of
from spikescope.view.page import page

from ..harness import Options, Row

__all__ = ["rows"]


def _document(layers: int, epochs: int) -> Document:
    draw = torch.Generator().manual_seed(0)
    found = empty("run", "a deep network")
    names = [f"stage{at // 6}.{at % 6}.neuron" for at in range(layers)]
    x = list(range(1, epochs + 1))
    rates = {name: [0.1 + 0.05 * math.sin(at + epoch / 3) for epoch in x] for at, name in enumerate(names)}
    found["courses"] = [
        course_of("Loss", "epoch", "", x, {"train": [1 / epoch for epoch in x], "test": [2 / epoch for epoch in x]}),
        course_of("Firing rate", "epoch", "", x, rates),
        course_of("Silent neurons", "epoch", "", x, rates, share=True),
    ]
    found["layers"] = [layer_of(name, "LIFNode", torch.rand(4096, generator=draw) ** 3) for name in names]
    for name in names[:40]:
        found["rasters"].append(raster_of(name, (torch.rand(128, 40, generator=draw) < 0.1).float()))
    found["flow"] = flow_of({name: torch.rand(16, generator=draw) for name in names})
    return found


def rows(options: Options) -> Iterator[Row]:
    """Sizes and seconds."""
    fixed = len(page([empty("run", "nothing")]).encode())
    yield Row("report", "of nothing", "size", "kB", fixed / 1e3, note="the part that every page has; 150 are allowed")
    for layers in (50, 1000):
        found = _document(layers, options.size(20, 2))
        with tempfile.TemporaryDirectory() as place:
            taken = []
            for _ in range(options.size(5, 1)):
                begin = time.perf_counter()
                path = report(found, to=Path(place) / "report.html")
                taken.append(time.perf_counter() - begin)
            case = f"{layers:,} layers x {len(found['courses'][0]['x'])} epochs"
            yield Row("report", case, "size", "MB", path.stat().st_size / 1e6)
            yield Row("report", case, "writing, the least of five", "s", min(taken))
