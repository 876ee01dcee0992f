"""Where a sequence of a foreign neuron begins, and what is said of one that cannot be watched."""

import pytest
import stand_ins
import torch
from foreign_cases import Own
from torch import nn

import spikescope
from spikescope import monitor, neuron

X = torch.tensor([[0.0, 0.0], [0.0, 0.0], [2.0, 0.1], [2.0, 0.1]])  # whose state is of zeros for two steps


def runs_of(net, call, tmp_path):
    with monitor.record(net, "spike", to=tmp_path / "run") as streamed:
        call()
    held = spikescope.open_recording(streamed.path)
    return [run.steps for run in held[next(iter(held))]["spike"].runs]


def twice(net):
    net(X)
    net(X)


def test_a_state_that_goes_on_is_one_sequence_though_it_is_of_zeros_detached_or_changed(tmp_path):
    net = stand_ins.Leaky()

    def call():
        mem = torch.zeros(1, 2)
        for i, x in enumerate(X):
            _, mem = net(x[None], mem.detach() if i == 1 else mem * 0.9 if i == 3 else mem)

    assert runs_of(net, call, tmp_path) == [4]


@pytest.mark.parametrize("start", [lambda net: net.reset_mem(), lambda net: torch.zeros(1, 2)])
def test_zeros_of_somebody_begin_a_sequence(start, tmp_path):
    net = stand_ins.Leaky()

    def call():
        for _ in range(3):
            mem = start(net)
            for x in X:
                _, mem = net(x[None], mem)

    assert runs_of(net, call, tmp_path) == [4, 4, 4]


def test_a_state_that_was_zeroed_in_place_begins_a_sequence(tmp_path):
    net = stand_ins.StatefulLayer()

    def call():
        with torch.no_grad():
            for _ in range(2):
                net(X[:, None].transpose(0, 1))
                net(X[:, None].transpose(0, 1))
                net.reset_states()

    assert runs_of(net, call, tmp_path) == [8, 8]


def test_under_inference_mode_as_without(tmp_path):
    net = stand_ins.LIFCell()

    def call():
        with torch.inference_mode():
            for _ in range(2):
                state = None
                for x in X:
                    _, state = net(x[None], state)

    assert runs_of(net, call, tmp_path) == [4, 4]


def test_of_a_network_of_both_kinds_both_have_to_begin(tmp_path):
    net = nn.Sequential(nn.Linear(2, 2), stand_ins.BaseNode(), neuron.IFNode())
    with monitor.record(net, {"output": "0"}, to=tmp_path / "run") as streamed:
        for reset in (spikescope.functional.reset_net, stand_ins.BaseNode.reset, None):
            net(X)
            net(X)
            if reset is not None:
                reset(net[1] if reset is stand_ins.BaseNode.reset else net)
        net[1].reset()
        spikescope.functional.reset_net(net)
        net(X)
    held = spikescope.open_recording(streamed.path)
    assert [run.steps for run in held["0"]["output"].runs] == [2, 4, 1]  # reset_net resets all that have a reset


def test_other_hooks_stay_and_ours_go():
    net = stand_ins.Leaky()
    handle = net.register_forward_hook(lambda module, args, out: None)
    with monitor.record(net), monitor.record(net), monitor.health(net):
        net(X)
    assert list(net._forward_hooks) == [handle.id]
    assert not net._forward_pre_hooks


@pytest.mark.parametrize(
    ("net", "signal", "words"),
    [
        (
            stand_ins.Leaky(),
            "h",
            "'h' is told by the kernels of this library, and Leaky of snntorch has none; take 'v'",
        ),
        (stand_ins.LIF(), "v", "'v' of LIF of norse is not available: .*record_states=True"),
        (stand_ins.BaseNode(step_mode="m"), "v", "of spikingjelly is not available: .*store_v_seq = True"),
        (nn.Linear(1, 1), "v", "for a neuron of your own, monitor.adopt says where it is"),
    ],
)
def test_what_cannot_be_had_is_said(net, signal, words):
    with pytest.raises(TypeError, match=words):
        monitor.record(net, "raw", nn.Module, signal)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"cls": 3}, TypeError, "takes a class of modules, but got 3"),
        ({"cls": neuron.IFNode}, ValueError, "IFNode is of this library, which knows it"),
        ({"cls": Own, "time": 2}, ValueError, "the axis 0 or 1, but got 2"),
        ({"cls": Own, "state": "u"}, TypeError, r"write \('u',\)"),
    ],
)
def test_adopt_refuses_in_words(given, error, words):
    with pytest.raises(error, match=words):
        monitor.adopt(given.pop("cls"), **given)


class Misspelt(Own):
    """Its user says of it what is not so."""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"spikes": "fierd"}, "no 'fierd' in what the module gives, a dict of 2"),
        ({"state": ("w",)}, "no attribute 'w', which adopt was told as state"),
    ],
)
def test_a_rule_that_does_not_fit_ends_the_probe_in_words_and_not_the_network(said, words):
    monitor.adopt(Misspelt, **{"spikes": "fired", **said})
    net = Misspelt()
    with monitor.record(net, "rate") as recording, pytest.warns(RuntimeWarning, match="The network runs on"):
        net(X) and net(X)
    with pytest.raises((LookupError, AttributeError), match=words):
        recording[""]


def test_a_threshold_that_is_not_there_is_refused_before_anything_runs():
    monitor.adopt(Misspelt, spikes="fired", threshold="treshold")
    for watch in (monitor.record, monitor.health):
        with pytest.raises(AttributeError, match="no attribute 'treshold', which adopt was told as threshold"):
            watch(Misspelt())


def test_a_rule_may_be_said_of_a_class_that_a_library_has():
    class Shifted(stand_ins.Leaky):
        def forward(self, x, mem=None):
            spikes, mem = super().forward(x, mem)
            return mem, spikes

    monitor.adopt(Shifted, spikes="1", potential="0", threshold="threshold")
    net = Shifted()
    with monitor.record(net, "raw") as spikes, monitor.record(net, "raw", signal="v") as potentials:
        mem, _ = net(2 * torch.ones(1, 2))
    assert torch.equal(spikes[""], torch.ones(1, 1, 2))
    assert torch.equal(potentials[""], mem[None])
    assert potentials.thresholds[""].value == 1.0
