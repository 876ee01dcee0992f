"""Trainings on real digits at learning rates that are good, and at ones that are far too high, short and long."""

from functools import cache

import torch
from health_networks import scene
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.train import load_digits

T, BATCH = 4, 64

OPTIMIZERS = {
    "SGD": torch.optim.SGD,
    "momentum": lambda weights, lr: torch.optim.SGD(weights, lr, momentum=0.9),
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
}

# Each was trained for three epochs: the good ones end at .85 and more of the test digits, or would with more updates,
# the others below .5.
RATES = {  # network and optimizer -> good rates, and rates that are far too high
    ("perceptron", "SGD"): ((1.0,), (1000.0,)),
    ("perceptron", "momentum"): ((0.1, 0.5), (100.0,)),
    ("perceptron", "Adam"): ((0.005, 0.02, 0.1), (1.0,)),
    ("perceptron", "AdamW"): ((0.02,), (1.0,)),
    ("convolution", "SGD"): ((0.1,), (5.0, 1000.0)),
    ("convolution", "momentum"): ((0.1, 0.5), (10.0,)),
    ("convolution", "Adam"): ((0.005, 0.05, 0.1), (1.0,)),
    ("convolution", "AdamW"): ((0.1,), (1.0,)),
}
UPDATES = {"in a few updates": 4, "in two epochs": 40}


@cache
def digits():
    return load_digits()


def network(name):
    if name == "perceptron":
        front = (layer.Flatten(), layer.Linear(64, 128), layer.BatchNorm1d(128), neuron.LIFNode())
        parts = (*front, layer.Linear(128, 10))
    else:
        front = (layer.Conv2d(1, 16, 3, padding=1), layer.BatchNorm2d(16), neuron.LIFNode(), layer.MaxPool2d(2))
        parts = (*front, layer.Flatten(), layer.Linear(16 * 16, 10))
    net = nn.Sequential(*parts)
    functional.set_step_mode(net, "m")
    return net


def training(name, optimizer, lr, updates, after=lambda net, at: None):
    """A scene of so many updates; `after` each, something is done by hand."""
    data, net = digits(), network(name)

    def run(held):
        order = torch.arange(len(data.x_train)).split(BATCH)
        for at in range(updates):
            rows = order[at % (len(order) - 1)]
            functional.reset_net(net)
            scores = net(data.x_train[rows].expand(T, -1, -1, -1, -1)).mean(0)
            held.optimizer.zero_grad()
            nn.functional.cross_entropy(scores, data.y_train[rows]).backward()
            held.optimizer.step()
            after(net, at)

    watched = {"silent": 1.0, "saturated": 1.0, "vanishing": 1e-30, "support": 1e-30}  # others than the rate
    return scene(net, run=run, optimizer=OPTIMIZERS[optimizer](net.parameters(), lr), **watched)


def _cases(which):
    return {
        f"{name}, {optimizer} at {lr:g} {length}": (name, optimizer, lr, updates)
        for (name, optimizer), rates in RATES.items()
        for lr in rates[which]
        for length, updates in UPDATES.items()
    }


def _build(*case):
    return lambda: training(*case)


GOOD = {name: _build(*case) for name, case in _cases(0).items()}
FAR_TOO_HIGH = {name: (None, "learning rate too high", _build(*case)) for name, case in _cases(1).items()}


@torch.no_grad()
def _clipped(net, at):
    for weight in net.parameters():
        weight.clamp_(-0.02, 0.02)


@torch.no_grad()
def _scaled(net, at):
    if at == 3:
        net[1].weight.mul_(512)
    if at == 4:
        net[1].weight.div_(512)


@torch.no_grad()
def _loaded(net, at):
    """A checkpoint of far larger weights, after a look at the test digits."""
    if at == 3:
        net.eval()(digits().x_test[:BATCH].expand(T, -1, -1, -1, -1))
        net.load_state_dict({name: 30 * value for name, value in net.state_dict().items()})
        net.train()


BY_HAND = {
    "weights that are clipped": lambda: training("perceptron", "Adam", 0.001, 6, _clipped),
    "a weight that is scaled by hand": lambda: training("perceptron", "Adam", 0.001, 6, _scaled),
    "a checkpoint that is loaded": lambda: training("perceptron", "Adam", 0.001, 6, _loaded),
}
