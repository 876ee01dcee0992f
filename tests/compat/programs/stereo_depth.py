"""Depth from two event cameras in single steps: spikes all the way, and potentials without a threshold to answer."""

import torch
from data import events
from spikingjelly.clock_driven import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.12",)


def step_of(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, stride, 2, bias=False),
        Multiply(10.0),
        neuron.ParametricLIFNode(init_tau=3.0, v_threshold=1.0, surrogate_function=surrogate.ATan(), detach_reset=True),
    )


class Multiply(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return torch.mul(x, self.factor)


class Up(nn.Module):
    def __init__(self, inputs, outputs, size, spiking=True):
        super().__init__()
        self.up = nn.Sequential(nn.UpsamplingNearest2d(size=size), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False))
        self.scale = Multiply(10.0)
        self.sn = neuron.IFNode(v_threshold=1.0, surrogate_function=surrogate.ATan()) if spiking else None

    def forward(self, x):
        x = self.scale(self.up(x))
        return x if self.sn is None else self.sn(x)


class Stereo(nn.Module):
    def __init__(self):
        super().__init__()
        self.bottom = step_of(4, 8, 1)
        self.conv1, self.conv2 = step_of(8, 16, 2), step_of(16, 16, 2)
        self.noise = layer.Dropout(0.1)
        self.deconv2, self.deconv1 = Up(16, 16, (8, 8)), Up(16, 8, (16, 16))
        self.predict2, self.predict1 = Up(16, 1, (16, 16), spiking=False), Up(8, 1, (16, 16), spiking=False)
        self.Ineurons = neuron.IFNode(v_threshold=float("inf"), v_reset=0.0, surrogate_function=surrogate.ATan())

    def forward(self, x):
        bottom = self.bottom(x)
        one = self.conv1(bottom)
        two = self.noise(self.conv2(one))
        up2 = self.deconv2(two) + one
        self.Ineurons(self.predict2(up2))
        depth2 = self.Ineurons.v
        up1 = self.deconv1(up2) + bottom
        self.Ineurons(self.predict1(up1))
        return [self.Ineurons.v, depth2], [bottom, one, two, up2, up1]


def main():
    torch.manual_seed(8)
    net = Stereo()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4)
    left, _ = events(6, steps=4, seed=8)
    pair = torch.cat([left, left.roll(2, dims=-1)], 2)
    truth = left.sum((1, 2)).clamp(max=3).unsqueeze(1)
    first, losses, density = None, [], []
    for _ in range(3):
        functional.reset_net(net)
        for t in range(3):  # the first steps fill the potentials, the last one is learned from
            depths, spikes = net(pair[:, t])
        first = depths[0].detach().clone() if first is None else first
        mask = truth > 0
        loss = sum((d[mask] - truth[mask]).abs().mean() + (d[mask] - truth[mask]).var() for d in depths)
        optimizer.zero_grad()
        loss.backward()
        functional.detach_net(net) if hasattr(functional, "detach_net") else None
        optimizer.step()
        losses.append(loss.item())
        density.append([s.detach().mean().item() for s in spikes])
    return {"first": first, "losses": losses, "density": torch.tensor(density), "v": net.Ineurons.v.detach()}
