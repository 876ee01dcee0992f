"""The blocks in which a network is watched: what was watched in one is not watched in another by the same object."""

import gc
import weakref

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


LATER = ["a recording", "a recording on disk", "health", "a flight recorder", "a live view"]
GONE = "'1' of the network is not the module any more that was watched"
COME = "'3' came into the network later and is not watched"
CHANGES = {"exchanged": [GONE], "taken out": [GONE], "added": [COME], "both": [GONE, COME], "nothing": [], "others": []}


def change_the(net, change):
    if change in ("exchanged", "both"):
        net[1] = neuron.IFNode(step_mode="m")
    if change == "taken out":
        net[1] = nn.Identity()
    if change in ("added", "both"):
        net.append(neuron.IFNode(step_mode="m"))
    if change == "others":  # what nobody watches
        net[2] = nn.Flatten(2)
        net.append(nn.Identity())


@pytest.mark.parametrize("what", LATER)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("block", [True, False])
def test_other_neurons_than_at_the_start_are_told(what, change, block, tmp_path, recwarn):
    net = nn.Sequential(layer.Linear(3, 2, step_mode="m"), neuron.IFNode(step_mode="m"), nn.Identity())
    watch = WATCHES[what](net, tmp_path)
    if block:
        watch.__enter__()
    net(torch.ones(2, 1, 3))
    change_the(net, change)
    net(torch.ones(2, 1, 3))
    kept = what_is_kept(what, watch)
    if block:
        watch.__exit__(None, None, None)
    watch.close()
    told = [str(held.message) for held in recwarn]
    if what != "health" or block:  # one that is closed by hand has findings, not warnings
        assert len(told) == len(CHANGES[change])
        for text, words in zip(told, CHANGES[change], strict=True):
            assert words in text
    for words in CHANGES[change] if kept is not None else ():
        assert any(words in text for text in kept)
    assert kept is None or bool(CHANGES[change]) == any("of the network is not" in t or "came into" in t for t in kept)
    change_the(net, "added")  # after the end it is no matter
    assert what_is_kept(what, watch) == kept or kept is None


def what_is_kept(what, watch):
    """What the watch says itself, beside warnings."""
    if what in ("health", "a flight recorder"):
        return watch.unjudged
    return watch.document()["notes"] if what == "a live view" else None


def test_only_what_would_be_chosen_is_told(recwarn):
    net = nn.Sequential(layer.Linear(3, 2), neuron.IFNode(), neuron.NonSpikingIFNode())
    with monitor.record(net, "rate", where=neuron.IFNode), monitor.record(net, "moments", "*", "output"):
        net(torch.ones(1, 3))
        net.append(neuron.LIFNode())
        net.append(nn.Identity())
    assert [str(held.message).partition(" came")[0] for held in recwarn] == ["record: '3', '4'"]


def test_a_watch_keeps_no_network_alive():
    net = nn.Sequential(neuron.IFNode(), layer.Linear(2, 2))
    recording, gone = monitor.record(net, "rate"), weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    recording.close()
