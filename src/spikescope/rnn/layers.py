"""Recurrent layers over a whole sequence, in one or both directions of time."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import MultiStepModule
from ..errors import MANY, ShapeError, check_floating, check_number, check_switches, check_whole, dims
from ..surrogate import Surrogate
from .cells import (
    SpikingGRUCell,
    SpikingLSTMCell,
    SpikingVanillaRNNCell,
    check_states,
)

__all__ = ["SpikingGRU", "SpikingLSTM", "SpikingRNNBase", "SpikingVanillaRNN"]


class LayerOutput(MultiStepModule, nn.Identity):
    """What one layer gives in all steps passes through here, where a monitor finds it."""


class SpikingRNNBase(MultiStepModule, nn.Module):
    """Base of the layers: `num_layers` cells on top of each other, or as many pairs, one for each direction of time.

    `forward(x, states)` takes a sequence `[T, N, input_size]` and gives the outputs `[T, N, H]`, or `[T, N, 2 H]` with
    the backward direction in the second half, and the states at the end, with which a further call can go on. A state
    is `[num_layers, N, H]`, or `[2 * num_layers, N, H]` with the layers of the forward direction first.

    - `dropout_p`: the probability to drop an output between two layers, in training.
    - `invariant_dropout_mask`: whether all steps of a call share one mask.
    - the further arguments are those of the cell; all cells share the surrogates that are given.

    The cells are in `cells` and `cells_reverse`; the `state_dict` has `cells.0.linear_ih.weight` and so on. What each
    layer gives passes through `outputs`, for monitors: `monitor.record(net, where="**.outputs.*", signal="output")`.
    A subclass names its cell in `base_cell`, and in `states_num` how many states that has, unless the cell names them.
    """

    owns_children_step_mode = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool = True,
        dropout_p: float = 0.0,
        invariant_dropout_mask: bool = False,
        bidirectional: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        num_layers = check_whole(owner, "num_layers", num_layers, most=MANY)
        input_size = check_whole(owner, "input_size", input_size)
        hidden_size = check_whole(owner, "hidden_size", hidden_size)
        check_number(owner, "dropout_p", dropout_p, least=0, most=1)
        check_switches(owner, bias=bias, invariant_dropout_mask=invariant_dropout_mask, bidirectional=bidirectional)
        if dropout_p and num_layers == 1:
            warnings.warn(
                f"{owner}: dropout_p={dropout_p} does nothing, since it acts between layers and num_layers is 1.",
                stacklevel=3,
            )
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.dropout_p, self.invariant_dropout_mask = dropout_p, invariant_dropout_mask
        self.bidirectional = bidirectional
        sizes = [input_size, *[hidden_size * self.directions] * (num_layers - 1)]

        def cells() -> nn.ModuleList:
            return nn.ModuleList(self.base_cell()(size, hidden_size, bias, *args, **kwargs) for size in sizes)

        self.cells = cells()
        self.cells_reverse = cells() if bidirectional else None
        self.outputs = nn.ModuleList(LayerOutput() for _ in sizes)

    @staticmethod
    def base_cell() -> type[Any]:
        """The class of the cells."""
        raise NotImplementedError("a layer names its cell in base_cell()")

    @classmethod
    def states_num(cls) -> int:
        """How many states a cell has."""
        return len(cls.base_cell().states)

    @property
    def directions(self) -> int:
        """2 for a bidirectional layer, else 1."""
        return 2 if self.bidirectional else 1

    def forward(self, x: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Outputs and last states: a tensor, or for several states a tuple of them. Without `states` it starts at 0."""
        owner = type(self).__name__
        check_floating(owner, x)
        if x.ndim != 3 or x.shape[2] != self.input_size or not len(x):
            raise ShapeError(
                f"{owner} takes a sequence [T, N, input_size={self.input_size}] of at least one step, but got "
                f"{dims(x.shape, 'TN')}."
            )
        cell = self.base_cell()
        shape = (self.num_layers * self.directions, x.shape[1], self.hidden_size)
        count = self.states_num()
        if states is None:
            start = cell.rest(x, shape)[:count]
            wide = torch.promote_types(x.dtype, torch.float32)
            start += tuple(x.new_zeros(shape, dtype=wide) for _ in range(len(start), count))
        else:
            names = (*cell.states, *(f"number {i}" for i in range(len(cell.states), count)))[:count]
            start = check_states(owner, names, states, shape, "[num_layers * directions, N, hidden_size]")
        y, ends = self._through_layers(x, start)
        return y, ends if len(ends) > 1 else ends[0]

    def _through_layers(self, y: Tensor, start: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last layer's outputs, and each state of all layers, stacked."""
        ways = [self.cells] if self.cells_reverse is None else [self.cells, self.cells_reverse]
        ends: list[list[Any]] = [[None] * self.num_layers for _ in ways]
        for layer in range(self.num_layers):
            outputs = []
            for way, cells in enumerate(ways):
                cell: Any = cells[layer]
                held = tuple(state[way * self.num_layers + layer] for state in start)
                output, ends[way][layer] = cell.run(y, held, backwards=way == 1)
                outputs.append(output)
            y = self.outputs[layer](outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1))
            if layer < self.num_layers - 1:
                y = self._dropped(self._handed_on(y, start[0][layer]))
        last = [end for way in ends for end in way]
        return y, tuple(torch.stack(each) for each in zip(*last, strict=True))

    def _handed_on(self, y: Tensor, start: Tensor) -> Tensor:
        """What the next layer takes of the outputs of one that began at `start`."""
        return y

    def _dropped(self, y: Tensor) -> Tensor:
        if self.invariant_dropout_mask:
            return y * F.dropout(torch.ones_like(y[0]), self.dropout_p, self.training)
        return F.dropout(y, self.dropout_p, self.training)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, "
            f"dropout_p={self.dropout_p}, invariant_dropout_mask={self.invariant_dropout_mask}, "
            f"bidirectional={self.bidirectional}"
        )


