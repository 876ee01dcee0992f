"""Thresholds that move while they are watched."""

import pytest
import torch
from health_cases import if_node, kinds
from torch import nn

from spikescope import functional, monitor, neuron, surrogate
from spikescope.monitor import health
from spikescope.monitor.choose.signals import share_that_never_fires
from spikescope.monitor.health.watch import seen
from spikescope.monitor.health.watch.state import State
from spikescope.monitor.reduce import SupportShare
from spikescope.monitor.reduce import support as supports
from spikescope.sockets import place_sockets


@pytest.mark.parametrize("mode", ["m", "s", "compiled"])
def test_the_threshold_is_read_at_each_call(mode):
    """0.2 below a threshold of 100 is inside, of 1 far above it. In compiled code the first call is asked too late."""
    node = neuron.IFNode(step_mode="s" if mode == "s" else "m")
    net, x = nn.Sequential(node), torch.full((1, 2, 3), 99.8)
    run = torch.compile(net, backend="aot_eager", fullgraph=True) if mode == "compiled" else net
    with health(net, silent=1.0, saturated=1.0) as watch, torch.no_grad():
        node.v_threshold = 100.0
        for _ in range(1 + (mode == "compiled")):
            functional.reset_net(net)
            run(x[0] if mode == "s" else x)
        assert watch.potentials["0"] == 1
        node.v_threshold = 1.0
        for _ in range(1 + (mode == "compiled")):
            functional.reset_net(net)
            run(x[0] if mode == "s" else x)
    assert watch.potentials["0"] == 0.5
    assert not node._taps


def test_a_threshold_that_moves_leaves_nothing_behind():
    net, x = nn.Sequential(nn.Identity(), if_node()), torch.ones(2, 1, 3)
    known = place_sockets(net[1])[1]
    with health(net) as watch:
        net(x)
        before = len(known.known)
        for step in range(5):
            net[1].v_threshold = 2.0 + step
            net(x)
        assert len(known.known) == before
    assert len(known.known) == before
    assert watch.potentials.cost().calls == 6


def test_a_threshold_that_becomes_a_tensor_of_one_number_is_followed():
    node = neuron.IFNode(step_mode="m")
    net, x = nn.Sequential(node), torch.full((1, 2, 3), 99.8)
    with health(net, saturated=1.0) as watch, torch.no_grad():
        for threshold in (100.0, torch.tensor(100.0), torch.tensor([1.0]), torch.tensor(100.0)):
            node.v_threshold = threshold
            net(x)
            functional.reset_net(net)
    assert watch.potentials["0"] == 0.75


def test_a_threshold_for_each_sample_is_no_longer_watched_and_that_is_told():
    node = neuron.IFNode(step_mode="m")
    net, x = nn.Sequential(node), torch.ones(2, 2, 3)
    with health(net) as watch, torch.no_grad():
        net(x)
        functional.reset_net(net)
        node.v_threshold = torch.ones(2, 3)
        with pytest.warns(RuntimeWarning, match="it became a tensor of shape"):
            net(x)
    assert ("0", "not watched") in kinds(watch)


def test_equal_surrogates_are_looked_at_once_and_each_as_it_is_now(monkeypatch):
    learned = surrogate.ATan(alpha=nn.Parameter(torch.tensor(2.0)))
    with torch.no_grad():
        learned.alpha.mul_(3)
    edited = surrogate.ATan()
    edited.alpha = 5.0
    ours = [surrogate.ATan(), surrogate.ATan(), surrogate.Sigmoid(alpha=2.0), learned, edited, surrogate.ATan(5.0)]
    wanted = [SupportShare.of(held, 2.0 + place) for place, held in enumerate(ours)]
    net = nn.Sequential(
        *(neuron.IFNode(v_threshold=2.0 + place, surrogate_function=held) for place, held in enumerate(ours))
    )
    asked = []
    support = supports.support
    monkeypatch.setattr(supports, "support", lambda *given: asked.append(given) or support(*given))
    found = seen._supports(net)
    assert len(asked) == 4
    assert [(held.low, held.high, held.v_threshold) for held in found.values()] == [
        (held.low, held.high, held.v_threshold) for held in wanted
    ]


