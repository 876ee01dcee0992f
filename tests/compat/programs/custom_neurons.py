"""Neurons of one's own of six further kinds, each between two layers, trained for a few steps."""

import torch
from data import signals
from spikingjelly.activation_based import base, functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14",)
CLOSE = {"v ": (1e-5, "weights were trained by the gradient of a sigmoid, a product in another order")}


class TwoCompartments(neuron.LIFNode):
    """A dendrite that the soma draws from."""

    def __init__(self, *args, leak=0.5, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_memory("dendrite", 0.0)
        self.leak = leak

    def neuronal_charge(self, x):
        self.dendrite = self.leak * self.dendrite + x
        self.v = self.v + (self.dendrite - self.v) / self.tau


class MovingThreshold(neuron.LIFNode):
    """The threshold rises with each spike and decays in between."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_memory("extra", 0.0)

    def neuronal_fire(self):
        return self.surrogate_function(self.v - self.v_threshold - self.extra)

    def neuronal_reset(self, spike):
        super().neuronal_reset(spike)
        self.extra = 0.75 * self.extra + 0.5 * spike.detach()


class LearnedThreshold(neuron.BaseNode):
    def __init__(self, threshold=1.0, **kwargs):
        super().__init__(v_threshold=1.0, **kwargs)
        self.height = nn.Parameter(torch.tensor(threshold))
        self.decay = nn.Parameter(torch.tensor(0.0))

    @property
    def supported_backends(self):
        return ("torch",)

    def extra_repr(self):
        return super().extra_repr() + f", height={self.height.item():.2f}"

    def neuronal_charge(self, x):
        self.v = self.decay.sigmoid() * self.v + x

    def neuronal_fire(self):
        return self.surrogate_function(self.v / self.height.clamp(min=0.1) - 1.0)

    def neuronal_reset(self, spike):
        self.v = self.v - spike * self.height


class Counting(neuron.IFNode):
    """Several spikes in a step, as an integer."""

    def neuronal_fire(self):
        return sum(self.surrogate_function(self.v - k * self.v_threshold) for k in (1, 2, 3))


class Rectified(neuron.LIFNode):
    """A potential that a learned gain scales and a ReLU bounds from below."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.k = nn.Parameter(torch.tensor(1.25))

    def neuronal_charge(self, x):
        super().neuronal_charge(x)
        self.v = torch.relu(self.k * self.v)


class Complementary(base.MemoryModule):
    """A module of one's own around the state of two paths, in both step modes."""

    def __init__(self, decay=0.5, step_mode="s"):
        super().__init__()
        self.decay, self.step_mode = decay, step_mode
        self.spike = surrogate.ATan()
        self.register_memory("v", 0.0)
        self.register_memory("m", 0.0)

    def single_step_forward(self, x):
        self.v = self.decay * self.v + x
        fired = self.spike(self.v - 1.0)
        self.m = self.m * torch.sigmoid((1.0 - self.decay) * self.v) + fired
        self.v = self.v - fired * (1.0 + torch.sigmoid(self.m))
        return fired


KINDS = {
    "dendrite": lambda: TwoCompartments(tau=2.0, v_threshold=0.5, v_reset=None),
    "moving threshold": lambda: MovingThreshold(tau=2.0, decay_input=False, detach_reset=True),
    "learned threshold": lambda: LearnedThreshold(surrogate_function=surrogate.ATan()),
    "counting": lambda: Counting(v_reset=None, surrogate_function=surrogate.Sigmoid(alpha=2.0)),
    "rectified": lambda: Rectified(tau=1.5, decay_input=False),
    "complementary": Complementary,
}


def main():
    x, y = signals(16, 5, 6)
    result = {}
    for name, make in KINDS.items():
        torch.manual_seed(16)
        net = nn.Sequential(layer.Linear(6, 12), make(), layer.Linear(12, 4))
        functional.set_step_mode(net, "m")
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        losses = []
        for _ in range(3):
            spikes = net[1](net[0](2 * x.transpose(0, 1)))
            loss = nn.functional.cross_entropy(net[2](spikes).mean(0), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
            result.setdefault(f"first {name}", spikes.detach())
            losses.append(loss.item())
        result[f"losses {name}"] = losses
        functional.set_step_mode(net, "s")
        with torch.no_grad():
            result[f"single {name}"] = torch.stack([net(2 * step) for step in x.transpose(0, 1)])
        result[f"v {name}"] = net[1].v
    return result
