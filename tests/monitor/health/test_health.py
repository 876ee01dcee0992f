"""Health: networks with a known illness, and healthy ones."""

import gc
import math
import weakref

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron, surrogate
from spikescope.monitor import health
from spikescope.sockets import place_sockets


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    """Each test compiles anew: all networks share the frame that counts towards the limit of recompilations."""
    yield
    torch._dynamo.reset()


def kinds(watch):
    return [(found.layer, found.kind) for found in watch.findings]


def if_node(**options):
    return neuron.IFNode(step_mode="m", v_reset=None, **options)


def test_silent_and_saturated_neurons():
    net = nn.Sequential(if_node())
    x = torch.tensor([2.0, 0.9, 0.0, 0.0]).repeat(3, 2, 1)  # fires always; in the steps 2 and 3; never; never
    with health(net, saturated=0.25) as watch:
        net(x)
    silent, saturated = watch.findings
    assert (silent.layer, silent.kind, silent.number, silent.threshold) == ("0", "silent neurons", 0.5, 0.5)
    assert (saturated.kind, saturated.number, saturated.threshold) == ("saturated neurons", 0.25, 0.25)
    functional.reset_net(net)
    with health(net, silent=0.51, saturated=0.26) as watch:
        net(x)
    assert kinds(watch) == []
    assert watch.table() == "No findings."


def test_a_silent_layer_far_from_its_surrogate():
    net = nn.Sequential(if_node(surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0)))
    with health(net) as watch:
        net(torch.full((2, 1, 3), -1.0))
    assert kinds(watch) == [("0", "silent layer"), ("0", "outside the surrogate")]
    assert watch.findings[1].number == 0
    head, first, second, *advice = watch.table().splitlines()
    assert head.split() == ["layer", "finding", "number", "threshold"]
    assert first.split() == ["0", "silent", "layer", "1", "0.5"]
    assert second.split()[-2:] == ["0", "0.01"]
    assert advice[1].startswith("silent layer: The potentials lie below rest")


class Gain(nn.Module):
    """Passes its input on and multiplies the gradient."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        return x.detach() + self.gain * (x - x.detach())


@pytest.mark.parametrize(("gain", "kind"), [(1e-5, "vanishing"), (1e5, "exploding"), (1.0, None)])
def test_gradients_through_depth(gain, kind):
    net = nn.Sequential(if_node(), Gain(gain), if_node())
    x = torch.full((1, 1, 2), 1.0, requires_grad=True)
    with health(net, saturated=1.0) as watch:
        net(x).sum().backward()
    found = [f for f in watch.findings if "gradient" in f.kind]
    assert [(f.layer, f.kind) for f in found] == ([("0", f"{kind} gradient in depth")] if kind else [])
    if kind:  # the gradient at v = v_threshold of ATan(alpha=2) is 1
        assert found[0].number == pytest.approx(gain)


@pytest.mark.parametrize(("weight", "kind"), [(1e-4, "vanishing"), (1e4, "exploding"), (1.0, None)])
def test_gradients_through_time(weight, kind):
    net = nn.Sequential(if_node())
    x = torch.full((2, 1, 2), 0.75, requires_grad=True)
    with health(net) as watch:
        (net(x) * torch.tensor([weight, 1.0]).view(2, 1, 1)).sum().backward()
    found = [f for f in watch.findings if "gradient" in f.kind]
    assert [(f.layer, f.kind) for f in found] == ([("0", f"{kind} gradient in time")] if kind else [])
    if kind:
        assert found[0].number == pytest.approx(weight)


class Break(nn.Module):
    """Gives a NaN in one step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x_seq):
        bad = torch.zeros_like(x_seq)
        bad[self.step] = torch.nan
        return x_seq + bad


def test_the_origin_of_what_is_not_finite():
    """The norm passes the NaN of step 2 on; that of the last layer comes in the same step, but later."""
    net = nn.Sequential(
        layer.Linear(2, 2, step_mode="m"), layer.SeqToANNContainer(nn.Identity()), if_node(), Break(2), Break(2)
    )
    with health(net) as watch:
        net(torch.ones(3, 3, 2))
    origin = watch.findings[0]
    assert (origin.layer, origin.kind) == ("3", "non-finite output")


