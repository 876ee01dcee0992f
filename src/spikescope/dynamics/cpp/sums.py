"""Sums over all neurons and steps, without what is the same for all of these.

The gradient of a number that all neurons share is a sum. What a term of it is multiplied with that is one number too
is multiplied with the sum, once a block, and several gradients may come from one sum: a gated neuron, which learns
seven numbers, has five, and of the products in its loop half are left.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from ..graphs.ops import meaning
from ..graphs.printing import Assignment, each
from ..graphs.trace import Body

__all__ = ["Summed", "summed"]

aten = torch.ops.aten

_LINEAR = {
    aten.neg.default,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.div.Tensor,
    aten.div.Scalar,
    aten.sigmoid_backward.default,
    aten.tanh_backward.default,
}
"""Operations that are linear in the first operand, which is the gradient where autograd has them."""

_ADDING = {aten.add.Tensor, aten.sub.Tensor}


class Summed(NamedTuple):
    """What is added up, and the statements that compute the gradients of a block from its sums `w0`, `w1`, ..."""

    values: list[str]
    statements: list[str]
    gradients: list[str]

    @property
    def reduction(self) -> str:
        """What a loop over the neurons of a step has to say of `q0`, `q1`, ..., the sums of its own."""
        return f" reduction(+ : {', '.join(each('q@', len(self.values)))})" if self.values else ""

    def left(self, terms: str) -> list[str]:
        """The statements that leave the gradients of a block, where the sums have so many `terms`."""
        made = [f"GP[o / B * {len(self.gradients)} + {k}] = {text};" for k, text in enumerate(self.gradients)]
        return [f"const long terms = {terms};", *self.statements, *made] if made else []

    def of_all(self, places: Sequence[int]) -> list[str]:
        """The statements that add up what the blocks have left, and where in GA each goes."""
        width = len(self.gradients)
        return [f"*GA[{place}] = of_blocks(GP + {k}, {width}, (n + B - 1) / B);" for k, place in enumerate(places)]


def summed(made: Sequence[Assignment], body: Body, gradients: Sequence[str]) -> Summed:
    """The sums from which the sums of `gradients` come."""
    found = _summed(made, body, gradients, parts=True)
    # to add up each part of a sum takes longer where that makes them more
    return found if len(found.values) <= len(gradients) else _summed(made, body, gradients, parts=False)


def _summed(made: Sequence[Assignment], body: Body, gradients: Sequence[str], parts: bool) -> Summed:
    """`parts`: whether of a sum of two values each is added up."""
    lines = {line.name: line for line in made}
    varying = {*lines, *body.inputs.values(), *body.arrays}
    values: list[str] = []
    statements: list[str] = []
    known: dict[str, str] = {}

    def sum_of(name: str) -> str:
        if name not in varying:
            return f"({name} * terms)"
        if name not in known:
            own = _apart(lines[name], varying, parts) if name in lines else ()
            if own:
                sums = {held: sum_of(held) for held in own}
                text = re.sub(r"\w+", lambda word: sums.get(word[0], word[0]), lines[name].expression)
                known[name] = f"sum_of_{name}"
                statements.append(f"const double {known[name]} = {text};")
            else:
                known[name] = f"w{len(values)}"
                values.append(name)
        return known[name]

    return Summed(values, statements, [sum_of(name) for name in gradients])


def _apart(line: Assignment, varying: Collection[str], parts: bool) -> list[str]:
    """The operands in which a line is linear, where nothing else in it varies; none where it is not."""
    places = [place for place, held in enumerate(line.operands) if held in varying]
    target = meaning(line.node)
    linear = (places == [0] and target in _LINEAR) or (parts and places == [0, 1] and target in _ADDING)
    return [line.operands[place] for place in places] if linear else []
