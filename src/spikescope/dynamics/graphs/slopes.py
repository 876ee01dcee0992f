"""The slope of a sigmoid: of `s (1 - s)` the kernels compute both factors at once.

A sigmoid that only a gradient reads is approximate anyway, and its slope is `e / (1 + e)^2` with `e = exp(-|x|)`, which
is cheaper than the sigmoid: it needs one bound, and it is small rather than a difference of near numbers far from zero.
So is that of a hyperbolic tangent, four times the sigmoid's at twice the place.
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

_BACKWARD = {
    aten.sigmoid_backward.default: aten.sigmoid.default,
    aten.tanh_backward.default: aten.tanh.default,
}
"""What autograd has for the slope of a function, and the function."""


def with_slopes(
    made: Sequence[Assignment], exact: Collection[str], in_parts: bool = False, there: Collection[str] = ()
) -> list[Assignment]:
    """The lines with products of a sigmoid, or a multiple of it, and its complement as what they are, and with the
    slope of a tanh likewise, but for those that are to be `exact`, and those of functions that are `there` in any
    case: with them a product is cheaper.
    """
    lines = {line.name: line for line in made}
    out = []
    for line in made:
        found = None if line.name in exact else _slope(line, lines)
        if found is None or found[0] in there:
            out.append(line)
            continue
        function, rest = lines[found[0]], found[1]
        *parts, slope = _parts(line, function) if in_parts else [_whole(line, function)]
        factor = slope.name if rest is None else f"({rest} * {slope.name})"
        factor = f"({factor} * 4)" if _is_tanh(function) else factor
        out += [*parts, slope, line._replace(expression=factor, reads=[slope.name, *([] if rest is None else [rest])])]
    return out


def _is_tanh(function: Assignment) -> bool:
    return meaning(function.node) is aten.tanh.default


def _place(function: Assignment) -> str:
    """Where the sigmoid is whose slope the function has."""
    (x,) = function.operands
    return f"({x} + {x})" if _is_tanh(function) else x


def _whole(line: Assignment, function: Assignment) -> Assignment:
    return function._replace(name=f"{line.name}_slope", expression=f"logistic_slope({_place(function)})")


def _parts(line: Assignment, function: Assignment) -> list[Assignment]:
    """The lines of the slope of a sigmoid, for the line that it is a factor of."""
    x, (power, rest, decay, slope) = _place(function), (f"{line.name}_{part}" for part in _PARTS)
    return [
        line._replace(name=power, expression=f"decay_power({x})", operands=function.operands, reads=function.reads),
        function._replace(name=rest, expression=f"decay_rest({x}, {power})", reads=[*function.reads, power]),
        function._replace(name=decay, expression=f"decay({rest}, {power})", reads=[rest, power]),
        line._replace(name=slope, expression=f"slope_of_decay({decay})", operands=[decay], reads=[decay]),
    ]


def _slope(line: Assignment, lines: dict[str, Assignment]) -> tuple[str, str | None] | None:
    """The function whose slope the line is a multiple of, and the factor; None if it is something else."""
    target = meaning(line.node)
    if target in _BACKWARD:
        grad, s = line.operands
        return (s, grad) if _is(s, lines, _BACKWARD[target]) else None
    if target is not aten.mul.Tensor:
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
