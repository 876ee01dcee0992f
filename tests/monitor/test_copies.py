"""Copies: of networks that hold monitors, and of what monitors give, through `torch.load` as it is."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import functional, layer, neuron
from spikescope.monitor import (
    GradOutputMonitor,
    Monitor,
    OutputMonitor,
    SpikeCounter,
    health,
    record,
    reduce,
)
from spikescope.neuron.base import registry
from spikescope.spikes import CompressedSpikes, PackedSpikes


def loaded(value, **options):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, **options)


TWINS = [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), lambda net: loaded(net, weights_only=False)]


@pytest.mark.parametrize("twin", TWINS, ids=["deepcopy", "pickle", "save"])
def test_a_network_that_holds_its_monitors_can_be_copied(twin):
    net = spiking_net()
    net.outputs = OutputMonitor(net, neuron.Neuron, lambda y: y)  # a function that pickle cannot name
    net.gradients = GradOutputMonitor(net, nn.Linear)
    net.recording = record(net, ["rate", "packed"])
    net.clock = Monitor(net, backend="torch")
    net.counter = SpikeCounter(net, keep_train=True)
    net.watch = health(net)
    net.clock.enable()
    net(sequence()).sum().backward()
    functional.reset_net(net)
    other = twin(net)
    assert torch.equal(other.outputs["3"][0], net.outputs["3"][0])
    assert torch.equal(other.gradients[0], net.gradients[0])
    assert torch.equal(other.recording["1"]["rate"], net.recording["1"]["rate"])
    assert other.recording["1"]["packed"] == net.recording["1"]["packed"]
    assert other.recording.table() == net.recording.table()
    assert other.clock.get_avg_firing_rate() == net.clock.get_avg_firing_rate()
    assert other.counter.total == net.counter.total
    assert torch.equal(other.counter.train("1"), net.counter.train("1"))
    assert (other.watch.findings, other.watch.table()) == (net.watch.findings, net.watch.table())
    other(sequence())
    assert len(other.outputs.records) == len(net.outputs.records) == 2  # a copy listens to nothing
    assert not other.outputs.is_enable()
    for name in ("outputs", "gradients", "recording", "clock", "counter", "watch"):
        getattr(other, name).close()
    net(sequence())
    assert len(net.outputs.records) == 4


def test_a_recording_goes_through_torch_load_as_it_is():
    net = spiking_net()
    with record(net, ["rate", "packed", "rate over time"]) as recording:
        net(sequence())
    found = loaded(recording)
    assert dict(found["1"]).keys() == {"rate", "packed", "rate over time"}
    assert torch.equal(found["3"]["rate over time"], recording["3"]["rate over time"])
    assert (found.courses, found.never_fired) == (recording.courses, ())
    assert found.to_dict() == recording.to_dict()
    assert loaded(found).to_dict() == recording.to_dict()
    assert loaded(recording["1"]).keys() == recording["1"].keys()


def test_a_saved_recording_tells_which_probe_had_failed():
    net = spiking_net()
    with record(net, "rate", budget=30) as recording, pytest.warns(RuntimeWarning, match="over the budget of 30"):
        net(sequence())
    found = loaded(recording)
    assert torch.equal(found["1"], recording["1"])
    with pytest.raises(RuntimeError, match="The probe of '3' was ended: BudgetError"):
        found["3"]
    with pytest.raises(RuntimeError, match="was ended"):
        found.table()


@pytest.mark.parametrize("name", reduce.registry)
def test_every_result_goes_through_torch_load_as_it_is(name):
    cls = reduce.registry[name]
    if not cls.__module__.startswith("spikescope."):
        pytest.skip("of a test")
    reducer = cls(**cls.example)
    result = reducer.result(reducer.measure((torch.rand(5, 2, 3) > 0.5).float()))
    assert type(loaded(result)) is type(result)


@pytest.mark.parametrize("order", ["step", "time"])
def test_packed_spikes_go_through_torch_load_as_they_are(order):
    train = PackedSpikes.from_dense((torch.rand(5, 2, 3) > 0.5).half(), order)
    found = loaded({"spikes": [train]})["spikes"][0]
    assert (found, found.order, found.dtype) == (train, order, torch.float16)
    assert copy.deepcopy(train) == pickle.loads(pickle.dumps(train)) == train


def test_packed_spikes_that_do_not_fit_their_shape_are_refused_when_they_are_read():
    train = PackedSpikes.from_dense(torch.zeros(5, 2, 3))
    object.__setattr__(train, "shape", torch.Size((9, 9, 9)))
    with pytest.raises(ValueError, match="take bits of the shape"):
        loaded(train)


def test_compressed_spikes_go_through_torch_load_as_they_are():
    pytest.importorskip("zstandard")
    small = PackedSpikes.from_dense((torch.rand(5, 2, 3) > 0.5).float()).compress()
    found = loaded(small)
    assert type(found) is CompressedSpikes
    assert found.decompress() == small.decompress()


@pytest.mark.parametrize("name", registry)
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_state_of_every_neuron_goes_through_torch_load_as_it_is(name, step_mode):
    node = registry[name](**registry[name].example)
    if step_mode not in node.supported_step_mode():
        pytest.skip("has no such step mode")
    node.step_mode = step_mode
    net = nn.Sequential(node, layer.Delay(2), layer.SynapseFilter())
    node(torch.rand(4, 2, 3) if step_mode == "m" else torch.rand(2, 3))
    net[1](torch.rand(2, 3)), net[2](torch.rand(2, 3))
    state = functional.get_state(net)
    functional.set_state(copy.deepcopy(net), loaded({"net": net.state_dict(), "state": state})["state"])
