"""Memory and time of a training step: ours, lean, and SpikingJelly with and without its memory optimisation.

Blocks of Conv2d-BatchNorm2d-LIF with 64 channels, float32. Each contender has a fresh process, whose allocator gives
large blocks back at once, so that the peak is what the step needs, not what the heap has kept.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..harness import Agreement, Options, Row, subprocess_json, versus
from ..rivals import missing
from .memory import forget_peak, peak

__all__ = ["rows"]

BLOCKS, CHANNELS, CLASSES, LARGE = 5, 64, 10, 1 << 20
SAME = 1e-5  # relative difference of the losses: sums in another order
RIVALS = {"plain": "ours, plain", "spikingjelly": "SpikingJelly", "memopt": "SpikingJelly, memopt"}


def rows(options: Options) -> Iterator[Row]:
    """Beyond what the process held before the step."""
    if not Path("/proc/self/status").exists():
        yield Row("lean", "conv SNN", "peak memory", "MB", None, note="needs /proc, as Linux has it")
        return
    batch, side = options.size(8, 2), options.size(32, 16)
    for steps in (4, 8, 16):
        names = ["ours", "plain", *([] if "spikingjelly" in missing() else ["spikingjelly", "memopt"])]
        found = {name: subprocess_json("bench.cases.lean", name, *map(str, (steps, batch, side))) for name in names}
        loss = found["ours"]["loss"]
        alike = {
            RIVALS[name]: Agreement(
                abs(held["loss"] - loss) <= SAME * abs(loss), f"loss {held['loss']:.6g}, ours {loss:.6g}"
            )
            for name, held in found.items()
            if name != "ours"
        }
        case = f"{BLOCKS} x conv {CHANNELS}, T={steps}, batch {batch}, {side}x{side}"
        for measure, key, unit in (("peak of a training step, lean", "peak", "MB"), ("time of it", "seconds", "s")):
            values = {RIVALS.get(name, name): held[key] for name, held in found.items()}
            yield from versus("lean", case, measure, unit, values, alike)


def _network(library: Any) -> nn.Module:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for block in range(BLOCKS):
        first = 3 if block == 0 else CHANNELS
        parts.append(library.layer.Conv2d(first, CHANNELS, 3, padding=1, bias=False))
        parts += [library.layer.BatchNorm2d(CHANNELS), library.neuron.LIFNode()]
    parts += [library.layer.AdaptiveAvgPool2d(4), library.layer.Flatten(), library.layer.Linear(16 * CHANNELS, CLASSES)]
    net = nn.Sequential(*parts)
    library.functional.set_step_mode(net, "m")
    return net


def _contender(name: str, steps: int, batch: int, side: int) -> dict[str, float]:
    ctypes.CDLL(None).mallopt(-3, LARGE)  # M_MMAP_THRESHOLD: blocks above it go back to the system when they are freed
    torch.manual_seed(1)
    x = torch.rand(steps, batch, 3, side, side)
    package = "spikescope" if name in ("ours", "plain") else "spikingjelly.activation_based"
    rooms = ("functional", "layer", "neuron")
    library = SimpleNamespace(**{room: importlib.import_module(f"{package}.{room}") for room in rooms})
    net = _network(library)
    if name == "ours":
        library.functional.lean(net)
    if name == "memopt":
        from spikingjelly.activation_based import memopt

        def example(model: nn.Module) -> Tensor:
            library.functional.reset_net(model)
            out: Tensor = model(x)
            return out

        net = memopt.optimize_memory(net, (library.neuron.LIFNode,), example, level=1)

    def step() -> float:
        library.functional.reset_net(net)
        loss = net(x).mean(0).square().mean()
        loss.backward()
        net.zero_grad(set_to_none=False)
        return float(loss.detach())

    step()
    before = forget_peak()
    loss = step()
    highest = peak() - before
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return {"peak": round(highest, 1), "seconds": statistics.median(taken), "loss": loss}


if __name__ == "__main__":
    print(json.dumps(_contender(sys.argv[1], *map(int, sys.argv[2:]))))
