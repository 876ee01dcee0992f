"""Reset, detach, step mode, backend and state of whole networks."""

import copy
import logging
import pickle

import pytest
import torch
from torch import nn

from spikescope import functional, layer
from spikescope.base import MemoryModule, MultiStepModule, SingleStepModule, StepModule
from spikescope.errors import StateError
from spikescope.neuron import IFNode, LIFNode, SlidingPSN


class Foreign(nn.Module):
    """Stateful in its own way, as code from elsewhere is."""

    def __init__(self):
        super().__init__()
        self.step_mode = "s"
        self.total = 1.0

    def reset(self):
        self.total = 0.0

    def detach(self):
        self.total = float(self.total)


class NamedChildren(nn.Module):
    """Children whose names are those of methods."""

    def __init__(self):
        super().__init__()
        self.reset, self.detach, self.step_mode, self.backend = (nn.Linear(1, 1) for _ in range(4))


class OnlySequences(MultiStepModule, nn.Module):
    """Multi-step only."""


class OnlySteps(SingleStepModule, nn.Module):
    """Single-step only."""


class Owner(StepModule, nn.Sequential):
    """Steps through time by itself."""

    owns_children_step_mode = True


class Queue(MemoryModule):
    """A state that is a list, one that is a tuple, one that is nothing yet."""

    def __init__(self):
        super().__init__()
        self.register_memory("queue", [])
        self.register_memory("pair", (0.0, None))

    def single_step_forward(self, x):
        self.queue.append(x)
        self.pair = (x, None)
        return x


def network():
    return nn.Sequential(nn.Linear(3, 2), IFNode(), nn.Sequential(nn.Linear(2, 2), LIFNode()))


def state_tensors(net):
    return [value for module in net.modules() if isinstance(module, MemoryModule) for value in module.memories()]


def test_reset_puts_every_state_back():
    net = network()
    net(torch.rand(5, 3))
    assert all(isinstance(v, torch.Tensor) for v in state_tensors(net))
    functional.reset_net(net)
    assert state_tensors(net) == [0.0, 0.0]
    functional.reset_net(net[1])  # a single module is a network


def test_reset_reaches_modules_added_later():
    net = network()
    functional.reset_net(net)
    net.append(IFNode())
    net(torch.rand(5, 3))
    functional.reset_net(net)
    assert state_tensors(net) == [0.0, 0.0, 0.0]


def test_reset_of_a_foreign_module_warns_once_of_its_class(caplog):
    kind = type("Foreign", (Foreign,), {})  # of which nothing has been said
    net = nn.Sequential(kind(), kind())
    with caplog.at_level(logging.WARNING, "spikescope"):
        for _ in range(3):
            functional.reset_net(net)
    assert net[0].total == net[1].total == 0.0
    assert caplog.messages == ["reset_net resets 0 (Foreign), which has a reset() but is not a MemoryModule."]


@pytest.mark.parametrize(
    "net", [network(), nn.Sequential(), nn.Linear(1, 1), NamedChildren()], ids=lambda n: str(type(n))
)
def test_ordinary_networks_give_no_warning(net, caplog):
    functional.reset_net(net)
    functional.detach_net(net)
    functional.set_step_mode(net, "m")
    functional.set_backend(net, "torch")
    assert not caplog.messages


@pytest.mark.parametrize(
    "call",
    [
        functional.reset_net,
        functional.detach_net,
        functional.get_state,
        lambda net: functional.set_step_mode(net, "m"),
        lambda net: functional.set_backend(net, "torch"),
        lambda net: functional.set_state(net, {}),
        lambda net: functional.checkpoint(net, torch.ones(1)),
        functional.kaiming_normal_conv_linear_weight,
    ],
)
def test_what_is_no_module_is_refused(call):
    with pytest.raises(TypeError, match=r"takes an nn\.Module, but got list.*nn\.Sequential"):
        call([IFNode()])


def test_detach_cuts_the_gradient_at_the_present_state():
    net = nn.Sequential(IFNode(v_threshold=9.0, v_reset=None), Foreign.__new__(Foreign))[:1]
    x = torch.tensor([0.5, 0.25], requires_grad=True)
    net(x)
    held = net[0].v
    functional.detach_net(net)
    assert held.requires_grad  # whoever holds the tensor keeps its graph
    net(2 * x)
    net[0].v.sum().backward()  # V = x + 2x, of which only 2x is seen
    assert x.grad.tolist() == [2.0, 2.0]
    assert net[0].v.tolist() == [1.5, 0.75]


