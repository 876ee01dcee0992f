"""One step of a small layer and of a small network, where the cost of a call is all there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import functional, neuron

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


def _network(node: Callable[[], nn.Module]) -> nn.Module:
    """Three layers of 128 neurons, with the same weights at every call."""
    torch.manual_seed(0)
    return nn.Sequential(*[module for _ in range(3) for module in (nn.Linear(128, 128), node())])


def _in_a_loop(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """One step more of a network whose neurons keep their state."""

    def work(x: Tensor) -> Tensor:
        with torch.no_grad():
            y: Tensor = net(x)
        return y

    return work


def _streams(options: Options) -> Iterator[Row]:
    """A network in a loop with the world: each step goes on from the state of the one before."""
    x = 3 * torch.rand(1, 128, generator=torch.Generator().manual_seed(0))
    contenders = {
        "ours": functional.stream(_network(neuron.LIFNode)).step,
        "ours, eager": _in_a_loop(_network(lambda: neuron.LIFNode(backend="torch"))),
    }
    if lif("spikingjelly") is not None:
        contenders["spikingjelly"] = _in_a_loop(_network(_spikingjelly))
    steps = {name: torch.stack([step(x) for _ in range(8)]) for name, step in contenders.items()}
    found = {name: agreement([steps["ours"]], [held]) for name, held in steps.items() if name != "ours"}
    work = {name: partial(step, x) for name, step in contenders.items()}
    yield from measure("latency", "stream of 3 x (Linear + LIF), 128", "step", work, found, options)


def rows(options: Options) -> Iterator[Row]:
    """Milliseconds a step, without and with gradient."""
    torch.manual_seed(0)
    x = torch.randn(SHAPE) + 0.5
    yield from _layer("LIF, one step [{}, {}]".format(*SHAPE), _contenders(x), options)
    if lif("spikingjelly") is not None:
        own = {"ours": _charged(neuron.LIFNode), "spikingjelly": _charged(type(_spikingjelly()))}
        for mode, what, given in (("s", "one step", x), ("m", "eight steps", torch.randn(8, *SHAPE) + 0.5)):
            steps = {name: (_step(cls(step_mode=mode)), given) for name, cls in own.items()}
            yield from _layer(
                "LIF with a neuronal_charge of one's own, {} [{}, {}]".format(what, *SHAPE), steps, options
            )
    yield from _streams(options)


def _charged(base: type[Any]) -> type[Any]:
    """A neuron as published code writes it: a subclass with one method of its own."""

    class Charged(base):
        def neuronal_charge(self, x: Tensor) -> None:
            self.v = self.v + (x - self.v) / self.tau

    return Charged


def _layer(
    case: str, contenders: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]], options: Options
) -> Iterator[Row]:
    spikes = {name: step(x) for name, (step, x) in contenders.items()}
    found = {
        name: agreement([spikes["ours"]], [held.reshape(spikes["ours"].shape)])
        for name, held in spikes.items()
        if name != "ours"
    }

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
