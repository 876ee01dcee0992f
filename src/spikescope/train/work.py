"""What one sample costs: synaptic operations of the spikes, against the products of the same network without spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..monitor import InputMonitor, record, where
from ..monitor.reduce import SynOps, fan_out
from ..report.views import LayerWork
from .data import direct_encoding
from .observe import at_rest

__all__ = ["count_work"]

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def count_work(net: nn.Module, x: Tensor, steps: int) -> tuple[LayerWork, ...]:
    """The work of each weighted layer for one of the samples `x`, shown for `steps` steps; `net` in `step_mode='m'`.

    A layer that spikes go into is charged a synaptic operation (one addition) for each synapse that a spike reaches. A
    layer that gets the image itself is charged its multiply-accumulates, once: the frame is the same at every step.
    """
    with torch.no_grad(), at_rest(net), _seen(net) as inputs:
        net(direct_encoding(x, steps))
    reach = {name: fan_out(net.get_submodule(name), shape) for name, (shape, _) in _first(inputs).items()}
    spiking = [name for name, (_, binary) in _first(inputs).items() if binary]

    def operations(name: str, module: nn.Module) -> SynOps:
        return SynOps(reach[name])

    chosen = where(lambda name, module: name in spiking)
    with torch.no_grad(), at_rest(net), record(net, operations, chosen, "input") as work:
        net(direct_encoding(x, steps))
    return tuple(
        LayerWork(name, work[name].per_sample if name in spiking else total, total)
        for name, total in ((name, held.sum().item()) for name, held in reach.items())
    )


def _seen(net: nn.Module) -> InputMonitor:
    """The shape of one sample, and whether it is made of spikes, for every input of a weighted layer."""
    return InputMonitor(net, _WEIGHTED, lambda x: (x.shape[2:], bool(((x == 0) | (x == 1)).all())))


def _first(inputs: InputMonitor) -> dict[str, Any]:
    return {name: inputs[name][0] for name in inputs.monitored_layers}
