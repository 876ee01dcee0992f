"""One step of a small layer, where the cost of a call is all there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from spikescope import neuron

from ..harness import Options, Row, agreement, measure
from ..rivals import lif

__all__ = ["rows"]

SHAPE = (16, 128)


def _spikingjelly() -> Any:
    from spikingjelly.activation_based.neuron import LIFNode

    return LIFNode()


def _step(node: Any) -> Callable[[Tensor], Tensor]:
    def work(x: Tensor) -> Tensor:
        node.reset()
        y: Tensor = node(x)
        return y

    return work


def _contenders(x: Tensor) -> dict[str, tuple[Callable[[Tensor], Tensor], Tensor]]:
    """One step from rest and the input it wants; a sequence of one step where a library is used that way."""
    made = {"ours": (_step(neuron.LIFNode()), x), "ours, eager": (_step(neuron.LIFNode(backend="torch")), x)}
    if lif("spikingjelly") is not None:
        made["spikingjelly"] = (_step(_spikingjelly()), x)
    for name in ("snntorch", "norse", "sinabs"):
        layer = lif(name)
        if layer is not None:
            made[name] = (layer.run, layer.prepare(x.unsqueeze(0)))
    return made


def rows(options: Options) -> Iterator[Row]:
    """Milliseconds a step, without and with gradient."""
    torch.manual_seed(0)
    contenders = _contenders(torch.randn(SHAPE) + 0.5)
    spikes = {name: step(x).reshape(SHAPE) for name, (step, x) in contenders.items()}
    found = {name: agreement([spikes["ours"]], [held]) for name, held in spikes.items() if name != "ours"}
    case = "LIF, one step [{}, {}]".format(*SHAPE)

    def forward(step: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Any]:
        def work() -> None:
            with torch.no_grad():
                step(x)

        return work

    def training(step: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Any]:
        x = x.detach().clone().requires_grad_()
        return lambda: torch.autograd.grad(step(x).sum(), x)

    for what, call in (("forward", forward), ("forward + backward", training)):
        work = {name: call(step, x) for name, (step, x) in contenders.items()}
        yield from measure("latency", case, what, work, found, options)
