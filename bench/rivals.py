"""The same LIF layer in each library: tau = 2, threshold 1, hard reset to 0, sigmoid surrogate with slope 4.

Each takes the input that its own equations want, made before the clock starts, and returns spikes `[T, ...]`:

- snnTorch does not divide the input by tau and keeps the spike of the reset out of the gradient;
- Norse has the derivative of tanh, which with slope 2 is that of the sigmoid with slope 4;
- sinabs has the time as second axis, keeps the spike of the reset out of the gradient, and takes any surrogate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from spikescope import neuron

__all__ = ["NAMES", "Layer", "forward_call", "gradients", "lif", "missing", "ours", "training_call"]

NAMES = ("spikingjelly", "snntorch", "norse", "sinabs")


@dataclass(frozen=True)
class Layer:
    """A LIF layer over a sequence, fresh at each call."""

    run: Callable[[Tensor], Tensor]
    module: nn.Module
    arrange: Callable[[Tensor], Tensor] = lambda x_seq: x_seq  # from [T, ...] to the axes of this library
    restore: Callable[[Tensor], Tensor] = lambda y: y  # and back
    input_scale: float = 1.0  # of the input of these equations in units of ours
    detach_reset: bool = False

    def prepare(self, x_seq: Tensor) -> Tensor:
        """The input as these equations want it."""
        self.module.to(x_seq.device)
        return self.arrange(x_seq if self.input_scale == 1 else x_seq * self.input_scale)


def ours(detach_reset: bool = False, backend: str = "auto") -> Layer:
    """Our own layer."""
    node = neuron.LIFNode(step_mode="m", detach_reset=detach_reset, backend=backend)

    def run(x_seq: Tensor) -> Tensor:
        node.reset()
        y: Tensor = node(x_seq)
        return y

    return Layer(run, node, detach_reset=detach_reset)


def _spikingjelly() -> Layer:
    from spikingjelly.activation_based.neuron import LIFNode

    node = LIFNode(step_mode="m")

    def run(x_seq: Tensor) -> Tensor:
        node.reset()
        y: Tensor = node(x_seq)
        return y

    return Layer(run, node)


def _snntorch() -> Layer:
    import snntorch
    from snntorch import surrogate

    node = snntorch.Leaky(beta=0.5, reset_mechanism="zero", spike_grad=surrogate.sigmoid(slope=4))

    def run(x_seq: Tensor) -> Tensor:
        mem, out = torch.zeros_like(x_seq[0]), []
        for x in x_seq.unbind(0):
            spike, mem = node(x, mem)
            out.append(spike)
        return torch.stack(out)

    return Layer(run, node, input_scale=0.5, detach_reset=True)


def _norse() -> Layer:
    from norse.torch import LIFBoxCell, LIFBoxParameters

    p = LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), method="tanh", alpha=2.0)
    node = LIFBoxCell(p, dt=0.001)

    def run(x_seq: Tensor) -> Tensor:
        state, out = None, []
        for x in x_seq.unbind(0):
            spike, state = node(x, state)
            out.append(spike)
        return torch.stack(out)

    return Layer(run, node)


def _sigmoid_slope_4(v: Tensor, threshold: Tensor) -> Tensor:
    s = torch.sigmoid(4 * (v - threshold))
    return 4 * s * (1 - s)


def _sinabs() -> Layer:
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.layers import LIF

    node = LIF(
        tau_mem=2.0,
        train_alphas=True,
        spike_fn=SingleSpike,
        reset_fn=MembraneReset(),
        surrogate_grad_fn=_sigmoid_slope_4,
    )
    node.alpha_mem.requires_grad_(False).fill_(0.5)

    def run(x: Tensor) -> Tensor:
        node.reset_states()
        y: Tensor = node(x)
        return y

    def batch_first(x_seq: Tensor) -> Tensor:
        return (x_seq.unsqueeze(1) if x_seq.ndim < 3 else x_seq).transpose(0, 1).contiguous()

    def time_first(y: Tensor) -> Tensor:
        return y[0] if len(y) == 1 else y.transpose(0, 1)

    return Layer(run, node, batch_first, time_first, detach_reset=True)


_MAKERS: dict[str, Callable[[], Layer]] = {
    "spikingjelly": _spikingjelly,
    "snntorch": _snntorch,
    "norse": _norse,
    "sinabs": _sinabs,
}


@cache
def _made(name: str) -> Layer | str:
    try:
        return _MAKERS[name]()
    except Exception as error:  # a rival that breaks is a line in the table, not the end of the run
        return f"not importable: {type(error).__name__}: {error}"


def lif(name: str) -> Layer | None:
    """The LIF layer of a library, or None where it cannot be had."""
    made = _made(name)
    return made if isinstance(made, Layer) else None


def missing() -> dict[str, str]:
    """The libraries that cannot be had, and why."""
    return {name: made for name in NAMES if isinstance(made := _made(name), str)}


def gradients(layer: Layer, x_seq: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes `[T, ...]` and the gradient of our input, as this layer computes them."""
    x = x_seq.detach().requires_grad_()
    y = layer.restore(layer.run(layer.prepare(x)))
    (grad,) = torch.autograd.grad(y, x, g)
    return y.detach(), grad


def training_call(layer: Layer, x_seq: Tensor, g: Tensor) -> Callable[[], Any]:
    """Forward and backward of a layer on its prepared input, as a call to be timed."""
    x = layer.prepare(x_seq).detach().requires_grad_()
    g = layer.arrange(g)
    return lambda: torch.autograd.grad(layer.run(x), x, g)


def forward_call(layer: Layer, x_seq: Tensor) -> Callable[[], Any]:
    """Forward of a layer on its prepared input, as a call to be timed."""
    x = layer.prepare(x_seq).detach()

    def work() -> None:
        with torch.no_grad():
            layer.run(x)

    return work
