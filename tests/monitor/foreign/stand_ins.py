"""Small neurons that look from outside as those of other libraries do: class names, outputs, state, order of axes."""

from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import nn


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad / (1 + (3 * ctx.saved_tensors[0]) ** 2)


def of(package):
    """A class as though a package had it."""

    def named(cls):
        cls.__module__ = package
        return cls

    return named


@of("snntorch._neurons.neurons")
class SpikingNeuron(nn.Module):
    def __init__(self, beta=0.9, threshold=1.0, init_hidden=False, output=False):
        super().__init__()
        self.beta, self.init_hidden, self.output = beta, init_hidden, output
        self.register_buffer("threshold", torch.tensor(threshold))
        self.register_buffer("graded_spikes_factor", torch.tensor(1.0))
        self.register_buffer("mem", torch.zeros(0), False)

    def reset_mem(self):
        self.mem = torch.zeros_like(self.mem)
        return self.mem


@of("snntorch._neurons.leaky")
class Leaky(SpikingNeuron):
    def forward(self, x, mem=None):
        if mem is not None:
            self.mem = mem
        if self.mem.shape != x.shape:
            self.mem = torch.zeros_like(x)
        spent = (self.mem > self.threshold).to(x.dtype)
        self.mem = self.beta * self.mem + x - spent * self.threshold
        spikes = _Fire.apply(self.mem - self.threshold)
        return (spikes, self.mem) if self.output or not self.init_hidden else spikes


class LIFFeedForwardState(NamedTuple):
    v: torch.Tensor
    i: torch.Tensor


def _lif(x, state):
    v, i = (torch.zeros_like(x), torch.zeros_like(x)) if state is None else state
    i = 0.8 * i + x
    v = v + 0.5 * (i - v)
    spikes = _Fire.apply(v - 1)
    return spikes, LIFFeedForwardState(v * (1 - spikes), i)


@of("norse.torch.module.snn")
class SNNCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = SimpleNamespace(v_th=torch.tensor(1.0))


@of("norse.torch.module.lif")
class LIFCell(SNNCell):
    def forward(self, x, state=None):
        return _lif(x, state)


@of("norse.torch.module.snn")
class SNN(nn.Module):
    record_states = False

    def __init__(self):
        super().__init__()
        self.p = SimpleNamespace(v_th=torch.tensor(1.0))


@of("norse.torch.module.lif")
class LIF(SNN):
    def forward(self, x, state=None):
        out = []
        for step in x:
            spikes, state = _lif(step, state)
            out.append(spikes)
        return torch.stack(out), state


class SequentialState(nn.Sequential):
    def forward(self, x, state=None):
        state = [None] * len(self) if state is None else state
        for at, module in enumerate(self):
            if isinstance(module, (SNN, SNNCell)):
                x, state[at] = module(x, state[at])
            else:
                x = module(x)
        return x, state


class SingleSpike:
    pass


@of("sinabs.layers.stateful_layer")
class StatefulLayer(nn.Module):
    does_spike, spike_fn = True, SingleSpike

    def __init__(self, record_states=False):
        super().__init__()
        self.record_states, self.recordings = record_states, {}
        self.spike_threshold = nn.Parameter(torch.tensor(1.0), requires_grad=False)
        self.register_buffer("v_mem", torch.zeros(0))

    def reset_states(self):
        self.v_mem.zero_()
        self.v_mem.detach_()

    def forward(self, x):
        v = torch.zeros_like(x[:, 0]) if self.v_mem.shape != x[:, 0].shape else self.v_mem
        out, potentials = [], []
        for t in range(x.shape[1]):
            v = 0.9 * v + x[:, t]
            spikes = _Fire.apply(v - self.spike_threshold)
            v = v - spikes * self.spike_threshold
            out.append(spikes)
            potentials.append(v)
        self.v_mem = v
        if self.record_states:
            self.recordings = {"v_mem": torch.stack(potentials, 1)}
        return torch.stack(out, 1)


class SqueezeMixin:
    batch_size, num_timesteps = -1, 5

    def forward(self, x):
        return super().forward(x.unflatten(0, (self.batch_size, self.num_timesteps))).flatten(0, 1)


@of("sinabs.layers.lif")
class LIFSqueeze(SqueezeMixin, StatefulLayer):
    pass


@of("spikingjelly.activation_based.neuron.base_node")
class BaseNode(nn.Module):
    store_v_seq = False

    def __init__(self, step_mode="s", store_v_seq=False):
        super().__init__()
        self.step_mode, self.store_v_seq, self.v_threshold, self.v_seq = step_mode, store_v_seq, 1.0, None
        self._memories = {"v": 0.0}

    @property
    def v(self):
        return self._memories["v"]

    def reset(self):
        self._memories["v"] = 0.0

    def step(self, x):
        v = self.v + (x - self.v) / 2
        spikes = _Fire.apply(v - self.v_threshold)
        self._memories["v"] = v * (1 - spikes)
        return spikes

    def forward(self, x):
        if self.step_mode == "s":
            return self.step(x)
        out, potentials = [], []
        for held in x:
            out.append(self.step(held))
            potentials.append(self.v)
        self.v_seq = torch.stack(potentials) if self.store_v_seq else None
        return torch.stack(out)
