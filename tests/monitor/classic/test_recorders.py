"""The five classic monitors, row by row of their contract."""

import dataclasses

import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import functional, neuron
from spikescope.monitor import (
    AttributeMonitor,
    GradInputMonitor,
    GradOutputMonitor,
    InputMonitor,
    OutputMonitor,
    Subset,
    every,
    first,
)
from spikescope.monitor.choose.signals import signal_of
from spikescope.monitor.probe.single import Probe


def test_layers_are_named_in_the_order_of_definition_and_records_come_in_that_of_execution():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.a(self.b(x))

    net = Crossed()
    x = torch.rand(2, 3)
    with OutputMonitor(net, nn.Linear) as monitor:
        y = net(x)
    assert monitor.monitored_layers == ["a", "b"]
    assert torch.equal(monitor[0], net.b(x))
    assert torch.equal(monitor[1], y)
    assert torch.equal(monitor["a"][0], y)
    assert torch.equal(monitor[-1], y)
    assert len(monitor[:1]) == len(monitor["b"]) == 1
    assert torch.stack(monitor.records).shape == (2, 2, 3)


def test_none_takes_the_class_of_the_network():
    net = nn.Linear(3, 2)
    with OutputMonitor(net) as monitor:
        net(torch.rand(1, 3))
    assert monitor.monitored_layers == [""]
    assert len(monitor[""]) == 1


def test_an_unknown_name_lists_the_names():
    monitor = OutputMonitor(spiking_net(), (neuron.IFNode, neuron.LIFNode))
    with pytest.raises(KeyError, match="'2' is not monitored; there is '1', '3'"):
        monitor["2"]


def test_nothing_found_is_an_error_in_words():
    with pytest.raises(LookupError, match=r"OutputMonitor found no module with type Conv2d.*IFNode: '1'"):
        OutputMonitor(spiking_net(), nn.Conv2d)
    with pytest.raises(TypeError, match=r"takes an nn\.Module, but got list"):
        OutputMonitor([], nn.Conv2d)
    with pytest.raises(TypeError, match="the function that makes a record"):
        OutputMonitor(spiking_net(), neuron.Neuron, 3)


def test_clearing_the_list_alone_keeps_names_right():
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron) as monitor:
        net(sequence())
        monitor.records.clear()
        assert monitor["1"] == []
        y = net(sequence())
        assert torch.equal(monitor["3"][0], y)


def test_enable_disable_and_clear():
    net = spiking_net()
    monitor = OutputMonitor(net, neuron.Neuron, torch.Tensor.mean)
    assert monitor.is_enable()
    monitor.disable()
    assert not monitor.is_enable()
    net(sequence())
    assert monitor.records == []
    monitor.enable()
    net(sequence())
    assert len(monitor.records) == 2
    assert monitor.records[0].ndim == 0
    monitor.clear_recorded_data()
    assert monitor.records == monitor["1"] == []


def test_closing_keeps_the_records_and_may_be_repeated():
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron) as monitor:
        net(sequence())
    monitor.close()
    monitor.remove_hooks()
    net(sequence())
    assert len(monitor.records) == 2
    assert not monitor.is_enable()


def test_inputs():
    net = spiking_net()
    with InputMonitor(net, neuron.IFNode) as monitor:
        net(sequence())
    assert torch.equal(monitor[0], net[0](sequence()))


@pytest.mark.parametrize(("pre", "want"), [(True, [0.0, 0.25, 0.5]), (False, [0.25, 0.5, 0.75])])
def test_an_attribute_before_and_after_each_call(pre, want):
    node = neuron.IFNode()
    with AttributeMonitor("v", pre, node) as monitor:
        for _ in range(3):
            node(torch.tensor([0.25]))
    assert [float(held) for held in monitor.records] == want


def test_an_attribute_of_any_kind_is_a_copy_of_its_moment():
    net = nn.Linear(2, 2)
    net.notes = {"seen": []}
    with AttributeMonitor("notes", False, net) as notes, AttributeMonitor("weight", False, net) as weights:
        net(torch.ones(1, 2))
        net.notes["seen"].append(1)
        before = net.weight.detach().clone()
        net.weight.data.zero_()
        net(torch.ones(1, 2))
    assert notes.records == [{"seen": []}, {"seen": [1]}]
    assert torch.equal(weights[0], before)
    assert not isinstance(weights[0], nn.Parameter)


