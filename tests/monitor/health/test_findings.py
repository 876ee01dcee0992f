"""What findings say: their numbers, their order, their advice."""

import gc
import weakref

import pytest
import torch
from health_cases import Break, found, if_node, kinds
from health_networks import BROKEN, Gain, watched
from torch import nn

from spikescope import functional, layer, neuron, surrogate
from spikescope.monitor import health
from spikescope.sockets import place_sockets


def test_silent_and_saturated_neurons():
    net = nn.Sequential(if_node())
    x = torch.tensor([2.0, 0.9, 0.0, 0.0]).repeat(3, 2, 1)  # fires always; in the steps 2 and 3; never; never
    with health(net, saturated=0.25) as watch:
        net(x)
    silent, saturated = found(watch)
    assert (silent.layer, silent.kind, silent.number, silent.threshold) == ("0", "silent neurons", 0.5, 0.5)
    assert (saturated.kind, saturated.number, saturated.threshold) == ("saturated neurons", 0.25, 0.25)
    functional.reset_net(net)
    with health(net, silent=0.51, saturated=0.26) as watch:
        net(x)
    assert kinds(watch) == []
    assert watch.table().startswith("No findings.\n\nNot judged:\n")


def test_a_silent_layer_far_from_its_surrogate():
    net = nn.Sequential(if_node(surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0)))
    with health(net) as watch:
        net(torch.tensor([-1.0, -1.25, -0.75]).repeat(2, 1, 1))
    cause = found(watch)[0]
    assert [held.kind for held in cause.consequences] == ["silent layer", "outside the surrogate"]
    assert kinds(watch) == [("0", "driven below rest"), ("0", "silent layer"), ("0", "outside the surrogate")]
    head, first, second, third, *advice = watch.table().splitlines()
    assert head.split() == ["layer", "finding", "number", "threshold"]
    assert first.split() == ["0", "driven", "below", "rest", "-1", "-0.1"]
    assert second.startswith("  0 ")
    assert second.split() == ["0", "silent", "layer", "1", "0.5"]
    assert third.split()[-2:] == ["0", "0.01"]
    assert "Raise the bias, or put a normalisation before the layer." in advice
    assert f"    {cause.line}" in advice


@pytest.mark.parametrize(("gain", "kind"), [(1e-5, "vanishing"), (1e5, "exploding"), (1.0, None)])
def test_gradients_through_depth(gain, kind):
    net = nn.Sequential(if_node(), Gain(gain), if_node())
    x = torch.full((1, 1, 2), 1.0, requires_grad=True)
    with health(net, saturated=1.0) as watch:
        net(x).sum().backward()
    judged = [f for f in watch.everything if "gradient" in f.kind]
    assert [(f.layer, f.kind) for f in judged] == ([("0", f"{kind} gradient in depth")] if kind else [])
    if kind:  # the gradient at v = v_threshold of ATan(alpha=2) is 1
        assert judged[0].number == pytest.approx(gain)


@pytest.mark.parametrize(("weight", "kind"), [(1e-4, "vanishing"), (1e4, "exploding"), (1.0, None)])
def test_gradients_through_time(weight, kind):
    net = nn.Sequential(if_node())
    x = torch.full((2, 1, 2), 0.75, requires_grad=True)
    with health(net) as watch:
        (net(x) * torch.tensor([weight, 1.0]).view(2, 1, 1)).sum().backward()
    judged = [f for f in watch.everything if "gradient" in f.kind]
    assert [(f.layer, f.kind) for f in judged] == ([("0", f"{kind} gradient in time")] if kind else [])
    if kind:
        assert judged[0].number == pytest.approx(weight)


def test_it_leaves_the_network_as_it_was():
    net = nn.Sequential(if_node())
    watch = health(net)
    watch.close()
    net(torch.full((2, 1, 3), 0.1))
    assert watch.findings == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"silent": 0.0}, "silent is a share"),
        ({"support": "few"}, "support is a share.*'few'"),
        ({"vanishing": 2.0}, "vanishing must be below 1"),
        ({"exploding": None}, "exploding must be a number, but got None"),
        ({"rate": "low"}, "rate must be above 0, but got 'low'"),
        ({"steps": 0}, "steps must be a whole number of at least 1, but got 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
    ],
)
def test_thresholds_that_make_no_sense(options, text):
    with pytest.raises(ValueError, match=text):
        health(nn.Sequential(if_node()), **options)


