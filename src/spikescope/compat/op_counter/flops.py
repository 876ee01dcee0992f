"""Floating-point operations: a multiplication and an addition of a product are two."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor

from .counter import OperationCounter, Rule
from .kinds import ADDITIONS, ATTENTION, ATTENTION_BACKWARD, COMPARISONS, PRODUCTS, REDUCTIONS, SCALINGS, UNARY, VIEWS

__all__ = ["FlopCounter", "products_of"]

aten = torch.ops.aten


def products_of(x: Tensor, y: Tensor) -> int:
    """The multiply-accumulates of `x @ y`."""
    return x.numel() * y.shape[-1]


def of_convolution(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    """The multiply-accumulates of a convolution, those with its padding among them."""
    places = x if transposed else out
    return places.shape[0] * prod(places.shape[2:]) * weight.numel()


def _matrices(args: Any, kwargs: Any, out: Any) -> int:
    return 2 * products_of(*args[:2])


def _added_matrices(args: Any, kwargs: Any, out: Tensor) -> int:
    """`beta * bias + alpha * x @ y`."""
    bias, x, y = args[:3]
    alpha, beta = kwargs.get("alpha", 1), kwargs.get("beta", 1)
    scaled = (out.numel() if alpha != 1 else 0) + (bias.numel() if beta not in (0, 1) else 0)
    return 2 * products_of(x, y) + scaled + (out.numel() if beta else 0)


def _convolution(args: Any, kwargs: Any, out: Tensor) -> int:
    x, weight, bias = args[:3]
    return 2 * of_convolution(x, weight, out, args[6]) + (0 if bias is None else out.numel())


def _convolution_backward(args: Any, kwargs: Any, out: Any) -> int:
    """Of input and weight as many products as forwards; of the bias a sum over samples and places."""
    grad, x, weight, bias, *_, transposed, _, _, wanted = args
    products = 2 * of_convolution(x, weight, grad, transposed)
    summed = grad.numel() - grad.shape[1] if wanted[2] and bias is not None else 0
    return products * (bool(wanted[0]) + bool(wanted[1])) + summed


def _norm(args: Any, kwargs: Any, out: Any) -> int:
    """A batch normalisation: in training mean, variance and what runs on; then the scaling."""
    x, weight, _, running, _, training = args[:6]
    n, c = x.numel(), x.shape[1]
    scaled = 2 * n + 2 * c + (0 if weight is None else 2 * n)
    return scaled + (3 * n + 2 * c + (0 if running is None else 6 * c) if training else 0)


def _norm_backward(args: Any, kwargs: Any, out: Any) -> int:
    grad, weight, (of_x, of_weight, of_bias) = args[0], args[2], args[-1]
    n, c = grad.numel(), weight.numel()
    weight_sum, bias_sum = 4 * n - c, n - c
    if not args[-3]:
        return 2 * n * of_x + weight_sum * of_weight + bias_sum * of_bias
    return 10 * n if of_x else weight_sum * of_weight + bias_sum * of_bias


def _attention(passes_of_keys: int, passes_of_values: int, first: int) -> Rule:
    """Products of queries with keys, and of what becomes of them with values, so many times."""

    def rule(args: Any, kwargs: Any, out: Any) -> int:
        query, key, value = args[first : first + 3]
        pairs = prod(query.shape[:3]) * key.shape[2]
        return 2 * pairs * (passes_of_keys * query.shape[3] + passes_of_values * value.shape[3])

    return rule


def _max_pool(args: Any, kwargs: Any, out: Any) -> int:
    return out[0].numel() * (prod(args[1]) - 1)


def _avg_pool(args: Any, kwargs: Any, out: Tensor) -> int:
    return out.numel() * prod(args[1])


def _sum(args: Any, kwargs: Any, out: Tensor) -> int:
    return args[0].numel() - out.numel()


def _mean(args: Any, kwargs: Any, out: Tensor) -> int:
    return args[0].numel()


def _addition(args: Any, kwargs: Any, out: Tensor) -> int:
    scaled = 0
    if kwargs.get("alpha", 1) != 1:
        scaled = args[1].numel() if isinstance(args[1], Tensor) else 1
    return out.numel() + scaled


def _each(times: int) -> Callable[[Any, Any, Tensor], int]:
    return lambda args, kwargs, out: times * out.numel()


def _nothing(args: Any, kwargs: Any, out: Any) -> int:
    return 0


def rules(*pairs: tuple[Iterable[Any], Rule]) -> dict[Any, Rule]:
    """One rule for each of many operations."""
    return dict(itertools.chain.from_iterable(((func, rule) for func in functions) for functions, rule in pairs))


class FlopCounter(OperationCounter):
    """Counts floating-point operations, forwards and backwards, from shapes alone.

    >>> from spikescope.compat.op_counter import DispatchCounterMode
    >>> counter = FlopCounter()
    >>> with DispatchCounterMode([counter]):
    ...     y = torch.ones(2, 3) @ torch.ones(3, 4) + 1.0
    >>> counter.get_total()  # 2 x 4 sums of 3 products, and 8 additions
    56
    """

    own_rules = {
        **rules(
            (PRODUCTS.plain, _matrices),
            (PRODUCTS.added, _added_matrices),
            (ADDITIONS, _addition),
            ((*SCALINGS, *COMPARISONS, *UNARY), _each(1)),
            ((aten.sigmoid.default, aten.sigmoid_.default), _each(4)),
            (REDUCTIONS, _sum),
            ((*VIEWS, aten.stack.default, aten.clone.default, aten._to_copy.default), _nothing),
            ((aten.full_like.default, aten.ones_like.default, aten.select_backward.default), _nothing),
            (ATTENTION, _attention(1, 1, 0)),
            (ATTENTION_BACKWARD, _attention(3, 2, 1)),
        ),
        aten.convolution.default: _convolution,
        aten.convolution_backward.default: _convolution_backward,
        aten.native_batch_norm.default: _norm,
        aten.native_batch_norm_backward.default: _norm_backward,
        aten.max_pool2d_with_indices.default: _max_pool,
        aten.max_pool2d_with_indices_backward.default: _nothing,
        aten.avg_pool2d.default: _avg_pool,
        aten.mean.dim: _mean,
    }
