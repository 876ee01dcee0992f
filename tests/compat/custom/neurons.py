"""Neurons and surrogates in the style of published code: methods on the state, static functions of x and alpha.

`kinds` takes the modules of a package and gives the classes made on them, so that the same text runs on any.
"""

import math

import torch
from torch import nn


def kinds(neuron, surrogate, base):
    """Ways to make a neuron, by name."""
    return {**basic(neuron, surrogate), **learned(neuron, surrogate), **structured(neuron, surrogate, base)}


def basic(neuron, surrogate):
    class Quadratic(neuron.BaseNode):
        def neuronal_charge(self, x):
            self.v = self.v + x**2

    class LeakDetached(neuron.LIFNode):
        def neuronal_charge(self, x):
            self.v = self.v.detach() * (1 - 1.0 / self.tau) + x

    class Margin(neuron.IFNode):
        def neuronal_reset(self, spike):
            self.v = self.v - spike * (self.v_threshold + 0.125)

    class Clipped(LeakDetached):  # two levels, and super()
        def neuronal_charge(self, x):
            super().neuronal_charge(torch.clamp(x, -0.5, 2.0))

        def neuronal_reset(self, spike):
            super().neuronal_reset(spike)
            self.v = torch.clamp(self.v, min=-0.25)

    class Ternary(neuron.LIFNode):
        def neuronal_fire(self):
            up = self.surrogate_function(self.v - self.v_threshold)
            return up - self.surrogate_function(-self.v - self.v_threshold)

        def neuronal_reset(self, spike):
            self.v = self.v - spike.detach() * self.v_threshold

    class HalfLeak:  # a mixin
        def neuronal_charge(self, x):
            self.v = 0.5 * self.v + x

    class Mixed(HalfLeak, neuron.IFNode):
        pass

    class JitReset(neuron.IFNode):
        def neuronal_reset(self, spike):
            spike = spike.detach() if self.detach_reset else spike
            if self.v_reset is None:
                self.v = self.jit_soft_reset(self.v, spike, self.v_threshold)
            else:
                self.v = self.jit_hard_reset(self.v, spike, self.v_reset)

    return {
        "quadratic": lambda: Quadratic(1.0, 0.0, surrogate.ATan(), False),
        "leak detached": lambda: LeakDetached(tau=2.0, decay_input=False, v_reset=None),
        "margin": lambda: Margin(v_threshold=0.75),
        "clipped": lambda: Clipped(tau=4.0, detach_reset=True),
        "ternary": lambda: Ternary(v_threshold=0.5, v_reset=None, surrogate_function=surrogate.ATan(2.0)),
        "mixed": lambda: Mixed(v_threshold=0.9),
        "jit reset": lambda: JitReset(v_reset=None, detach_reset=True),
        "super charge": lambda: type(
            "Doubled",
            (neuron.ParametricLIFNode,),
            {"neuronal_charge": lambda self, x: neuron.ParametricLIFNode.neuronal_charge(self, 2 * x)},
        )(init_tau=4.0),
    }


def learned(neuron, surrogate):
    class PerChannel(neuron.BaseNode):
        def __init__(self, channels, **kwargs):
            super().__init__(**kwargs)
            self.rate = nn.Parameter(torch.linspace(-1.0, 1.0, channels))

        def neuronal_charge(self, x):
            self.v = self.v + (x - self.v) * self.rate.sigmoid()

    class OwnThreshold(neuron.LIFNode):
        def __init__(self):
            super().__init__(tau=2.0)
            self.v_threshold = nn.Parameter(torch.tensor(0.625))
            self.tau = nn.Parameter(torch.tensor(0.5))  # a meaning of its own

        def neuronal_charge(self, x):
            self.v = self.tau * self.v + x

    class TimeGate(neuron.BaseNode):
        def __init__(self, steps):
            super().__init__(v_threshold=0.75, surrogate_function=surrogate.Sigmoid(2.0))
            self.gate = nn.Parameter(torch.linspace(0.5, 1.5, steps))
            self.register_memory("count", 0)

        def neuronal_charge(self, x):
            self.v = self.v * 0.75 + self.gate[self.count] * x
            self.count += 1

    class Attending(neuron.BaseNode):
        def __init__(self, channels):
            super().__init__(detach_reset=True)
            self.squeeze = nn.Linear(channels, channels)
            with torch.no_grad():
                self.squeeze.weight.copy_(torch.eye(channels) * 0.5)
                self.squeeze.bias.fill_(0.25)

        def neuronal_charge(self, x):
            weight = torch.sigmoid(self.squeeze(x.mean(0)))
            self.v = self.v + x * weight

    return {
        "per channel": lambda: PerChannel(4, v_threshold=0.5),
        "own threshold": OwnThreshold,
        "time gate": lambda: TimeGate(6),
        "attending": lambda: Attending(4),
    }


