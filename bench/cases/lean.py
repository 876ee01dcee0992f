"""Memory and time of a training step: ours plain, lean and within a budget, and SpikingJelly with and without memopt.

Blocks of Conv2d-BatchNorm2d-LIF with 64 channels, SEW-ResNet18 and Spikformer-S, float32, each written once for the
names that both libraries have, with the same weights. Each contender has a fresh process; their steps are timed in
turn. The peak is of PyTorch's own record of allocations, so that it is what the step needs, not what the heap has kept.
The budget of `fit` is in the middle between the floor and what the lean network takes.

The networks of papers are measured at a batch of 4, where the gradients of their weights are most of the peak, and at
one of 32, with which SEW-ResNets were trained on each of several GPUs; Spikformers were with two or four times as many
small images.
"""

from __future__ import annotations

import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from spikescope.functional.memory.peak import most_allocated

from ..harness import Agreement, Options, Row, Talking, versus
from ..rivals import missing
from .published import kit_of, resnet18

__all__ = ["rows"]

BLOCKS, CHANNELS, CLASSES = 5, 64, 10
PAPERS = {"SEW-ResNet18": 64, "Spikformer-S": 32}  # with the side of the images
BATCHES = 4, 32
ROUNDS = 9
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
    for model, side in PAPERS.items():
        for batch in (1,) if options.quick else BATCHES:
            case = f"{model}, T=4, batch {batch}, {side}x{side}"
            yield from _rows(case, ["ours", "plain", "fit", *rivals], model, 4, batch, side)


def _rows(case: str, names: list[str], model: str, *sizes: int) -> Iterator[Row]:
    with ExitStack() as around:
        talking = {name: Talking("bench.cases.lean", name, model, *map(str, sizes)) for name in names}
        for held in talking.values():
            around.callback(held.close)
        found = {name: held.first for name, held in talking.items()}
        taken = [{name: held.ask()["seconds"] for name, held in talking.items()} for _ in range(ROUNDS)]
    for name, held in found.items():
        held["seconds"] = statistics.median(each[name] for each in taken)
    loss = found["ours"]["loss"]
    alike = {
        RIVALS[name]: Agreement(
            abs(held["loss"] - loss) <= SAME * abs(loss), f"loss {held['loss']:.6g}, ours {loss:.6g}"
        )
        for name, held in found.items()
        if name != "ours"
    }
    unit = math.prod(sizes[:2]) * CHANNELS * sizes[2] ** 2 * 4 / 2**20
    least = f"3 tensors of {unit:.1f} MB in the backward pass of a block, {BLOCKS - 2} outputs of convolutions, "
    least += f"{BLOCKS} last states of {unit / sizes[0]:.1f} MB"
    note = f"{least}; " if model == "conv" else ""
    size, takes = (found["plain"][key] for key in ("gradient", "takes"))
    note += f"the gradient of the largest weight, {size:.1f} MB, takes {takes:.1f} MB while PyTorch computes it; "
    ratios = statistics.quantiles([each["ours"] / each["plain"] for each in taken], n=4)
    fastest = {name: min(each[name] for each in taken) for name in ("ours", "plain")}
    note += f"lean takes {ratios[1]:.2f} of plain's time (quartiles {ratios[0]:.2f} and {ratios[2]:.2f}, "
    note += f"of the fastest steps {fastest['ours'] / fastest['plain']:.2f}); "
    note += f"fit took {found['fit']['planned']:.1f} s to plan, within {found['fit']['budget']:.1f} MB"
    for measure, key, unit in (("peak of a training step, lean", "peak", "MB"), ("time of it", "seconds", "s")):
        values = {RIVALS.get(name, name): held[key] for name, held in found.items()}
        yield from versus("lean", case, measure, unit, values, alike, note)