def test_detach_of_a_foreign_module_warns(caplog):
    module = Foreign()
    module.total = torch.ones(())
    functional.detach_net(nn.Sequential(module, IFNode()))
    assert module.total == 1.0
    assert isinstance(module.total, float)
    assert caplog.messages == ["detach_net detaches 0 (Foreign), which has a detach() but is not a MemoryModule."]


def test_set_step_mode_sets_all():
    net = network()
    for mode in ("m", "s"):
        functional.set_step_mode(net, mode)
        assert [net[1].step_mode, net[2][1].step_mode] == [mode, mode]


def test_children_of_a_container_with_its_own_time_keep_their_mode():
    inside = IFNode()
    net = nn.Sequential(IFNode(), Owner(nn.Sequential(inside), Owner(IFNode())))
    functional.set_step_mode(net, "m")
    assert [net[0].step_mode, net[1].step_mode] == ["m", "m"]
    assert [inside.step_mode, net[1][1].step_mode, net[1][1][0].step_mode] == ["s", "s", "s"]
    functional.set_step_mode(net[1], "s")
    assert net[1].step_mode == "s"


@pytest.mark.parametrize(
    "make",
    [
        lambda node: layer.StepModeContainer(True, node),
        lambda node: layer.ElementWiseRecurrentContainer(node, torch.add),
        lambda node: layer.LinearRecurrentContainer(node, 3, 3),
    ],
)
def test_the_containers_step_through_time_with_single_step_children(make):
    torch.manual_seed(0)
    node = IFNode(v_threshold=0.3)
    net = nn.Sequential(make(node), IFNode())
    x_seq = torch.rand(4, 2, 3)
    want = functional.multi_step_forward(x_seq, net)
    functional.reset_net(net)
    functional.set_step_mode(net, "m")
    assert [net[0].step_mode, node.step_mode, net[1].step_mode] == ["m", "s", "m"]
    assert torch.equal(net(x_seq), want)


def test_containers_that_are_multi_step_only():
    net = nn.Sequential(layer.MultiStepContainer(IFNode()), layer.SeqToANNContainer(layer.Linear(3, 2)))
    functional.set_step_mode(net, "m")
    assert net(torch.rand(4, 2, 3)).shape == (4, 2, 2)
    with pytest.raises(ValueError, match=r"0 \(MultiStepContainer\), 1 \(SeqToANNContainer\)"):
        functional.set_step_mode(net, "s")


@pytest.mark.parametrize(("mode", "module"), [("s", OnlySequences), ("m", OnlySteps)])
def test_set_step_mode_is_all_or_nothing(mode, module):
    other = {"s": "m", "m": "s"}[mode]
    net = nn.Sequential(IFNode(step_mode=other), module(), IFNode(step_mode=other))
    with pytest.raises(
        ValueError, match=rf"step_mode='{mode}' is not supported by 1 \({module.__name__}\).*left as it"
    ):
        functional.set_step_mode(net, mode)
    assert [m.step_mode for m in net] == [other] * 3
    functional.set_step_mode(net, other)


def test_a_setter_that_fails_leaves_the_net_as_it_was():
    class Stubborn(nn.Module):
        @property
        def step_mode(self):
            return "s"

        @step_mode.setter
        def step_mode(self, value):
            if value == "m":
                raise ValueError("not me")

    net = nn.Sequential(IFNode(), Stubborn(), IFNode())
    with pytest.raises(ValueError, match="not me"):
        functional.set_step_mode(net, "m")
    assert [m.step_mode for m in net] == ["s"] * 3


def test_set_step_mode_of_a_foreign_module_warns(caplog):
    net = nn.Sequential(Foreign())
    functional.set_step_mode(net, "m")
    assert net[0].step_mode == "m"
    assert caplog.messages == ["set_step_mode sets 0 (Foreign), which has a step_mode but is not a StepModule."]


def test_an_unknown_step_mode_is_refused_even_without_anything_to_set():
    with pytest.raises(ValueError, match="step_mode must be one of 's', 'm', but got 'x'"):
        functional.set_step_mode(nn.Sequential(), "x")


