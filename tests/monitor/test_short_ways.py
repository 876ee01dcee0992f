"""The short ways of a recording: calls that take them and calls that may not give what the long way gives, and cost."""

import sys

import pytest
import torch
from torch import nn

from spikescope import functional, layer, monitor, neuron
from spikescope.monitor import short
from spikescope.monitor.reduce import SynOps
from spikescope.spikes import PackedSpikes

KINDS = {
    "counts": ("spike", ["rate", "silent share", "count", SynOps(10)]),
    "packed": ("spike", "packed"),
    "counts and packed": ("spike", ["rate", "packed"]),
    "gradients": ("grad_output", "gradient norm"),
    "gradients of inputs": ("grad_input", ["gradient norm", "norm"]),
}
MOST = {"counts": 70, "packed": 118, "counts and packed": 124, "gradients": 160, "gradients of inputs": 250}
"""Python functions that a recording may add to a step of two layers of neurons."""


def make():
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(8, 12), neuron.LIFNode(), layer.Linear(12, 12), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    return net


def step(net, x_seq):
    net(x_seq).sum().backward()
    functional.reset_net(net)


def calls(net):
    """Of functions in Python in a step of training, after some others."""
    x_seq, found = 4 * torch.rand(5, 4, 8), [0]

    def count(frame, event, argument):
        found[0] += event == "call"

    for _ in range(6):
        step(net, x_seq)
    sys.setprofile(count)
    try:
        step(net, x_seq)
    finally:
        sys.setprofile(None)
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_adds_few_functions_to_a_step(kind):
    net = make()
    plain, (signal, reducers) = calls(net), KINDS[kind]
    with monitor.record(net, reducers, signal=signal) as recording:
        added = calls(net) - plain
    assert not recording.errors
    assert added <= MOST[kind], added


def whole_runs(net, then):
    """Runs of one kind, and among them some of each kind that a short way has to leave."""
    own = torch.Generator().manual_seed(1)

    def run(*shapes, grad=True):
        for shape in shapes:
            y = net(4 * torch.rand(*shape, generator=own))
            if grad:
                y.sum().backward(retain_graph=True)
        functional.reset_net(net)

    alike, twice = (5, 3, 8), (10, 3, 8)  # each run has ten steps
    for _ in range(3):
        run(alike, alike)
    run(twice)
    run(twice)
    run(alike, alike, grad=False)
    with torch.no_grad():
        run(alike, alike, grad=False)
    with torch.inference_mode():
        run(alike, alike, grad=False)
    run(alike, alike)
    then(net)
    for _ in range(4):
        run(alike, alike)


def nothing(net):
    return None


def primitive(net):
    net[1].surrogate_function.spiking = False


def doubled(net):
    net[3].register_forward_hook(lambda module, args, out: out * 2)


def other_threshold(net):
    net[3].v_threshold = 0.25


def single(net):
    with torch.no_grad():
        for _ in range(3):
            functional.set_step_mode(net, "s")
            for held in torch.rand(10, 3, 8, generator=torch.Generator().manual_seed(3)):
                net(held)
            functional.reset_net(net)
            functional.set_step_mode(net, "m")


def single_of_the_same_shape(net):
    functional.set_step_mode(net, "s")
    for held in torch.rand(2, 5, 3, 8, generator=torch.Generator().manual_seed(3)):
        net(held).sum().backward(retain_graph=True)
    functional.reset_net(net)
    functional.set_step_mode(net, "m")


CHANGES = nothing, primitive, doubled, other_threshold, single, single_of_the_same_shape
LATER = {held.__name__: held for held in CHANGES}


@pytest.mark.parametrize("then", LATER)
@pytest.mark.parametrize("kind", KINDS)
def test_the_short_ways_tell_what_the_long_way_tells(kind, then, monkeypatch):
    signal, reducers = KINDS[kind]
    found, taken = [], []
    for way in ("short", "long"):
        with monkeypatch.context() as patch:
            for name in ("AsTold", "Ahead", "Backwards"):
                asked = getattr(short, name).__call__

                def call(self, value, asked=asked, way=way):
                    done = way == "short" and asked(self, value)
                    taken.append((way, done))
                    return done

                patch.setattr(getattr(short, name), "__call__", call)
            net = make()
            with monitor.record(net, reducers, signal=signal) as recording:
                try:
                    whole_runs(net, LATER[then])
                    rows = recording.rows()
                except ValueError as error:
                    rows = str(error)
            found.append((rows, recording.cost()[1:], [(p.calls, p.run, p.step, p.fired) for p in recording._probes]))
    assert ("short", True) in taken
    (ours, *counted), (theirs, *others) = found
    assert counted == others
    if isinstance(theirs, str):
        assert ours == theirs
        return
    assert ours.keys() == theirs.keys()
    for name, row in theirs.items():
        for label, held in row.items():
            one, other = ours[name][label], held
            if isinstance(held, PackedSpikes):
                one, other = one.dense(), other.dense()
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
