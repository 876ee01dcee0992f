"""Networks that the tests of the monitors look into."""

import torch
from torch import nn

from spikescope import layer, neuron


def spiking_net(step_mode="m"):
    """Two layers of weights and neurons; the second in place after the first would be seen by records that alias."""
    torch.manual_seed(3)
    return nn.Sequential(
        layer.Linear(5, 7, step_mode=step_mode),
        neuron.IFNode(step_mode=step_mode),
        layer.Linear(7, 3, step_mode=step_mode),
        neuron.LIFNode(step_mode=step_mode),
    )


def sequence(T=4, N=2):
    torch.manual_seed(4)
    return torch.rand(T, N, 5) * 3


class Named(nn.Module):
    """Takes keywords, gives a dict with a nested tuple."""

    def forward(self, x, *, gain=None):
        y = x * (1.0 if gain is None else gain)
        return {"y": y, "parts": (y + 1, [y * 2])}
