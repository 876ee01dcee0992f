"""The rules that each operation of a traced step has to meet, so that a kernel gives what PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .graph import Graph, Node
from .ops import LOGICAL, OPS, PASS, meaning
from .prologue import evaluate, rounded

__all__ = ["TRACED", "disagreement", "refused", "rounds_alike"]

TRACED = 3
"""The neurons on which a step is traced."""

TRIED = (2, 5), (10,), (5, 2, 1), (5, 1, 2, 1), (1, 2, 1, 5, 1)
"""The shapes of the neurons on which it is tried: a step that tells images from rows is no function of one neuron."""

_OF_THE_RESULT = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"}


def refused(node: Node, real: torch.dtype) -> tuple[str, str] | None:
    """Why no kernel can run the operation, with a state of the dtype `real`, and what to do; None if it can."""
    target = meaning(node)
    if target is not None and target not in PASS and target not in OPS:
        return "has no row in spikescope.dynamics.graphs.ops.OPS", "Write the step without it, or add the row."
    if node.shape not in ((), (TRACED,)):
        return f"gives the shape {list(node.shape)} for {TRACED} neurons", "A kernel sees each neuron alone."
    row = OPS.get(node.target)
    numbers = [argument for argument in node.args if isinstance(argument, (Node, int, float))]
    if (row and 0 < row.operands < len(numbers)) or not _OF_THE_RESULT.issuperset(node.kwargs):
        return f"has arguments for which its row has no place: {[*numbers[2:], node.kwargs]}", "Write it without them."
    if not _kept(node, target, real):
        return f"gives {node.dtype}", f"A kernel computes in {real}, with conditions from comparisons alone."
    return None


def _kept(node: Node, target: object, real: torch.dtype) -> bool:
    """Whether the result is of the dtype that a kernel would give it."""
    if target in LOGICAL or node.dtype is torch.bool:
        return node.dtype is torch.bool and (target in LOGICAL or target in PASS)
    if node.dtype is real:
        return True
    if node.inputs or not node.dtype.is_floating_point:
        return False
    number = node.args[0]  # alone, it may be narrower where nothing is lost
    return bool(torch.tensor(number, dtype=node.dtype).to(real) == torch.tensor(number, dtype=real))


def disagreement(graph: Graph, function: Callable[..., Any], kinds: str, real: torch.dtype) -> str | None:
    """Where the graph says otherwise than the function that it is of, on other neurons; None if nowhere.

    So it is where the function depends on a shape, on a type or on a mode of PyTorch, or writes through an alias. A
    number among the fields is a Python number here, as in the eager loop.
    """
    for shape in TRIED:
        try:
            got, told = _trial(graph, function, kinds, real, 0, shape, per_neuron=True)
        except Exception as error:  # where it is the step that is wrong, the eager loop says so
            return f"fails on {list(shape)} neurons with {type(error).__name__}: {error}"
        if not all(_close(a.expand(shape), b.expand(shape)) for a, b in zip(got, told, strict=True)):
            return "depends on a shape, a type or a mode of PyTorch, or writes through an alias"
    return None


def rounds_alike(graph: Graph, function: Callable[..., Any], kinds: str, real: torch.dtype, count: int) -> bool:
    """Whether the first `count` outputs of the graph are those of the function bit for bit, on a few trials.

    They are not where a step computes a number in a way that nothing here foresees. False too where no trial suits it.
    """
    trials = []
    for turn in (1, 2, 3, 4, -1, -2):
        try:
            trials.append(_trial(graph, function, kinds, real, turn, TRIED[0], per_neuron=False, count=count))
        except (ArithmeticError, TypeError, ValueError):
            continue  # its numbers do not suit the step: the root of a negative one is complex, its logarithm an error
    pairs = [pair for got, told in trials for pair in zip(got, told, strict=True)]
    return bool(trials) and all(
        torch.allclose(a.expand(TRIED[0]), b.expand(TRIED[0]), rtol=0, atol=0, equal_nan=True) for a, b in pairs
    )


def _trial(
    graph: Graph,
    function: Callable[..., Any],
    kinds: str,
    real: torch.dtype,
    turn: int,
    shape: tuple[int, ...],
    per_neuron: bool,
    count: int | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """The first `count` outputs that are nodes, by the graph and by the function, on other numbers at every `turn`."""
    neurons = torch.linspace(-2.7, 3.3, 10, dtype=real).view(2, 5)
    inputs = [(neurons.roll(3 * i + turn, 1) + 0.01 * i).view(shape) for i in range(len(graph.inputs) - len(kinds))]
    numbers = [0.9 + 0.013 * i + 0.217 * turn for i in range(len(kinds))]
    fields: list[Any] = [
        number if kind == "n" else torch.full(shape if per_neuron or kind == "a" else (), number, dtype=real)
        for number, kind in zip(numbers, kinds, strict=True)
    ]
    given = dict(zip(graph.inputs, [*map(Tensor.clone, inputs), *fields], strict=True))
    with torch.no_grad():
        values = evaluate(graph.nodes, given, real)
    with torch.enable_grad():
        out = function([held.requires_grad_() * 1 for held in inputs], fields)
    told = [
        (node, held) for node, held in zip(graph.outputs[:count], out[:count], strict=True) if isinstance(node, Node)
    ]
    return [rounded(values[node], real) for node, _ in told], [rounded(held, real) for _, held in told]


def _close(a: Tensor, b: Tensor) -> bool:
    """A tolerance for functions that PyTorch rounds otherwise for a number than for a tensor, such as powers."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
