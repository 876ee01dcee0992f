"""The operations table: what each pointwise PyTorch operation is in C++ and in Triton.

A neuron or surrogate may use any operation that has a row here and still run on every backend. `exact` says whether
the texts give the very bits of PyTorch on a CPU; an operation that does not, in the path of a spike, keeps `'auto'`
from choosing a fused kernel. A text may use `{0}`, `{1}`, ... for the operands.

The C++ texts may use the functions of `dynamics/cpp/math.h`, the Triton texts those of `dynamics/triton/math.txt`.
There `real` is the type of the state, and `one` and `zero` are blocks of it. A condition may be a block of it too:
the prologue hands what it computes over as numbers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from .graph import SAME, Node

__all__ = [
    "CONDITIONS",
    "CONDITION_OF",
    "CUDA",
    "DIVISIONS",
    "LOGICAL",
    "OPS",
    "PASS",
    "Op",
    "compared_difference",
    "meaning",
]

aten = torch.ops.aten


class Op(NamedTuple):
    """One row: the C++ text, the Triton text, and whether both are exact."""

    cpp: str
    triton: str
    exact: bool = True

    @property
    def operands(self) -> int:
        """How many operands the texts have a place for."""
        return 1 + max(map(int, re.findall(r"{(\d)}", self.cpp + self.triton)), default=-1)


def both(text: str) -> Op:
    """The same text in both languages."""
    return Op(text, text)


OPS: dict[object, Op] = {
    aten.add.Tensor: both("({0} + {1})"),
    aten.add.Scalar: both("({0} + {1})"),
    aten.sub.Tensor: both("({0} - {1})"),
    aten.sub.Scalar: both("({0} - {1})"),
    aten.rsub.Scalar: both("({1} - {0})"),
    aten.rsub.Tensor: both("({1} - {0})"),
    aten.mul.Tensor: both("({0} * {1})"),
    aten.mul.Scalar: both("({0} * {1})"),
    aten.div.Tensor: Op("({0} / {1})", "divide({0}, {1})"),
    aten.div.Scalar: Op("({0} / {1})", "divide({0}, {1})"),
    aten.neg.default: both("(-{0})"),
    aten.reciprocal.default: Op("(1 / {0})", "divide(one, {0})"),
    aten.abs.default: Op("math::fabs({0})", "magnitude({0})"),
    aten.sign.default: Op(
        "(real)(({0} > 0) - ({0} < 0))", "(tl.where({0} > 0, one, zero) - tl.where({0} < 0, one, zero))"
    ),
    aten.sgn.default: Op(
        "(real)(({0} > 0) - ({0} < 0))", "(tl.where({0} > 0, one, zero) - tl.where({0} < 0, one, zero))"
    ),
    aten.round.default: Op("math::nearbyint({0})", "round_even({0})"),
    aten.floor.default: Op("math::floor({0})", "floor({0})"),
    aten.ceil.default: Op("math::ceil({0})", "ceiling({0})"),
    aten.maximum.default: Op("maximum<real>({0}, {1})", "tl.maximum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)"),
    aten.minimum.default: Op("minimum<real>({0}, {1})", "tl.minimum({0}, {1}, propagate_nan=tl.PropagateNan.ALL)"),
    aten.relu.default: Op("maximum<real>({0}, 0)", "tl.where({0} < 0, zero, {0})"),
    aten.clamp_min.default: Op("maximum<real>({0}, {1})", "tl.where({0} < {1}, {1}, {0})"),
    aten.clamp_max.default: Op("minimum<real>({0}, {1})", "tl.where({0} > {1}, {1}, {0})"),
    aten.clamp.default: Op(
        "minimum<real>(maximum<real>({0}, {1}), {2})",
        "tl.where(tl.where({0} < {1}, {1}, {0}) > {2}, {2}, tl.where({0} < {1}, {1}, {0}))",  # as PyTorch: {2} wins
    ),
    aten.where.self: Op("({0} ? {1} : {2})", "tl.where({0} != 0, {1}, {2})"),
    aten.masked_fill.Scalar: Op("({1} ? (real){2} : {0})", "tl.where({1} != 0, {2}, {0})"),
    aten._to_copy.default: Op("({0} ? real(1) : real(0))", "tl.where({0}, one, zero)"),  # only of a comparison
    aten.zeros_like.default: Op("real(0)", "zero"),
    aten.ones_like.default: Op("real(1)", "one"),
    aten.full_like.default: Op("real({1})", "{1}"),
    aten.scalar_tensor.default: Op("real({0})", "{0}"),
    aten.sigmoid_backward.default: Op("({0} * (1 - {1}) * {1})", "({0} * (one - {1}) * {1})"),
    aten.tanh_backward.default: Op("({0} * (1 - {1} * {1}))", "({0} * (one - {1} * {1}))", False),
    aten.threshold_backward.default: Op("({1} <= {2} ? real(0) : {0})", "tl.where({1} <= {2}, zero, {0})"),
    aten.sqrt.default: Op("math::sqrt({0})", "square_root({0})", False),  # MKL, in PyTorch, does not round it correctly
    aten.exp.default: Op("exponential({0})", "tl.exp({0})", False),
    aten.sigmoid.default: Op("logistic({0})", "divide(one, one + tl.exp(-({0})))", False),
    aten.tanh.default: Op("hyperbolic_tangent({0})", "hyperbolic_tangent({0})", False),
    aten.log.default: Op("math::log({0})", "tl.log({0})", False),
    aten.log1p.default: Op("math::log1p({0})", "tl.log(one + {0})", False),
    aten.sin.default: Op("math::sin({0})", "tl.sin({0})", False),
    aten.cos.default: Op("math::cos({0})", "tl.cos({0})", False),
    aten.erf.default: Op("math::erf({0})", "tl.erf({0})", False),
    aten.erfc.default: Op("math::erfc({0})", "(one - tl.erf({0}))", False),
    aten.atan.default: Op("math::atan({0})", "arc_tangent({0})", False),
    aten.pow.Tensor_Tensor: Op("math::pow({0}, {1})", "power({0}, {1})", False),
    aten.pow.Tensor_Scalar: Op("math::pow({0}, real({1}))", "power({0}, {1})", False),
}

CUDA: dict[object, str] = {
    aten.exp.default: "cuda_exp({0})",
    aten.tanh.default: "cuda_tanh({0})",
    aten.sigmoid.default: "divide(one, one + cuda_exp(-({0})))",
    aten.sqrt.default: "square_root({0})",
}
"""The Triton texts that give the very bits of PyTorch's functions on a GPU of NVIDIA, for a state of float32.

