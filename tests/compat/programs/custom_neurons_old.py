"""Neurons of one's own on the clock-driven classes: a threshold that moves, a loop over time, a state by hand."""

import torch
from data import signals
from spikingjelly.clock_driven import base, functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.12",)


class Adaptive(neuron.BaseNode):
    """`v_threshold` is a state here: it moves, and `reset` brings it back."""

    def __init__(self, v_threshold=1.0, v_reset=0.0, surrogate_function=None, step=0.25):
        super().__init__(v_threshold, v_reset, surrogate_function or surrogate.Sigmoid())
        self.step = step

    def neuronal_charge(self, x: torch.Tensor):
        self.v = 0.5 * self.v + x

    def neuronal_reset(self, spike):
        super().neuronal_reset(spike)
        self.v_threshold = self.v_threshold + self.step * spike.detach()


class Looped(neuron.LIFNode):
    """Sequences by a loop of its own."""

    def forward(self, x_seq):
        out = []
        for x in x_seq:
            self.neuronal_charge(x)
            spike = self.neuronal_fire()
            self.neuronal_reset(spike)
            out.append(spike)
        return torch.stack(out)


class Accumulator(base.MemoryModule):
    """What a read-out sums up, with a bound."""

    def __init__(self, bound=4.0):
        super().__init__()
        self.bound = bound
        self.register_memory("total", 0.0)

    def forward(self, x):
        self.total = (self.total + x).clamp(-self.bound, self.bound)
        return self.total


def main():
    x, y = signals(16, 5, 6)
    x_seq = 2 * x.transpose(0, 1)
    result = {}
    torch.manual_seed(17)
    net = nn.Sequential(nn.Linear(6, 12), Adaptive(), layer.Dropout(0.2), nn.Linear(12, 4), Accumulator())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        for x_t in x_seq:
            out = net(x_t)
        loss = nn.functional.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        result.setdefault("first", out.detach())
        result["threshold"] = net[1].v_threshold.mean(0)
        losses.append(loss.item())
        functional.reset_net(net)
    result |= {"losses": losses, "threshold after reset": net[1].v_threshold}

    stack = nn.Sequential(
        layer.SeqToANNContainer(nn.Linear(6, 12)),
        Looped(tau=2.0, decay_input=False, surrogate_function=surrogate.ATan()),
        layer.SeqToANNContainer(nn.Linear(12, 8)),
        neuron.MultiStepParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), backend="torch"),
        layer.MultiStepContainer(
            nn.Linear(8, 8),
            neuron.QIFNode(tau=2.0, v_c=0.2, v_threshold=0.25, v_reset=-0.1),
            layer.SynapseFilter(tau=3.0),
        ),
    )
    optimizer = torch.optim.Adam(stack.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        out = stack(x_seq)
        loss = nn.functional.cross_entropy(out[..., :4].mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        result.setdefault("first stack", out.detach())
        losses.append(loss.item())
        functional.reset_net(stack)
    return result | {"losses stack": losses}
