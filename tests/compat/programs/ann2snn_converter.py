"""A trained network of ReLUs goes through the converter in its modes, and spikes for some steps."""

import torch
from data import batches, images
from spikingjelly.activation_based import ann2snn
from torch import nn

AGES = ("0.0.0.0.14",)


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Conv2d(8, 8, 3, 1, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Flatten(),
            nn.Linear(32, 4),
        )

    def forward(self, x):
        return self.network(x)


def main():
    torch.manual_seed(11)
    net = CNN()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    x, y = images(64)
    losses = []
    for image, label in batches(x, y, 16):
        loss = nn.functional.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    result = {"losses": losses, "ann": net(x[:8]).detach()}
    for mode in ("max", "99.9%", 1.0 / 2):
        converter = ann2snn.Converter(mode=mode, dataloader=batches(x, y, 16))
        snn = converter(net)
        with torch.no_grad():
            for m in snn.modules():
                if hasattr(m, "reset"):
                    m.reset()
            for t in range(12):
                if t == 0:
                    out = snn(x[:8])
                else:
                    out += snn(x[:8])
        result[f"snn {mode}"] = out
    return result
