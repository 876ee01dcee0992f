"""Printing a traced body as lines of C++ or Triton: one assignment a node."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import torch

from .graph import Node
from .ops import CONDITION_OF, CONDITIONS, CUDA, DIVISIONS, OPS, PASS, compared_difference, meaning
from .trace import Body

__all__ = ["LITERAL", "Assignment", "Language", "assignments", "each"]

Language = Literal["cpp", "triton", "cuda"]
"""`cuda` is Triton with the functions of a GPU of NVIDIA."""

LITERAL = "a number in the text"

_OTHERWISE = {torch.ops.aten.where.self: 2, torch.ops.aten.masked_fill.Scalar: 0}
"""Which operand is the result where the condition is false."""


class Assignment(NamedTuple):
    """One line of a printed body: the value of a node under a name."""

    node: Node
    name: str
    expression: str
    operands: list[str]
    reads: list[str]  # the names of the values that it is computed from


def assignments(
    body: Body, language: Language, reciprocal: Collection[str] = (), settled: frozenset[str] = frozenset()
) -> tuple[list[Assignment], list[str]]:
    """The assignments of the body, and the text of each output.

    A division by one of the constants `reciprocal` is a product with its reciprocal, as PyTorch computes it on a GPU
    where the divisor is a number or lies on the CPU; `LITERAL` stands for the numbers that are in the text itself.
    `settled` are constants whose value is known: a divisor among them is a power of two, so that the product with its
    reciprocal, `c_inverse`, is the exact quotient; a condition among them is false; of one that something is compared
    with by its difference from it, no other number has the difference 0.
    """
    text: dict[Node, str] = {**body.inputs, **body.constants}
    made = []

    def operand(argument: Any) -> str:
        return text[argument] if isinstance(argument, Node) else literal(argument, language)

    for node in body.nodes:
        args = node.args
        difference = compared_difference(node)
        if difference is not None and text.get(difference) == text[args[0]]:
            args = difference.args if text.get(difference.args[1]) in settled & body.compared else args
        given = ((place, argument) for place, argument in enumerate(args) if _is_operand(argument))
        operands = [_as_number(node, place, operand(argument), language) for place, argument in given]
        expression = _expression(node, operands, language)
        if node.target in DIVISIONS:
            divisor = text.get(node.args[1], LITERAL)
            if divisor in reciprocal:
                expression = f"({operands[0]} * divide(one, {operands[1]}))"
            elif divisor in settled:
                expression = f"({operands[0]} * {divisor}_inverse)"
        other = _OTHERWISE.get(node.target)
        if other is not None and text.get(node.args[CONDITION_OF[node.target]]) in settled:
            text[node] = operand(node.args[other])
        elif expression is None:
            text[node] = operand(node.args[0])
        else:
            text[node] = f"v_{node.name}"  # a name of the graph may be that of a function
            inputs = [held for held in args if isinstance(held, Node)]
            reads = [text[held] for held in inputs if text[held] in expression]  # of some only the shape counts
            made.append(Assignment(node, text[node], expression, operands, reads))
    return made, [operand(out) for out in body.outputs]


def each(text: str, count: int) -> list[str]:
    """The text once for every index below `count`, which takes the place of `@`."""
    return [text.replace("@", str(index)) for index in range(count)]


def literal(number: Any, language: Language) -> str:
    """A Python number in the source text."""
    if language == "cpp":
        if not math.isfinite(number):
            if math.isnan(number):
                return 'real(__builtin_nan(""))'
            return f"real({'-' if number < 0 else ''}INFINITE)"
        return f"real({float(number)!r})"
    text = repr(float(number)) if math.isfinite(number) else f"float('{number}')"
    return f"tl.full([BLOCK], {text}, real)"


def _as_number(node: Node, place: int, text: str, language: Language) -> str:
    """An operand, with a condition as the 0 or 1 that it is in arithmetic, except where a condition is asked for."""
    argument = node.args[place]
    if not isinstance(argument, Node) or argument.dtype is not torch.bool:
        return text
    if node.target in PASS or node.target in CONDITIONS or CONDITION_OF.get(node.target) == place:
        return text
    return f"real({text})" if language == "cpp" else f"tl.where({text} != 0, one, zero)"


def _is_operand(argument: Any) -> bool:
    return isinstance(argument, (Node, int, float))


def _expression(node: Node, operands: list[str], language: Language) -> str | None:
    """The text of one operation; None where the operand passes through."""
    target = meaning(node)
    if target is None:
        return "(" + " * ".join(operands[:1] * int(node.args[1])) + ")"
    if target in PASS:
        return None
    row = OPS[target]
    if language == "cuda" and target in CUDA:
        return CUDA[target].format(*operands)
    return (row.cpp if language == "cpp" else row.triton).format(*operands)
