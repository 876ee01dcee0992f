"""Memory and time of a training step: ours plain, lean and within a budget, and SpikingJelly with and without memopt.

Blocks of Conv2d-BatchNorm2d-LIF with 64 channels, and networks of papers, float32. Each contender has a fresh process.
The peak is of PyTorch's own record of allocations, so that it is what the step needs, not what the heap has kept.
The budget of `fit` is in the middle between the floor and what the lean network takes.
"""

from __future__ import annotations

import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import models, neuron
from spikescope.functional.memory.peak import most_allocated

from ..harness import Agreement, Options, Row, subprocess_json, versus
from ..rivals import missing

__all__ = ["rows"]

BLOCKS, CHANNELS, CLASSES = 5, 64, 10
SAME = 1e-5  # relative difference of the losses: sums in another order
RIVALS = {
    "plain": "ours, plain",
    "fit": "ours, within a budget",
    "spikingjelly": "SpikingJelly",
    "memopt": "SpikingJelly, memopt",
}


def rows(options: Options) -> Iterator[Row]:
    """What a step allocates at most beyond what was there before, and how long it takes."""
    batch, side = options.size(4, 2), options.size(32, 16)
    rivals = [] if "spikingjelly" in missing() else ["spikingjelly", "memopt"]
    for steps in (4, 8, 16):
        case = f"{BLOCKS} x conv {CHANNELS}, T={steps}, batch {batch}, {side}x{side}"
        yield from _rows(case, ["ours", "plain", "fit", *rivals], "conv", steps, batch, side)
    batch = options.size(4, 1)
    for model in ("sew_resnet18", "spikformer"):  # those of SpikingJelly need torchvision
        yield from _rows(f"{model}, T=4, batch {batch}, 32x32", ["ours", "plain", "fit"], model, 4, batch, 32)


def _rows(case: str, names: list[str], model: str, *sizes: int) -> Iterator[Row]:
    found = {name: subprocess_json("bench.cases.lean", name, model, *map(str, sizes)) for name in names}
    loss = found["ours"]["loss"]
    alike = {
        RIVALS[name]: Agreement(
            abs(held["loss"] - loss) <= SAME * abs(loss), f"loss {held['loss']:.6g}, ours {loss:.6g}"
        )
        for name, held in found.items()
        if name != "ours"
    }
    unit = math.prod(sizes[:2]) * CHANNELS * sizes[2] ** 2 * 4 / 2**20
    least = f"3 tensors of {unit:.1f} MB in the backward pass of a block, and {BLOCKS - 2} outputs of convolutions"
    note = f"{least}; " if model == "conv" else ""
    note += f"fit took {found['fit']['planned']:.1f} s to plan, within {found['fit']['budget']:.1f} MB"
    for measure, key, unit in (("peak of a training step, lean", "peak", "MB"), ("time of it", "seconds", "s")):
        values = {RIVALS.get(name, name): held[key] for name, held in found.items()}
        yield from versus("lean", case, measure, unit, values, alike, note)


def _network(library: Any, model: str) -> nn.Module:
    torch.manual_seed(0)
    if model == "sew_resnet18":
        net: nn.Module = models.create(model, neuron=neuron.LIFNode, num_classes=CLASSES, step_mode="m")
    elif model == "spikformer":
        net = models.create("spikformer_cifar10", T=4, depths=2, num_classes=CLASSES, step_mode="m")
    else:
        net = _blocks(library)
    library.functional.set_step_mode(net, "m")
    return net


def _blocks(library: Any) -> nn.Module:
    parts: list[nn.Module] = []
    for block in range(BLOCKS):
        first = 3 if block == 0 else CHANNELS
        parts.append(library.layer.Conv2d(first, CHANNELS, 3, padding=1, bias=False))
        parts += [library.layer.BatchNorm2d(CHANNELS), library.neuron.LIFNode()]
    parts += [library.layer.AdaptiveAvgPool2d(4), library.layer.Flatten(), library.layer.Linear(16 * CHANNELS, CLASSES)]
    return nn.Sequential(*parts)


def _contender(name: str, model: str, steps: int, batch: int, side: int) -> dict[str, float]:
    torch.manual_seed(1)
    x = torch.rand(steps, batch, 3, side, side)
    package = "spikescope" if name in ("ours", "plain", "fit") else "spikingjelly.activation_based"
    rooms = ("functional", "layer", "neuron")
    library = SimpleNamespace(**{room: importlib.import_module(f"{package}.{room}") for room in rooms})
    net = _network(library, model)
    told: dict[str, float] = {}
    if name == "ours":
        library.functional.lean(net)
    if name == "fit":
        start = time.perf_counter()
        roomy = library.functional.fit_memory(net, x, "1 TB", show=False)
        middle = max((roomy.floor + roomy.after) // 2, roomy.floor)
        plan = library.functional.fit_memory(net, x, middle, show=False)
        told = {"planned": time.perf_counter() - start, "budget": plan.budget / 2**20}
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
    loss = step()
    highest = most_allocated(step, torch.device("cpu")) / 2**20
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return {"peak": round(highest, 1), "seconds": statistics.median(taken), "loss": loss, **told}


if __name__ == "__main__":
    print(json.dumps(_contender(*sys.argv[1:3], *map(int, sys.argv[3:]))))
