"""The blocks in which a network is watched: what was watched in one is not watched in another by the same object."""

import pytest
import torch
from torch import nn

import spikescope
from spikescope import layer, monitor, neuron

WATCHES = {
    "a recording": lambda net, place: monitor.record(net, "rate"),
    "a recording on disk": lambda net, place: monitor.record(net, "spike", to=place / "run.spk"),
    "health": lambda net, place: monitor.health(net),
    "a flight recorder": lambda net, place: monitor.flight_recorder(net, to=place, report=False),
    "a live view": lambda net, place: spikescope.live(net, quiet=True),
    "a clock-driven monitor": lambda net, place: monitor.Monitor(net),
    "a counter": lambda net, place: monitor.SpikeCounter(net),
}


@pytest.mark.parametrize("what", WATCHES)
def test_a_second_block_of_the_same_object_is_refused_in_words(what, tmp_path):
    net = nn.Sequential(layer.Linear(3, 2, step_mode="m"), neuron.IFNode(step_mode="m"))
    watch = WATCHES[what](net, tmp_path)
    with watch as held:
        assert held is watch
        net(torch.ones(2, 1, 3))
    watch.close()
    with pytest.raises(RuntimeError, match=r"has stopped listening.*make a new one: `with \w+\(net\)"), watch:
        net(torch.ones(2, 1, 3))


@pytest.mark.parametrize("what", ["a recording", "health"])
@pytest.mark.parametrize("change", ["exchanged", "taken out", "nothing"])
def test_a_module_that_is_exchanged_in_the_block_is_told(what, change, tmp_path, recwarn):
    net = nn.Sequential(layer.Linear(3, 2, step_mode="m"), neuron.IFNode(step_mode="m"), nn.Identity())
    with WATCHES[what](net, tmp_path):
        net(torch.ones(2, 1, 3))
        if change == "exchanged":
            net[1] = neuron.IFNode(step_mode="m")
        elif change == "taken out":
            net[1] = nn.Identity()
    told = [str(held.message) for held in recwarn]
    assert len(told) == (change != "nothing")
    assert all("'1' of the network is not the module any more that was watched" in text for text in told)
