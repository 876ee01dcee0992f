"""The work of a sample, by hand."""

import torch
from torch import nn

from spikescope import functional, layer
from spikescope.neuron import IFNode
from spikescope.train.work import count_work


def network():
    net = nn.Sequential(layer.Linear(2, 3, bias=False), IFNode(), layer.Linear(3, 4, bias=False))
    functional.set_step_mode(net, "m")
    nn.init.constant_(net[0].weight, 0.25)
    return net


def test_spikes_are_charged_by_their_fan_out_and_the_image_once():
    # Both samples drive each of the 3 neurons: the first by 0.25 * 2 a step, a spike every second step, two in four
    # steps; the second by 0.25 * 4, one every step. Each spike reaches 4 synapses.
    x = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    first, second = count_work(network(), x, steps=4)
    assert (first.name, first.operations, first.dense) == ("0", 6.0, 6.0)
    assert (second.name, second.operations, second.dense) == ("2", (3 * 2 * 4 + 3 * 4 * 4) / 2, 12.0)


def test_the_network_is_left_at_rest_and_unwatched():
    net = network()
    count_work(net, torch.ones(1, 2), steps=3)
    assert net[1].v == 0.0
    assert all(not module._forward_hooks.get("spikescope").points for module in net)
