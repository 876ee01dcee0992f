"""A small network for tests of lean training, a step of it, and what is recognised of what autograd saves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.functional.memory import saved_tensors, stand_ins


def conv_net(node="LIFNode", step_mode="m"):
    torch.manual_seed(0)
    cls = neuron.registry[node]

    def made():
        return cls(
            **{**cls.example, **({"generator": torch.Generator().manual_seed(2)} if node == "NoisyLIFNode" else {})}
        )

    net = nn.Sequential(
        layer.Conv2d(2, 16, 3, padding=1),
        layer.BatchNorm2d(16),
        made(),
        layer.MaxPool2d(2),
        layer.Conv2d(16, 16, 3, padding=1, bias=False),
        layer.BatchNorm2d(16, affine=False),
        made(),
        layer.Flatten(),
        layer.Linear(16 * 64, 4),
    )
    functional.set_step_mode(net, step_mode)
    return net


X = torch.rand(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))


def step(net, x=X, single=False):
    """The loss and all gradients of a training step, as numbers to be compared bit for bit."""
    functional.reset_net(net)
    x = x.clone().requires_grad_()
    y = torch.stack([net(x_t) for x_t in x]) if single else net(x)
    loss = y.float().square().mean()
    loss.backward()
    held = [loss.detach(), x.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
    net.zero_grad()
    return held


@pytest.fixture(autouse=True)
def small_tensors_too(monkeypatch):
    monkeypatch.setattr(stand_ins, "LEAST", 1)


@pytest.fixture
def saved(monkeypatch):
    """What each saved tensor was recognised as."""
    found = []
    keep = saved_tensors.Ledger._keep

    def noted(self, x):
        held = keep(self, x)
        found.append(type(held.what).__name__)
        return held

    monkeypatch.setattr(saved_tensors.Ledger, "_keep", noted)
    return found