def test_an_attribute_that_is_not_there_yet_ends_the_probe_not_the_run():
    net = spiking_net()
    with AttributeMonitor("v_seq", False, net, neuron.IFNode) as monitor:
        with pytest.warns(RuntimeWarning, match="has no v_seq"):
            net(sequence())
        with pytest.raises(RuntimeError, match="store_v_seq=True"):
            _ = monitor.records


def test_gradients_come_in_the_order_of_the_backward_pass():
    net = spiking_net("s")
    with GradOutputMonitor(net, neuron.Neuron) as monitor:
        out = [net(x) for x in sequence(3)]
        sum((t + 2) * y for t, y in enumerate(out)).sum().backward()
    assert [moment.name for moment in monitor.moments][:2] == ["3", "1"]
    assert [float(held[0, 0]) for held in monitor["3"]] == [4.0, 3.0, 2.0]


def test_gradients_are_those_of_autograd():
    net = spiking_net()
    with GradInputMonitor(net, neuron.IFNode) as inputs, GradOutputMonitor(net, nn.Linear) as outputs:
        net(sequence()).sum().backward()
    functional.reset_net(net)
    current = net[0](sequence()).detach().requires_grad_()
    net[1:](current).sum().backward()
    assert torch.equal(inputs[0], current.grad)
    assert torch.equal(outputs["0"][0], current.grad)


class Scaler:
    def get_scale(self):
        return 8.0


def test_the_scale_of_a_grad_scaler_is_taken_out():
    net = nn.Linear(2, 1)
    x = torch.rand(3, 2)
    with GradOutputMonitor(net, scaler=Scaler()) as divided, GradOutputMonitor(net) as marked:
        (net(x).sum() * 8.0).backward()
    assert torch.equal(divided[0], torch.ones(3, 1))
    assert torch.equal(marked[0], torch.full((3, 1), 8.0))
    assert (divided.moments[0].scale, marked.moments[0].scale) == (8.0, 1.0)


def test_amp_half_precision_is_recorded_as_it_is():
    net = nn.Linear(5, 2)
    with OutputMonitor(net) as monitor, torch.autocast("cpu", torch.bfloat16):
        net(sequence())
    assert monitor[0].dtype is torch.bfloat16


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_records_know_their_time_and_resets_close_a_sequence(step_mode):
    net = spiking_net(step_mode)
    with OutputMonitor(net, (nn.Linear, neuron.LIFNode)) as monitor:
        for T in (2, 1, None, 3):
            if T is None:
                functional.reset_net(net)
            elif step_mode == "m":
                net(sequence(T))
            else:
                for x in sequence(T):
                    net(x)
    for name in ("0", "3"):
        steps = [(m.run, t) for m in monitor.moments if m.name == name for t in range(m.start, m.stop)]
        assert steps == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert {moment.batch for moment in monitor.moments} == {2}