What runs there on a tensor is a function of CUDA's math library, compiled without fast math; `triton/math.txt` has its
steps of arithmetic. The last of the exponential is a product with a power of two, so that a sum with 1 rounds alike
whether or not it is fused with it, as a compiler does. `trial.py` tries them on the very device.
"""

LOGICAL: set[object] = set()
"""Operations that give a condition."""

for _name, _sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"), ("eq", "=="), ("ne", "!=")):
    _packet = getattr(aten, _name)
    OPS[_packet.Scalar] = OPS[_packet.Tensor] = both(f"({{0}} {_sign} {{1}})")
    LOGICAL |= {_packet.Scalar, _packet.Tensor}
for _name, _sign in (("logical_and", "&"), ("logical_or", "|")):
    OPS[getattr(aten, _name).default] = both(f"(({{0}} != 0) {_sign} ({{1}} != 0))")
OPS[aten.bitwise_and.Tensor] = OPS[aten.logical_and.default]
OPS[aten.bitwise_or.Tensor] = OPS[aten.logical_or.default]
OPS[aten.logical_not.default] = OPS[aten.bitwise_not.default] = Op("(!{0})", "({0} == 0)")
OPS[aten.clamp_min.Tensor], OPS[aten.clamp_max.Tensor] = OPS[aten.maximum.default], OPS[aten.minimum.default]
OPS[aten.clamp.Tensor] = OPS[aten.clamp.default]

CONDITIONS = {
    *(aten.logical_and.default, aten.logical_or.default, aten.logical_not.default),
    *(aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_not.default),
}
"""Operations on conditions."""

LOGICAL |= CONDITIONS

CONDITION_OF = {aten.where.self: 0, aten.masked_fill.Scalar: 1, aten._to_copy.default: 0}
"""Which operand of these is a condition."""

PASS = {*SAME, aten.view.default, aten.expand.default}
"""Operations that change nothing of a single element."""

DIVISIONS = {aten.div.Tensor, aten.div.Scalar}

_DIFFERENCES = {aten.sub.Tensor, aten.sub.Scalar}
_COMPARISONS = LOGICAL - CONDITIONS

_CLAMPS = [
    (aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default),
    (aten.clamp.Tensor, aten.clamp_min.Tensor, aten.clamp_max.Tensor),
]
_SCALAR_POWERS = {0.5: aten.sqrt.default, 1.0: aten.alias.default, -1.0: aten.reciprocal.default}


def compared_difference(node: Node) -> Node | None:
    """The difference of which a node says how it compares with 0, unless it was replaced; None of any other node."""
    if node.target not in _COMPARISONS or isinstance(node.args[1], Node) or node.args[1] != 0:
        return None
    found = node.args[0]
    while isinstance(found, Node) and found.target is aten.masked_fill.Scalar:
        found = found.args[0]
    return found if isinstance(found, Node) and found.target in _DIFFERENCES else None


def meaning(node: Node) -> object:
    """The operation that a node stands for; None for a small integer power, which is a product."""
    if node.target is aten.pow.Tensor_Scalar:
        power = float(node.args[1])
        return None if power in (2.0, 3.0) else _SCALAR_POWERS.get(power, node.target)
    for whole, low, high in _CLAMPS:
        if node.target is whole and (len(node.args) == 2 or node.args[2] is None):
            return low
        if node.target is whole and node.args[1] is None:
            return high
    if node.target is aten._to_copy.default and node.inputs[0].dtype is node.dtype:
        return aten.alias.default
    return node.target