def structured(neuron, surrogate, base):
    class Adaptive(neuron.BaseNode):
        def __init__(self, decay=0.75, strength=0.5):
            super().__init__(surrogate_function=surrogate.PiecewiseQuadratic())
            self.decay, self.strength = decay, strength
            self.register_memory("theta", 0.0)
            self.register_memory("spike", 0.0)

        def neuronal_charge(self, x):
            self.v = 0.5 * self.v + x

        def neuronal_fire(self):
            self.theta = self.decay * self.theta + self.strength * self.spike
            self.spike = self.surrogate_function(self.v - self.v_threshold - self.theta)
            return self.spike

    class TwoCompartments(neuron.BaseNode):
        def __init__(self):
            super().__init__(v_threshold=0.75)
            self.register_memory("dendrite", 0.0)

        def neuronal_charge(self, x):
            self.dendrite = self.dendrite - 0.25 * self.v + x
            self.v = self.v + 0.5 * self.dendrite

        def neuronal_reset(self, spike):
            super().neuronal_reset(spike)
            self.dendrite = self.dendrite - 0.5 * spike

    class Refractory(neuron.IFNode):
        def __init__(self, wait):
            super().__init__(v_threshold=0.5)
            self.wait = wait
            self.register_memory("left", None)

        def single_step_forward(self, x):
            self.v_float_to_tensor(x)
            if self.left is None:
                self.left = torch.zeros_like(x)
            self.neuronal_charge(x * (self.left == 0))
            spike = self.neuronal_fire()
            self.neuronal_reset(spike)
            self.left = torch.clamp(self.left - 1, min=0) + self.wait * spike.detach()
            return spike

    class Recurrent(neuron.LIFNode):
        def __init__(self, size):
            super().__init__(tau=2.0, decay_input=False)
            self.back = nn.Linear(size, size, bias=False)
            nn.init.constant_(self.back.weight, -0.125)
            self.register_memory("last", None)

        def neuronal_charge(self, x):
            if self.last is not None:
                x = x + self.back(self.last)
            super().neuronal_charge(x)

        def neuronal_fire(self):
            self.last = super().neuronal_fire()
            return self.last

    class Dendritic(neuron.BaseNode):
        def __init__(self, branches):
            super().__init__(v_threshold=0.5)
            self.weight = nn.Parameter(torch.linspace(0.25, 1.0, branches))
            self.register_memory("branch", 0.0)

        def single_step_forward(self, x):  # x [N, branches], the soma [N]
            self.branch = 0.5 * self.branch + x
            return super().single_step_forward(self.branch @ self.weight)

        def neuronal_charge(self, x):
            self.v = self.v + 0.25 * x

    class WholeSequence(neuron.LIFNode):
        def multi_step_forward(self, x_seq):
            out = []
            v_seq = []
            for t in range(x_seq.shape[0]):
                out.append(self.single_step_forward(x_seq[t]))
                v_seq.append(self.v)
            self.v_seq = torch.stack(v_seq)
            return torch.stack(out) * 0.5

    class OwnForward(neuron.IFNode):
        def forward(self, x):
            self.v_float_to_tensor(x)
            self.neuronal_charge(x)
            spike = self.neuronal_fire()
            self.neuronal_reset(spike)
            return spike

    class Adapting(neuron.AdaptBaseNode):
        def neuronal_charge(self, x):
            self.v = self.v + (x - self.w) / 2

    class Slow(neuron.AdaptBaseNode):
        def neuronal_charge(self, x):
            self.v = 0.75 * self.v + x - self.w

        def neuronal_adaptation(self):
            self.w = self.w + (self.v - self.w) * 0.125

    class Counting(base.MemoryModule):
        def __init__(self):
            super().__init__()
            self.register_memory("v", 0.0)
            self.threshold = 1.0
            self.surrogate_function = surrogate.ATan()

        def single_step_forward(self, x):
            self.v = self.v + x
            spike = self.surrogate_function(self.v - self.threshold)
            self.v = self.v * (1 - spike)
            return spike

    return {
        "adaptive": Adaptive,
        "two compartments": TwoCompartments,
        "refractory": lambda: Refractory(2),
        "recurrent": lambda: Recurrent(4),
        "dendritic": lambda: Dendritic(4),
        "whole sequence": lambda: WholeSequence(tau=2.0, v_threshold=0.5),
        "own forward": lambda: OwnForward(v_threshold=0.75),
        "adapting": lambda: Adapting(a=0.5, b=0.25),
        "slow": lambda: Slow(v_threshold=0.5, v_reset=None),
        "counting": Counting,
    }