def test_time_is_unknown_after_a_pause_until_the_next_reset():
    net = spiking_net()
    with OutputMonitor(net, neuron.IFNode) as monitor:
        net(sequence())
        monitor.disable()
        net(sequence())
        monitor.enable()
        net(sequence())
        functional.reset_net(net)
        net(sequence())
    assert [moment.start for moment in monitor.moments] == [0, None, 0]


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_subset_means_the_same_in_both_step_modes(step_mode):
    net = spiking_net(step_mode)
    part = Subset(neurons=(0, 6), samples=first(1), time=every(3, 1))
    with OutputMonitor(net, neuron.IFNode, subset=part) as monitor, OutputMonitor(net, neuron.IFNode) as whole:
        if step_mode == "m":
            net(sequence(5)), net(sequence(4))
        else:
            for x in (*sequence(5), *sequence(4)):
                net(x)
    want = torch.cat([held.view(-1, 2, 7) for held in whole.records])[[1, 4, 7]][:, :1, [0, 6]]
    assert torch.equal(torch.cat([held.view(-1, 1, 2) for held in monitor.records]), want)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_points_of_a_neuron(backend, step_mode):
    """V = .75, 1.5 -> 0 (hard), .75; the potential before the reset is .75, 1.5, .75."""
    node = neuron.IFNode(v_reset=0.0, backend=backend, step_mode=step_mode)
    seen = {name: [] for name in ("spike", "current", "h", "v")}
    probes = [
        Probe("node", node, signal_of(name, node), lambda value, moment, name=name: seen[name].append(value.clone()))
        for name in seen
    ]
    x = torch.full((3, 1), 0.75)
    spikes = node(x) if step_mode == "m" else torch.stack([node(step) for step in x])
    flat = {name: torch.cat([held.flatten() for held in held_all]).tolist() for name, held_all in seen.items()}
    want = {"spike": [0.0, 1.0, 0.0], "current": [0.75] * 3, "h": [0.75, 1.5, 0.75], "v": [0.75, 0.0, 0.75]}
    assert flat == want
    assert spikes.flatten().tolist() == want["spike"]
    for probe in probes:
        probe.close()
    assert not node._taps


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("T", [3, 260])
def test_the_taps_of_every_backend_are_those_of_the_eager_loop(memory_format, T):
    torch.manual_seed(5)
    x = (torch.rand(T * 2, 3, 5, 7) * 1.3).to(memory_format=memory_format).unflatten(0, (T, 2))
    names = ("count", "packed", "h", "range", "v")
    got = {}
    for backend in ("torch", "auto"):
        node = neuron.LIFNode(step_mode="m", backend=backend)
        node.request_taps(names)
        spikes = node(x)
        got[backend] = node.tapped
    for name in names:
        torch.testing.assert_close(got["auto"][name], got["torch"][name], rtol=1e-5 * (name == "range"), atol=0)
    assert torch.equal(got["torch"]["count"].long(), spikes.long().sum(0))
    assert got["torch"]["packed"].shape == (T, 27)
    with pytest.raises(ValueError, match="the tap must be one of"):
        node.request_taps({"u"})


def test_points_are_refused_where_there_are_none():
    with pytest.raises(TypeError, match="PointwiseNeuron and its subclasses, but Linear is not one"):
        signal_of("h", nn.Linear(1, 1))
    with pytest.raises(TypeError, match="one of neurons, but Linear is not a neuron; take 'output'"):
        signal_of("spike", nn.Linear(1, 1))


PART = {"samples": Subset(samples=[0]), "neurons": Subset(neurons=(0, 4)), "whole": None}


@pytest.mark.parametrize("name", PART)
def test_an_attribute_holds_one_moment_unless_its_name_says_sequence(name):
    node, x = neuron.IFNode(step_mode="m", store_v_seq=True), torch.rand(4, 3, 5)
    with (
        AttributeMonitor("v", False, node, subset=PART[name]) as last,
        AttributeMonitor("v_seq", False, node, subset=PART[name]) as course,
    ):
        node(x)
    want = {"samples": (slice(1),), "neurons": (slice(None), [0, 4]), "whole": ()}[name]
    assert torch.equal(last[0], node.v[want])
    assert torch.equal(course[0], node.v_seq[(slice(None), *want)])
    assert last.moments[0].batch == course.moments[0].batch == 3


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_steps_of_a_stored_course(step_mode):
    """Two calls of four steps; with single steps `v_seq` holds all since the reset."""
    node, x = neuron.IFNode(step_mode=step_mode, store_v_seq=True), torch.rand(8, 3, 5)
    with AttributeMonitor("v_seq", False, node, subset=Subset(time=every(3))) as monitor, torch.no_grad():
        if step_mode == "m":
            node(x[:4]), node(x[4:])
            want = node.v_seq[2:3]  # step 6
        else:
            [node(step) for step in x]
            want = node.v_seq[[0, 3, 6]]
    assert torch.equal(monitor[-1], want)


def test_steps_are_refused_where_there_are_none():
    node = neuron.IFNode(step_mode="m")
    with pytest.raises(ValueError, match=r"'v' of 'the network' \(IFNode\) has no time axis.*Leave time out"):
        AttributeMonitor("v", False, node, subset=Subset(time=every(2)))
    with pytest.raises(ValueError, match="no time axis"):
        OutputMonitor(neuron.NonSpikingIFNode(step_mode="m"), subset=Subset(time=every(2)))
    node.step_mode = "s"
    with AttributeMonitor("v", False, node, subset=Subset(time=every(2))) as monitor:
        for _ in range(3):
            node(torch.rand(1, 2))
        assert len(monitor.records) == 2
        node.step_mode = "m"
        with pytest.warns(RuntimeWarning, match="no time axis"):
            node(torch.rand(2, 1, 2))


