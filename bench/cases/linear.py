"""Linear(n, n) + LIF on a batch of 16, the open benchmark of libraries of spiking networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..harness import Options, Row, agreement, compete, versus
from ..rivals import NAMES, Layer, lif, ours

__all__ = ["rows"]

BATCH = 16


class _Net:
    """A linear layer over all steps at once and the LIF layer of a library, with the same weights for all."""

    def __init__(self, layer: Layer, x_seq: Tensor, linear: nn.Linear) -> None:
        self.layer = layer
        layer.module.to(x_seq.device)
        self.linear = nn.Linear(linear.in_features, linear.out_features, bias=False, device=x_seq.device)
        with torch.no_grad():
            self.linear.weight.copy_(linear.weight * layer.input_scale)
        self.x = layer.arrange(x_seq)
        self.y: Tensor | None = None

    def forward(self) -> None:
        self.y = self.layer.run(self.linear(self.x))

    def backward(self, g: Tensor) -> tuple[Tensor, ...]:
        assert self.y is not None
        return torch.autograd.grad(self.y, [self.linear.weight], g)

    def both(self, g: Tensor) -> Callable[[], Any]:
        g = self.layer.arrange(g)

        def work() -> tuple[Tensor, ...]:
            self.forward()
            return self.backward(g)

        return work

    def result(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes `[T, N, n]` and the gradient of the weight in our units."""
        (grad,) = self.both(g)()
        assert self.y is not None
        return self.layer.restore(self.y).detach(), grad * self.layer.input_scale


def _contest(case: str, x_seq: Tensor, options: Options) -> Iterator[Row]:
    n = x_seq.shape[-1]
    torch.manual_seed(0)
    linear = nn.Linear(n, n, bias=False, device=x_seq.device)
    nn.init.normal_(linear.weight, std=1.5 / n**0.5)
    g = torch.randn_like(x_seq)
    layers = {name: layer for name in NAMES if (layer := lif(name)) is not None}
    expected = {detached: _Net(ours(detached), x_seq, linear).result(g) for detached in (False, True)}
    nets = {"ours": _Net(ours(), x_seq, linear)} | {k: _Net(layer, x_seq, linear) for k, layer in layers.items()}
    found = {name: agreement(expected[layers[name].detach_reset], nets[name].result(g)) for name in layers}
    running = {name: net for name, net in nets.items() if name == "ours" or found[name].same}
    forward = compete({name: net.forward for name, net in running.items()}, options)
    yield from versus("linear", case, "forward", "ms", {k: s * 1e3 for k, s in forward.items()}, found)
    both = compete({name: net.both(g) for name, net in running.items()}, options)
    yield from versus("linear", case, "forward + backward", "ms", {k: s * 1e3 for k, s in both.items()}, found)


def rows(options: Options) -> Iterator[Row]:
    """Normal and Bernoulli input; larger layers and more steps on a GPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    T = options.size(500 if device == "cuda" else 100, 20)
    for n in (512, 4096, 16384) if device == "cuda" else (512,):
        torch.manual_seed(0)
        shape = (T, BATCH, n)
        inputs = {"normal": torch.randn(shape), "Bernoulli(0.2)": torch.bernoulli(torch.full(shape, 0.2))}
        for kind, x_seq in inputs.items():
            yield from _contest(f"Linear({n}, {n}) + LIF, T={T}, {kind} input", x_seq.to(device), options)
