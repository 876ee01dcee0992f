"""Numbers and arguments by age: what code of 0.0.0.0.12 and 0.0.0.0.14 computed, under the aliases of its paths."""

import json
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.usefixtures("aliases")

HERE = Path(__file__).parent / "ages"
sys.path.insert(0, str(HERE))
from cases import AGES, run, scope  # noqa: E402  # it is a program's module, run by the package of an age, too

sys.path[0] = str(HERE.parent / "programs")
from runner import eager  # noqa: E402

sys.path.remove(sys.path[0])

STORED = {age: json.loads((HERE / f"{age}.json").read_text()) for age in AGES}
CASES = [(age, case, shape) for age, (_, cases) in AGES.items() for case, shape in cases]


@pytest.mark.parametrize(("age", "case", "shape"), CASES, ids=lambda held: str(held).replace(" ", ""))
def test_the_numbers_are_those_of_the_age(age, case, shape):
    stored = STORED[age][f"{case} {list(shape)}"]
    torch.manual_seed(0)
    with eager():  # which the kernels equal, as other tests show: here each would be compiled for three numbers
        told = run(case, shape, scope(AGES[age][0]))
    wanted = {name: torch.tensor(values).reshape(size) for name, (size, values) in stored.items()}
    assert told.keys() == wanted.keys()
    for name, held in wanted.items():
        torch.testing.assert_close(
            told[name].float(), held, rtol=2e-5, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_leaky_nodes_take_the_arguments_of_before_decay_input():
    from spikingjelly.clock_driven import neuron, surrogate

    sigmoid = surrogate.Sigmoid(1.0)
    for cls in (neuron.LIFNode, neuron.MultiStepLIFNode, neuron.ParametricLIFNode, neuron.MultiStepParametricLIFNode):
        node = cls(3.0, 0.7, None, sigmoid, True)
        assert (node.v_threshold, node.v_reset, node.detach_reset, node.decay_input) == (0.7, None, True, True)
        assert node.surrogate_function is sigmoid
        later = cls(3.0, False, 0.7, None, sigmoid, True)
        assert (later.v_threshold, later.v_reset, later.detach_reset, later.decay_input) == (0.7, None, True, False)
    assert neuron.MultiStepIFNode(0.7, None, sigmoid, True, "torch", 64).backend == "torch"
    assert neuron.IFNode(0.7, None, sigmoid, True, True).detach_reset
    with pytest.raises(TypeError, match=r"MultiStepLIFNode\(tau=2.0, decay_input=True, .*'taus'"):
        neuron.MultiStepLIFNode(taus=3.0)


def test_leaky_k_relu_takes_spiking_at_the_place_of_either_age():
    from spikingjelly.activation_based.surrogate import LeakyKReLU

    made = [LeakyKReLU(False, 0.1, 2.0), LeakyKReLU(0.1, 2.0, False), LeakyKReLU(0.1, 2.0, spiking=False)]
    assert [(each.leak, each.k, each.spiking) for each in made] == [(0.1, 2.0, False)] * 3
    assert [(each.leak, each.k, each.spiking) for each in (LeakyKReLU(0.1, 2.0), LeakyKReLU(0.1))] == [
        (0.1, 2.0, True),
        (0.1, 1.0, True),
    ]


def test_leaky_nodes_of_the_extension_take_detach_input_or_not():
    from spikingjelly.cext import neuron

    node = neuron.MultiStepLIFNode(10.0, True, 0.7, 0.1, "Sigmoid", 3.0, True)
    assert (node.tau, node.decay_input, node.v_threshold, node.v_reset) == (10.0, False, 0.7, 0.1)
    assert (node.surrogate_function.alpha, node.detach_reset, node.step_mode) == (3.0, True, "m")
    later = neuron.LIFNode(10.0, 0.7, 0.1)
    assert (later.tau, later.decay_input, later.v_threshold, later.step_mode) == (10.0, True, 0.7, "s")
    assert neuron.LIFNode().tau == 100.0
    assert isinstance(later, neuron.BaseNode)


def test_nodes_of_both_interfaces_are_found_by_their_bases():
    from spikingjelly.activation_based import neuron as new
    from spikingjelly.clock_driven import neuron as old

    import spikescope

    assert isinstance(old.MultiStepLIFNode(), old.LIFNode)
    for node in (old.LIFNode(), old.MultiStepIFNode(), spikescope.neuron.LIFNode()):
        assert isinstance(node, old.BaseNode)
        assert isinstance(node, new.BaseNode)
    assert not isinstance(spikescope.surrogate.ATan(), old.BaseNode)
    assert spikescope.neuron.registry["LIFNode"] is spikescope.neuron.LIFNode

    class Quick(old.BaseNode):
        def __init__(self):
            super().__init__(0.5, None, monitor_state=True)

        def neuronal_charge(self, x):
            self.v = self.v + 2 * x

    assert not isinstance(old.LIFNode(), Quick)
    assert Quick()(torch.tensor([0.1, 0.3])).tolist() == [0.0, 1.0]


def test_a_threshold_that_a_hook_moves_is_put_back_by_reset():
    from spikingjelly.clock_driven import neuron

    class Tired(neuron.IFNode):
        def neuronal_reset(self, spike):
            super().neuronal_reset(spike)
            self.v_threshold = self.v_threshold + 0.5 * spike

    node = Tired()
    assert node(torch.ones(2)).tolist() == [1.0, 1.0]
    assert node(torch.ones(2)).tolist() == [0.0, 0.0]
    node.reset()
    assert node.v_threshold == 1.0
    assert node(torch.ones(2)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["IFNode", "MultiStepIFNode"])
def test_nodes_keep_what_set_monitor_asks_for(kind):
    from spikingjelly.clock_driven import functional, neuron

    node = getattr(neuron, kind)()
    net = torch.nn.Sequential(node)
    functional.set_monitor(net, True)
    x = torch.tensor([[0.75], [0.75], [0.75]])
    for step in x if kind == "IFNode" else [x]:
        net(step)
    told = {name: [float(held[0]) for held in course] for name, course in node.monitor.items()}
    assert told == {"h": [0.75, 1.5, 0.75], "v": [0.75, 0.0, 0.75], "s": [0.0, 1.0, 0.0]}
    functional.reset_net(net)
    assert node.monitor == {"h": [], "v": [], "s": []}
    functional.set_monitor(net, False)
    net(x if kind != "IFNode" else x[0])
    assert node.monitor is False


def test_defaults_that_another_age_had_otherwise_are_told_once(caplog):
    from spikingjelly.clock_driven import neuron, surrogate

    from spikescope.compat.ages import made

    made._said.clear()
    for _ in range(2):
        neuron.IFNode(surrogate_function=surrogate.Sigmoid(2.0))
        neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan())
    assert not caplog.records
    for _ in range(2):
        neuron.LIFNode()
        surrogate.Sigmoid()
    assert len(caplog.records) == 3
    assert "tau is 2.0 where none is given, as in 0.0.0.0.12; in 0.0.0.0.4 it was 100.0" in caplog.text
    assert "Sigmoid() of clock_driven has alpha=4.0" in caplog.text


