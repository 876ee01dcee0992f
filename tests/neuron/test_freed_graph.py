"""A second training step without a reset: what is said where its backward pass meets the graph of the first."""

import gc
import weakref

import pytest
import torch
from neuron_cases import BOTH_MODES, make, steps
from torch import nn

from spikescope import base, functional, layer, neuron, rnn, surrogate
from spikescope.dynamics.triton import launch
from spikescope.neuron.parallel import ParallelNeuron

WORDS = (
    r"of a call whose graph an earlier backward pass has freed\. .*functional\.reset_net\(net\) before each batch, or "
)
WORDS += r"functional\.detach_net\(net\) to go on"
KEEPING = [cls for cls in BOTH_MODES if not issubclass(cls, ParallelNeuron)]


class Product(base.MemoryModule):
    """A state that somebody else wrote, by operations of PyTorch."""

    def __init__(self, step_mode):
        super().__init__()
        self.register_memory("h", 0.0)
        self.step_mode = step_mode

    def single_step_forward(self, x):
        self.h = self.h * x + x
        return self.h


BY_OPERATIONS = {
    "SynapseFilter": lambda mode: layer.SynapseFilter(step_mode=mode),
    "SynapseFilter, learnable": lambda mode: layer.SynapseFilter(learnable=True, step_mode=mode),
    "Delay": lambda mode: layer.Delay(1, step_mode=mode),
    "a layer fed back": lambda mode: layer.ElementWiseRecurrentContainer(nn.Linear(3, 3), torch.add, step_mode=mode),
    "a neuron fed back": lambda mode: layer.ElementWiseRecurrentContainer(neuron.IFNode(), torch.add, step_mode=mode),
    "by weights": lambda mode: layer.LinearRecurrentContainer(nn.Tanh(), 3, 3, step_mode=mode),
    "SlidingPSN": lambda mode: neuron.SlidingPSN(2, step_mode=mode),
    "of one's own": Product,
}
WAYS = {
    "as it is": lambda net, x: net(x),
    "lean": lambda net, x: functional.lean(net)(x),
    "checkpointed": functional.checkpoint,
}


def two_steps(net, x, call=WAYS["as it is"], between=lambda net: None):
    for _ in range(2):
        first = call(net, x)
        (first + call(net, x)).sum().backward()  # of some neurons the first output does not depend on the input
        between(net)


def check(node, x, way):
    net = nn.Sequential(nn.Linear(3, 3), node)
    with pytest.raises(RuntimeError, match=WORDS):
        two_steps(net, x, WAYS[way])
    for mend in (functional.reset_net, functional.detach_net):
        mend(net)
        two_steps(net, x, WAYS[way], mend)


@pytest.mark.parametrize("cls", KEEPING, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("backend", ["torch", "cpp"])
def test_a_missing_reset_is_named(cls, mode, backend):
    if backend not in cls.supported_backends or (backend == "torch" and cls is neuron.LIAFNode):
        pytest.skip("in its loop the analog output leads by operations of PyTorch to what they have saved")
    x = torch.rand(*((steps(cls, 3),) if mode == "m" else ()), 2, 3)
    check(make(cls, step_mode=mode, backend=backend), x, "as it is")


@pytest.mark.parametrize("build", BY_OPERATIONS.values(), ids=BY_OPERATIONS)
@pytest.mark.parametrize("mode", ["s", "m"])
def test_so_it_is_of_states_of_operations(build, mode):
    if mode == "s" and build is BY_OPERATIONS["Delay"]:
        pytest.skip("no backward pass has come to the step that waits")
    check(build(mode), torch.rand(*((4,) if mode == "m" else ()), 2, 3), "as it is")


@pytest.mark.parametrize("build", BY_OPERATIONS.values(), ids=BY_OPERATIONS)
def test_a_graph_that_is_retained_is_walked_again(build):
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 3), build("m")), torch.rand(4, 2, 3)
    net(x)
    y = net(x)
    params = list(net.parameters())
    first = torch.autograd.grad(y.sum(), params, retain_graph=True)
    for got, want in zip(torch.autograd.grad(y.sum(), params), first, strict=True):
        assert torch.equal(got, want)


class Box:
    def __init__(self, held):
        self.held = held


def test_a_state_that_is_watched_keeps_nothing_alive():
    net, saved = nn.Sequential(nn.Linear(3, 3), layer.SynapseFilter()), []

    def pack(held):
        box = Box(held)
        saved.append(weakref.ref(box))
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.held):
        for _ in range(2):
            net(torch.rand(2, 3))
    assert any(box() is not None for box in saved)
    functional.reset_net(net)
    gc.collect()
    assert all(box() is None for box in saved)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["torch", "cpp", "triton"])
def test_so_it_is_in_less_memory_and_on_a_gpu(way, backend):
    if backend == "triton" and not launch.interpreted():
        pytest.skip("TRITON_INTERPRET is 0")
    check(neuron.LIFNode(step_mode="m", backend=backend), torch.rand(3, 2, 3), way)


@pytest.mark.parametrize("name", sorted(surrogate.registry))
def test_the_eager_loop_says_it_with_every_surrogate(name):
    function = surrogate.registry[name](*((3,) if name == "MultiLevelSpikeCount" else ()))
    node = neuron.IFNode(surrogate_function=function, v_threshold=0.0, step_mode="m", backend="torch")
    x = torch.full((3, 2, 3), 0.125).requires_grad_()  # with a potential that is a probability too
    with pytest.raises(RuntimeError, match=WORDS):
        two_steps(node, x)


@pytest.mark.parametrize("make", [rnn.SpikingLSTM, rnn.SpikingGRU, rnn.SpikingVanillaRNN], ids=lambda cls: cls.__name__)
def test_states_that_are_handed_over_with_their_graph_are_named(make):
    net = make(3, 4, 1)
    y, states = net(torch.rand(3, 2, 3))
    y.sum().backward()
    y, _ = net(torch.rand(3, 2, 3), states)
    with pytest.raises(RuntimeError, match=r"has freed\. .*states that were handed over .* state\.detach\(\)"):
        y.sum().backward()
