"""Networks that run in training and in evaluation, where the statistics of a normalisation count."""

import torch
from health_networks import F, learn, linear, scene
from torch import nn

from spikescope import functional, layer, neuron


def learn_and_test(scene):
    """A forward and a backward pass, and the same input in evaluation."""
    learn(scene)
    functional.reset_net(scene.net)
    with torch.no_grad():
        scene.net.eval()(scene.x)
    scene.net.train()


def _normed(shift):
    """A normalisation of inputs that are far off, whose statistics have seen nothing of them yet."""
    net = nn.Sequential(linear(F, 32), layer.BatchNorm1d(32), neuron.LIFNode())
    nn.init.constant_(net[0].bias, shift)
    nn.init.constant_(net[1].bias, 1.0)
    functional.set_step_mode(net, "m")
    return net


STALE = {
    "statistics that have seen one batch": (
        "2",
        "silent in evaluation",
        lambda: scene(_normed(-20.0), run=learn_and_test),
    ),
}

SETTLED = {"training and evaluation": lambda: scene(_normed(0.3), run=learn_and_test)}
