"""Networks of other libraries, of their real packages where these are there and of stand-ins, and how each is run."""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import stand_ins
import torch
from torch import nn

from spikescope import monitor

T, N = 5, 3


class Case(NamedTuple):
    """A network of two layers; `run` gives what it makes of a sequence `[T, N, 4]`."""

    net: nn.Module
    run: Callable[[nn.Module, torch.Tensor], Any]
    layers: tuple[str, str]  # of weights: the first one, and the neurons behind it
    steps: bool  # whether the neurons are called once a step
    potential: bool  # whether it is told
    joined: Callable[[list[torch.Tensor]], torch.Tensor]  # the spikes of all calls in a run, as `[T, N, F]`
    called: Callable[[torch.Tensor], torch.Tensor]  # of a sequence `[T, N, 4]`, what one call of the network takes
    reset: Callable[[nn.Module], None] | None = None  # where the state stays


def spikes_in(out):
    """The spikes in what a neuron gives."""
    if isinstance(out, dict):
        return out["fired"]
    return out[0] if isinstance(out, tuple) else out


def _alone(calls):
    return calls[0]


def _step(x):
    return x[2]


def _whole(x):
    return x


def _swapped(x):
    return x.transpose(0, 1)


def _squeezed(x):
    return x.transpose(0, 1).flatten(0, 1)


def _unsqueezed(x):
    return x.unflatten(0, (N, T)).transpose(0, 1)


def _weights():
    torch.manual_seed(0)
    layers = nn.Linear(4, 6, bias=False), nn.Linear(6, 2, bias=False)
    for layer in layers:
        nn.init.uniform_(layer.weight, 0.0, 0.5)  # so that both fire
    return layers


class _Loop(nn.Module):
    """The idiom of snnTorch: the loop over time stands in the forward of the network."""

    def __init__(self, make):
        super().__init__()
        self.fc1, self.fc2 = _weights()
        self.lif1, self.lif2 = make(), make()

    def forward(self, x):
        mem1, mem2, out = self.lif1.reset_mem(), self.lif2.reset_mem(), []
        for step in x:
            spikes, mem1 = self.lif1(self.fc1(step), mem1)
            spikes, mem2 = self.lif2(self.fc2(spikes), mem2)
            out.append(spikes)
        return torch.stack(out)


def _each_step(net, x):
    return torch.stack([net(step) for step in x])


def _with_state(net, x):
    state, out = None, []
    for step in x:
        y, state = net(step, state)
        out.append(y)
    return torch.stack(out)


def _reset(name):
    def reset(net):
        for module in net.modules():
            if hasattr(module, name):
                getattr(module, name)()

    return reset


def _row(make):
    first, second = _weights()
    return nn.Sequential(first, make(), second, make())


def _sequential(classes, make):
    first, second = _weights()
    return classes.SequentialState(first, make(), second, make())


def snntorch_loop(has):
    return Case(_Loop(has.Leaky), lambda net, x: net(x), ("fc1", "lif1"), True, True, torch.stack, _whole)


def snntorch_hidden(has):
    net = _row(lambda: has.Leaky(init_hidden=True))
    return Case(net, _each_step, ("0", "1"), True, True, torch.stack, _step, _reset("reset_mem"))


def norse_sequence(has):
    net = _sequential(has, has.LIF)
    return Case(net, lambda net, x: net(x)[0], ("0", "1"), False, False, _alone, _whole)


def norse_cells(has):
    return Case(_sequential(has, has.LIFCell), _with_state, ("0", "1"), True, True, torch.stack, _step)


def sinabs_sequence(has):
    net = _row(lambda: has.Sinabs(record_states=True))

    def run(net, x):
        return _swapped(net(_swapped(x)))

    return Case(net, run, ("0", "1"), False, True, lambda calls: _swapped(calls[0]), _swapped, _reset("reset_states"))


