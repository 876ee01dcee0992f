"""Frames of an event camera: convolutions, votes of ten neurons a class, a squared error to the one-hot label."""

import torch
import torch.nn.functional as F
from data import batches, events
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")
CLOSE = {"decay": (1e-6, "the gradient of a decay is a sum in another order in 2.0.0")}


class GestureNet(nn.Module):
    def __init__(self, channels, spiking_neuron, **kwargs):
        super().__init__()
        conv = []
        for i in range(3):
            conv.append(layer.Conv2d(2 if i == 0 else channels, channels, kernel_size=3, padding=1, bias=False))
            conv.append(layer.BatchNorm2d(channels))
            conv.append(spiking_neuron(**kwargs))
            conv.append(layer.MaxPool2d(2, 2))
        self.conv_fc = nn.Sequential(
            *conv,
            layer.Flatten(),
            layer.Dropout(0.5),
            layer.Linear(channels * 2 * 2, 40),
            spiking_neuron(**kwargs),
            layer.VotingLayer(10),
        )

    def forward(self, x):
        return self.conv_fc(x)


def main():
    torch.manual_seed(4)
    net = GestureNet(
        8,
        neuron.ParametricLIFNode,
        init_tau=2.0,
        v_threshold=0.25,
        surrogate_function=surrogate.ATan(),
        detach_reset=True,
    )
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = events(24, steps=6)
    first, losses = None, []
    for frame, label in batches(x, y, 6):
        optimizer.zero_grad()
        fired = net(frame.transpose(0, 1)).mean(0)  # [N, T, C, H, W] -> [T, N, C, H, W]
        first = fired.detach().clone() if first is None else first
        loss = F.mse_loss(fired, F.one_hot(label, 4).float())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        functional.reset_net(net)
    net.eval()
    with torch.no_grad():
        fired = net(x[:6].transpose(0, 1))
    decay = [m.w.detach() for m in net.modules() if isinstance(m, neuron.ParametricLIFNode)]
    return {"first": first, "losses": losses, "fired": fired, "decay": torch.stack(decay)}