@dataclasses.dataclass
class Answer:
    y: torch.Tensor
    more: list = dataclasses.field(default_factory=list)


class Slotted:
    __slots__ = ("y",)

    def __init__(self, y):
        self.y = y


class Answering(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.linear, self.kind = nn.Linear(2, 2), kind

    def forward(self, x):
        y = self.linear(x)
        return Answer(y, [{"twice": 2 * y}]) if self.kind is Answer else Slotted(y)


@pytest.mark.parametrize("kind", [Answer, Slotted])
def test_objects_that_hold_tensors_with_a_graph(kind):
    net = Answering(kind)
    with OutputMonitor(net) as monitor, OutputMonitor(net, None, lambda out: out.y) as part:
        out = net(torch.rand(1, 2))
        want = out.y.detach().clone()
        out.y.data.zero_()
    held = monitor[0]
    assert type(held) is kind
    assert torch.equal(held.y, want)
    assert torch.equal(part[0], want)
    assert [held.y.requires_grad, part[0].requires_grad] == [True, True]
    out.y.sum().backward()
    assert [held.y.requires_grad, part[0].requires_grad] == [False, False]
    if kind is Answer:
        assert torch.equal(held.more[0]["twice"], 2 * want)
    with OutputMonitor(net, keep_graph=True) as kept:
        net(torch.rand(1, 2))
    assert kept[0].y.requires_grad


def test_every_option_is_told_where_the_monitors_are():
    for cls in (OutputMonitor, InputMonitor, AttributeMonitor, GradInputMonitor):
        assert "`options`" in cls.__doc__
        assert "Recorder" in cls.__doc__


def test_a_monitor_that_was_not_to_see_anything_closes_in_silence(caplog):
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron) as paused:
        paused.disable()
        net(sequence(2, 3))
    with OutputMonitor(net, neuron.Neuron):
        pass  # with the state of the run before
    assert caplog.text == ""


class Two(nn.Module):
    def forward(self, x, mask=None, *, scale=1.0):
        return x * scale if mask is None else x * mask * scale


def test_the_gradients_of_several_inputs_come_in_their_places():
    net, x = Two(), torch.ones(2, requires_grad=True)
    with GradInputMonitor(net) as monitor, GradOutputMonitor(net) as outputs:
        net(x, torch.full((2,), 3.0)).sum().backward()
        net(torch.ones(2), x.detach().requires_grad_()).sum().backward()
        net(x, x * 2, scale=2.0).sum().backward()
        net(x).sum().backward()
        left, right, both, alone = monitor.records
    assert (left[0].tolist(), left[1]) == ([3.0, 3.0], None)
    assert (right[0], right[1].tolist()) == (None, [1.0, 1.0])
    assert ([both[0].tolist(), both[1].tolist()], both[2]) == ([[4.0, 4.0], [2.0, 2.0]], None)
    assert alone.tolist() == [1.0, 1.0]
    assert [held.tolist() for held in outputs.records] == [[1.0, 1.0]] * 4


def test_the_gradients_of_several_outputs_come_in_their_places():
    class Split(nn.Module):
        def forward(self, x):
            return 2 * x, "a note", 3 * x

    net = Split()
    with GradOutputMonitor(net) as monitor:
        first, _, third = net(torch.ones(2, requires_grad=True))
        first.sum().backward(retain_graph=True)
        (first + 2 * third).sum().backward()
        (alone, note, none), (one, _, other) = monitor.records
    assert (alone.tolist(), note, none) == ([1.0, 1.0], None, None)
    assert (one.tolist(), other.tolist()) == ([1.0, 1.0], [2.0, 2.0])


def test_the_place_of_a_gradient_in_compiled_code():
    torch.compiler.reset()
    net = Two()
    compiled = torch.compile(lambda *args: net(*args) + 0, backend="aot_eager", fullgraph=True)
    with GradInputMonitor(net) as monitor:
        compiled(torch.ones(2, requires_grad=True), torch.full((2,), 3.0)).sum().backward()
        compiled(torch.ones(2, requires_grad=True)).sum().backward()
        placed, alone = monitor.records
    assert (placed[0].tolist(), placed[1]) == ([3.0, 3.0], None)
    assert alone.tolist() == [1.0, 1.0]
