"""Surrogates of one's own: autograd functions, classes by alpha, a slope that grows during training."""

import math

import torch
from data import signals
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

AGES = ("0.0.0.0.14",)
CLOSE = {
    "grad growing": (1e-5, "the slope is multiplied first in the gradient of a sigmoid, there last"),
    "grad tanh": (1e-6, "PyTorch 2.15 rounds it otherwise than 2.13, with which the numbers were stored"),
}


class Triangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, width):
        ctx.save_for_backward(x)
        ctx.width = width
        return x.ge(0).to(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (ctx.width - x.abs()).clamp(min=0) / ctx.width**2, None


class TriangleModule(nn.Module):
    def __init__(self, width=1.0):
        super().__init__()
        self.width = width

    def forward(self, x):
        return Triangle.apply(x, self.width)


class Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, alpha):
        if x.requires_grad:
            ctx.save_for_backward(x)
            ctx.alpha = alpha
        return surrogate.heaviside(x)

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0]
        return grad * ctx.alpha / 2 / torch.cosh(ctx.alpha * x) ** 2, None


class TanhSurrogate(surrogate.SurrogateFunctionBase):
    def __init__(self, alpha=2.0, spiking=True):
        super().__init__(alpha, spiking)

    @staticmethod
    def spiking_function(x, alpha):
        return Tanh.apply(x, alpha)

    @staticmethod
    def primitive_function(x, alpha):
        return torch.tanh(alpha * x) / 2 + 0.5


def smooth(x):
    """A function is enough: the step forwards, a Gaussian's integral backwards."""
    soft = 0.5 * (1 + torch.erf(x * math.sqrt(2)))
    return (x >= 0).to(x) + soft - soft.detach()


class Growing(surrogate.Sigmoid):
    """The slope follows the progress of the training."""

    def progress(self, share):
        self.alpha = 2.0 + 4.0 * share


def main():
    x, y = signals(16, 5, 6)
    result = {}
    made = {
        "triangle": TriangleModule(1.5),
        "tanh": TanhSurrogate(alpha=3.0),
        "primitive": TanhSurrogate(alpha=2.0, spiking=False),
        "function": smooth,
        "growing": Growing(),
        "leaky": surrogate.PiecewiseLeakyReLU(w=1.0, c=0.01),
        "s2nn": surrogate.S2NN(),
        "pseudo": surrogate.QPseudoSpike(),
    }
    for name, spike in made.items():
        torch.manual_seed(18)
        net = nn.Sequential(
            layer.Linear(6, 12),
            neuron.LIFNode(tau=2.0, surrogate_function=spike),
            layer.Linear(12, 4),
        )
        functional.set_step_mode(net, "m")
        optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
        losses = []
        for turn in range(4):
            if isinstance(spike, Growing):
                spike.progress(turn / 3)
                net[1].surrogate_function.alpha = spike.alpha
            out = net(2 * x.transpose(0, 1))
            loss = nn.functional.cross_entropy(out.mean(0), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
            result.setdefault(f"first {name}", out.detach())
            losses.append(loss.item())
        result |= {f"losses {name}": losses, f"grad {name}": net[0].bias.grad}
    return result
