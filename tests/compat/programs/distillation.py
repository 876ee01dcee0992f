"""A teacher of ReLUs teaches a student of spikes by its logits and by features that hooks take from between."""

import torch
import torch.nn.functional as F
from data import batches, images
from spikingjelly.activation_based import functional, layer, monitor, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")


class Teacher(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(256, 4),
        )


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = layer.Conv2d(1, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16)
        self.sn = neuron.LIFNode(tau=4.0 / 3, detach_reset=True, surrogate_function=surrogate.ATan())
        self.pool, self.flat, self.fc = layer.AdaptiveAvgPool2d(4), layer.Flatten(), layer.Linear(256, 4)

    def forward(self, x):
        x = self.sn(self.bn(self.conv(x)))
        return self.fc(self.flat(self.pool(x)))


def main():
    torch.manual_seed(23)
    teacher, student = Teacher(), Student()
    functional.set_step_mode(student, "m")
    x, y = images(48)
    data = batches(x, y, 12)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for image, label in data:
        loss = F.cross_entropy(teacher(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    teacher.eval()

    kept = {}
    teacher[2].register_forward_hook(lambda m, args, out: kept.__setitem__("teacher", out.detach()))
    student.sn.register_forward_hook(lambda m, args, out: kept.__setitem__("student", out))
    seen = monitor.OutputMonitor(student, neuron.LIFNode, lambda spikes: spikes.detach().mean().item())
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    losses, first = [], None
    for image, label in data:
        out = student(image.unsqueeze(0).repeat(4, 1, 1, 1, 1))
        first = out.detach() if first is None else first
        with torch.no_grad():
            wanted = teacher(image)
        logits = out.mean(0)
        soft = F.kl_div(F.log_softmax(logits / 3, 1), F.softmax(wanted / 3, 1), reduction="batchmean") * 9
        features = F.mse_loss(F.normalize(kept["student"].mean(0).flatten(1)), F.normalize(kept["teacher"].flatten(1)))
        loss = 0.5 * F.cross_entropy(logits, label) + 0.5 * soft + 10 * features
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(student)
        losses.append(loss.item())
    rates = list(seen.records)
    seen.remove_hooks()
    return {"first": first, "losses": losses, "rates": rates, "layers": list(seen.monitored_layers)}