def test_set_backend_and_set_step_mode_in_any_order():
    one, two = network(), network()
    functional.set_backend(one, "torch")
    functional.set_step_mode(one, "m")
    functional.set_step_mode(two, "m")
    functional.set_backend(two, "torch")
    assert [(n.backend, n.step_mode) for n in (one[1], one[2][1], two[1], two[2][1])] == [("torch", "m")] * 4


def test_a_backend_that_modules_do_not_have_warns_once_and_keeps_the_old_ones(caplog):
    net = network()
    functional.set_backend(net, "torch")
    functional.set_backend(net, "cupy")
    assert net[1].backend == net[2][1].backend == "torch"
    (said,) = caplog.messages
    assert "set_backend: 1 (IFNode), 2.1 (LIFNode) have no backend 'cupy', only 'auto', 'torch'" in said
    assert said.endswith("they keep 'torch'. The kernels on a GPU are those of 'auto' or 'triton' here.")


def test_a_backend_that_some_modules_have_is_set_there(caplog):
    net = nn.Sequential(SlidingPSN(k=2), IFNode(), IFNode())
    functional.set_backend(net, "conv")
    assert [node.backend for node in net] == ["conv", "auto", "auto"]
    functional.set_backend(net, "torch")
    assert [node.backend for node in net] == ["conv", "torch", "torch"]
    one, two = caplog.messages
    assert one.startswith("set_backend: 1 (IFNode), 2 (IFNode) have no backend 'conv', only 'auto'")
    assert two.endswith("0 (SlidingPSN) has no backend 'torch', only 'gemm', 'conv'; it keeps 'conv'.")


def test_a_backend_of_a_module_from_elsewhere(caplog):
    class Own(nn.Module):
        supported_backends = ("slow", "quick")
        backend = "slow"

    class Open(nn.Module):
        backend = "any"

    net = nn.Sequential(Own(), IFNode(), Open(), Own())
    functional.set_backend(net, "quick")
    assert [held.backend for held in net] == ["quick", "auto", "quick", "quick"]
    foreign, lacking = caplog.messages
    assert foreign == ("set_backend sets 0 (Own), 2 (Open), 3 (Own), which have a backend but are no MemoryModules.")
    assert lacking.startswith("set_backend: 1 (IFNode) has no backend 'quick'")
    caplog.clear()
    functional.set_backend(net[:1], "slower")
    assert (net[0].backend, len(caplog.messages)) == ("quick", 1)


@pytest.mark.parametrize("name", ["tritn", "inductor", "lava", "Torch", ""])
def test_a_backend_that_nobody_has_leaves_all_as_it_is_with_one_line(name, caplog):
    net = nn.Sequential(IFNode(), IFNode(backend="torch"))
    functional.set_backend(net, name)
    assert [node.backend for node in net] == ["auto", "torch"]
    (said,) = caplog.messages
    assert f"have no backend {name!r}, only 'auto', 'torch'" in said
    hint = {
        "tritn": "Did you mean triton?",
        "Torch": "Did you mean torch?",
        "inductor": "torch.compile",
        "lava": "Lava",
    }
    assert hint.get(name, "they keep") in said
    functional.set_backend(nn.Linear(1, 1), name)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("instance", [LIFNode, (LIFNode, nn.Linear)])
def test_set_backend_on_some_types_only(instance):
    net = network()
    functional.set_backend(net, "torch", instance)
    assert [net[1].backend, net[2][1].backend] == ["auto", "torch"]


def test_compiled_networks_are_reached_once():
    net = torch.compile(nn.Sequential(Foreign(), IFNode()), backend="eager")
    resets = []
    net._orig_mod[1].register_memory("count", 0)
    net._orig_mod[1].reset = lambda: resets.append(1)
    functional.reset_net(net)
    assert resets == [1]


def test_state_is_a_value():
    torch.manual_seed(0)
    net = network()
    x = torch.rand(5, 3)
    net(x)
    state = functional.get_state(net)
    assert list(state) == ["1", "2.1"]
    assert len(state) == 2
    assert state["1"]["v"] is net[1].v  # not copied
    numbers = {path: state[path]["v"].detach().clone() for path in state}
    first = net(x)
    assert not torch.equal(net[1].v, numbers["1"])
    assert all(torch.equal(state[path]["v"], numbers[path]) for path in state)  # nor changed
    functional.set_state(net, state)
    assert torch.equal(net(x), first)
    with pytest.raises(TypeError):
        state["1"]["v"] = 0.0
    with pytest.raises(TypeError):
        state["1"] = {}


