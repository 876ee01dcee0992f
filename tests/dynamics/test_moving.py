"""Numbers that follow a schedule in compiled code: two graphs for all their values, and the eager loop's bits."""

import copy
import pickle

import pytest
import torch
import torch._dynamo
from dynamics_cases import NEURONS, SURROGATES, inputs
from torch import nn
from torch._dynamo.utils import counters

from sample import sample
from spikescope import functional
from spikescope.monitor.choose.signals import signal_of
from spikescope.monitor.probe.single import Probe
from spikescope.neuron import EIFNode, HalfThresholdIFNode, LIFNode, NoisyLIFNode, ParametricLIFNode
from spikescope.surrogate import Sigmoid

# of torch.compile itself
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


def number_fields(node):
    parts = [node, *(getattr(node, name) for name in type(node).parts)]
    return [(part, name) for part in parts for name in type(part).dynamic if isinstance(getattr(part, name), float)]


def run(node, call, x_seq):
    """Output, last state and gradients of a run from rest, in either step mode."""
    node.reset()
    node.zero_grad()
    torch.manual_seed(1)  # of the noise
    x = x_seq.clone().requires_grad_()
    y = call(x) if node.step_mode == "m" else torch.stack([call(step) for step in x.unbind(0)])
    state = [getattr(node, name) for name in type(node).State._fields]
    torch.manual_seed(2)
    sum((held * torch.randn_like(held)).sum() for held in (y, *state) if held.requires_grad).backward()
    return [y, *state, x.grad, *(held.grad for held in node.parameters())]


def graphs_of(node, change, dynamic=None, values=4, compiler="aot_eager"):
    """How many graphs `values` turns of `change` take; each gives what the eager run gives, bit for bit."""
    torch._dynamo.reset()
    counters.clear()
    reference = copy.deepcopy(node)
    compiled = torch.compile(node, fullgraph=True, backend=compiler, dynamic=dynamic)
    for turn in range(values):
        for held in (node, reference):
            change(held, turn)
        found, wanted = run(node, compiled, inputs(5, 2, 6)), run(reference, reference, inputs(5, 2, 6))
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    return counters["stats"]["unique_graphs"]


def change_all(node, turn):
    for part, name in number_fields(node) if turn else []:
        setattr(part, name, getattr(part, name) * (1 + 0.0137 * turn) + 0.00173)


def change_one(part, name):
    def change(node, turn):
        owner = getattr(node, part) if part else node
        if turn:
            setattr(owner, name, getattr(owner, name) * 1.0137 + 0.00173)  # a number that is 0 changes as well

    return change


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_the_numbers_of_every_neuron_may_change(cls):
    node = cls(**cls.example | ({"sigma": 0.3} if cls is NoisyLIFNode else {}), step_mode="m")
    assert graphs_of(node, change_all, dynamic=False) <= 2


ALONE = [(cls, name) for cls in (LIFNode, EIFNode) for part, name in number_fields(cls()) if isinstance(part, cls)]


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("cls", "name"),
    sample(ALONE, (LIFNode, "tau"), (LIFNode, "v_reset"), (EIFNode, "delta_T"), (EIFNode, "v_threshold")),
)
def test_each_number_alone_in_ten_values(cls, name):
    assert graphs_of(cls(step_mode="m"), change_one(None, name), values=10) <= 2


SINGLE = [(LIFNode, "torch"), (NoisyLIFNode, "auto"), (EIFNode, "auto"), (HalfThresholdIFNode, "auto")]


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize(
    ("cls", "backend", "dynamic"),
    sample(
        [(*made, dynamic) for made in SINGLE for dynamic in (None, False, True)],
        *((*made, None) for made in SINGLE),
        (LIFNode, "torch", True),
        (EIFNode, "auto", False),
    ),
)
def test_single_steps(cls, backend, dynamic):
    fields = {"sigma": 0.3} if cls is NoisyLIFNode else {}
    graphs = graphs_of(cls(**fields, backend=backend), change_all, dynamic)
    assert graphs <= 4  # a step from rest and one from a state are two graphs


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("surrogate", [s for s in SURROGATES if s.dynamic], ids=lambda cls: cls.__name__)
def test_the_numbers_of_every_surrogate_may_change(surrogate):
    node = LIFNode(step_mode="m", surrogate_function=surrogate(**surrogate.example))
    change = change_one("surrogate_function", surrogate.dynamic[0])
    assert graphs_of(node, change, dynamic=False, values=3) <= 2


