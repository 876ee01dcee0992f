"""The axes of values are found once for all that are alike; what is not alike is noticed."""

import torch
from torch import nn

from spikescope import monitor, neuron
from spikescope.monitor.probe import Probe
from spikescope.monitor.probe.axes import Reading
from spikescope.sockets import Signal


def test_another_shape_and_another_step_mode_are_noticed():
    node, seen = neuron.IFNode(step_mode="m"), []
    probe = Probe("", node, Signal("output"), lambda value, moment: seen.append(moment[3:6]))
    for mode, *shape in (("m", 4, 2, 3), ("m", 6, 5, 3), ("s", 6, 5, 3), ("s", 4, 2, 3), ("m", 4, 2, 3)):
        node.reset()
        node.step_mode = mode
        node(torch.zeros(*shape))
    probe.close()
    assert seen == [(0, 4, 2), (0, 6, 5), (0, 1, 6), (0, 1, 4), (0, 4, 2)]


def test_what_a_user_says_of_a_class_holds_from_then_on():
    class Foreign(nn.Module):
        def forward(self, x):
            return x

    reading, value = Reading(Foreign(), Signal("output")), torch.arange(6.0).view(2, 3)
    assert reading(value)[1][2:] == (False, False, 1, 2)
    monitor.adopt(Foreign, time=1)
    turned, axes = reading(value)
    assert torch.equal(turned, value.T)
    assert axes[2:] == (True, False, 3, 2)