def surrogates(surrogate):
    """Surrogates of one's own, by name."""

    class window(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, alpha):
            ctx.save_for_backward(x)
            ctx.alpha = alpha
            return surrogate.heaviside(x)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * (x.abs() < ctx.alpha).to(x), None

    class Window(surrogate.SurrogateFunctionBase):
        def __init__(self, alpha=0.5, spiking=True):
            super().__init__(alpha, spiking)

        @staticmethod
        def spiking_function(x, alpha):
            return window.apply(x, alpha)

        @staticmethod
        def primitive_function(x, alpha):
            return torch.clamp(x / (2 * alpha) + 0.5, 0.0, 1.0)

    class Wide(surrogate.ATan):  # a known one, with another function
        @staticmethod
        def spiking_function(x, alpha):
            return surrogate.atan.apply(x, alpha / 2)

    class Borrowed(surrogate.SurrogateFunctionBase):
        @staticmethod
        def spiking_function(x, alpha):
            return surrogate.sigmoid.apply(x, alpha)

        @staticmethod
        def primitive_function(x, alpha):
            return torch.sigmoid(alpha * x)

    class TwoNumbers(surrogate.MultiArgsSurrogateFunctionBase):
        def __init__(self, low=0.25, high=0.75, spiking=True):
            super().__init__(spiking)
            self.low, self.high = low, high

        def forward(self, x):
            smooth = self.primitive_function(x, self.low, self.high)
            return smooth + (surrogate.heaviside(x) - smooth).detach() if self.spiking else smooth

        @staticmethod
        def primitive_function(x, low, high):
            return torch.where(x < 0, low * x, high * x)

    class OwnForward(surrogate.SurrogateFunctionBase):
        def __init__(self, alpha=1.0, spiking=True):
            super().__init__(alpha, spiking)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            smooth = torch.tanh(self.alpha * self.scale * x)
            return (surrogate.heaviside(x) - smooth).detach() + smooth

    class Plain(nn.Module):
        def forward(self, x):
            return window.apply(x, 1.0)

    return {
        "window": Window,
        "window primitive": lambda: Window(1.0, spiking=False),
        "wide": lambda: Wide(4.0),
        "borrowed": lambda: Borrowed(alpha=math.pi),
        "two numbers": TwoNumbers,
        "own forward": OwnForward,
        "plain": Plain,
        "function": lambda: lambda x: surrogate.erf.apply(x, 2.0),
    }


def drive():
    """An input [T=6, N=3, 4] of values that float32 holds exactly, of both signs."""
    return torch.randint(-6, 15, (6, 3, 4), generator=torch.Generator().manual_seed(3)) / 8


def run(node, step_mode):
    """Outputs, potential and the gradient of the input, of a run over `drive()`."""
    x_seq = drive().requires_grad_()
    node.step_mode = step_mode
    y = node(x_seq) if step_mode == "m" else torch.stack([node(x) for x in x_seq])
    ((y * torch.arange(1.0, 7).view(6, *(1,) * (y.ndim - 1))).sum() + node.v.sum()).backward()
    return {"y": y.detach(), "v": node.v.detach(), "grad": x_seq.grad}
