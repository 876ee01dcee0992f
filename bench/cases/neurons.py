"""Every pointwise neuron of the registry: its fused kernel against its own eager loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from spikescope.neuron import PointwiseNeuron, registry

from ..harness import Options, Row, agreement, measure

__all__ = ["rows"]

T = 16


def _node(cls: type[Any], backend: str) -> Any:
    torch.manual_seed(0)  # some fields start from random values
    return cls(**cls.example, step_mode="m", backend=backend)


def _training(node: Any, x_seq: Tensor, g: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward with the gradients of the input and of all parameters."""
    x = x_seq.detach().requires_grad_()
    inputs = [x, *(p for p in node.parameters() if p.requires_grad)]

    def work() -> tuple[Tensor, ...]:
        node.reset()
        y = node(x)
        weights = g if y.shape == g.shape else g[0]  # a readout gives one step
        return (y.detach(), *torch.autograd.grad(y, inputs, weights))

    return work


def rows(options: Options) -> Iterator[Row]:
    """One row a neuron."""
    torch.manual_seed(0)
    size = options.size(65_536, 8_192)
    x_seq, g = torch.randn(T, size) + 0.5, torch.randn(T, size)
    for name, cls in registry.items():
        ours = cls.__module__.startswith("spikescope.")  # another group may have defined one of its own
        if not (ours and issubclass(cls, PointwiseNeuron) and "m" in cls.supported_step_modes):
            continue
        case = f"{name} {T} x {size:,}"
        work = {rival: _training(_node(cls, backend), x_seq, g) for rival, backend in _BACKENDS.items()}
        try:
            found = {"its eager loop": agreement(work["ours"](), work["its eager loop"]())}
        except RuntimeError as error:  # a neuron without a kernel says why
            yield Row("neurons", case, "forward + backward", "ms", None, "its eager loop", note=str(error)[:120])
            continue
        default = _node(cls, "auto").implementation(x_seq).backend
        note = "" if default == "cpp" else "'auto' takes the eager loop: a function in its step is not exact"
        yield from measure("neurons", case, "forward + backward", work, found, options, note)


_BACKENDS = {"ours": "cpp", "its eager loop": "torch"}
