"""The short way of neurons whose input passes through `drive`: it runs once a call, and learns by itself."""

import pytest
import torch
from shortcut_cases import assert_equal, input_of, runs, twins

from spikescope import neuron
from spikescope.errors import StateError


@pytest.mark.parametrize("mode", ["s", "m"])
def test_steps_are_counted_once(mode, short):
    node, twin = twins(neuron.GatedLIFNode, mode, T=9)
    short.clear()
    steps = 1 if mode == "s" else 3
    for call in range(9 // steps):
        node(input_of(neuron.GatedLIFNode, mode)), twin(input_of(neuron.GatedLIFNode, mode))
        assert node.t == twin.t == (call + 1) * steps
    assert len(short) == 9 // steps
    for each in (node, twin):
        with pytest.raises(StateError, match="was made for T=9 steps; it has run 9"):
            each(input_of(neuron.GatedLIFNode, mode))
        assert each.t == 9


@pytest.mark.parametrize("alone", ["conduct", "beta", "parametrized"])
def test_what_drives_alone_learns(alone, short):
    node, twin = twins(neuron.GatedLIFNode, "m")
    for each in (node, twin):
        for name, held in each.named_parameters():
            held.requires_grad_(name == alone or (alone == "parametrized" and name == "conduct"))
        if alone == "parametrized":
            torch.nn.utils.parametrize.register_parametrization(each, "conduct", torch.nn.Identity())
    found = []
    for each in (node, twin):
        with torch.no_grad():
            for _ in range(3):
                each.reset()
                each(input_of(neuron.GatedLIFNode, "m"))
        for _ in range(3):
            each.reset()
            each.zero_grad()
            each(input_of(neuron.GatedLIFNode, "m")).sum().backward()
        found.append([held.grad for held in each.parameters() if held.requires_grad])
    assert len(found[0]) == 1
    assert found[0][0].abs().sum() > 0
    torch.testing.assert_close(*found)
    assert bool(short) or alone == "parametrized"


@pytest.mark.parametrize("shape", [(3, 4, 1, 5), (3, 1, 5), (3, 2, 4, 5)])
def test_driven_input_lies_as_the_input(shape, short):
    node, twin = twins(neuron.GatedLIFNode, "m")
    for strange in (False, True):
        x = torch.randn(shape)
        if strange:  # an axis of one has any stride
            strides = [77 if size == 1 else stride for size, stride in zip(shape, x.stride(), strict=True)]
            x = x.as_strided(shape, strides)
        elif len(shape) == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        for _ in range(3):
            node.reset(), twin.reset()
            short.clear()
            assert torch.equal(node(x), twin(x))
        assert_equal([node.v, node.spike], [twin.v, twin.spike], 2)


def test_drive_that_turns_its_axes_is_turned_back(short):
    class Turned(neuron.GatedLIFNode):
        def drive(self, x_seq):
            return super().drive(x_seq).transpose(0, 1).contiguous().transpose(0, 1)

    Turned.ways = (*neuron.GatedLIFNode.ways, Turned.drive)
    node, twin = twins(Turned, "m")
    short.clear()
    assert_equal(runs(node, "m", Turned), runs(twin, "m", Turned), 5)
    assert len(short) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_input_is_widened_before_it_is_driven(dtype):
    node, twin = twins(neuron.GatedLIFNode, "m")
    x = torch.randn(3, 4, 5, dtype=dtype)
    for _ in range(3):
        node.reset(), twin.reset()
        got, want = node(x), twin(x)
        assert got.dtype is want.dtype is dtype
        assert torch.equal(got, want)
        assert torch.equal(node.v, twin.v)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_noise_is_drawn_once_a_call(mode, short):
    node, twin = twins(neuron.NoisyLIFNode, mode, sigma=0.5)
    short.clear()
    found = []
    for each in (node, twin):
        torch.manual_seed(3)
        each.reset()
        found.append(runs(each, mode, neuron.NoisyLIFNode))
    assert_equal(*found, 4)
    assert len(short) == 3
    for each in (node, twin):
        each.sigma = 0.0
    short.clear()
    for _ in range(3):
        node.reset(), twin.reset()
        assert_equal(runs(node, mode, neuron.NoisyLIFNode), runs(twin, mode, neuron.NoisyLIFNode), 4)
    assert short
    for each in (node, twin):
        each.sigma = 0.5
        torch.manual_seed(3)
        each.reset()
    assert_equal(runs(node, mode, neuron.NoisyLIFNode), found[1], 4)


def test_drive_of_a_subclass_is_called():
    class Halved(neuron.GatedLIFNode):
        def drive(self, x_seq):
            return super().drive(x_seq) / 2

    class Doubled(neuron.NoisyLIFNode):
        def drive(self, x_seq):
            return 2 * super().drive(x_seq)

    for cls in (Halved, Doubled):
        node, twin = twins(cls, "m")
        assert_equal(runs(node, "m", cls), runs(twin, "m", cls), 3)


def test_noise_in_double_precision_makes_the_step_so():
    node, twin = twins(neuron.NoisyLIFNode, "m")
    for each in (node, twin):
        each.sigma = torch.full((5,), 0.3, dtype=torch.float64)
    for _ in range(3):
        found = []
        for each in (node, twin):
            torch.manual_seed(3)
            each.reset()
            found.append(runs(each, "m", neuron.NoisyLIFNode, learn=False))
        assert_equal(*found, 4)
