"""The tutorial of clothes, one step at a time: random spikes go in, what comes out is summed up over the steps."""

import torch
import torch.nn.functional as F
from data import batches, images
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")
STEPS = 6


class SNN(nn.Module):
    def __init__(self, tau):
        super().__init__()
        self.layer = nn.Sequential(
            layer.Flatten(),
            layer.Linear(8 * 8, 10, bias=False),
            neuron.LIFNode(tau=tau, v_threshold=0.5, surrogate_function=surrogate.ATan()),
        )

    def forward(self, x: torch.Tensor):
        return self.layer(x)


def main():
    torch.manual_seed(2)
    net, encoder = SNN(tau=2.0), encoding.PoissonEncoder()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = images(96, classes=10)
    first, losses, correct = None, [], 0
    for image, label in batches(x, y, 16):
        optimizer.zero_grad()
        one_hot = F.one_hot(label, 10).float()
        out = 0.0
        for _ in range(STEPS):
            out += net(encoder(image))
        out = out / STEPS
        first = out.detach().clone() if first is None else first
        loss = F.mse_loss(out, one_hot)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        correct += (out.argmax(1) == label).float().sum().item()
        functional.reset_net(net)

    records = []  # the potentials of the last layer, as the tutorial keeps them for its picture
    with torch.no_grad():
        for _ in range(STEPS):
            net(encoder(x[:1]))
            records.append(net.layer[-1].v.squeeze().clone())
    functional.reset_net(net)
    return {"first": first, "losses": losses, "correct": correct, "v": torch.stack(records)}