def test_state_carries_its_gradient():
    node = IFNode(v_threshold=9.0, v_reset=None)
    x = torch.tensor([0.5], requires_grad=True)
    node(3 * x)
    state = functional.get_state(node)
    functional.reset_net(node)
    functional.set_state(node, state)
    node(x)
    node.v.backward(torch.ones(1))
    assert x.grad.tolist() == [4.0]


def test_state_survives_pickle_and_deepcopy_without_its_graph():
    net = network()
    net(torch.rand(5, 3))
    state = functional.get_state(net)
    assert state["1"]["v"].requires_grad
    for other in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        assert torch.equal(other["2.1"]["v"], state["2.1"]["v"])
        assert not other["2.1"]["v"].requires_grad
        assert other["2.1"]["v"] is not state["2.1"]["v"]
    assert repr(functional.get_state(IFNode())) == "NetworkState({'': {'v': 0.0}})"


def test_lists_in_a_state_are_not_shared():
    net = Queue()
    net(torch.ones(1))
    state = functional.get_state(net)
    net(torch.ones(1))
    assert len(state[""]["queue"]) == 1
    functional.set_state(net, state)
    net(torch.ones(1))
    assert len(state[""]["queue"]) == 1
    assert len(net.queue) == 2
    assert net.pair == (torch.ones(1), None)


def test_the_state_of_another_network_is_refused_in_words():
    net = network()
    net(torch.ones(1, 3))
    before = net[1].v
    other = nn.Sequential(IFNode(), IFNode())
    with pytest.raises(StateError, match=r"missing     2\.1\.v\n  unexpected  0\.v\n"):
        functional.set_state(net, functional.get_state(other))
    assert net[1].v is before
    with pytest.raises(StateError, match=r"missing     pair, queue\n  unexpected  v\n"):
        functional.set_state(Queue(), functional.get_state(IFNode()))
    with pytest.raises(StateError, match=r"missing     nothing\n  unexpected  v\n"):
        functional.set_state(nn.Linear(1, 1), functional.get_state(IFNode()))
    with pytest.raises(StateError, match=r"and 4 more"):
        functional.set_state(nn.Sequential(*(IFNode() for _ in range(12))), {})
    with pytest.raises(TypeError, match="takes what get_state gave, but got list"):
        functional.set_state(net, [])


def test_a_plain_mapping_is_a_state_and_moves_between_networks():
    one, two = network(), network()
    one(torch.rand(5, 3))
    functional.set_state(two, {path: dict(held) for path, held in functional.get_state(one).items()})
    assert two[2][1].v is one[2][1].v
    assert functional.get_state(nn.Linear(1, 1)) == {}


def test_truncated_backpropagation_by_state_equals_detach_net():
    torch.manual_seed(0)
    x = torch.rand(6, 4, 3)
    net = network()
    functional.set_step_mode(net, "m")
    grads = []
    for cut in (True, False):
        functional.reset_net(net)
        net.zero_grad()
        net(x[:3])
        if cut:
            functional.detach_net(net)
        else:
            state = copy.deepcopy(functional.get_state(net))
            functional.reset_net(net)
            functional.set_state(net, state)
        net(x[3:]).sum().backward()
        grads.append(net[0].weight.grad.clone())
    assert grads[0].abs().sum() > 0
    assert torch.equal(*grads)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
def test_helpers_compile():
    net = network()

    def run(x):
        functional.reset_net(net)
        state = functional.get_state(net)
        first = net(x)
        functional.detach_net(net)
        functional.set_state(net, state)
        return first, net(x), net[1].v

    first, second, v = torch.compile(run, backend="eager", fullgraph=True)(torch.full((2, 3), 0.7))
    assert torch.equal(first, second)
    assert torch.equal(v, net[1].v)


@pytest.mark.parametrize("given", [None, 3, IFNode])
def test_a_backend_that_is_no_name_is_refused_and_changes_nothing(given):
    net = nn.Sequential(IFNode())
    with pytest.raises(TypeError, match="set_backend: backend must be a name such as 'auto' or 'torch', but got"):
        functional.set_backend(net, given)
    assert net[0].backend == "auto"