def test_a_step_of_a_layer_that_knows_time():
    class Step(layer.Linear):
        def forward(self, x_seq):
            return Break(1)(super().forward(x_seq))

    net = nn.Sequential(Step(2, 2, step_mode="m"), if_node())
    with health(net) as watch:
        net(torch.ones(3, 3, 2))  # as many steps as samples
    origin = watch.findings[0]
    assert (origin.layer, origin.kind, origin.number) == ("0", "non-finite output", 1)


def test_a_gradient_that_is_not_finite():
    net = nn.Sequential(if_node(), if_node())
    x = torch.full((2, 1, 2), 0.75, requires_grad=True)
    with health(net) as watch:
        (net(x) * torch.tensor([1.0, torch.nan]).view(2, 1, 1)).sum().backward()
    assert ("1", "non-finite gradient") in kinds(watch)
    assert ("0", "non-finite gradient") not in kinds(watch)


def test_it_leaves_the_network_as_it_was():
    net = nn.Sequential(if_node())
    watch = health(net)
    watch.close()
    net(torch.full((2, 1, 3), 0.1))
    assert watch.findings == []


@pytest.mark.parametrize(
    ("options", "text"), [({"silent": 0.0}, "silent is a share"), ({"vanishing": 2.0}, "vanishing must be below 1")]
)
def test_thresholds_that_make_no_sense(options, text):
    with pytest.raises(ValueError, match=text):
        health(nn.Sequential(if_node()), **options)


def test_compiled_code_has_the_same_findings():
    found = []
    for compiled in (False, True):
        net = nn.Sequential(if_node(), Gain(1e-5), if_node(), Break(1))
        with health(net) as watch:
            run = torch.compile(net, backend="aot_eager") if compiled else net
            run(torch.full((2, 1, 2), 0.75, requires_grad=True)).nansum().backward()
        found.append(watch.findings)
    assert found[0] == found[1]
    assert [f.kind for f in found[0]] == ["non-finite output", "vanishing gradient in depth"]


def test_a_forgotten_reset_is_found_though_autograd_stops_at_it():
    net, x = nn.Sequential(layer.Linear(4, 4, step_mode="m"), if_node()), torch.rand(3, 2, 4)
    with health(net) as watch:
        net(x).sum().backward()
        with pytest.raises(RuntimeError):
            net(x).sum().backward()
    first = watch.findings[0]
    assert (first.layer, first.kind, first.number) == ("1", "state carried over", 1)
    assert "functional.reset_net before each batch" in watch.table()


@pytest.mark.parametrize("known", [True, False], ids=["from the start", "in the middle"])
def test_state_carried_over_is_told_once_for_the_whole_network(known):
    net, x = nn.Sequential(if_node(), if_node()), torch.ones(3, 1, 2)
    if not known:
        net(x)
    with health(net, saturated=1.0) as watch, torch.no_grad():
        for _ in range(3):
            net(x)
    first = watch.findings[0]
    assert (first.layer, first.kind, first.number) == ("", "state carried over", 2 + (not known))
    net[0].reset()
    with health(net) as watch, torch.no_grad():
        net(x)
    assert ("1", "state carried over") in kinds(watch)
    assert ("0", "state carried over") not in kinds(watch)


@pytest.mark.parametrize(
    ("node", "cut", "number"),
    [
        (neuron.IFNode, None, 0),
        (neuron.IFNode, functional.reset_net, 0),
        (neuron.IFNode, functional.detach_net, 0),
        (neuron.SLTTLIFNode, functional.detach_net, 0),
    ],
)
def test_single_steps_that_go_on_by_intent(node, cut, number):
    net = nn.Sequential(node())
    with health(net, saturated=1.0) as watch:
        for _ in range(3):
            y = sum(net(torch.rand(1, 2, requires_grad=True)) for _ in range(4))
            if cut is not None:
                y.sum().backward()
                cut(net)
    assert sum(f.number for f in watch.findings if f.kind == "state carried over") == number


