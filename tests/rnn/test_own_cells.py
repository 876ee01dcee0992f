"""Cells of one's own that are written by `forward`, as published code writes them."""

import math

import pytest
import torch
from torch import nn

from spikescope import monitor, rnn
from spikescope.surrogate import ATan


class Simple(rnn.SpikingRNNCellBase):
    """One state, and layers of its own names."""

    def __init__(self, input_size, hidden_size, bias=True, surrogate_function=None):
        super().__init__(input_size, hidden_size, bias)
        self.into = nn.Linear(input_size, hidden_size, bias)
        self.back = nn.Linear(hidden_size, hidden_size, bias)
        self.surrogate_function = surrogate_function or ATan()
        self.reset_parameters()

    def forward(self, x, h=None):
        h = torch.zeros(len(x), self.hidden_size) if h is None else h
        return self.surrogate_function(self.into(x) + self.back(h))


class Double(Simple):
    """Two states, the second of which leaks."""

    def forward(self, x, hv=None):
        h, v = (torch.zeros(len(x), self.hidden_size),) * 2 if hv is None else hv
        v = 0.5 * v + self.into(x) + self.back(h)
        return self.surrogate_function(v - 0.1), v


class Late(rnn.SpikingGRUCell):
    """A cell of the library with another `forward`."""

    def forward(self, x, h=None):
        return super().forward(x, h) * 0.5


class Stepped(rnn.SpikingVanillaRNNCell):
    """A cell of the library with another `step`, and a `forward` that says more."""

    def step(self, drive, states):
        return (1 - super().step(drive, states)[0],)

    def forward(self, x, h=None):
        return super().forward(x, h) * 2


class SteppedAgain(Late):
    """The `forward` of its base counts, whatever the step."""

    def step(self, drive, states):
        return (super().step(drive, states)[0] * 0.25,)


COUNTS = {Stepped: 1, SteppedAgain: 1, Simple: 1, Double: 2, Late: 1}


def layer_of(cell, *args, **kwargs):
    class Layer(rnn.SpikingRNNBase):
        @staticmethod
        def base_cell():
            return cell

        @staticmethod
        def states_num():
            return COUNTS[cell]

    torch.manual_seed(0)
    return Layer(*args, **kwargs)


def by_hand(cells, x_seq, backwards=False):
    """Each cell over the sequence, step by step; outputs and the states at the end."""
    ends = []
    for cell in cells:
        held, outputs = None, []
        for x in reversed(x_seq) if backwards else x_seq:
            held = cell(x, held)
            outputs.append(held[0] if isinstance(held, tuple) else held)
        x_seq = torch.stack(outputs[::-1] if backwards else outputs)
        ends.append(held)
    return x_seq, ends


@pytest.mark.parametrize("cell", COUNTS)
def test_a_layer_calls_its_cells_step_by_step(cell):
    net, x_seq = layer_of(cell, 3, 24, 2), (torch.rand(5, 2, 3) * 4 - 1).requires_grad_()
    y, states = net(x_seq)
    wanted, ends = by_hand(net.cells, x_seq)
    assert torch.equal(y, wanted)
    ends = [end if isinstance(end, tuple) else (end,) for end in ends]
    states = states if isinstance(states, tuple) else (states,)
    for state, end in zip(states, zip(*ends, strict=True), strict=True):
        assert torch.equal(state, torch.stack(end))
    gradients = [torch.autograd.grad(out.sum(), (x_seq, *net.parameters())) for out in (y, wanted)]
    assert all(map(torch.equal, *gradients))
    first, half = net(x_seq[:2])
    assert torch.equal(torch.cat((first, net(x_seq[2:], half)[0])), y)
    ones = [torch.ones(2, 2, 24) * 3] * len(states)
    assert not torch.equal(net(x_seq, ones if len(ones) > 1 else ones[0])[0], y)


@pytest.mark.parametrize("cell", COUNTS)
def test_both_directions(cell):
    net, x_seq = layer_of(cell, 3, 4, 1, bidirectional=True), torch.rand(5, 2, 3)
    y, _ = net(x_seq)
    ahead, back = by_hand(net.cells, x_seq)[0], by_hand(net.cells_reverse, x_seq, backwards=True)[0]
    assert torch.equal(y, torch.cat((ahead, back), -1))


def test_all_that_a_cell_has_made_is_drawn_within_the_bound():
    cell = Simple(30, 16)
    bound = 1 / math.sqrt(16)
    assert all(0.8 * bound < held.abs().max() <= bound for held in (cell.into.weight, cell.back.weight))
    assert set(cell.state_dict()) == {"into.weight", "into.bias", "back.weight", "back.bias"}


def test_a_monitor_sees_each_step_of_a_cell():
    net = layer_of(Simple, 3, 4, 1)
    with monitor.OutputMonitor(net, Simple) as seen:
        y, _ = net(torch.rand(5, 2, 3))
    assert torch.equal(torch.stack(seen.records), y)


def test_refusals_in_words():
    with pytest.raises(TypeError, match="is no cell: a subclass writes forward"):
        rnn.SpikingRNNCellBase(3, 4)
    net = layer_of(Double, 3, 4, 1)
    with pytest.raises(TypeError, match=r"the states must be a tuple \(h, number 1\) of tensors"):
        net(torch.rand(5, 2, 3), torch.rand(1, 2, 4))
    type(net).states_num = staticmethod(lambda: 1)
    with pytest.raises(TypeError, match=r"forward takes 1 states, so it must give 1, but gave 2.*states_num"):
        net(torch.rand(5, 2, 3), torch.rand(1, 2, 4)[None][0])
