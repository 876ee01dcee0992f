"""Potentials of a few samples, computed from what came in: a kernel that tells them all costs more than the rest."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ...neuron import PointwiseNeuron
from ...neuron.spiking import as_in_the_library

__all__ = ["follows_from_input", "learned", "potentials"]

LARGE = 1 << 12
"""Learned numbers of a neuron from which on they are not copied at each step."""


def follows_from_input(module: nn.Module) -> bool:
    """Whether the potential is a function of the input and of few numbers: not of noise, nor of methods of a user."""
    if not isinstance(module, PointwiseNeuron) or not as_in_the_library(module):
        return False
    cls = type(module)
    plain = cls.drive is PointwiseNeuron.drive and cls.gain_in_time is PointwiseNeuron.gain_in_time
    return plain and sum(held.numel() for held in module.parameters()) <= LARGE


def learned(module: nn.Module) -> dict[str, Tensor]:
    """The numbers that a neuron has learned so far, by name."""
    return {name: held.detach().clone() for name, held in module.named_parameters()}


def potentials(module: PointwiseNeuron, then: dict[str, Tensor], x_seq: Tensor) -> Tensor:
    """The potentials before the reset `[T, N, *]`, from rest, of a neuron with the numbers that it had learned then.

    >>> node = spikescope.neuron.IFNode()
    >>> potentials(node, {}, torch.tensor([[[0.75]], [[0.75]], [[0.75]]])).flatten()
    tensor([0.7500, 1.5000, 0.7500])
    """
    with torch.no_grad():
        twin = deepcopy(module)
        twin.step_mode, twin.store_v_seq = "m", False
        for name, held in twin.named_parameters():
            if name in then:
                held.copy_(then[name])
        twin.reset()
        twin.request_taps(("h",))
        twin(x_seq)
        told: Tensor = twin.tapped["h"]
    return told
