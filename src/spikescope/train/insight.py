"""A look into a network at the end of its training: what is wrong, what each layer does, what a sample brings about."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import monitor
from ..functional import reset_net
from ..neuron import Neuron, PointwiseNeuron
from ..report.views import GradientFlow
from ..view.document import Document, empty, of_network, show_sample
from .observe import all_spikes, at_rest, gradients

__all__ = ["Insight", "look_inside"]

PRICED = 8  # samples that the energy is counted on


class Insight(NamedTuple):
    """The document of a network, its findings as text, and how far its gradients reach, where that was seen."""

    document: Document
    health: str
    flow: GradientFlow | None


def look_inside(
    net: nn.Module,
    x_seq: Tensor,
    scores: Callable[[nn.Module, Tensor], Tensor],
    loss: Callable[[Tensor], Tensor],
    sequences: bool = True,
) -> Insight:
    """Run a copy of a network, which is changed by it, forwards and backwards on `[T, N, *]`, and watch.

    - `scores`: of a network and a sequence. `loss`: of the scores. `sequences`: whether the network takes sequences at
      once, as it must for gradients step by step, and for its energy.
    """
    net.train()
    reset_net(net)
    layers = monitor.by_role("synapse") | monitor.by_role("neuron")
    if not any(isinstance(module, Neuron) for module in net.modules()):  # the twin without spikes
        return Insight(empty("run", ""), "There are no neurons to look at.", None)
    trained = deepcopy(net)  # the pass in train moves the running statistics of norms
    with (
        monitor.health(net) as health,
        monitor.record(net, "gradient norm", layers, "grad_output") as norms,
    ):
        loss(scores(net, x_seq)).backward()
    seen = norms if sequences and len(norms) else None
    with torch.no_grad(), at_rest(trained):
        with monitor.record(trained) as activity:  # as in a test, which tells the rates that stand beside it
            scores(trained, x_seq)
        energy = monitor.energy(trained, x_seq[:, :PRICED], samples=min(PRICED, x_seq.shape[1])) if sequences else None
    found = of_network(net, health=health, activity=activity, gradients=seen, energy=energy, source="run")
    _add_sample(found, trained, x_seq[:, :1], scores)
    return Insight(found, health.table(), None if seen is None else gradients(seen))


def _add_sample(found: Document, net: nn.Module, x_seq: Tensor, scores: Callable[[nn.Module, Tensor], Tensor]) -> None:
    """The spikes and potentials of one sample."""
    neurons = monitor.by_type(PointwiseNeuron)
    if not any(isinstance(module, PointwiseNeuron) for module in net.modules()):
        return
    with (
        torch.no_grad(),
        at_rest(net),
        monitor.record(net, all_spikes, neurons, "spike") as spikes,
        monitor.record(net, "raw", neurons, "v") as potentials,
    ):
        scores(net, x_seq)
    show_sample(found, net, spikes.sound(), potentials.sound(), words="the first sample of the training part")
