"""A training step of networks that papers use, and how much of it is no convolution and no product of matrices.

The convolutions and products are PyTorch's in every library, so what a library can do better is the rest of the step:
neurons, norms, copies, and the Python between them. Each network is written once, for the names that both libraries
have; weights and inputs are the same. SpikingJelly 0.0.0.0.14 is measured too where `SPIKESCOPE_BENCH_AGES` names the
folder with a folder a version that `make programs` makes.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ..harness import Agreement, Options, Row, compete, seconds, subprocess_json, versus

__all__ = ["kit_of", "resnet18", "rows"]

T = 4
LOSS = 1e-3  # relative difference of the first losses: a spike or none
OLD = "0.0.0.0.14"
PRODUCTS = ("convolution", "conv2d", "mm", "bmm", "addmm", "baddbmm", "linear", "matmul")
"""What the profile calls the work that is the same for all."""


def kit_of(library: str) -> Any:
    """The modules of a library by the names that both have."""
    inside = "" if library == "spikescope" else ".activation_based"
    names = ("functional", "layer", "neuron", "surrogate")
    kit = {name: importlib.import_module(f"{library}{inside}.{name}") for name in names}
    models = f"{library}{inside}.model{'s' if library == 'spikescope' else ''}"
    return SimpleNamespace(**kit, models=models)


def _sequence(kit: Any, net: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network that takes the image T times at once."""
    kit.functional.set_step_mode(net, "m")
    return lambda image: net(image.unsqueeze(0).repeat(T, *[1] * image.dim())).mean(0)