@pytest.mark.parametrize("form", ["neurons", "channels"])
def test_of_neurons_some_of_which_are_never_to_fire_the_others_are_judged(form):
    """Half of them have an infinite threshold: of the other half all fire, or a half, or none."""
    inf, shape = float("inf"), (4,) if form == "neurons" else (4, 1, 1)
    for low, wanted in ((0.5, {}), (9.0, {"silent neurons": 0.5}), (None, {"silent layer": 1.0})):
        first = 9.0 if low is None else 0.5
        node = neuron.IFNode(v_threshold=torch.tensor([first, inf, low or 9.0, inf]).view(shape), step_mode="m")
        net, x = nn.Sequential(node), torch.rand(2, 3, *shape).add(0.6).expand(2, 3, 4, *shape[1:])
        with health(net, saturated=1.0, silent=0.5) as watch, torch.no_grad():
            net(x)
        assert {found.kind: found.number for found in watch.everything if "silent" in found.kind} == wanted


def test_neurons_that_are_never_to_fire_are_not_judged():
    net = nn.Sequential(neuron.IFNode(v_threshold=torch.tensor([float("inf")] * 4), step_mode="m"), if_node())
    with health(net) as watch, torch.no_grad():
        net(torch.rand(2, 3, 4))
    assert "0" not in {found.layer for found in watch.everything}


@pytest.mark.parametrize("when", ["inside", "after"])
def test_a_threshold_that_becomes_infinite_while_it_is_watched(when):
    net = nn.Sequential(neuron.IFNode(step_mode="m"), if_node())
    with health(net) as watch, torch.no_grad():
        net(torch.rand(2, 3, 4))
        if when == "inside":
            net[0].v_threshold = float("inf")
    net[0].v_threshold = float("inf")
    assert "0" not in {found.layer for found in watch.everything if "silent" in found.kind}


@pytest.mark.parametrize("leading", [(), (1,)])
def test_of_channels_those_are_left_out_that_cannot_fire_anywhere(leading):
    """Half of the places of each channel are never to fire; of two channels one is dead."""
    threshold = torch.tensor([0.5, 9.0]).view(2, 1, 1).repeat(1, 2, 2)
    threshold[:, 0] = float("inf")
    net = nn.Sequential(neuron.IFNode(v_threshold=threshold.view(*leading, 2, 2, 2), step_mode="m"))
    with health(net, saturated=1.0) as watch, torch.no_grad():
        net(torch.full((1, 3, 2, 2, 2), 0.6))
    assert {found.kind: found.number for found in watch.everything if "silent" in found.kind} == {"silent neurons": 0.5}


@pytest.mark.parametrize(("first", "share"), [(0.5, 0.0), (float("inf"), 1.0)])
def test_a_threshold_with_fewer_axes_than_its_layer_is_that_of_all_channels(first, share):
    node = neuron.IFNode(v_threshold=torch.tensor([first, float("inf")]))
    assert share_that_never_fires(node, axes=3) == share


def test_the_distance_of_thresholds_is_that_of_those_that_can_be_reached():
    node = neuron.IFNode(v_threshold=torch.tensor([0.5, float("inf"), 2.5]))
    assert State(node).scale == 1.5


@pytest.mark.parametrize(
    ("height", "found"), [(1.0, []), (2.0, ["rate too high"]), (9.0, ["rate too high", "saturated neurons"])]
)
def test_neurons_of_several_spikes_a_step_are_judged_by_their_number(height, found):
    """Three steps of four have `height` spikes, at most four, and the last none."""
    net = nn.Sequential(neuron.ILIFNode(tau=1 + 1e-6, step_mode="m"))  # nothing is left from step to step
    x = torch.full((8, 2, 10), height)
    x[3::4] = 0 if height < 9 else height
    with health(net, rate=1.2) as watch, monitor.record(net, "rate") as recording:
        y = net(x)
    assert watch.layers()["0"]["rate"] == pytest.approx(recording["0"].mean().item()) == pytest.approx(y.mean().item())
    there = {held.kind for held in watch.everything}
    assert sorted(there & {"saturated neurons", "rate too high"}) == found
