"""Samples that begin anew by themselves: each goes on as one that was alone all the time."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import ann2snn, base, encoding, exchange, functional, layer, learning, neuron
from spikescope.ann2snn.modules import ScaledNeuron, SpikingMaxPool
from spikescope.errors import ShapeError, StateError
from spikescope.neuron import PointwiseNeuron, registry

N, C = 5, 12
POINTWISE = [cls for cls in registry.values() if issubclass(cls, PointwiseNeuron) and "s" in cls.supported_step_modes]
DONE = torch.tensor([False, True, False, True, False])


def inputs(steps, *shape):
    return 3 * torch.rand(steps, *shape, generator=torch.Generator().manual_seed(3))


def check(make, shape=(N, C)):
    """Of samples that begin anew the steps are those after a reset, of the others those of a run without."""
    x = inputs(16, *shape)
    net, whole, fresh = make(), make(), make()
    for held in (whole, fresh):
        held.load_state_dict(net.state_dict())
    for step in x[:4]:
        net(step)
        whole(step)
    functional.reset_samples(net, DONE)
    differ = 0
    for step in x[4:]:
        got, went_on, began = net(step), whole(step), fresh(step)
        assert torch.equal(got[DONE], began[DONE])
        assert torch.equal(got[~DONE], went_on[~DONE])
        differ += (began != went_on)[DONE].sum()
    assert differ > 0  # else the samples had nothing to forget


@pytest.mark.parametrize("cls", [cls for cls in POINTWISE if not cls.driven_by], ids=lambda cls: cls.__name__)
def test_of_every_neuron(cls):
    def make():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(C, C), cls(**cls.example), nn.Linear(C, C)).eval()  # without noise and traces
        net[0].weight.data *= 3  # enough for whatever a neuron makes of its input to fire
        return net

    check(make)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layer.ElementWiseRecurrentContainer(neuron.IFNode(v_reset=None), torch.add),
        lambda: layer.LinearRecurrentContainer(neuron.NonSpikingIFNode(), C, C),
        lambda: layer.SynapseFilter(tau=3.0),
        *(partial(neuron.NonSpikingLIFNode, decode=decode) for decode in ("mean-mem", "max-mem", "max-abs-mem")),
        lambda: layer.Delay(2),
        lambda: layer.Delay(5),
    ],
    ids=["element-wise", "linear", "filter", "mean", "largest", "farthest", "delay", "long delay"],
)
def test_of_every_layer_with_a_state(make):
    check(make)


def test_of_images_and_of_pools():
    check(lambda: nn.Sequential(neuron.LIFNode(v_reset=None), SpikingMaxPool(nn.MaxPool2d(2))), (N, 3, 4, 4))


@pytest.mark.parametrize("scale", [1.5, torch.linspace(0.5, 2, C)])
def test_of_converted_networks(scale):
    check(lambda: nn.Sequential(ScaledNeuron(scale)))
    net = nn.Sequential(ScaledNeuron(scale))
    net[0].neuron.v_threshold = 1.5
    net(inputs(1, N, C)[0])
    functional.reset_samples(net, DONE)
    assert (net[0].neuron.v[DONE] == 0.75).all()


def test_of_a_whole_conversion():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Linear(C, C), nn.ReLU())
    check(lambda: ann2snn.Converter([(inputs(1, 32, C)[0] - 1, torch.zeros(32))])(ann))


@pytest.mark.parametrize("off_spike", [True, False])
def test_of_a_signal_that_is_told_by_its_changes(off_spike):
    check(lambda: encoding.DeltaEncoder(0.4, off_spike))


def test_of_an_exchanged_network_with_a_cycle():
    def make():
        nodes = {"in": nn.Linear(C, C), "lif": neuron.LIFNode(), "back": nn.Linear(C, C)}
        edges = [("input", "in"), ("in", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
        torch.manual_seed(2)
        net = exchange.NIRNetwork(nodes, edges, {"lif": (C,)})
        with torch.no_grad():
            net.nodes["back"].weight.mul_(5)
        return net

    check(make)


@pytest.mark.parametrize(
    ("make", "names", "shape"),
    [
        (layer.Dropout, ("mask",), (N, 200)),
        (layer.Dropout2d, ("mask",), (N, 200, 2)),
        (partial(layer.DropConnectLinear, 20, 20, invariant=True), ("mask_w", "mask_b"), (N, 20)),
    ],
    ids=["dropout", "channels", "connections"],
)
def test_samples_that_begin_anew_draw_a_mask_of_their_own(make, names, shape):
    net = nn.Sequential(make(p=0.5))
    functional.reset_samples(net, DONE)
    net(torch.ones(shape))
    before = {name: getattr(net[0], name).clone() for name in names}
    functional.reset_samples(net, DONE)
    for name, old in before.items():
        new = getattr(net[0], name)
        assert torch.equal(new[~DONE], old[~DONE])
        assert 0.3 < (new[DONE] != old[DONE]).double().mean() < 0.7
        assert set(new.unique().tolist()) == set(old.unique().tolist())
        if name == "mask" and new.ndim == 3:
            assert torch.equal(new[..., 0], new[..., 1])


def masked():
    return nn.Sequential(layer.Dropout(), layer.DropConnectLinear(C, C, invariant=True))


def test_where_nobody_begins_anew_no_random_number_is_drawn():
    net = masked()
    net(torch.ones(N, C))
    before = torch.get_rng_state()
    functional.reset_samples(net, [False] * N)
    assert torch.equal(torch.get_rng_state(), before)
    functional.reset_samples(net, DONE)
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_refusal_draws_no_random_number():
    net = nn.Sequential(masked(), encoding.LatencyEncoder(9))
    net(torch.zeros(N, C))
    masks, before = (net[0][0].mask, net[0][1].mask_w), torch.get_rng_state()
    with pytest.raises(StateError, match="LatencyEncoder"):
        functional.reset_samples(net, DONE)
    with pytest.raises(ShapeError, match="where has 2 entries"):
        functional.reset_samples(net[0], [True, False])
    assert torch.equal(torch.get_rng_state(), before)
    assert net[0][0].mask is masks[0]
    assert net[0][1].mask_w is masks[1]


def test_of_a_stream_by_what_environments_give():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(C, C), neuron.LIFNode(), nn.Linear(C, C), neuron.IFNode())
    loop = functional.stream(net)
    for done in (DONE.numpy(), DONE.tolist(), DONE.numpy()[::-1], np.zeros(N, bool)):
        for step in inputs(3, N, C):
            loop.step(step)
        before = loop.state
        loop.reset(done)
        for name in ("1", "3"):
            held, was = loop.state[name]["v"], before[name]["v"]
            assert torch.equal(held, torch.where(torch.tensor(list(done)).view(-1, 1), 0.0, was))
            assert was.abs().sum() > 0
    loop.reset()
    assert loop.state["1"]["v"] == 0


def test_no_gradient_flows_into_the_past_of_a_sample_that_begins_anew():
    net = neuron.LIFNode()
    first = inputs(1, N, C)[0].requires_grad_()
    net(first)
    functional.reset_samples(net, DONE)
    net(inputs(1, N, C)[0])
    net.v.sum().backward()
    assert not first.grad[DONE].any()
    assert first.grad[~DONE].any()


def test_a_step_of_another_batch_is_refused_as_before():
    node = neuron.IFNode()
    node(torch.ones(1, C))
    functional.reset_samples(node, [True])
    with pytest.raises(ShapeError, match="left by the call before"):
        node(torch.ones(N, C))


@pytest.mark.parametrize(
    "make",
    [
        lambda: neuron.IFNode(v_reset=torch.linspace(-0.5, 0.1, C)),
        lambda: neuron.LIFNode(v_reset=nn.Parameter(torch.tensor(-0.2))),
    ],
    ids=["a value a neuron", "a Parameter"],
)
def test_where_a_field_that_is_a_tensor_says_where_to_begin(make):
    check(lambda: nn.Sequential(make()))


def test_nobody_leaves_the_state_as_it_is():
    net = nn.Sequential(neuron.LIFNode(), layer.Delay(2))
    net(torch.ones(N, C))
    before = functional.get_state(net)
    functional.reset_samples(net, [False] * N)
    assert net[0].v is before["0"]["v"]


def test_memories_of_several_tensors():
    class Two(base.MemoryModule):
        zero_at_rest = frozenset({"pair"})

        def __init__(self):
            super().__init__()
            self.register_memory("pair", (0.0, 0.0))

        def single_step_forward(self, x):
            a, b = self.pair
            self.pair = (a + x, b + 2 * x)
            return self.pair[0] + self.pair[1]

    check(Two)


def test_a_network_at_rest_and_states_that_are_spread():
    net = nn.Sequential(neuron.LIFNode(), layer.Delay(2), layer.LinearRecurrentContainer(neuron.IFNode(), C, C))
    functional.reset_samples(net, DONE)
    assert net[0].v == 0
    assert net[1].queue == []
    node = neuron.IFNode()
    rest = torch.linspace(0, 0.5, C)
    node.set_reset_value("v", rest)
    node.reset()
    node(inputs(1, N, C)[0])
    functional.reset_samples(node, DONE)
    assert torch.equal(node.v[DONE], rest.expand(2, C))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: neuron.GatedLIFNode(T=9, step_mode="s"), "'t' of 0 (GatedLIFNode)"),
        (lambda: neuron.SlidingPSN(k=3, step_mode="s"), "'queue' of 0 (SlidingPSN)"),
        (lambda: encoding.LatencyEncoder(9), "of 0 (LatencyEncoder)"),
    ],
    ids=["steps", "queue", "encoder"],
)
def test_what_cannot_begin_anew_is_named_and_nothing_changes(make, named):
    net = nn.Sequential(make(), neuron.IFNode())
    for _ in range(2):
        net(torch.ones(N, C))
    before = net[1].v
    with pytest.raises(StateError, match="cannot begin anew for some samples alone") as told:
        functional.reset_samples(net, DONE)
    assert named in str(told.value)
    assert net[1].v is before


def test_a_reset_of_its_own_is_not_guessed():
    class Own(nn.Module):
        def reset(self):
            pass

    class Counting(neuron.IFNode):
        def reset(self):
            super().reset()

    for module in (Own(), Counting()):
        with pytest.raises(StateError, match=rf"0 \({type(module).__name__}\), which has a reset\(\) of its own"):
            functional.reset_samples(nn.Sequential(module), DONE)
    net = nn.Sequential(nn.Linear(C, C), neuron.IFNode())
    learner = learning.STDPLearner("s", net[0], net[1], 2.0, 2.0)
    with pytest.raises(StateError, match="STDPLearner"):
        functional.reset_samples(nn.ModuleList([learner]), DONE)


@pytest.mark.parametrize(
    "where",
    [
        None,
        3,
        "all",
        [0, 1, 0],
        torch.ones(2, 2, dtype=torch.bool),
        torch.ones(2, dtype=torch.bool, device="meta"),
        object(),
        [[True], [False, True]],
    ],
)
def test_what_is_no_list_of_bools(where):
    with pytest.raises(TypeError, match="where must be \\[N\\] of bools"):
        functional.reset_samples(neuron.IFNode(), where)


def test_another_number_of_samples():
    net = nn.Sequential(neuron.IFNode())
    net(inputs(1, N, C)[0])
    with pytest.raises(ShapeError, match=r"where has 2 entries, one a sample, but 'v' of 0 \(IFNode\) is \[N=5, 12\]"):
        functional.reset_samples(net, [True, False])
