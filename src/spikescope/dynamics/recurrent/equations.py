"""The equations of a recurrent cell and their vector-Jacobian product as flat graphs.

A cell is pointwise but for one product: the gates of a unit are functions of what the input drives them by, of what the
last output feeds back through the weights, and of the states of that unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...internals import vector_jacobian
from ..cpp.cell import backward_source, forward_source
from ..graphs.firing import firing
from ..graphs.trace import Body, UnsupportedOperationError, split
from .gates import Apart, Function, Gates

__all__ = ["Cell", "Equations", "Graphs", "graphs", "refusal"]

Equations = Callable[[Any, Sequence[Function], Gates, Gates, Sequence[Tensor]], tuple[Tensor, ...]]
"""The next states, from the options of a cell, its functions, drive, feedback and states."""


class Cell(NamedTuple):
    """What the kernels of a cell depend on: all but numbers of its functions and sizes."""

    name: str
    equations: Equations
    options: tuple[Any, ...]
    functions: tuple[str, ...]  # the forms of its surrogates
    gates: int
    states: int
    kinds: str  # an 'n' for each number of its functions
    read: tuple[str, ...] = ()  # what its equations read from elsewhere

    def surrogates(self, values: Sequence[Any]) -> list[Function]:
        """Its functions with these numbers, or the tensors that stand for them."""
        rest = iter(values)
        return [firing(form, rest) for form in self.functions]

    def run(self, inputs: Sequence[Tensor], values: Sequence[Any]) -> tuple[Tensor, ...]:
        """The next states, from a tensor for the drive of each gate, for its feedback, and for each state."""
        drive, feedback, states = inputs[: self.gates], inputs[self.gates : 2 * self.gates], inputs[2 * self.gates :]
        return self.equations(self.options, self.surrogates(values), Apart(drive), Apart(feedback), states)


class Graphs(NamedTuple):
    """Both graphs of a cell, and the texts of their kernels."""

    forward: Body
    backward: Body
    alike: bool  # whether drive and feedback always have the same gradient
    forward_text: str
    backward_text: str


@cache
def graphs(cell: Cell, real: torch.dtype) -> Graphs:
    """The graphs of a cell with states of the dtype `real`, made once a process."""
    with ThreadPoolExecutor(1) as thread:  # a caller may be without autograd, or under modes of PyTorch
        forward, backward = thread.submit(_traced, cell, real).result()
    given = backward.outputs
    alike = all(a is b for a, b in zip(given[: cell.gates], given[cell.gates : 2 * cell.gates], strict=True))
    texts = forward_source(forward, cell.gates, real), backward_source(backward, cell.gates, alike, real)
    return Graphs(forward, backward, alike, *texts)


def _traced(cell: Cell, real: torch.dtype) -> tuple[Body, Body]:
    names = [*(f"d{i}" for i in range(cell.gates)), *(f"r{i}" for i in range(cell.gates))]
    names += [f"s{i}" for i in range(cell.states)]

    def backward(inputs: list[Tensor], values: list[Any]) -> tuple[Tensor, ...]:
        leaves = [held.detach().requires_grad_() for held in inputs[: len(names)]]
        with torch.enable_grad():
            outputs = cell.run(leaves, values)
        needed = [(out, grad) for out, grad in zip(outputs, inputs[len(names) :], strict=True) if out.requires_grad]
        return vector_jacobian([out for out, _ in needed], leaves, [grad for _, grad in needed])

    forth = split(cell, cell.run, names, real, "c", cell.states)
    back = split(cell, backward, [*names, *(f"g{i}" for i in range(cell.states))], real, "c", 0)
    return forth, back


@cache
def refusal(cell: Cell, real: torch.dtype) -> str | None:
    """Why no kernel of a cell has the states of its loop bit for bit; None if one has."""
    try:
        made = graphs(cell, real)
    except UnsupportedOperationError as error:
        return str(error)
    return None if made.forward.exact else f"{cell.name}: its step uses functions that a kernel rounds otherwise"
