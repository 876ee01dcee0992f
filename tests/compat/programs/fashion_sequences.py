"""The tutorial of clothes on whole sequences: an encoder of convolutions is computed once and its output repeated."""

import torch
import torch.nn.functional as F
from data import batches, images
from spikingjelly.clock_driven import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.12",)


class Net(nn.Module):
    def __init__(self, steps, channels, v_threshold=1.0, v_reset=0.0):
        super().__init__()
        self.T = steps
        self.static_conv = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.conv = nn.Sequential(
            neuron.MultiStepIFNode(v_threshold, v_reset, surrogate_function=surrogate.ATan(), backend="torch"),
            layer.SeqToANNContainer(
                nn.MaxPool2d(2, 2),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
            ),
            neuron.MultiStepIFNode(v_threshold, v_reset, surrogate_function=surrogate.ATan(), backend="torch"),
            layer.SeqToANNContainer(nn.MaxPool2d(2, 2), nn.Flatten()),
        )
        self.fc = nn.Sequential(
            layer.MultiStepDropout(0.5),
            layer.SeqToANNContainer(nn.Linear(channels * 2 * 2, 32, bias=False)),
            neuron.MultiStepIFNode(v_threshold, v_reset, surrogate_function=surrogate.ATan(), backend="torch"),
            layer.SeqToANNContainer(nn.Linear(32, 10, bias=False)),
            neuron.MultiStepIFNode(v_threshold, v_reset, surrogate_function=surrogate.ATan(), backend="torch"),
        )

    def forward(self, x):
        x_seq = self.static_conv(x).unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        return self.fc(self.conv(x_seq)).mean(0)


def main():
    torch.manual_seed(3)
    net = Net(steps=4, channels=8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = images(96, classes=10)
    first, losses = None, []
    for image, label in batches(x, y, 16):
        optimizer.zero_grad()
        fired = net(image)
        first = fired.detach().clone() if first is None else first
        loss = F.mse_loss(fired, F.one_hot(label, 10).float())
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    net.eval()
    with torch.no_grad():
        fired = net(x[:8])
    v_seq = [m.v_seq for m in net.modules() if isinstance(m, neuron.MultiStepIFNode)]
    keys = sorted(net.state_dict())
    return {"first": first, "losses": losses, "fired": fired, "v_seq": v_seq[-1], "v_first": v_seq[0], "keys": keys}
