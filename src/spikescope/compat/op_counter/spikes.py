"""Additions and multiply-accumulates: a product with spikes (0 and 1) is additions, one for each synapse reached."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from .counter import OperationCounter, Rule, is_binary_tensor
from .flops import of_convolution, products_of, rules
from .kinds import ADDITIONS, PRODUCTS, REDUCTIONS

__all__ = ["ACCounter", "MACCounter", "SynOpCounter", "additions_of_convolution", "total"]

aten = torch.ops.aten


def total(x: Tensor) -> int:
    """The sum of whole numbers, exactly."""
    return int(x.sum(dtype=torch.float64).item())


def _of_matrices(x: Tensor, y: Tensor, scaled: bool) -> int:
    """Additions of `x @ y`: of two trains one for each coincidence, else one for each spike and what it meets."""
    ours, theirs = is_binary_tensor(x), is_binary_tensor(y)
    if ours and theirs:
        return total(x.sum(-2, dtype=torch.float64) * y.sum(-1, dtype=torch.float64))
    if scaled:
        return 0
    if ours:
        return int(x.count_nonzero()) * y.shape[-1]
    return int(y.count_nonzero()) * x.shape[-2] if theirs else 0


def additions_of_convolution(
    x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, transposed: bool, more: Any, groups: int
) -> int:
    """How often the spikes of `x` meet a weight of a convolution, without its padding."""
    reached = weight.shape[1] if transposed else weight.shape[0] // groups
    summed = x.to(torch.float64).unflatten(1, (groups, -1)).sum(2)
    ones = summed.new_ones((groups, 1, *weight.shape[2:]))
    return total(aten.convolution(summed, ones, None, stride, padding, dilation, transposed, more, groups)) * reached


def _convolution(args: Any, kwargs: Any, out: Tensor) -> int:
    x, weight, _, *geometry = args[:9]
    ours, theirs = is_binary_tensor(x), is_binary_tensor(weight)
    if ours and theirs:
        return total(aten.convolution(x.to(torch.float64), weight.to(torch.float64), None, *geometry))
    if ours:
        return additions_of_convolution(x, weight, *geometry)
    places = x if geometry[3] else out
    return int(weight.count_nonzero()) * places.shape[0] * prod(places.shape[2:]) if theirs else 0


def _addition(args: Any, kwargs: Any, out: Tensor) -> int:
    """One for each element; of two trains of spikes one for each spike."""
    if len(args) > 1 and isinstance(args[1], Tensor) and is_binary_tensor(args[0]) and is_binary_tensor(args[1]):
        return int(args[0].count_nonzero()) + int(args[1].count_nonzero())
    return out.numel()


def _norm(args: Any, kwargs: Any, out: Any) -> int:
    x, running, training = args[0], args[3], args[5]
    n, c = x.numel(), x.shape[1]
    return n + c + (2 * n - c + (0 if running is None else 2 * c) if training else 0)


SYNAPTIC: dict[Any, Rule] = {
    **rules(
        (PRODUCTS.plain, lambda args, kwargs, out: _of_matrices(args[0], args[1], False)),
        (PRODUCTS.added, lambda args, kwargs, out: _of_matrices(args[1], args[2], kwargs.get("alpha", 1) != 1)),
    ),
    aten.convolution.default: _convolution,
}
"""Additions that spikes bring about at synapses."""


class SynOpCounter(OperationCounter):
    """Counts synaptic operations: additions that spikes bring about in products of matrices and convolutions.

    >>> from spikescope.compat.op_counter import DispatchCounterMode
    >>> counter = SynOpCounter()
    >>> with DispatchCounterMode([counter]):
    ...     y = torch.tensor([[1.0, 0.0, 1.0]]) @ torch.rand(3, 4)
    >>> counter.get_total()  # two spikes, each to four
    8
    """

    own_rules = SYNAPTIC


class ACCounter(OperationCounter):
    """Counts additions: those of spikes at synapses, and of element-wise sums, reductions, pools and normalisations."""

    own_rules = {
        **SYNAPTIC,
        **rules(
            (ADDITIONS, _addition),
            ((*REDUCTIONS, aten.mean.dim), lambda args, kwargs, out: args[0].numel() - out.numel()),
        ),
        aten.native_batch_norm.default: _norm,
        aten.avg_pool2d.default: lambda args, kwargs, out: out.numel() * (prod(args[1]) - 1),
        aten.sigmoid_.default: lambda args, kwargs, out: out.numel(),
    }


def _dense(of: Callable[[Any, Tensor], int], x: int) -> Rule:
    """The multiply-accumulates of a product, unless one of its factors, the arguments from `x`, is spikes."""
    return lambda args, kwargs, out: 0 if any(map(is_binary_tensor, args[x : x + 2])) else of(args, out)


def _multiplying_norm(args: Any, kwargs: Any, out: Any) -> int:
    x, weight, running, training = args[0], args[1], args[3], args[5]
    return (0 if weight is None else x.numel()) + (2 * x.shape[1] if training and running is not None else 0)


class MACCounter(OperationCounter):
    """Counts multiply-accumulates: products of which no factor is spikes, and the scaling of normalisations.

    >>> from spikescope.compat.op_counter import DispatchCounterMode
    >>> counter = MACCounter()
    >>> with DispatchCounterMode([counter]):
    ...     y = torch.tensor([[0.5, 0.0, 1.0]]) @ torch.rand(3, 4)
    >>> counter.get_total()
    12
    """

    own_rules = {
        **rules(
            (PRODUCTS.plain, _dense(lambda args, out: products_of(*args[:2]), 0)),
            (PRODUCTS.added, _dense(lambda args, out: products_of(*args[1:3]), 1)),
        ),
        aten.convolution.default: _dense(lambda args, out: of_convolution(args[0], args[1], out, args[6]), 0),
        aten.native_batch_norm.default: _multiplying_norm,
    }
