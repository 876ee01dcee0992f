"""A flight recorder changes nothing of a training, whatever the neuron."""

from contextlib import nullcontext

import pytest
import torch
from neuron_cases import POINTWISE, make, steps, strength
from torch import nn

from spikescope import functional, layer, monitor


@pytest.mark.parametrize("cls", POINTWISE)
def test_a_training_of_any_neuron_is_the_same_with_a_recorder(cls, tmp_path):
    found, factor = [], strength(cls)
    for watched in (False, True):
        node = make(cls, step_mode="m", backend="auto")
        net = nn.Sequential(layer.Linear(5, 5, step_mode="m"), node, layer.Linear(5, 2, step_mode="m"))
        with monitor.flight_recorder(net, 20, (), tmp_path, report=False) if watched else nullcontext() as recorder:
            for step in range(5):
                torch.manual_seed(step)
                functional.reset_net(net)
                net.zero_grad()
                loss = net(factor * torch.rand(steps(cls), 3, 5)).square().mean()
                loss.backward()
                found.append([loss.detach(), *[held.grad for held in net.parameters() if held.grad is not None]])
            assert recorder is None or (len(recorder.ring.frames) == 4 and not recorder.errors)
    for one, two in zip(found[:5], found[5:], strict=True):
        assert len(one) == len(two) > 1
        assert all(map(torch.equal, one, two))