def test_the_steep_window_is_a_surrogate_like_others():
    from spikingjelly.activation_based import neuron, surrogate

    import spikescope

    old, ours = surrogate.PiecewiseLeakyReLU(w=0.5), spikescope.surrogate.PiecewiseLeakyReLU(w=0.5)
    grads = []
    for made in (old, ours):
        x = torch.tensor([[0.75], [0.25]], requires_grad=True)
        neuron.IFNode(surrogate_function=made, step_mode="m", detach_reset=True)(x)[0].sum().backward()
        grads.append(x.grad[0].item())
    assert grads == [2.0, 1.0]
    assert spikescope.surrogate.PiecewiseLeakyReLU in type(old).__mro__
    assert spikescope.surrogate.registry["PiecewiseLeakyReLU"] is spikescope.surrogate.PiecewiseLeakyReLU


@pytest.mark.parametrize("kind", ["LIFNode", "MultiStepLIFNode"])
def test_neurons_of_an_age_go_to_nir(kind):
    pytest.importorskip("nir")
    from spikingjelly.clock_driven import layer, neuron

    from spikescope import exchange

    net = torch.nn.Sequential(torch.nn.Linear(3, 2), getattr(neuron, kind)(2.0), layer.MultiStepDropout(0.5))
    graph = exchange.to_nir(net.eval(), (3,))
    assert [type(node).__name__ for node in graph.nodes.values()] == ["Input", "Affine", "LIF", "Output"]

    class Own(neuron.LIFNode):
        def neuronal_charge(self, x):
            self.v = self.v + 2 * x

    with pytest.raises(ValueError, match="Own"):
        exchange.to_nir(torch.nn.Sequential(Own()), (3,))


def test_the_share_of_dropped_channels_is_that_of_the_age():
    from spikingjelly.activation_based import layer as new
    from spikingjelly.clock_driven import layer as old

    assert (new.Dropout2d().p, old.Dropout2d().p, old.MultiStepDropout2d().p) == (0.2, 0.2, 0.5)
