"""A long training with every reducer on: nothing grows but what says so, and that stops at its budget."""

import gc
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.monitor import AttributeMonitor, Budget, BudgetError, GradOutputMonitor, OutputMonitor, record
from spikescope.monitor.reduce import registry

GROWING = ("Raw", "Packed")  # they keep the signal itself, as their docstrings tell
WITH_THE_RUN = ("RateOverTime", "GradientNorm")  # a number for each step of the longest run
SIGNALS = ("spike", "h", "v", "grad_output")
RUN, CHUNK = 12, 4


def steady(signal="spike"):
    fits = {name: kind for name, kind in registry.items() if signal in (kind.signals or SIGNALS)}
    return {name: kind(**kind.example) for name, kind in fits.items() if name not in GROWING}


def network():
    torch.manual_seed(5)
    net = nn.Sequential(layer.Linear(5, 7), neuron.LIFNode(), layer.Linear(7, 3), neuron.IFNode())
    functional.set_step_mode(net, "m")
    return net


def sequence(net, steps=RUN):
    functional.reset_net(net)
    loss = torch.zeros(())
    for _ in range(steps // CHUNK):
        loss = loss + net(torch.rand(CHUNK, 24, 5) * 3).mean()
    loss.backward()
    net.zero_grad()


def held(recordings):
    """The bytes of each summary, the number of tensors, and of all objects that the garbage collector follows."""
    gc.collect()
    sizes = {
        (i, name, label): total.nbytes
        for i, recording in enumerate(recordings)
        for name, track in recording._tracks.items()
        for label, total in (*track.totals.items(), ("tally", track.tally))
    }
    objects = gc.get_objects()
    return sizes, sum(issubclass(type(thing), torch.Tensor) for thing in objects), len(objects)


def test_the_growing_reducers_say_so():
    assert set(GROWING) | set(WITH_THE_RUN) <= set(registry)
    for name in (*GROWING, *WITH_THE_RUN):
        assert "grows with" in registry[name].__doc__


def test_memory_stays_over_many_sequences():
    net = network()
    with ExitStack() as monitors:
        recordings = [monitors.enter_context(record(net, steady(signal), signal=signal)) for signal in SIGNALS]
        recorders = [
            monitors.enter_context(OutputMonitor(net, neuron.LIFNode, budget=Budget("12 kB", "drop oldest"))),
            monitors.enter_context(AttributeMonitor("v", False, net, neuron.IFNode, budget=Budget("12 kB", "spill"))),
            monitors.enter_context(GradOutputMonitor(net, nn.Linear, budget=Budget("12 kB", "every n-th"))),
        ]
        for _ in range(8):  # the samples of the quantiles and the records fill up
            sequence(net)
        sizes, tensors, objects = held(recordings)
        for _ in range(16):
            sequence(net)
        later, tensors_later, objects_later = held(recordings)
        costs = [recording.cost().bytes for recording in recordings]
    assert {key: size for key, size in later.items() if size > 1.4 * sizes[key]} == {}
    assert costs == [sum(size for key, size in later.items() if key[0] == i) for i in range(len(SIGNALS))]
    assert tensors_later <= tensors + 20
    assert objects_later <= objects + 200
    assert all(recorder.records.nbytes <= 12288 for recorder in recorders)
    assert len(recorders[1].records) == 24 * RUN // CHUNK


def test_one_endless_run_stays_too_but_for_a_number_a_step():
    net = network()
    made = {name: reducer for name, reducer in steady().items() if name not in WITH_THE_RUN}
    sizes = []
    with torch.no_grad(), record(net, made) as recording:
        for steps in (200, 400):  # the samples of the quantiles are full after 171
            for _ in range(steps // CHUNK):
                net(torch.rand(CHUNK, 8, 5) * 3)
            sizes.append(recording.cost().bytes)
    assert sizes[1] == sizes[0]


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_stops_at_the_budget(name):
    net = network()
    recording = record(net, registry[name](), budget=2**11)

    def run():
        for _ in range(100):
            functional.reset_net(net)
            with torch.no_grad():
                net(torch.rand(CHUNK, 8, 5) * 3)

    with pytest.warns(RuntimeWarning, match="over the budget of 2,048"):
        run()
    recording.close()
    with pytest.raises(BudgetError, match="choose a reducer of fixed size"):
        recording.rows()
