"""Images as they are at every step, a small VGG on sequences, the mean of the last layer over time as the logits."""

import torch
from data import batches, images
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")
CLOSE = {"losses": (1e-6, "the loss is a mean over steps and samples at once, there of a mean a step")}


class VGG(nn.Module):
    def __init__(self, plan, classes):
        super().__init__()
        layers, width = [], 3
        for item in plan:
            if item == "M":
                layers.append(layer.MaxPool2d(2, 2))
                continue
            layers += [
                layer.Conv2d(width, item, 3, padding=1, bias=False),
                layer.BatchNorm2d(item),
                neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan()),
            ]
            width = item
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(layer.Flatten(), layer.Dropout(0.25), layer.Linear(width * 4, classes))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        return self.classifier(self.features(x))


def main():
    torch.manual_seed(1)
    net = VGG([8, 8, "M", 16, "M"], classes=4)
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    x, y = images(48, channels=3)
    first, losses = None, []
    for image, label in batches(x, y, 8):
        out = net(image)
        first = out.detach().clone() if first is None else first
        loss = functional.temporal_efficient_training_cross_entropy(out, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        functional.reset_net(net)
        losses.append(loss.item())
    net.eval()
    with torch.no_grad():
        spikes = net.features(x[:4].unsqueeze(0).repeat(4, 1, 1, 1, 1))
        functional.reset_net(net)
        logits = net(x[:8]).mean(0)
    return {"first": first, "losses": losses, "spikes": spikes, "logits": logits}
