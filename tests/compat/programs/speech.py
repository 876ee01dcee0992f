"""Words from spectra: convolutions that widen in time over `[N, C, frequency, time]`, then each frame is a step."""

import torch
from data import batches, signals
from spikingjelly.clock_driven import functional, layer, surrogate
from spikingjelly.clock_driven.neuron import LIFNode as LIF
from torch import nn

AGES = ("0.0.0.0.12",)


class LIFWrapper(nn.Module):
    """Time stands last, and the node sees one frame after another."""

    def __init__(self, module, flatten=False):
        super().__init__()
        self.module, self.flatten = module, flatten

    def forward(self, x_seq: torch.Tensor):
        x_seq = x_seq.permute(3, 0, 1, 2).contiguous()  # [N, C, F, T] -> [T, N, C, F]
        y_seq = torch.stack([self.module(x) for x in x_seq])
        return y_seq.flatten(2) if self.flatten else y_seq.permute(1, 2, 3, 0)


def conv(inputs, outputs, dilation, tau):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (3, 3), padding=(1, dilation), dilation=(1, dilation), bias=False),
        nn.BatchNorm2d(outputs),
        LIFWrapper(LIF(tau, surrogate_function=surrogate.Sigmoid(alpha=10.0), decay_input=False)),
    )


class Net(nn.Module):
    def __init__(self, tau=10.0 / 7):
        super().__init__()
        self.conv = nn.Sequential(conv(1, 8, 1, tau), conv(8, 8, 2, tau), conv(8, 8, 4, tau))
        self.tail = LIFWrapper(LIF(tau, surrogate_function=surrogate.Sigmoid(alpha=10.0), decay_input=False), True)
        self.fc = nn.Linear(8 * 6, 4)
        self.filter = layer.SynapseFilter(tau=4.0)

    def forward(self, x):
        frames = self.tail(self.conv(x))
        return torch.stack([self.filter(self.fc(frame)) for frame in frames]).mean(0)


def main():
    torch.manual_seed(14)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = signals(24, 12, 6)
    spectra = x.abs().log1p().transpose(1, 2).unsqueeze(1)  # [N, 1, F, T]
    first, losses = None, []
    for spectrum, label in batches(spectra, y, 6):
        out = net(spectrum)
        first = out.detach().clone() if first is None else first
        loss = nn.functional.cross_entropy(out, label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), 5)
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    with torch.no_grad():
        spikes = net.conv(spectra[:6])
    rates = [spikes.mean().item(), spikes.unique().tolist()]
    return {"first": first, "losses": losses, "spikes": spikes, "rates": rates}
