"""The container of networks that are trained online through time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..base import MemoryModule, SingleStepModule, input_of
from ..neuron import Neuron

__all__ = ["OTTTSequential"]

_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_DROPOUT = nn.modules.dropout._DropoutNd


def with_gradient_of(value: Tensor, source: Tensor) -> Tensor:
    """`value`, exactly, whose gradient goes to `source`."""
    return value.detach() + (source - source.detach())


def _weighted(module: nn.Module, spike: Tensor, trace: Tensor) -> Any:
    """The value from the spikes; the weights see the trace in the backward pass, the spikes get their gradient."""
    with torch.no_grad():
        out = module(spike)
    return with_gradient_of(out, module(with_gradient_of(trace, spike)))


def _check_takes_pair(module: nn.Module) -> None:
    """Refuse what cannot be run twice in one step."""
    name = type(module).__name__
    for inner in module.modules():
        if isinstance(inner, Neuron):
            raise ValueError(
                f"OTTTSequential: {name} follows an OTTTLIFNode and would step the neuron {type(inner).__name__} "
                "twice, with the spikes and with the trace. Put a weighted layer between them, and nest "
                "with nn.Sequential or OTTTSequential."
            )
        if isinstance(inner, _BATCH_NORM):
            raise ValueError(
                f"OTTTSequential: {name} follows an OTTTLIFNode and would mix spikes and traces in its statistics. "
                "Put it behind the weighted layer, or use layer.WSConv2d or layer.WSLinear instead of a norm."
            )
        if isinstance(inner, _DROPOUT) and not isinstance(inner, MemoryModule):
            raise ValueError(
                f"OTTTSequential: {name} would drop other elements of the spikes than of the trace. "
                "Use layer.Dropout or layer.Dropout2d, which keep their mask until the reset."
            )


def _apply(module: nn.Module, x: Any) -> Any:
    if isinstance(module, nn.Sequential) and not isinstance(module, OTTTSequential):
        for child in module:
            x = _apply(child, x)
        return x
    if not isinstance(x, list) or isinstance(module, OTTTSequential):
        return module(x)
    _check_takes_pair(module)
    spike, trace = x
    if any(True for _ in module.parameters()):
        return _weighted(module, spike, trace)
    with torch.no_grad():
        trace = module(trace)
    return [module(spike), trace]


class OTTTSequential(SingleStepModule, nn.Sequential):
    r"""Modules in a row that hand on the pair `[spike, trace]` of `neuron.OTTTLIFNode`. Single steps only.

    A module with weights takes its value from the spikes and its weight gradient from the trace,
    $\nabla_W L_t = \delta_t\, \hat a_t^T$; what goes back to the spikes is $W^T \delta_t$ as always. A module without
    weights is applied to both. The modules of an `nn.Sequential` inside count as modules of this one.

    ValueError for what would be wrong if run on both: a neuron or a batch norm right behind an `OTTTLIFNode`, and a
    dropout that draws a mask for each call.

    Xiao et al., *Online training through time for spiking neural networks* (NeurIPS 2022).

    >>> net = OTTTSequential(spikescope.neuron.OTTTLIFNode(), nn.Linear(1, 1, bias=False))
    >>> _ = net(torch.tensor([[1.0]]))  # spike 1, trace 1
    >>> net(torch.tensor([[1.0]])).sum().backward()  # spike 1, trace 1.5
    >>> net[1].weight.grad
    tensor([[1.5000]])
    """

    def forward(self, input: Any = None, **named: Any) -> Any:
        """One step `[N, *]`, or the pair that an `OTTTLIFNode` before this container gave out."""
        x = input_of(type(self).__name__, input, named)
        for module in self:
            x = _apply(module, x)
        return x