def test_a_network_without_neurons_is_refused_in_words():
    with pytest.raises(LookupError, match="health judges neurons that give spikes, and Linear has none"):
        health(nn.Linear(2, 2))


def test_compiled_code_has_the_same_findings():
    seen = []
    for compiled in (False, True):
        net = nn.Sequential(if_node(), Gain(1e-5), if_node(), Break(1))
        with health(net) as watch:
            run = torch.compile(net, backend="aot_eager") if compiled else net
            run(torch.full((2, 1, 2), 0.75, requires_grad=True)).nansum().backward()
        seen.append(found(watch))
    assert seen[0] == seen[1]
    assert [f.kind for f in seen[0]] == ["non-finite output", "vanishing gradient in depth"]


def test_no_finding_is_lost_because_a_probe_failed():
    class Pair(neuron.IFNode):
        def forward(self, x):
            y = super().forward(x)
            return y, y

    net = nn.Sequential(if_node(), Pair(step_mode="m"))
    with health(net) as watch, pytest.warns(RuntimeWarning, match="is off"):
        net(torch.full((2, 1, 3), 0.1))
    assert ("0", "silent layer") in kinds(watch)
    assert kinds(watch)[-1] == ("1", "not watched")
    assert "1" in watch.spikes.errors
    with pytest.raises(TypeError, match="gives tuple"):
        watch.spikes.table()


def test_gradients_of_steps_that_nothing_depends_on_are_zero():
    """Of two calls of two steps the loss sees the second, as it may of one of four."""
    net = nn.Sequential(if_node())
    with health(net) as watch:
        _ = net(torch.full((2, 1, 3), 0.1, requires_grad=True))
        net(torch.full((2, 1, 3), 0.1, requires_grad=True)).sum().backward()
    assert watch.gradients["0"].tolist() == pytest.approx([0, 0, 3**0.5, 3**0.5])
    found = kinds(watch)
    with health(net) as watch:
        functional.reset_net(net)
        net(torch.full((4, 1, 3), 0.1, requires_grad=True))[2:].sum().backward()
    assert kinds(watch) == found
    assert ("0", "vanishing gradient in time") in found


def test_gradients_of_calls_without_a_graph_are_no_value():
    net = nn.Sequential(if_node())
    with health(net) as watch:
        with torch.no_grad():
            net(torch.full((2, 1, 3), 0.1))
        net(torch.full((2, 1, 3), 0.1, requires_grad=True)).sum().backward()
    assert watch.gradients["0"].tolist() == pytest.approx([3**0.5] * 2)
    assert ("0", "vanishing gradient in time") not in kinds(watch)


def test_a_neuron_for_online_training_in_training():
    net = layer.OTTTSequential(layer.Linear(4, 4), neuron.OTTTLIFNode(), layer.Linear(4, 4), neuron.LIFNode()).train()
    net[0].weight.data.fill_(1.0)
    net[0].bias.data.zero_()
    with health(net, saturated=0.5) as watch:
        for _ in range(3):
            net(torch.ones(2, 4)).sum().backward()
            functional.detach_net(net)
    assert ("1", "saturated neurons") in kinds(watch)  # 4 in each step, over a threshold of 1
    assert "not watched" not in [kind for _, kind in kinds(watch)]
    assert watch.gradients["1"].shape == (3,)


def test_dropping_it_leaves_nothing_behind():
    net = nn.Sequential(if_node(), if_node())
    watch = health(net)
    net(torch.full((2, 1, 3), 0.1))
    net[0].v_threshold = 2.0
    net(torch.full((2, 1, 3), 0.1))
    gone = weakref.ref(watch)
    del watch
    gc.collect()
    assert gone() is None
    assert all(not socket.points for held in net.modules() for socket in place_sockets(held))
    assert not net[0]._taps


