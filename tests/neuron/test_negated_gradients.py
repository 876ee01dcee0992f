"""Gradients that are views which negate their memory, as PyTorch gives out imaginary parts: what they say counts."""

import pytest
import torch
from neuron_cases import NEURONS, make, sequence
from torch import nn

from spikescope import functional, layer, rnn
from spikescope.neuron import LIFNode

IMAGES = torch.randn(8, 16, 32, 32, generator=torch.Generator().manual_seed(3))
LAYERS = {
    "norm": (lambda: layer.BatchNorm2d(16), IMAGES),
    "pool": (lambda: layer.MaxPool2d(2), IMAGES),
    "overlapping pool": (lambda: layer.MaxPool2d(3, 2, 1), IMAGES),
    "LSTM": (lambda: rnn.SpikingLSTM(32, 16, 1), IMAGES[0, :5]),
    "GRU": (lambda: rnn.SpikingGRU(32, 16, 1), IMAGES[0, :5]),
    "RNN": (lambda: rnn.SpikingVanillaRNN(32, 16, 1), IMAGES[0, :5]),
}


def negated(values):
    """The same values, as a view of their negatives."""
    return torch._neg_view(-values)


def gradients(net, x, of):
    """Gradients of input and parameters where those of two outputs are `of` numbers."""
    functional.reset_net(net)
    x = x.clone().requires_grad_()
    given = [net(x) for _ in range(2)]
    outputs = [y[0] if isinstance(y, tuple) else y for y in given]
    numbers = [torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y) for y in outputs]
    wanted = [x, *(held for held in net.parameters() if held.requires_grad)]
    return torch.autograd.grad(outputs, wanted, [of(held) for held in numbers], allow_unused=True)


def assert_alike(net, x):
    for _ in range(3):  # those to come are prepared
        want, got = gradients(net, x, torch.clone), gradients(net, x, negated)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("cls", NEURONS)
def test_of_a_neuron(cls, mode):
    if mode not in cls.supported_step_modes:
        pytest.skip("it takes sequences alone")
    x, fused = sequence(cls), {"backend": "auto"} if "auto" in getattr(cls, "supported_backends", ()) else {}
    assert_alike(make(cls, step_mode=mode, **fused), x if mode == "m" else x[0])


def test_of_a_state():
    node, x = make(LIFNode, backend="auto"), sequence(LIFNode)[0].requires_grad_()
    for _ in range(3):
        found = []
        for of in (torch.clone, negated):
            node.reset()
            node(x)
            found += torch.autograd.grad(node.v, x, of(torch.linspace(-1, 2, x.numel()).view_as(x)))
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", LAYERS)
def test_of_a_layer(name):
    made, x = LAYERS[name]
    assert_alike(made(), x)


def test_of_a_network_that_keeps_little():
    net = nn.Sequential(layer.Conv2d(16, 8, 3, padding=1), layer.BatchNorm2d(8), LIFNode())
    functional.set_step_mode(net, "m")
    functional.lean(net)
    assert_alike(net, IMAGES.unflatten(0, (2, 4)))


@pytest.mark.parametrize("which", [0, 2])  # the input, the state
@pytest.mark.parametrize("brings", ["the same", "negated", "turned", "wider"])
def test_of_what_was_saved_and_comes_back_otherwise(which, brings):
    """Somebody has put a hook on one saved tensor, of which PyTorch tells nobody."""
    node, x = make(LIFNode, backend="auto"), sequence(LIFNode)[0].requires_grad_()
    back = {
        "the same": torch.clone,
        "negated": negated,
        "turned": lambda held: held.t().clone(memory_format=torch.contiguous_format).t(),
        "wider": lambda held: held.double(),
    }[brings]
    with torch.no_grad():
        node(x)
    for _ in range(3):
        start, found = node.v.detach(), []
        for hooked in (False, True):
            node.v = start
            y = node(x)
            if hooked:
                y.grad_fn._raw_saved_tensors[which].register_hooks(lambda held: held.detach().clone(), back)
            found.append(torch.autograd.grad(y.sum() + node.v.sum(), x)[0])
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
        node.detach()