class SpikingLSTM(SpikingRNNBase):
    """Layers of `SpikingLSTMCell` over a sequence; the states are `(h, c)`. See `SpikingRNNBase`.

    Lotfi Rezaabad and Vishwanath, *Long short-term memory spiking networks and their applications* (ICONS 2020).

    >>> net = SpikingLSTM(3, 4, num_layers=2, bidirectional=True)
    >>> y, (h, c) = net(torch.randn(5, 1, 3))
    >>> y.shape, h.shape, set(y.unique().tolist()) <= {0.0, 1.0}
    (torch.Size([5, 1, 8]), torch.Size([4, 1, 4]), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool = True,
        dropout_p: float = 0.0,
        invariant_dropout_mask: bool = False,
        bidirectional: bool = False,
        surrogate_function1: Surrogate | None = None,
        surrogate_function2: Surrogate | None = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers, bias, dropout_p, invariant_dropout_mask, bidirectional)
        super().__init__(*sizes, surrogate_function1, surrogate_function2)

    @staticmethod
    def base_cell() -> type[SpikingLSTMCell]:
        return SpikingLSTMCell


class SpikingGRU(SpikingRNNBase):
    """Layers of `SpikingGRUCell` over a sequence; the state is `h`. See `SpikingRNNBase`.

    >>> net = SpikingGRU(3, 4, num_layers=2)
    >>> y, h = net(torch.randn(5, 1, 3))
    >>> y.shape, torch.equal(y[-1], h[-1])
    (torch.Size([5, 1, 4]), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool = True,
        dropout_p: float = 0.0,
        invariant_dropout_mask: bool = False,
        bidirectional: bool = False,
        surrogate_function1: Surrogate | None = None,
        surrogate_function2: Surrogate | None = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers, bias, dropout_p, invariant_dropout_mask, bidirectional)
        super().__init__(*sizes, surrogate_function1, surrogate_function2)

    @staticmethod
    def base_cell() -> type[SpikingGRUCell]:
        return SpikingGRUCell


class SpikingVanillaRNN(SpikingRNNBase):
    """Layers of `SpikingVanillaRNNCell` over a sequence; the state is `h`. See `SpikingRNNBase`.

    >>> net = SpikingVanillaRNN(3, 4, num_layers=1)
    >>> x = torch.randn(5, 1, 3)
    >>> first, h = net(x[:2])
    >>> torch.equal(torch.cat((first, net(x[2:], h)[0])), net(x)[0])  # in two parts, or at once
    True
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool = True,
        dropout_p: float = 0.0,
        invariant_dropout_mask: bool = False,
        bidirectional: bool = False,
        surrogate_function: Surrogate | None = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers, bias, dropout_p, invariant_dropout_mask, bidirectional)
        super().__init__(*sizes, surrogate_function)

    @staticmethod
    def base_cell() -> type[SpikingVanillaRNNCell]:
        return SpikingVanillaRNNCell
