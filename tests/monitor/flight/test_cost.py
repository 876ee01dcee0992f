"""What a flight recorder adds to a sound step: so many operations, whatever the network has learned, and no waiting."""

import sys
from collections import Counter

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from spikescope import functional, layer, monitor, neuron
from spikescope.monitor.flight.checks import gpu

WAITS = {
    "aten::item",
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::equal",
    "aten::allclose",
}
SUMS = {"aten::sum", "aten::any", "aten::all", "aten::isfinite", "aten::abs", "aten::max", "aten::_foreach_norm"}


def make(depth):
    """Two layers of neurons, and as many of weights between them."""
    torch.manual_seed(0)
    between = [held for _ in range(depth) for held in (layer.Linear(12, 12), layer.BatchNorm1d(12))]
    net = nn.Sequential(layer.Linear(8, 12), neuron.LIFNode(), *between, neuron.LIFNode(), layer.Linear(12, 4))
    functional.set_step_mode(net, "m")
    return net


def operations(net, recorder=None):
    """Of PyTorch in a step of training, after some others."""
    x_seq = 4 * torch.rand(5, 3, 8)

    def step():
        loss = (net(x_seq).mean(0) - 1).square().mean()
        if recorder is not None:
            recorder.loss(loss)
        loss.backward()
        net.zero_grad()
        functional.reset_net(net)

    for _ in range(6):
        step()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        step()
    return Counter(event.name for event in seen.events() if event.name.startswith("aten::"))


def added(net, place):
    """By a recorder of all signals."""
    plain = operations(net)
    with monitor.flight_recorder(net, keep=3, to=place, report=False) as recorder:
        found = operations(net, recorder) - plain
    assert not [probe.error for probe in recorder._steps.probes if probe.error]
    assert len(recorder.ring.frames) == 2
    assert not recorder.triggers
    return found


@pytest.fixture(params=["CPU", "GPU"])
def place(request, monkeypatch):
    """Here, and as on a device whose kernels are launched and bring nothing."""
    launched = []
    if request.param == "GPU":
        monkeypatch.setattr(gpu, "PLACES", ("cpu",))
        monkeypatch.setattr(gpu, "_runs_on", lambda kind: True)
        monkeypatch.setattr(gpu, "_kernel", lambda: "look")
        monkeypatch.setattr(gpu.launch, "launch", lambda kernel, *given, **options: launched.append(kernel))
    return launched


def calls(net):
    """Of functions in Python in a step of training, after some others."""
    x_seq, found = 4 * torch.rand(5, 3, 8), [0]

    def step():
        net(x_seq).sum().backward()
        functional.reset_net(net)

    def count(frame, event, argument):
        found[0] += event == "call"

    for _ in range(6):
        step()
    sys.setprofile(count)
    try:
        step()
    finally:
        sys.setprofile(None)
    return found[0]


@pytest.mark.parametrize(("signals", "most"), [(("spike",), 160), (("spike", "h", "grad_output"), 260)])
def test_a_sound_step_runs_few_functions_more(signals, most, tmp_path):
    net = make(1)
    plain = calls(net)
    with monitor.flight_recorder(net, keep=3, to=tmp_path, signals=signals, report=False) as recorder:
        added = calls(net) - plain
    assert not recorder.errors
    assert len(recorder.ring.frames) == 2
    assert added <= most, added


def test_a_sound_step_waits_for_nothing_and_all_weights_are_looked_at_at_once(place, tmp_path):
    few = added(make(1), tmp_path)
    steps, once = len(place), added(make(8), tmp_path)
    assert few == once, (few, once)  # whatever there is to learn
    assert not SUMS & few.keys()
    assert few.total() <= 60, few
    if place:
        assert set(place) == {"look"}
        assert len(place) == 2 * steps == 14  # a launch a step
        assert not WAITS & few.keys(), few
