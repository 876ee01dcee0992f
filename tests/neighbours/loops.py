"""A small problem for the loops of other libraries: which of four places of a line is bright."""

from __future__ import annotations

import torch
from torch import nn

from spikescope import functional, layer, neuron

T = 4


def data(count: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 4
    x = 0.3 * torch.rand(count, 8, generator=generator)
    x[torch.arange(count), 2 * y] += 1.5
    return x, y


def network(step_mode: str = "m") -> nn.Sequential:
    """`[T, N, 8]` to `[T, N, 4]`."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(layer.Linear(8, 16), neuron.LIFNode(), layer.Linear(16, 4))
    functional.set_step_mode(net, step_mode)
    return net


def names(stage: str, at: str = "1") -> set[str]:
    return {f"{stage}_rate/{at}", f"{stage}_silent/{at}"}