def carried_over(watch):
    return [(found.layer, found.number) for found in watch.findings if found.kind == "state carried over"]


def two_layers(mode, first=neuron.LIFNode):
    torch.manual_seed(0)
    kind = layer.OTTTSequential if first is neuron.OTTTLIFNode else nn.Sequential
    net = kind(layer.Linear(4, 4), first(), layer.Linear(4, 4), neuron.LIFNode())
    functional.set_step_mode(net, mode)
    return net


@pytest.mark.parametrize(
    ("first", "cut"),
    [(neuron.LIFNode, True), (neuron.LIFNode, False), (neuron.OTTTLIFNode, True), (neuron.OTTTLIFNode, False)],
    ids=["detached", "with its graph retained", "for online training", "for online training, with its graph retained"],
)
def test_online_learning_is_no_forgotten_reset(first, cut):
    """Nor is it in its first batch, before any reset was seen."""
    net, x = two_layers("s", first), torch.rand(4, 2, 4)
    with health(net) as watch:
        for _ in range(3):
            for step in x:
                net(step).sum().backward(retain_graph=not cut)
                if cut:
                    functional.detach_net(net)
            assert carried_over(watch) == []
            functional.reset_net(net)
    assert carried_over(watch) == []


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "one graph"])
def test_a_sequence_in_parts_is_no_forgotten_reset(cut, batches):
    net, x = two_layers("m"), torch.rand(4, 2, 4)
    with health(net) as watch:
        for _ in range(batches):
            loss = torch.zeros(())
            for chunk in x.split(1):
                loss = net(chunk).sum() + loss
                if cut:
                    loss.backward()
                    loss = torch.zeros(())
                    functional.detach_net(net)
            if not cut:
                loss.backward()
            functional.reset_net(net)
    assert carried_over(watch) == []


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of a state with a graph, by Dynamo
@pytest.mark.parametrize("reset", [None, 1], ids=["no reset", "one layer reset"])
@pytest.mark.parametrize("mode", ["m", "s", "compiled"])
def test_a_forgotten_reset_is_found_in_training(mode, reset):
    net, x = two_layers("s" if mode == "s" else "m"), torch.rand(4, 2, 4)
    run = torch.compile(net, backend="aot_eager") if mode == "compiled" else net
    with health(net) as watch:
        for batch in range(2):
            if reset is not None:
                net[reset].reset()
            y = sum(net(step) for step in x) if mode == "s" else run(x)
            if batch == 0:
                y.sum().backward()
    assert carried_over(watch) == [("" if reset is None else "3", 1)]


@pytest.mark.parametrize("grad", [True, False])
def test_a_stream_that_is_never_reset_is_told(grad):
    net, x = two_layers("m"), torch.rand(4, 2, 4)
    with health(net) as watch, torch.set_grad_enabled(grad):
        for _ in range(3):
            net(x)
    assert carried_over(watch) == [("", 2)]
    assert "as of a stream, nothing is wrong" in watch.table()


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


