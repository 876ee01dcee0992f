"""Counts of operations beside those of SpikingJelly's op_counter and of NeuroBench, on networks of three kinds.

Both count on the networks of this library: SpikingJelly watches the dispatcher, NeuroBench takes a layer and its input.
What is not installed is said. `make interop` runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikescope import functional, layer, models, monitor, neuron

STEPS, SAMPLES = 4, 2


def networks() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """A name, a network and its input."""
    torch.manual_seed(0)
    convolutions = nn.Sequential(
        layer.Conv2d(2, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), neuron.LIFNode(v_threshold=0.3),
        layer.MaxPool2d(2), layer.Conv2d(16, 32, 3, stride=2), layer.BatchNorm2d(32), neuron.LIFNode(v_threshold=0.3),
        layer.Flatten(), layer.Linear(32 * 49, 10), neuron.IFNode(),
    )  # fmt: skip
    functional.set_step_mode(convolutions, "m")
    yield "convolutions, spikes in", convolutions, (torch.rand(STEPS, SAMPLES, 2, 32, 32) < 0.1).float()
    images = torch.rand(SAMPLES, 3, 64, 64).repeat(STEPS, 1, 1, 1, 1)
    for cnf in ("IAND", "ADD"):
        residual = models.create("sew_resnet18", num_classes=10, cnf=cnf)
        functional.set_step_mode(residual, "m")
        yield f"SEW-ResNet-18 {cnf}", residual, images
    yield "Spikformer", models.create("spikformer_cifar10", T=STEPS, depths=2), torch.rand(SAMPLES, 3, 32, 32)


def spikingjelly(net: nn.Module, x: Tensor) -> tuple[float, float] | None:
    """Additions and MACs of a sample by its op_counter, for products of matrices and convolutions alone."""
    try:
        from spikingjelly.activation_based.op_counter import ACCounter, DispatchCounterMode, MACCounter
    except ImportError:
        return None
    additions, macs = ACCounter(), MACCounter()
    for counter in (additions, macs):
        counter.rules = {op: rule for op, rule in counter.rules.items() if str(op).split(".")[1] in PRODUCTS}
    with torch.no_grad(), DispatchCounterMode([additions, macs]):
        net(x)
    return additions.get_total() / SAMPLES, macs.get_total() / SAMPLES


PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution")


def neurobench(net: nn.Module, x: Tensor) -> tuple[float, float] | None:
    """The same by NeuroBench, which looks at layers with weights, one at a time."""
    try:
        from neurobench.metrics.utils.layers import single_layer_MACs
    except ImportError:
        return None
    found = {True: 0.0, False: 0.0}

    def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        held = args[0]
        plain = getattr(nn, type(module).__name__)
        bare = plain.__new__(plain)
        bare.__dict__ = module.__dict__ | {"_forward_pre_hooks": {}, "_forward_hooks": {}, "step_mode": "s"}
        rows = held.flatten(0, 1) if module.step_mode == "m" else held
        number, spikes = single_layer_MACs(rows, bare)
        found[spikes] += float(number)

    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    handles = [held.register_forward_pre_hook(look) for held in layers]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return found[True] / SAMPLES, found[False] / SAMPLES


def main() -> None:
    print(f"{'network':<26}{'by':<16}{'additions':>16}{'MACs that stay':>16}")
    for name, net, x in networks():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
        for _ in range(2):  # so that the normalisations know what comes, and neurons fire
            functional.reset_net(net.train())
            with torch.no_grad():
                net(x)
        functional.reset_net(net.eval())
        functional.set_backend(net, "torch")
        work = monitor.operations(net, x)
        rows = {"spikescope": (sum(row.acs for row in work), sum(row.macs for row in work))}
        for rival in (spikingjelly, neurobench):
            functional.reset_net(net)
            rows[rival.__name__] = rival(net, x)
        for by, held in rows.items():
            told = "".join(f"{value:>16,.1f}" for value in held) if held else "   not installed"
            print(f"{name:<26}{by:<16}{told}")
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
