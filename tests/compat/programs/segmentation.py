"""A label for each pixel: an encoder, a decoder by transposed convolutions with skips, potentials as logits."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")


def scene(n, seed):
    """Images of a bright disc and a darker band, and which pixel belongs to what."""
    made = torch.Generator().manual_seed(seed)
    grid = torch.arange(16.0)
    centre = 4 + 8 * torch.rand(n, 2, 1, 1, generator=made)
    disc = (grid.view(1, 16, 1) - centre[:, 0]) ** 2 + (grid.view(1, 1, 16) - centre[:, 1]) ** 2 < 12
    row = torch.randint(2, 14, (n, 1, 1), generator=made)
    band = (grid.view(1, 16, 1) - row).abs() <= 1
    label = torch.where(disc, 2, band.expand(n, 16, 16).long())
    return (0.45 * label.unsqueeze(1) + 0.15 * torch.rand(n, 1, 16, 16, generator=made)), label


def block(inputs, outputs):
    return nn.Sequential(
        layer.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        layer.BatchNorm2d(outputs),
        neuron.ParametricLIFNode(init_tau=2.0, decay_input=False, v_reset=None, surrogate_function=surrogate.Sigmoid()),
    )


class UNet(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.enc1, self.enc2, self.down = block(1, 8), block(8, 16), layer.AvgPool2d(2)
        self.up = layer.ConvTranspose2d(16, 8, 2, stride=2)
        self.dec = block(16, 8)
        self.out = layer.Conv2d(8, classes, 1)
        self.readout = neuron.LIFNode(tau=4.0, v_threshold=1e4)

    def forward(self, x_seq):
        skip = self.enc1(x_seq)
        deep = self.enc2(self.down(skip))
        x = self.dec(torch.cat([skip, self.up(deep)], dim=2))
        self.readout(self.out(x))
        return self.readout.v


def main():
    torch.manual_seed(15)
    net = UNet()
    functional.set_step_mode(net, "m")
    net.readout.store_v_seq = True
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    x, label = scene(16, seed=15)
    first, losses, overlap = None, [], []
    for part in range(4):
        chosen = slice(4 * part, 4 * part + 4)
        logits = net(x[chosen].unsqueeze(0).repeat(4, 1, 1, 1, 1))
        first = logits.detach().clone() if first is None else first
        loss = nn.functional.cross_entropy(logits, label[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found = logits.argmax(1)
        overlap.append(((found == label[chosen]) & (found > 0)).sum().item())
        course = net.readout.v_seq.detach()
        functional.reset_net(net)
        losses.append(loss.item())
    return {"first": first, "losses": losses, "overlap": overlap, "course": course}
