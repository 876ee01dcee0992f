"""What makes a network ready to be measured: a loop over single steps, and norms that know their input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional import multi_step_forward, reset_net

__all__ = ["InSteps", "settle_norms"]


class InSteps(nn.Module):
    """A network of single steps as a function of a sequence `[T, N, *]`.

    >>> InSteps(nn.Sequential(nn.Linear(2, 3), spikescope.neuron.IFNode()))(torch.rand(4, 1, 2)).shape
    torch.Size([4, 1, 3])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_seq: Tensor) -> Tensor:
        """The outputs of all steps."""
        return multi_step_forward(x_seq, self.net)


def settle_norms(net: nn.Module, x: Tensor) -> None:
    """Give batch normalisations the statistics of an input, as a training would: what random weights do says more so.

    >>> net = nn.Sequential(nn.BatchNorm1d(1))
    >>> settle_norms(net, torch.tensor([[1.0], [3.0]]))
    >>> net[0].running_mean, net[0].momentum
    (tensor([2.]), 0.1)
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    held, training = [norm.momentum for norm in norms], net.training
    reset_net(net)
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all it sees
        with torch.no_grad():
            net.train()(x)
    finally:
        for norm, momentum in zip(norms, held, strict=True):
            norm.momentum = momentum
        net.train(training)
        reset_net(net)