def _loop(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network that takes one step after the other."""
    return lambda image: torch.stack([net(image) for _ in range(T)]).mean(0)


class _Block(nn.Module):
    """Two convolutions with norms and neurons, and a way past them: `sew` adds spikes, else potentials are added."""

    def __init__(self, kit: Any, channels: int, width: int, stride: int, sew: bool) -> None:
        super().__init__()
        layer, self.sew = kit.layer, sew
        conv, norm = layer.Conv2d(channels, width, 3, stride, 1, bias=False), layer.BatchNorm2d(width)
        self.first = nn.Sequential(conv, norm, _neuron(kit))
        conv, norm = layer.Conv2d(width, width, 3, 1, 1, bias=False), layer.BatchNorm2d(width)
        self.second = nn.Sequential(conv, norm)
        past: list[nn.Module] = []
        if channels != width or stride > 1:
            past = [layer.Conv2d(channels, width, 1, stride, bias=False), layer.BatchNorm2d(width)]
            past += [_neuron(kit)] if sew else []
        self.past, self.out = nn.Sequential(*past), _neuron(kit)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        out: Tensor = self.out(y) + self.past(x) if self.sew else self.out(y + self.past(x))
        return out


def _neuron(kit: Any) -> nn.Module:
    made: nn.Module = kit.neuron.LIFNode(surrogate_function=kit.surrogate.ATan(), detach_reset=True)
    return made


def resnet18(kit: Any, sew: bool) -> Any:
    """ResNet-18 as SEW-ResNet and spiking ResNet have it, on sequences."""
    layer, stem = kit.layer, kit.layer.Conv2d(3, 64, 7, 2, 3, bias=False)
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1)]
    widths += [(256, 512, 2), (512, 512, 1)]
    blocks = [_Block(kit, *width, sew) for width in widths]
    begin = [stem, layer.BatchNorm2d(64), _neuron(kit), layer.MaxPool2d(3, 2, 1)]
    net = nn.Sequential(*begin, *blocks, layer.AdaptiveAvgPool2d(1), layer.Flatten(), layer.Linear(512, 10))
    return net, _sequence(kit, net)


def _spikformer(kit: Any) -> Any:
    module = importlib.import_module(f"{kit.models}.spikformer")
    net = module.spikformer_ti(T=T, img_size_h=64, img_size_w=64, num_classes=10)
    return net, _sequence(kit, net)


def _resnet19(kit: Any) -> Any:
    """ResNet-19 of the literature, a quarter as wide, one step after the other."""
    widths = [(32, 32, 1), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    blocks = [_Block(kit, *width, sew=False) for width in widths]
    stem = (nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), _neuron(kit))
    net = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    return net, _loop(net)


def _small(kit: Any) -> Any:
    """Eight layers on tensors of [16, 64], one step after the other: the cost of a call is all there is."""
    parts = [part for _ in range(8) for part in (nn.Linear(64, 64), nn.BatchNorm1d(64), kit.neuron.LIFNode())]
    net = nn.Sequential(*parts, nn.Linear(64, 10))
    return net, _loop(net)


NETWORKS: Mapping[str, tuple[Callable[[Any], Any], tuple[int, ...], bool]] = {
    "SEW-ResNet18": (partial(resnet18, sew=True), (4, 3, 64, 64), True),
    "spiking ResNet18": (partial(resnet18, sew=False), (4, 3, 64, 64), True),
    "Spikformer": (_spikformer, (4, 3, 64, 64), False),
    "ResNet19, single steps": (_resnet19, (8, 3, 32, 32), True),
    "8 layers, single steps": (_small, (16, 64), True),
}
"""How it is made, the shape of its input, and whether the older release has it."""


def _step(kit: Any, net: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Callable[[], float]:
    def work() -> float:
        kit.functional.reset_net(net)
        for parameter in net.parameters():
            parameter.grad = None
        loss = nn.functional.cross_entropy(run(x), target)
        loss.backward()
        return loss.item()

    return work


def _products(work: Callable[[], Any]) -> float:
    """Seconds of a step that are spent in convolutions and products of matrices."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    return sum(event.self_cpu_time_total for event in seen.key_averages() if _is_product(event.key)) / 1e6


def _is_product(name: str) -> bool:
    plain = name.removeprefix("aten::")
    return plain in PRODUCTS or any(part in plain for part in PRODUCTS[:2])


def _rows_of(name: str, rival: str, options: Options) -> Iterator[Row]:
    make, shape, _ = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    x, target = torch.rand(shape, generator=generator), torch.randint(10, shape[:1], generator=generator)
    kits = {"ours": kit_of("spikescope"), rival: kit_of("spikingjelly")}
    made: dict[str, Any] = {}
    for who, kit in kits.items():
        torch.manual_seed(0)
        made[who] = make(kit)
    weights = list(made[rival][0].state_dict().values())  # of other names here and there, in the same order
    ours = made["ours"][0].state_dict()
    same = [tuple(held.shape) for held in weights] == [tuple(held.shape) for held in ours.values()]
    if same:
        made["ours"][0].load_state_dict(dict(zip(ours, weights, strict=True)))
    work = {who: _step(kit, *made[who], x, target) for who, kit in kits.items()}
    losses = {who: call() for who, call in work.items()}
    off = abs(losses["ours"] - losses[rival]) / losses[rival]
    words = f"first losses differ by {off:.0e}" if same else "weights of other shapes"
    found = {rival: Agreement(same and off <= LOSS, words)}
    steps = compete(work, options)
    case = f"{name}, {list(shape)}, T={T}"
    yield from versus("published", case, "training step", "ms", {k: s * 1e3 for k, s in steps.items()}, found)
    beside: dict[str, list[float]] = {who: [] for who in work}
    for _ in range(2 if options.quick else 9):  # in turns, each step with the next: what is left is a small difference
        for who, call in work.items():
            whole = seconds(call, 1)
            beside[who].append(whole - _products(call))
    rest = {who: 1e3 * statistics.median(taken) for who, taken in beside.items()}
    yield from versus("published", case, "outside convolutions and products", "ms", rest, found)


def _installed() -> list[str]:
    try:
        importlib.import_module("spikingjelly.activation_based.neuron")
    except Exception:  # a rival that cannot be had, or is broken, has no row
        return []
    return ["spikingjelly"]


def _all(rival: str, old: bool, options: Options) -> Iterator[Row]:
    for name, (_, _, in_old) in NETWORKS.items():
        if in_old or not old:
            yield from _rows_of(name, rival, options)


def rows(options: Options) -> Iterator[Row]:
    """Two rows a network and release."""
    for rival in _installed():
        yield from _all(rival, False, options)
    folder = Path(os.environ.get("SPIKESCOPE_BENCH_AGES", "nowhere")) / OLD
    if folder.is_dir():
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        given = json.dumps({"quick": options.quick})
        for row in subprocess_json("bench.cases.published", given, environment={"PYTHONPATH": path}):
            yield Row(**row)


if __name__ == "__main__":
    chosen = Options(**json.loads(sys.argv[1]))
    print(json.dumps([asdict(row) for row in _all(f"spikingjelly {OLD}", True, chosen)]))