@pytest.mark.parametrize("node", [neuron.IFNode, neuron.LIFNode])
def test_potentials_that_explode_are_not_to_be_driven_further(node):
    net = nn.Sequential(node(step_mode="m"))
    with health(net) as watch:
        net(torch.full((4, 2, 3), -1e6))
    cause = watch.findings[0]
    assert cause.kind in ("input not normalised", "runs away downwards")
    held = next(held for held in watch.everything if held.kind == "runs away downwards")
    assert "Scale the weights and the input down" in held.advice
    assert held.number > 1e5
    assert {"silent layer", "outside the surrogate"} <= {effect.kind for effect in cause.consequences}


def test_silence_of_inhibited_neurons_does_not_call_for_a_higher_gain():
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    for drive, word in ((-0.5, "Raise the bias"), (0.01, "Raise the gain of the weights")):
        functional.reset_net(net)
        with health(net) as watch:
            net(torch.full((4, 2, 3), drive))
        cause = found(watch)[0]
        assert word in cause.advice
        assert [held.kind for held in cause.consequences] == ["silent layer", "outside the surrogate"]


def test_what_was_not_seen_is_not_judged_and_that_is_said():
    net = nn.Sequential(layer.Linear(4, 4), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    watch = health(net)
    assert watch.table() == "Nothing was seen: run the network while health watches it."
    net(torch.rand(3, 2, 4))
    assert "gradients: no backward pass seen" in watch.unjudged
    assert "the learning rate: no update of the weights while it was watched" in watch.table()
    functional.reset_net(net)
    net(torch.rand(3, 2, 4)).sum().backward()
    assert "gradients: no backward pass seen" not in watch.unjudged
    with torch.no_grad():
        net[0].weight.mul_(1.01)
    assert not any("learning rate" in text for text in watch.unjudged)
    watch.close()


def test_a_failed_look_at_the_input_is_told():
    class Odd(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func is torch.Tensor.aminmax:
                raise RuntimeError("no extent")
            return super().__torch_function__(func, types, args, kwargs or {})

    net = nn.Sequential(nn.Identity(), if_node())
    with health(net) as watch, pytest.warns(RuntimeWarning, match="is off"):
        net(torch.rand(3, 1, 2).as_subclass(Odd))
    assert ("", "not watched") in kinds(watch)


def test_hooks_on_weights_are_taken_off():
    net = nn.Sequential(layer.Linear(4, 4, step_mode="m"), if_node())
    with health(net):
        assert net[0].weight._backward_hooks
    assert not net[0].weight._backward_hooks


@pytest.mark.parametrize(
    "name", ["a dead layer at the beginning", "a loss of the last step alone", "a forgotten reset"]
)
def test_the_evidence_is_drawn(name):
    pytest.importorskip("matplotlib")
    torch.manual_seed(0)
    cause = watched(BROKEN[name][2]()).findings[0]
    figure = cause.plot()
    (axes,) = figure.axes
    assert axes.get_title(loc="left").startswith(cause.kind) or cause.kind in axes.get_title()
    assert [text.get_text() for text in axes.get_yticklabels()] == list(cause.evidence.labels)


def test_single_steps_without_a_known_end_are_said_to_be_so():
    net = nn.Sequential(neuron.LIFNode())
    with health(net) as watch, torch.no_grad():
        for _ in range(4):
            net(torch.rand(2, 3))
    assert "a forgotten reset: single steps do not show where a sequence ends" in watch.table()
    with health(net, steps=2) as watch, torch.no_grad():
        functional.reset_net(net)
        for _ in range(4):
            net(torch.rand(2, 3))
    assert "single steps do not show" not in watch.table()
    assert watch.findings[0].kind.startswith("state carried over")


def test_weights_that_get_no_spike_are_not_told_to_be_without_an_optimizer():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), neuron.IFNode(v_threshold=1e3), nn.Linear(8, 8), neuron.IFNode())
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with health(net) as watch:
        for _ in range(3):
            functional.reset_net(net)
            optimizer.zero_grad()
            net(torch.rand(4, 5, 4)).mean().backward()
            optimizer.step()
    assert not any(found.kind == "weights not updated" for found in watch.everything)
