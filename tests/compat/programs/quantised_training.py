"""Training that knows of four bits: weights rounded with a straight gradient, layers derived from the library's."""

import torch
import torch.nn.functional as F
from data import batches, images
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14", "2.0.0")


def rounded(w, bits):
    top = 2 ** (bits - 1) - 1
    step = w.detach().abs().max() / top
    return w + ((w / step).round().clamp(-top - 1, top) * step - w).detach()


class QuantConv2d(layer.Conv2d):
    def __init__(self, *args, bits=4, **kwargs):
        super().__init__(*args, **kwargs)
        self.bits = bits

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, rounded(weight, self.bits), bias)


class QuantLinear(nn.Linear):
    def forward(self, x):
        return F.linear(x, rounded(self.weight, 4), self.bias)


class LearnedStep(nn.Module):
    """Activations on a grid whose step is learned."""

    def __init__(self, levels=7):
        super().__init__()
        self.levels, self.step = levels, nn.Parameter(torch.tensor(0.2))

    def forward(self, x):
        scaled = (x / self.step).clamp(-self.levels, self.levels)
        return (scaled + (scaled.round() - scaled).detach()) * self.step


def quantise(net):
    for name, child in net.named_children():
        if type(child) is layer.Linear:
            made = QuantLinear(child.in_features, child.out_features, child.bias is not None)
            made.load_state_dict(child.state_dict())
            setattr(net, name, made)
        else:
            quantise(child)
    return net


def main():
    torch.manual_seed(22)
    net = quantise(
        nn.Sequential(
            QuantConv2d(1, 8, 3, padding=1),
            layer.BatchNorm2d(8),
            LearnedStep(),
            neuron.IFNode(v_reset=None, surrogate_function=surrogate.ATan()),
            layer.AvgPool2d(2),
            QuantConv2d(8, 8, 3, padding=1, bits=3),
            neuron.LIFNode(tau=2.0, v_reset=None, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.Flatten(),
            layer.Linear(128, 4),
        )
    )
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    x, y = images(48)
    first, losses = None, []
    for image, label in batches(x, y, 12):
        out = net(image.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0)
        first = out.detach() if first is None else first
        loss = F.cross_entropy(out, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    return {"first": first, "losses": losses, "step": net[2].step.detach(), "v": net[6].v}