def _network(kit: Any, model: str, steps: int, side: int) -> nn.Module:
    net: nn.Module
    if model == "SEW-ResNet18":
        net, _ = resnet18(kit, sew=True)
    elif model == "Spikformer-S":
        module = importlib.import_module(f"{kit.models}.spikformer")
        net = module.spikformer_s(T=steps, img_size_h=side, img_size_w=side, num_classes=CLASSES)
    else:
        net = _blocks(kit)
    kit.functional.set_step_mode(net, "m")
    return _with_the_same_weights(net)


def _blocks(kit: Any) -> nn.Module:
    parts: list[nn.Module] = []
    for block in range(BLOCKS):
        first = 3 if block == 0 else CHANNELS
        parts.append(kit.layer.Conv2d(first, CHANNELS, 3, padding=1, bias=False))
        parts += [kit.layer.BatchNorm2d(CHANNELS), kit.neuron.LIFNode()]
    parts += [kit.layer.AdaptiveAvgPool2d(4), kit.layer.Flatten(), kit.layer.Linear(16 * CHANNELS, CLASSES)]
    return nn.Sequential(*parts)


def _with_the_same_weights(net: nn.Module) -> nn.Module:
    """The network with weights that follow from the order and the shapes of its parameters alone."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * math.sqrt(2 / p[0].numel()))
            elif not bool((p == 1).all()):  # the gain of a normalisation stays as it is
                p.zero_()
    return net


def _of_the_largest_weight(net: nn.Module, x: Tensor) -> dict[str, float]:
    """MB of the gradient of the convolution with the largest weight, and those that are taken while it comes about."""
    conv = max((each for each in net.modules() if isinstance(each, nn.Conv2d)), key=lambda each: each.weight.numel())
    shapes: list[tuple[int, ...]] = []
    seen = conv.register_forward_hook(lambda _, args, y: shapes.extend([args[0].shape, y.shape]))
    with torch.no_grad():
        net(x)
    seen.remove()
    given, out = (torch.rand(math.prod(shape[:-3]), *shape[-3:]) for shape in shapes)
    settings = conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups, (False, True, False)

    def work() -> None:
        torch.ops.aten.convolution_backward(out, given, conv.weight, None, *settings)

    work()
    return {"gradient": conv.weight.nbytes / 2**20, "takes": most_allocated(work, torch.device("cpu")) / 2**20}


def _contender(name: str, model: str, steps: int, batch: int, side: int) -> None:
    """Tells its peak, and the time of a step as often as it is asked."""
    torch.manual_seed(1)
    x = torch.rand(steps, batch, 3, side, side)
    kit = kit_of("spikescope" if name in ("ours", "plain", "fit") else "spikingjelly")
    net = _network(kit, model, steps, side)
    told: dict[str, float] = {}
    if name == "ours":
        kit.functional.lean(net)
    if name == "fit":
        start = time.perf_counter()
        roomy = kit.functional.fit_memory(net, x, "1 TB", show=False)
        middle = max((roomy.floor + roomy.after) // 2, roomy.floor)
        plan = kit.functional.fit_memory(net, x, middle, show=False)
        told = {"planned": time.perf_counter() - start, "budget": plan.budget / 2**20}
    if name == "memopt":
        from spikingjelly.activation_based import memopt

        def example(model: nn.Module) -> Tensor:
            kit.functional.reset_net(model)
            out: Tensor = model(x)
            return out

        net = memopt.optimize_memory(net, (kit.neuron.LIFNode,), example, level=1)

    def step() -> float:
        kit.functional.reset_net(net)
        loss = net(x).mean(0).square().mean()
        loss.backward()
        net.zero_grad(set_to_none=False)
        return float(loss.detach())

    if name == "plain":
        told = _of_the_largest_weight(net, x)

    step()
    loss = step()
    highest = most_allocated(step, torch.device("cpu")) / 2**20
    print(json.dumps({"peak": round(highest, 1), "loss": loss, **told}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    _contender(*sys.argv[1:3], *map(int, sys.argv[3:]))