def test_the_code_of_inductor():
    node = LIFNode(step_mode="m")
    assert graphs_of(node, change_all, values=3, compiler="inductor") <= 2


def test_a_backward_pass_takes_the_numbers_of_its_forward_pass():
    torch._dynamo.reset()
    for backend in ("cpp", "torch"):
        node = LIFNode(step_mode="m", backend=backend)
        compiled = torch.compile(node, fullgraph=True, backend="aot_eager")
        grads = []
        for module, call in ((node, compiled), (copy.deepcopy(node), None)):
            x = inputs(5, 2, 6).requires_grad_()
            for tau in (2.5, 3.5):
                module.tau, module.v_threshold = tau, tau / 3
                module.reset()
                y = (module if call is None else call)(x)
            module.tau, module.surrogate_function.alpha = 9.0, 1.0
            grads.append(torch.autograd.grad(y.sum(), x)[0])
        torch.testing.assert_close(*grads, rtol=0, atol=0)


def moved(**fields):
    """A node whose threshold and reset potential have moved since it was compiled."""
    node = LIFNode(step_mode="m", **fields)
    torch.compile(node, backend="eager")(inputs(5, 2, 6))
    node.reset()
    node.v_reset, node.v_threshold = -0.25, 0.75
    return node


def test_the_state_at_rest_and_the_fields_are_still_numbers():
    for node in (moved(), copy.deepcopy(moved()), pickle.loads(pickle.dumps(moved()))):
        assert (node.v, node.v_reset, node.v_threshold) == (-0.25, -0.25, 0.75)
        node(inputs(5, 2, 6))
        node.v_reset = -0.5
        node.reset()
        assert node.v == -0.5
        assert type(node.v) is type(node.v_reset) is float
        fresh = LIFNode(step_mode="m", v_reset=-0.5, v_threshold=0.75)
        torch.testing.assert_close(node(inputs(5, 2, 6)), fresh(inputs(5, 2, 6)), rtol=0, atol=0)


def test_a_tensor_or_none_in_place_of_a_number_that_moved():
    node, compiled = moved(), None
    for threshold, reset in ((torch.tensor(0.5), -0.25), (nn.Parameter(torch.tensor(0.6)), None), (0.7, -0.125)):
        node.v_threshold, node.v_reset = threshold, reset
        node.reset()
        compiled = torch.compile(node, fullgraph=True, backend="aot_eager") if compiled is None else compiled
        fresh = LIFNode(step_mode="m", v_threshold=threshold, v_reset=reset)
        torch.testing.assert_close(compiled(inputs(5, 2, 6)), fresh(inputs(5, 2, 6)), rtol=0, atol=0)


def test_a_number_that_moved_while_another_learns():
    node = ParametricLIFNode(step_mode="m", init_tau=3.0)
    assert graphs_of(node, change_all, dynamic=True) <= 2


def test_a_network_that_is_watched():
    torch._dynamo.reset()
    counters.clear()
    net = nn.Sequential(nn.Linear(6, 6), LIFNode(surrogate_function=Sigmoid()), EIFNode())
    functional.set_step_mode(net, "m")
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    seen = {}
    for call in (compiled, net):
        held = seen[call is net] = []
        probes = [
            Probe("", node, signal_of(signal, node), lambda v, m, held=held: held.append(v.clone()), root=net)
            for node in net[1:]
            for signal in ("h", "v", "output")
        ]
        for threshold in (1.0, 0.7, 0.4, 0.2):
            net[1].v_threshold = net[2].v_threshold = threshold
            functional.reset_net(net)
            with torch.no_grad():
                call(inputs(5, 2, 6, seed=4))
        if call is compiled:
            assert counters["stats"]["unique_graphs"] <= 2
        for probe in probes:
            probe.close()
    assert len(seen[True]) == len(seen[False]) == 24
    for found, wanted in zip(seen[False], seen[True], strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
