"""What a lean network sees of what no module has told: copies of spikes, and places that a pool remembers."""

from __future__ import annotations

import pytest
import torch
from lean_cases import X, conv_net, saved, small_tensors_too, step
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.functional.memory import slices, stand_ins

__all__ = ["saved", "small_tensors_too"]


class Turned(nn.Module):
    """Spikes that meet a turned copy of themselves, `factor` times as large."""

    def __init__(self, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.node, self.factor = nn.Linear(16, 16), neuron.LIFNode(step_mode="m"), factor
        nn.init.uniform_(self.linear.weight, -0.5, 1.0)

    def forward(self, x):
        spikes = self.node(self.linear(x.flatten(2, 3)))
        copied = spikes.mT.contiguous()
        if self.factor != 1:
            copied = torch.cat([copied[:-1], copied[-1:] * self.factor])  # the first of all values are spikes
        return spikes @ copied


def alike(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize(("factor", "number"), [(1.0, 2), (2.0, 1)], ids=["spikes", "others"])
def test_copies_of_spikes_are_kept_as_bits(factor, number, saved):
    assert alike(step(Turned(factor)), step(functional.lean(Turned(factor))))
    assert saved.count("Spikes") == number


def test_weights_and_inputs_are_kept_as_they_are(saved):
    """Somebody holds them anyway, and a change of them before the backward pass is to be told."""

    def made():
        net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8))
        for held in net.parameters():
            nn.init.ones_(held)
        return net

    x = (X < 0.5).float()
    assert alike(step(made(), x), step(functional.lean(made()), x))
    assert set(saved) == {"NoneType"}


def test_the_places_of_a_pool_are_kept_in_fewer_bits(saved):
    def made():
        net = conv_net()
        return nn.Sequential(net[0], net[1], nn.MaxPool3d((1, 2, 2)), net[2], *net[4:])  # PyTorch's own

    assert alike(step(made()), step(functional.lean(made())))
    assert saved.count("Places") == 1


@pytest.mark.parametrize(
    ("least", "most", "width"),
    [(0, 2**15 - 1, 16), (0, 2**15, 32), (-(2**15), 0, 16), (-(2**31), 2**31 - 1, 32), (0, 2**31, None)],
)
def test_whole_numbers_come_back(least, most, width):
    x = torch.tensor([[least, 0, 1], [2, 3, most]])
    found = stand_ins.seen(x)
    assert (None if found is None else found.width) == width
    if found is not None:
        assert torch.equal(found.memory().view(2, 3), x)


def test_a_part_of_memory_is_kept_as_it_is():
    assert stand_ins.seen(torch.arange(100)[:50]) is None


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_an_average_asks_for_no_values_of_its_input(step_mode, twice, monkeypatch):
    monkeypatch.setattr(slices, "LEAST_SLICED", 1)
    asked, memory = [], stand_ins.Spikes.memory
    monkeypatch.setattr(stand_ins.Spikes, "memory", lambda self: asked.append(1) or memory(self))
    found = []
    for lean in (False, True):
        net = nn.Sequential(*conv_net()[:3], layer.AdaptiveAvgPool2d(3))
        functional.set_step_mode(net, step_mode)
        functional.lean(net, lean)
        x = (X[0] if step_mode == "s" else X).clone().requires_grad_()
        (gx,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=twice)
        found.append([gx.detach()])
        if twice:
            gx.square().sum().backward()
            found[-1] += [x.grad, *(p.grad for p in net.parameters())]
    assert alike(*found)
    assert not asked
