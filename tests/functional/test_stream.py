"""A stream gives what the network gives in single steps, and its state is that of the network."""

import importlib

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron

stream = importlib.import_module("spikescope.functional.stream")  # the function has the name of its module


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        layer.Linear(6, 8),
        neuron.LIFNode(tau=1.5),
        layer.LinearRecurrentContainer(neuron.IFNode(), 8, 8),
        layer.SynapseFilter(tau=3.0),
        layer.Linear(8, 4),
        neuron.IzhikevichNode(),
        neuron.ParametricLIFNode(),
    )


def inputs(steps=6):
    return 3 * torch.rand(steps, 2, 6, generator=torch.Generator().manual_seed(1))


def test_step_is_a_single_step_of_the_network():
    net, alone = network(), network()
    loop = functional.stream(net)
    for _ in range(3):
        loop.reset()
        functional.reset_net(alone)
        for x in inputs():
            y = loop.step(x)
            assert not y.requires_grad
            assert torch.equal(y, alone(x))
        for got, want in zip(net.modules(), alone.modules(), strict=True):
            assert torch.equal(getattr(got, "v", torch.zeros(1)), getattr(want, "v", torch.zeros(1)))


def test_state_is_a_value_to_go_on_from():
    loop = functional.stream(network())
    for x in inputs()[:3]:
        loop.step(x)
    before = loop.state
    kept = before["1"]["v"].clone()
    want = [loop.step(x) for x in inputs()[3:]]
    assert torch.equal(before["1"]["v"], kept)
    loop.reset()
    assert loop.state["1"]["v"] == 0
    loop.state = before
    assert all(torch.equal(loop.step(x), y) for x, y in zip(inputs()[3:], want, strict=True))
    other = functional.stream(network())
    other.state = before
    assert all(torch.equal(other.step(x), y) for x, y in zip(inputs()[3:], want, strict=True))


def test_weights_and_fields_are_read_at_every_step():
    net, alone = network(), network()
    loop = functional.stream(net)
    for i, x in enumerate(inputs()):
        for each in (net, alone):
            with torch.no_grad():
                each[0].weight.mul_(1 + 0.1 * i)
            each[1].tau = 1.5 + i
        assert torch.equal(loop.step(x), alone(x))


def test_output_is_nobody_elses():
    net = nn.Sequential(neuron.LIFNode())
    loop = functional.stream(net)
    outputs = [loop.step(torch.full((3,), 0.75 * i)) for i in range(5)]
    kept = [y.clone() for y in outputs]
    outputs[-1].fill_(7.0)
    loop.step(torch.ones(3))
    assert all(torch.equal(a, b) for a, b in zip(outputs[:-1], kept[:-1], strict=True))


def test_a_stream_that_is_called_says_what_to_call():
    with pytest.raises(TypeError, match=r"loop\.step\(x\) runs one step"):
        functional.stream(nn.Sequential(neuron.IFNode()))(torch.ones(1, 1))


def test_whole_sequences_are_refused_in_words():
    net = nn.Sequential(neuron.LIFNode(), neuron.IFNode(step_mode="m"))
    with pytest.raises(ValueError, match=r"1 \(IFNode\)\. Call functional\.set_step_mode\(net, 's'\)"):
        functional.stream(net)
    assert repr(functional.stream(net[0])) == "Stream of LIFNode"
    with pytest.raises(TypeError, match="stream"):
        functional.stream(lambda x: x)


def test_who_interrupts_a_step_has_gradients_again(monkeypatch):
    """A signal may come between any two instructions: also right behind the one that puts gradients off."""
    own = stream.enable_gradients

    def interrupted(on):
        own(on)
        if not on:
            raise KeyboardInterrupt

    loop = functional.stream(network())
    monkeypatch.setattr(stream, "enable_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.step(inputs()[0])
    assert torch.is_grad_enabled()
