"""Cells along a sequence, as SpikingJelly's functions run them: against a loop."""

import pytest
import torch
from torch import nn

from spikescope import rnn

pytestmark = pytest.mark.usefixtures("aliases")


class Stacked(nn.Module):
    """A cell whose states, or the one, are one tensor: the first of them is its output."""

    def __init__(self, several):
        super().__init__()
        self.several = several

    def forward(self, x, states):
        assert isinstance(states, torch.Tensor)
        if not self.several:
            return torch.tanh(states + x)
        return torch.stack((torch.tanh(states[0] + x), 0.5 * states[1] - x))


CELLS = {
    "one state": (lambda: Stacked(False), lambda: torch.randn(2, 4)),
    "several states": (lambda: Stacked(True), lambda: torch.randn(2, 2, 4)),
    "vanilla": (lambda: rnn.SpikingVanillaRNNCell(4, 4), lambda: torch.zeros(2, 4)),
    "gru": (lambda: rnn.SpikingGRUCell(4, 4), lambda: torch.zeros(2, 4)),
    "lstm": (lambda: rnn.SpikingLSTMCell(4, 4), lambda: (torch.zeros(2, 4), torch.ones(2, 4))),
    "lstm, stacked": (lambda: rnn.SpikingLSTMCell(4, 4), lambda: torch.stack((torch.zeros(2, 4), torch.ones(2, 4)))),
}


def by_hand(name, cell, xs, states):
    outputs = []
    if name == "lstm, stacked":
        states = states[0], states[1]
    for x in xs:
        states = cell(x, states)
        outputs.append(states if name in ("one state", "vanilla", "gru") else states[0])
    return torch.stack(outputs), torch.stack(states) if name == "lstm, stacked" else states


def same(a, b):
    return all(map(torch.equal, a, b)) if isinstance(a, tuple) else torch.equal(a, b)


@pytest.mark.parametrize("name", CELLS)
def test_outputs_and_last_states_are_those_of_a_loop(name):
    from spikingjelly.activation_based.rnn import bidirectional_rnn_cell_forward, directional_rnn_cell_forward

    torch.manual_seed(0)
    cell, first = (make() for make in CELLS[name])
    other, second = (make() for make in CELLS[name])
    x = torch.randn(5, 2, 4)
    wanted, ends = by_hand(name, cell, x, first)
    found, last = directional_rnn_cell_forward(cell, x, first)
    assert found.shape == (5, 2, 4)
    assert torch.equal(found, wanted)
    assert same(last, ends)
    assert type(last) is type(first)
    back, ends_back = by_hand(name, other, x.flip(0), second)
    both, last, last_back = bidirectional_rnn_cell_forward(cell, other, x, first, second)
    assert torch.equal(both, torch.cat((wanted, back.flip(0)), -1))
    assert same(last, ends)
    assert same(last_back, ends_back)


@pytest.mark.parametrize("name", CELLS)
def test_a_sequence_without_steps_has_outputs_of_the_shape_of_the_state_which_stays(name):
    from spikingjelly.activation_based.rnn import bidirectional_rnn_cell_forward, directional_rnn_cell_forward

    cell, first = (make() for make in CELLS[name])
    found, last = directional_rnn_cell_forward(cell, torch.randn(0, 2, 4), first)
    assert found.shape == (0, 2, 4)
    assert same(last, first)
    both, last, last_back = bidirectional_rnn_cell_forward(cell, cell, torch.randn(0, 2, 4), first, first)
    assert both.shape == (0, 2, 8)
    assert same(last, first)
    assert same(last_back, first)
    with pytest.raises(ValueError, match=r"T=0 .* Hand over the first state"):
        directional_rnn_cell_forward(cell, torch.randn(0, 2, 4), None)
