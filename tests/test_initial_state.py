"""A state that was given: it spreads, is trained, follows the network; and what is said where it cannot."""

import copy

import pytest
import torch
from torch import nn

from spikescope import encoding, functional, layer, learning, neuron
from spikescope.errors import ShapeError

STATEFUL = {name: lambda cls=cls: cls(**cls.example) for name, cls in sorted(neuron.registry.items())}
STATEFUL |= {
    "ElementWise": lambda: layer.ElementWiseRecurrentContainer(nn.Identity(), torch.add),
    "LinearRecurrent": lambda: layer.LinearRecurrentContainer(nn.Identity(), 4, 4),
    "SynapseFilter": lambda: layer.SynapseFilter(3.0),
    "Delta": lambda: encoding.DeltaEncoder(0.1),
}
COUNTERS = ("queue", "t", "time_step", "steps")  # memories that are no number a neuron


def memory_cases():
    for name, make in STATEFUL.items():
        module = make()
        for memory in dict(module.named_memories()):
            for backend in set(getattr(module, "supported_backends", (None,))) & {"cpp", "torch", None}:
                for mode in module.supported_step_mode() if memory not in COUNTERS else ():
                    yield pytest.param(make, memory, backend, mode, id=f"{name}-{memory}-{backend}-{mode}")


@pytest.mark.parametrize(("make", "memory", "backend", "mode"), sorted(memory_cases(), key=lambda held: held.id))
@pytest.mark.parametrize("shape", [(4,), (1, 4)])
@pytest.mark.parametrize("how", ["assigned", "reset"])
def test_an_initial_value_of_any_memory_spreads_and_learns(make, memory, backend, mode, shape, how):
    """As one for every neuron does: the same values, and the sum of the gradients of all that it stands for."""
    told = []
    for spread in (False, True):
        torch.manual_seed(0)
        module = make()
        module.step_mode = mode
        if backend:
            module.backend = backend
        start = nn.Parameter(torch.linspace(0.1, 0.7, 4).expand(shape).contiguous())
        value = start.expand(3, 4) if spread else start
        if how == "assigned":
            setattr(module, memory, value)
        else:
            module.set_reset_value(memory, value)
            module.reset()
        steps = (getattr(module, "example", {}).get("T", 4),) if mode == "m" else ()
        out = module(torch.rand(*steps, 3, 4, generator=torch.Generator().manual_seed(1)))
        found = [*(out if isinstance(out, list) else [out]), *module.memories()]
        found = [held for held in found if isinstance(held, torch.Tensor) and held.requires_grad]
        (gradient,) = torch.autograd.grad(sum(held.sum() for held in found), start) if found else (None,)
        told.append((out, gradient))
    (out, gradient), (wanted_out, wanted) = told
    assert all(map(torch.equal, *(held if isinstance(held, list) else [held] for held in (out, wanted_out))))
    assert (gradient is None) == (wanted is None)
    if gradient is not None:
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 4)])
@pytest.mark.parametrize("how", ["assigned", "reset"])
def test_an_initial_potential_spreads_and_learns(shape, how):
    node, start = neuron.LIFNode(step_mode="m", v_reset=None, decay_input=False), nn.Parameter(torch.full(shape, 0.9))
    if how == "assigned":
        node.v = start
    else:
        node.set_reset_value("v", start)
        node.reset()
        assert copy.deepcopy(node).v.requires_grad
        assert node.double().float().v is start
    y = node(torch.full((3, 2, 4), 0.7))
    assert y[0].eq(1).all()  # 0.45 + 0.7
    node.v.sum().backward()
    assert start.grad is not None
    with pytest.raises(ShapeError, match="left by the call before"):
        node(torch.zeros(3, 5, 4))


def test_what_cannot_spread_or_stands_at_two_places_is_said():
    node = neuron.LIFNode()
    node.v = torch.zeros(7)
    with pytest.raises(ShapeError, match=r"v was set to a tensor \[7\], which does not broadcast"):
        node(torch.zeros(2, 4))
    node.reset()
    node(torch.zeros(2, 8))
    with pytest.raises(ShapeError, match="LIFNode is used at two places"):
        node(torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_state_follows_the_network_in_mid_stream(dtype):
    for net in (layer.Delay(1), layer.ElementWiseRecurrentContainer(nn.Linear(4, 4), torch.add)):
        with torch.no_grad():
            net(torch.rand(2, 4))
            net.to(dtype)
            assert net(torch.rand(2, 4, dtype=dtype)).dtype is dtype


def test_a_field_may_be_deleted_and_set_anew():
    node = neuron.LIFNode()
    del node.v_reset
    node.v_reset = nn.Parameter(torch.tensor([0.5]))
    assert "v_reset" in dict(node.named_parameters())
    assert node(torch.zeros(2, 3)).shape == (2, 3)


def test_a_reset_that_resets_its_network_runs_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.sn, self.resets = neuron.IFNode(), 0

        def forward(self, x):
            return self.sn(x)

        def reset(self):
            self.resets += 1
            functional.reset_net(self)

    net = Net()
    net(torch.tensor([0.5]))
    functional.reset_net(net)
    assert (net.sn.v, net.resets) == (0.0, 1)
    functional.reset_net(net)
    assert net.resets == 2


def test_a_learner_names_its_reset_and_the_two_shapes_and_keeps_what_it_saw():
    net = nn.Sequential(layer.Linear(6, 3, bias=False), neuron.IFNode())
    learner = learning.STDPLearner("s", net[0], net[1], 2.0, 2.0)
    for batch in (4, 2):
        functional.reset_net(net)
        net(torch.ones(batch, 6))
        if batch == 4:
            learner.step()
    with pytest.raises(ShapeError, match=r"Call learner\.reset\(\)"):
        learner.step()
    assert len(learner.in_spike_monitor.records) == 1
    net = nn.Sequential(layer.Conv2d(1, 5, 3, bias=False), layer.MaxPool2d(2), neuron.IFNode())
    learner = learning.STDPLearner("s", net[0], net[2], 2.0, 2.0)
    net(torch.ones(2, 1, 8, 8))
    with pytest.raises(ShapeError, match=r"Conv2d\) makes \[N=2, 5, 6, 6\].*IFNode\) gave out \[N=2, 5, 3, 3\]"):
        learner.step()
