"""Modules of one's own that derive from `base.MemoryModule` by the alias: it has a backend, as in SpikingJelly."""

import copy
import importlib
import pickle

import pytest
import torch
from torch import nn

from spikescope import base as ours
from spikescope import functional, neuron
from spikescope.errors import UnknownNameError
from spikescope.neuron import leniency

pytestmark = pytest.mark.usefixtures("aliases")


def made(**options):
    """A neuron as scripts copy it: it asks for its backend, and names one that is not here."""
    from spikingjelly.activation_based import base

    class Copied(base.MemoryModule):
        def __init__(self, backend="torch", step_mode="s"):
            super().__init__()
            self.register_memory("v", 0.0)
            self.step_mode, self.backend = step_mode, backend

        @property
        def supported_backends(self):
            return ("torch",) if self.step_mode == "s" else ("torch", "cupy")

        def single_step_forward(self, x):
            self.v = self.v + x
            return self.v

        def multi_step_forward(self, x_seq):
            if self.backend != "torch":
                raise ValueError(self.backend)
            return super().multi_step_forward(x_seq)

    return Copied(**options)


def test_it_is_told_and_has_a_default():
    from spikingjelly.activation_based import base

    class Sum(base.MemoryModule):
        pass

    assert (Sum().backend, Sum().supported_backends) == ("torch", ("torch",))
    assert repr(Sum()) == "Sum(step_mode=s, backend=torch)"
    with pytest.raises(UnknownNameError, match="Sum: backend must be one of 'torch', but got 'nonsense'"):
        Sum().backend = "nonsense"


@pytest.mark.parametrize("backend", leniency.BACKENDS_ELSEWHERE)
def test_one_that_is_not_here_becomes_the_loop(backend, monkeypatch):
    from spikingjelly.activation_based import functional

    monkeypatch.setattr(leniency, "_said", set())
    with pytest.warns(UserWarning, match=f"Copied: there is no backend '{backend}' here; it becomes 'torch'"):
        node = made(backend=backend, step_mode="m")
    assert node(torch.ones(3, 1)).flatten().tolist() == [1.0, 2.0, 3.0]
    functional.set_backend(nn.Sequential(node), "cupy")
    assert node.backend == "torch"


def test_whatever_has_a_state_is_one():
    from spikingjelly.activation_based import base, layer, neuron

    class Both(neuron.IFNode, base.MemoryModule):
        pass

    for module in (neuron.IFNode(), layer.Dropout(), layer.SynapseFilter(), made(), Both()):
        assert isinstance(module, base.MemoryModule)
        assert isinstance(module, ours.MemoryModule)
        assert issubclass(type(module), base.MemoryModule)
    assert not isinstance(nn.ReLU(), base.MemoryModule)
    assert not isinstance(neuron.IFNode(), type(made()))


def test_it_is_copied():
    from spikingjelly.activation_based import base

    node = made()
    node(torch.ones(1))
    assert copy.deepcopy(node).v.item() == 1.0
    assert pickle.loads(pickle.dumps(base.MemoryModule())).backend == "torch"


@pytest.mark.parametrize(("module", "name"), [("base", "MemoryModule"), ("neuron", "BaseNode"), ("neuron", "LIFNode")])
def test_a_subclass_may_write_its_reset_values(module, name):
    """As converted networks do, whose neurons begin at half a threshold."""
    above = getattr(importlib.import_module(f"spikingjelly.activation_based.{module}"), name)

    class Halfway(above):
        def __init__(self):
            super().__init__()
            if "v" not in self._memories:
                self.register_memory("v", 0.0)
            self.v = self._memories_rv["v"] = 0.5

        def single_step_forward(self, x):
            self.v = self.v + x
            return self.v

    node = copy.deepcopy(Halfway())
    for _ in range(2):
        assert node(torch.full((2,), 0.25)).tolist() == [0.75, 0.75]
        node.reset()
        assert node.v == 0.5


@pytest.mark.parametrize(("given", "rest"), [({}, 0.0), ({"v": 0.5}, 0.5)])
@pytest.mark.parametrize(("module", "name"), [("base", "MemoryModule"), ("neuron", "BaseNode"), ("neuron", "LIFNode")])
def test_a_subclass_may_begin_with_reset_values_of_its_own(module, name, given, rest):
    above = getattr(importlib.import_module(f"spikingjelly.activation_based.{module}"), name)

    class Own(above):
        def __init__(self):
            super().__init__()
            if "v" not in self._memories:
                self.register_memory("v", 0.0)
            self._memories_rv = given
            self.register_memory("u", 1.0)

    for node in (Own(), copy.deepcopy(Own())):
        node.v = torch.ones(2)
        node.detach()
        node.reset()
        assert (node.v, node.u) == (rest, 1.0)
    assert "_memories_rv" not in vars(Own())
    assert "u" not in given


