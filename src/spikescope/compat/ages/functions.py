"""Functions that only older ages had, or had with other arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ... import functional
from ...rnn import SpikingRNNCellBase
from .watched import set_monitor

__all__ = [
    "bidirectional_rnn_cell_forward",
    "directional_rnn_cell_forward",
    "fuse_convbn2d",
    "set_monitor",
    "spike_mse_loss",
]


def spike_mse_loss(x: Tensor, spikes: Tensor) -> Tensor:
    """The mean squared error of `x` to spikes; its gradient to the spikes is not that of `F.mse_loss`.

    >>> spike_mse_loss(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 1.0]))
    tensor(0.6250)
    """
    return (x.square() + (1 - 2 * x) * spikes).mean()


def fuse_convbn2d(conv2d: nn.Conv2d, bn2d: nn.BatchNorm2d, k: Any = None, b: Any = None) -> nn.Conv2d:
    """`functional.fuse_convbn2d`; `k` and `b` did nothing in that age and do nothing here."""
    return functional.fuse_convbn2d(conv2d, bn2d)


def directional_rnn_cell_forward(cell: nn.Module, x: Tensor, states: Any) -> tuple[Tensor, Any]:
    """The outputs `[T, N, H]` of a cell along `x` `[T, N, *]`, and its last state.

    - `states`: the first state, `[N, H]`; of several `[K, N, H]` or a tuple, of which the first is the output. The last
      one comes as it was given: a tensor of the same shape, or a tuple.

    >>> cell = spikescope.rnn.SpikingVanillaRNNCell(3, 4)
    >>> directional_rnn_cell_forward(cell, torch.zeros(5, 2, 3), torch.zeros(2, 4))[0].shape
    torch.Size([5, 2, 4])
    """
    return _through(cell, list(x), states)


def bidirectional_rnn_cell_forward(
    cell: nn.Module, cell_reverse: nn.Module, x: Tensor, states: Any, states_reverse: Any
) -> tuple[Tensor, Any, Any]:
    """The outputs `[T, N, 2 H]` of two cells, one of which runs through `x` backwards, and the last state of each."""
    first, ends = _through(cell, list(x), states)
    second, ends_reverse = _through(cell_reverse, list(x.flip(0)), states_reverse)
    return torch.cat((first, second.flip(0)), -1), ends, ends_reverse


def _through(cell: nn.Module, steps: list[Tensor], given: Any) -> tuple[Tensor, Any]:
    states = given
    if isinstance(given, Tensor) and given.ndim > 2 and isinstance(cell, SpikingRNNCellBase):
        states = tuple(given)  # as our cells of several states take them
    outputs = []
    for x in steps:
        states = cell(x, states)
        outputs.append(_output(states))
    ends = torch.stack(tuple(states)) if isinstance(given, Tensor) and not isinstance(states, Tensor) else states
    if outputs:
        return torch.stack(outputs), ends
    if given is None:
        raise ValueError(
            "A cell along a sequence of T=0 steps gives T=0 outputs of the shape of its state, but got None in the "
            "place of that. Hand over the first state, [N, H]."
        )
    held = _output(given)
    return held.new_empty((0, *held.shape)), ends


def _output(states: Any) -> Tensor:
    """Of one state itself, of several the first."""
    return states if isinstance(states, Tensor) and states.ndim < 3 else states[0]
