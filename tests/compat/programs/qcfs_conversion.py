"""An ANN of clipped floors is trained, its activations replaced by IF nodes that start at half a threshold, and run."""

import torch
from data import batches, images
from spikingjelly.activation_based import functional, neuron
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")
LEVELS = 4


class GradFloor(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.floor()

    @staticmethod
    def backward(ctx, grad):
        return grad


class QCFS(nn.Module):
    def __init__(self, levels=LEVELS, up=2.0):
        super().__init__()
        self.up, self.t = nn.Parameter(torch.tensor([up])), levels

    def forward(self, x):
        x = torch.clamp(x / self.up, 0, 1)
        return GradFloor.apply(x * self.t + 0.5) / self.t * self.up


class Scaled(nn.Module):
    """Spikes in the height of the threshold."""

    def __init__(self, height):
        super().__init__()
        self.height = height
        self.node = neuron.IFNode(v_threshold=height, v_reset=None)

    def forward(self, x):
        if isinstance(self.node.v, float):
            self.node.v = torch.full_like(x, 0.5 * self.height)
        return self.node(x) * self.height


def replace(module):
    for name, child in module._modules.items():
        if isinstance(child, QCFS):
            module._modules[name] = Scaled(child.up.item())
        else:
            replace(child)


def main():
    torch.manual_seed(10)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), QCFS(), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), QCFS(), nn.AvgPool2d(2)),
        nn.Flatten(),
        nn.Linear(64, 4),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    x, y = images(64)
    losses = []
    for image, label in batches(x, y, 16):
        loss = nn.functional.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    with torch.no_grad():
        ann = net(x[:16])
        replace(net)
        total, course = 0.0, []
        for t in range(8):
            total += net(x[:16])
            course.append((total / (t + 1)).clone())
        functional.reset_net(net)
        again = net(x[:16])
    nodes = [m for m in net.modules() if isinstance(m, neuron.BaseNode)]
    right = (course[-1].argmax(1) == ann.argmax(1)).float().mean().item()
    return {"losses": losses, "ann": ann, "first": course[0], "last": course[-1], "again": again, "right": right} | {
        f"v{i}": node.v for i, node in enumerate(nodes)
    }