def sinabs_squeezed(has):
    net, reset = _row(has.LIFSqueeze), _reset("reset_states")

    def run(net, x):
        return _unsqueezed(net(_squeezed(x)))

    return Case(net, run, ("0", "1"), False, False, lambda calls: _unsqueezed(calls[0]), _squeezed, reset)


def spikingjelly_steps(has):
    net = _row(has.SpikingJelly)
    return Case(net, _each_step, ("0", "1"), True, True, torch.stack, _step, _reset("reset"))


def spikingjelly_sequence(has):
    net = _row(lambda: has.SpikingJelly(step_mode="m", store_v_seq=True))
    return Case(net, lambda net, x: net(x), ("0", "1"), False, True, _alone, _whole, _reset("reset"))


class Own(nn.Module):
    """A neuron of a user, who tells what it is."""

    def __init__(self):
        super().__init__()
        self.theta, self.u = 1.0, None

    def forward(self, x):
        self.u = x if self.u is None else 0.8 * self.u + x
        spikes = stand_ins._Fire.apply(self.u - self.theta)
        self.u = self.u - spikes
        return {"potential": self.u, "fired": spikes}

    def clear(self):
        self.u = None


class _OwnNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = _weights()
        self.lif1, self.lif2 = Own(), Own()

    def forward(self, x):
        return self.lif2(self.fc2(self.lif1(self.fc1(x))["fired"]))["fired"]


def adopted(has):
    monitor.adopt(Own, spikes="fired", potential="u", threshold="theta", state=("u",))
    return Case(_OwnNet(), _each_step, ("fc1", "lif1"), True, True, torch.stack, _step, _reset("clear"))


MADE = (snntorch_loop, snntorch_hidden, norse_sequence, norse_cells, sinabs_sequence, sinabs_squeezed,
        spikingjelly_steps, spikingjelly_sequence, adopted)  # fmt: skip
REAL = MADE[:-1]


def standing_in():
    return SimpleNamespace(
        Leaky=stand_ins.Leaky, LIF=stand_ins.LIF, LIFCell=stand_ins.LIFCell, SequentialState=stand_ins.SequentialState,
        Sinabs=stand_ins.StatefulLayer, LIFSqueeze=stand_ins.LIFSqueeze, SpikingJelly=stand_ins.BaseNode,
    )  # fmt: skip


def _real_snntorch():
    return SimpleNamespace(Leaky=lambda **options: import_module("snntorch").Leaky(beta=0.9, **options))


def _real_norse():
    held = import_module("norse.torch")
    fast = held.LIFParameters(tau_syn_inv=500.0, tau_mem_inv=500.0, v_th=1.0)
    return SimpleNamespace(
        LIF=lambda: held.LIF(p=fast), LIFCell=lambda: held.LIFCell(p=fast), SequentialState=held.SequentialState
    )


def _real_sinabs():
    held, activation = import_module("sinabs.layers"), import_module("sinabs.activation")
    options = {"tau_mem": 10.0, "norm_input": False, "spike_fn": activation.SingleSpike}
    return SimpleNamespace(
        Sinabs=lambda **more: held.LIF(**options, **more),
        LIFSqueeze=lambda: held.LIFSqueeze(**options, num_timesteps=T),
    )


def _real_spikingjelly():
    return SimpleNamespace(SpikingJelly=import_module("spikingjelly.activation_based.neuron").LIFNode)


def made(make, kind):
    """A case of a real package or of stand-ins; skips in words without the package."""
    if kind == "stand-in":
        return make(standing_in())
    package = make.__name__.partition("_")[0]
    real = pytest.importorskip(package, reason=f"{package} is not installed; `make interop` has it")
    if real.__name__ != package or "spikescope" in str(real.__spec__):
        pytest.skip(f"{package} is the name that `spikescope.compat` has put in its place")
    return make(globals()[f"_real_{package}"]())


def drive():
    """Two sequences; in the first steps nothing comes, so that states stay zero for a while."""
    torch.manual_seed(1)
    x = torch.rand(2, T, N, 4) * 6
    x[:, :2] = 0
    return x
