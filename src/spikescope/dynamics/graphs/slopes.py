"""The slope of a sigmoid: of `s (1 - s)` the kernels compute both factors at once.

A sigmoid that only a gradient reads is approximate anyway, and its slope is `e / (1 + e)^2` with `e = exp(-|x|)`, which
is cheaper than the sigmoid: it needs one bound, and it is small rather than a difference of near numbers far from zero.
A kernel of loops over neurons takes it in parts, with a new loop after those that are of the sigmoid's node (see
`ends`): in one loop its chain is so long that a processor with vectors of eight numbers, which has registers for a few
of them at a time, mostly waits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from .ops import meaning
from .printing import Assignment

__all__ = ["with_slopes"]

aten = torch.ops.aten

_PARTS = "power", "rest", "decay", "slope"


def with_slopes(
    made: Sequence[Assignment], exact: Collection[str], in_parts: bool = False, there: Collection[str] = ()
) -> list[Assignment]:
    """The lines with products of a sigmoid, or a multiple of it, and its complement as what they are, but for those
    that are to be `exact`, and those of sigmoids that are `there` in any case: with them a product is cheaper.
    """
    lines = {line.name: line for line in made}
    out = []
    for line in made:
        found = None if line.name in exact else _slope(line, lines)
        if found is None or found[0] in there:
            out.append(line)
            continue
        sigmoid, rest = lines[found[0]], found[1]
        *parts, slope = _parts(line, sigmoid) if in_parts else [_whole(line, sigmoid)]
        factor = slope.name if rest is None else f"({rest} * {slope.name})"
        out += [*parts, slope, line._replace(expression=factor, reads=[slope.name, *([] if rest is None else [rest])])]
    return out


def _whole(line: Assignment, sigmoid: Assignment) -> Assignment:
    return sigmoid._replace(name=f"{line.name}_slope", expression=f"logistic_slope({sigmoid.operands[0]})")


def _parts(line: Assignment, sigmoid: Assignment) -> list[Assignment]:
    """The lines of the slope of a sigmoid, for the line that it is a factor of."""
    x, (power, rest, decay, slope) = sigmoid.operands[0], (f"{line.name}_{part}" for part in _PARTS)
    return [
        line._replace(name=power, expression=f"decay_power({x})", operands=[x], reads=sigmoid.reads),
        sigmoid._replace(name=rest, expression=f"decay_rest({x}, {power})", reads=[*sigmoid.reads, power]),
        sigmoid._replace(name=decay, expression=f"decay({rest}, {power})", reads=[rest, power]),
        line._replace(name=slope, expression=f"slope_of_decay({decay})", operands=[decay], reads=[decay]),
    ]


def _slope(line: Assignment, lines: dict[str, Assignment]) -> tuple[str, str | None] | None:
    """The sigmoid whose slope the line is a multiple of, and the factor; None if it is something else."""
    if meaning(line.node) is aten.sigmoid_backward.default:
        grad, s = line.operands
        return (s, grad) if _is(s, lines, aten.sigmoid.default) else None
    if meaning(line.node) is not aten.mul.Tensor:
        return None
    for rest, complement in (line.operands, line.operands[::-1]):
        if not _is(complement, lines, aten.rsub.Scalar) or lines[complement].node.args[1] != 1:
            continue
        s = lines[complement].operands[0]
        if not _is(s, lines, aten.sigmoid.default):
            continue
        if rest == s:
            return s, None
        if _is(rest, lines, aten.mul.Tensor) and s in lines[rest].operands:
            one, other = lines[rest].operands
            return s, other if one == s else one
    return None


def _is(name: str, lines: dict[str, Assignment], target: object) -> bool:
    return name in lines and meaning(lines[name].node) is target