class Apply(nn.Module):
    """Any function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_a_failed_look_for_the_origin_is_told():
    net = nn.Sequential(if_node(), Apply(lambda x: x.to("meta")), Apply(lambda x: torch.ones(3, 1, 2)))
    with health(net, silent=1.0) as watch, pytest.warns(RuntimeWarning, match="is off"):
        net(torch.ones(3, 1, 2))
    assert ("1", "not watched") in kinds(watch)


def test_a_sparse_tensor_does_not_end_the_look_for_the_origin():
    given = iter([torch.eye(2).to_sparse(), torch.full((2, 2), torch.nan)])
    net = nn.Sequential(Apply(lambda x: next(given)), Apply(lambda x: x.to_dense()), if_node())
    with health(net, silent=1.0) as watch:
        for _ in range(2):
            net(torch.ones(2, 2))
            functional.reset_net(net)
    assert kinds(watch) == [("0", "non-finite output")]


def test_gradients_of_steps_that_nothing_depends_on_are_no_value():
    """Of two calls of two steps the loss sees the second; a state goes on from the first, which has no gradient."""
    net = nn.Sequential(if_node())
    with health(net) as watch:
        _ = net(torch.full((2, 1, 3), 0.1, requires_grad=True))
        net(torch.full((2, 1, 3), 0.1, requires_grad=True)).sum().backward()
    assert watch.gradients["0"].tolist() == pytest.approx([3**0.5] * 2)
    assert kinds(watch) == [("0", "silent layer")]


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


@pytest.mark.parametrize("broken", ["weight", "input"])
def test_what_is_not_finite_comes_first_and_is_no_reason_for_other_findings(broken):
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(4, 4), neuron.LIFNode(), layer.Linear(4, 4), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    x = torch.rand(10, 2, 4) * 4
    if broken == "weight":
        net[2].weight.data[0, 0] = torch.nan
    else:
        x[:] = torch.nan
    with health(net, silent=1.0) as watch:
        net(x).sum().backward()
    found = [(f.layer, f.kind, f.number) for f in watch.findings]
    if broken == "weight":
        assert found == [("2", "non-finite output", 0), ("1", "non-finite gradient", 10)]
        assert "non-finite gradient: The number counts steps." in watch.table()
    else:
        assert found == [("0", "non-finite output", 0)]


def masked(x):
    return torch.where(torch.arange(4) < 2, -torch.inf, x)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_softmax_ends_spoils_nothing_after_it(compiled):
    node = neuron.LIFNode(v_threshold=100.0, step_mode="m")
    net = nn.Sequential(Apply(masked), nn.Softmax(-1), nn.Linear(4, 4), node, Apply(torch.log), if_node())
    run = torch.compile(net, backend="aot_eager") if compiled else net
    with health(net) as watch:
        run(torch.rand(2, 3, 4))
    assert kinds(watch)[:2] == [("0", "non-finite output"), ("3", "silent layer")]
    assert "5" not in [name for name, _ in kinds(watch)]  # the logarithm of no spike is its input


def test_a_branch_in_between_does_not_hide_what_a_neuron_was_given():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side, self.node = Apply(lambda x: x / 0), nn.Identity(), if_node()
            self.after = nn.Sequential(nn.Linear(4, 4), neuron.IFNode(v_threshold=100.0, step_mode="m"))

        def forward(self, x):
            return self.after(self.node(-self.main(x) + self.side(x)))

    net = Block()
    with health(net) as watch:
        net(torch.ones(2, 3, 4))
    assert kinds(watch) == [("main", "non-finite output")]


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


def advice_of(watch):
    return {found.kind: found.advice for found in watch.findings}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_state_that_is_not_finite_is_no_silence(value, step_mode):
    net = nn.Sequential(neuron.IFNode(step_mode=step_mode), neuron.IFNode(step_mode=step_mode))
    with health(net) as watch:
        net(torch.zeros(4, 2, 3))
        net[0].v = torch.full_like(net[0].v, value)
        net(torch.zeros(4, 2, 3))
    kinds = advice_of(watch)
    assert "non-finite state" in kinds
    assert not {"silent layer", "silent neurons", "outside the surrogate"} & kinds.keys()
    assert not any("raise the gain" in text or "Lower v_threshold" in text for text in kinds.values())


@pytest.mark.parametrize("node", [neuron.IFNode, neuron.LIFNode])
def test_potentials_that_explode_are_not_to_be_driven_further(node):
    net = nn.Sequential(node(step_mode="m"))
    with health(net) as watch:
        net(torch.full((4, 2, 3), -1e6))
    kinds = advice_of(watch)
    assert "Scale the weights and the input down" in kinds["exploding state"]
    assert not {"silent layer", "outside the surrogate"} & kinds.keys()
    assert watch.findings[0].number > 1e5


def test_silence_of_inhibited_neurons_does_not_call_for_a_higher_gain():
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    for drive, word in ((-0.5, "raise the bias"), (0.01, "raise the gain of the weights")):
        functional.reset_net(net)
        with health(net) as watch:
            net(torch.full((4, 2, 3), drive))
        assert word in advice_of(watch)["silent layer"]