def test_the_backends_of_a_class_that_asks_its_instance(caplog):
    """Its class, known from then on, has a property in place of names; some give one name in place of several."""
    from spikingjelly.activation_based import functional, neuron

    class Single(neuron.BaseNode):
        @property
        def supported_backends(self):
            return "torch"

        def neuronal_charge(self, x):
            self.v = self.v + x

    net = nn.Sequential(made(), Single(), neuron.IFNode(backend="auto"))
    for backend, kept in (("auto", ["torch", "torch", "auto"]), ("t", ["torch", "torch", "auto"])):
        functional.set_backend(net, backend)
        assert [node.backend for node in net] == kept
    assert "1 (Single) have no backend 'auto', only 'torch'; they keep 'torch'" in caplog.messages[0]
    with pytest.raises(UnknownNameError, match="Single: backend must be one of 'torch', 'auto', but got 't'"):
        net[1].backend = "t"


@pytest.mark.parametrize("as_buffer", [False, True])
@pytest.mark.parametrize("calls_ours", [False, True])
def test_a_potential_that_is_no_memory_but_made_at_the_first_step(calls_ours, as_buffer):
    """As in neurons for online training, which take it out of the memories to begin each time from what they make."""
    from spikingjelly.activation_based import functional, neuron

    class Made(neuron.LIFNode):
        def __init__(self):
            super().__init__(v_threshold=0.5, detach_reset=True)
            self._memories.pop("v")

        def reset(self):
            super().reset()
            if hasattr(self, "v"):
                del self.v

        def v_float_to_tensor(self, x):
            if hasattr(self, "v"):
                return
            if as_buffer:
                self.register_buffer("v", torch.zeros_like(x))
            else:
                self.v = torch.zeros_like(x)

        def neuronal_charge(self, x):
            self.v = self.v.detach()
            super().neuronal_charge(x)

        def single_step_forward(self, x):
            if calls_ours:
                return super().single_step_forward(x)
            self.v_float_to_tensor(x)
            self.neuronal_charge(x)
            spike = self.neuronal_fire()
            self.neuronal_reset(spike)
            return spike

    node, plain = Made(), neuron.LIFNode(v_threshold=0.5, detach_reset=True)
    assert not hasattr(node, "v")
    for samples in (2, 3):  # of another shape, as it begins anew
        for _ in range(3):
            x = torch.rand(samples, 4, requires_grad=True)
            spike, copied = node(x), copy.deepcopy(node)
            assert torch.equal(spike, plain(x))
            assert torch.equal(node.v, plain.v)
            assert torch.equal(copied.v, plain.v)
            (gradient,) = torch.autograd.grad(spike.sum() + node.v.sum(), x)
            plain.v = plain.v.detach()
            assert torch.isfinite(gradient).all()
        assert list(node.state_dict()) == ["v"] * as_buffer
        functional.reset_net(node)
        functional.reset_net(plain)
        assert not hasattr(node, "v")
        assert not node.state_dict()


@pytest.mark.parametrize("persistent", [True, False])
def test_a_potential_that_a_class_keeps_as_a_buffer_is_one(persistent):
    class Kept(neuron.LIFNode):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self._memories.pop("v")
            self.register_buffer("v", torch.zeros(3), persistent)

    x = 1.5 * torch.rand(2, 3, generator=torch.Generator().manual_seed(1))
    for step in (lambda node: node(x), lambda node: node.single_step_forward(x)):
        node, plain = Kept(), neuron.LIFNode()
        for _ in range(2):
            assert torch.equal(step(node), plain(x))
        assert torch.equal(node.v, plain.v)
        assert dict(node.named_buffers())["v"] is node.v
        assert list(node.state_dict()) == ["v"] * persistent
        other = copy.deepcopy(node).double()
        assert torch.equal(dict(other.named_buffers())["v"], plain.v.double())
        assert torch.equal(other(x), node(x))
        assert dict(other.named_buffers())["v"] is other.v
        before = node.v
        functional.reset_net(node)  # which in SpikingJelly leaves what is no memory, too
        assert node.v is before
        if persistent:
            other.load_state_dict({"v": 3 * before})
            assert torch.equal(other.v, (3 * before).double())
        node.register_buffer("v", torch.ones(3), persistent)
        node.v_reset = 0.25
        assert torch.equal(node.v, torch.ones(3))
        with pytest.raises(TypeError, match=r"buffer 'v' must be a tensor or None, but got 0\.5"):
            node.v = 0.5
        del node.v
        assert not hasattr(node, "v")
        assert not list(node.buffers())


@pytest.mark.parametrize("both", [False, True])
def test_a_reset_leaves_what_was_taken_out_of_the_memories(both):
    node = neuron.LIFNode()
    node._memories.pop("v")
    if both:
        node._memories_rv.pop("v")
    node.v_reset = 0.25
    functional.reset_net(node)
    assert not hasattr(node, "v")
    node.v = held = torch.ones(3)
    functional.reset_net(node)
    functional.detach_net(node)
    assert node.v is held
    assert torch.equal(node(torch.zeros(3)), torch.zeros(3))
    with pytest.raises(ValueError, match="memory name"):
        node.get_reset_value("v")
