"""Bytes that operations read and write, from shapes alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .counter import OperationCounter, Rule
from .flops import rules
from .kinds import ADDITIONS, ATTENTION, ATTENTION_BACKWARD, COMPARISONS, PRODUCTS, REDUCTIONS, SCALINGS, UNARY, VIEWS

__all__ = ["MemoryAccessCounter", "size_of"]

aten = torch.ops.aten


def size_of(*held: Any) -> int:
    """The bytes of all tensors in nested values."""
    return sum(x.numel() * x.element_size() for x in pytree.tree_leaves(held) if isinstance(x, Tensor))


def _reading(first: int, last: int) -> Rule:
    """The arguments of these places are read, and the result is written."""
    return lambda args, kwargs, out: size_of(args[first:last], out)


def _added(args: Any, kwargs: Any, out: Any) -> int:
    return size_of(args[1:3], out) + (size_of(args[0]) if kwargs.get("beta", 1) != 0 else 0)


def _convolution_backward(args: Any, kwargs: Any, out: Any) -> int:
    grad, x, weight, *_, wanted = args
    read = [held for held, want in zip((weight, x), wanted, strict=False) if want]
    return size_of(grad, read, [made for made, want in zip(out, wanted, strict=True) if want])


def _norm(args: Any, kwargs: Any, out: Any) -> int:
    """Input, both fields and both running statistics; in training what is kept for the way back, too."""
    return size_of(args[:5], out if args[5] else out[0])


def _norm_backward(args: Any, kwargs: Any, out: Any) -> int:
    """What the wanted gradients need, each once."""
    grad, x, weight = args[:3]
    mean, deviation, training, wanted = args[5], args[6], args[-3], args[-1]
    of_x, of_weight = wanted[:2]
    read = [grad] if any(wanted) else []
    if of_weight or (training and of_x):
        read += [x, mean]
    if of_x or of_weight:
        read.append(deviation)
    return size_of(read, weight if of_x else None)


def _attention(args: Any, kwargs: Any, out: Any) -> int:
    mask = args[3] if len(args) > 3 and isinstance(args[3], Tensor) else _mask(kwargs)
    return size_of(args[:3], mask, out[0] if isinstance(out, (tuple, list)) else out)


def _mask(kwargs: Any) -> Any:
    return kwargs.get("attn_mask", kwargs.get("attn_bias"))


def _attention_backward(func: Any) -> Rule:
    """The mask stands at a place that depends on the kernel."""
    kernel = func.overloadpacket.__name__
    place = 4 if "efficient" in kernel else 8 if "cudnn" in kernel else None

    def rule(args: Any, kwargs: Any, out: Any) -> int:
        there = place is not None and len(args) > place and isinstance(args[place], Tensor)
        return size_of(args[:4], args[place] if there else _mask(kwargs), out)

    return rule


class MemoryAccessCounter(OperationCounter):
    """Counts bytes that operations read and write, each tensor once an operation.

    >>> from spikescope.compat.op_counter import DispatchCounterMode
    >>> counter = MemoryAccessCounter()
    >>> with DispatchCounterMode([counter]):
    ...     y = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counter.get_total()  # 6 + 12 + 8 numbers of four bytes
    104
    """

    own_rules = {
        **rules(
            (PRODUCTS.plain, _reading(0, 2)),
            (PRODUCTS.added, _added),
            ((*ADDITIONS, *SCALINGS, *COMPARISONS), _reading(0, 2)),
            ((*UNARY, *REDUCTIONS, aten.mean.dim, aten.avg_pool2d.default), _reading(0, 1)),
            ((aten.sigmoid.default, aten.sigmoid_.default, aten.clone.default, aten._to_copy.default), _reading(0, 1)),
            ((aten.stack.default, aten.select_backward.default, aten.max_pool2d_with_indices.default), _reading(0, 1)),
            ((aten.full_like.default, aten.ones_like.default), _reading(0, 0)),
            (VIEWS, lambda args, kwargs, out: 0),
            (ATTENTION, _attention),
        ),
        **{func: _attention_backward(func) for func in ATTENTION_BACKWARD},
        aten.convolution.default: _reading(0, 3),
        aten.convolution_backward.default: _convolution_backward,
        aten.native_batch_norm.default: _norm,
        aten.native_batch_norm_backward.default: _norm_backward,
        aten.max_pool2d_with_indices_backward.default: lambda args, kwargs, out: size_of(args[0], args[-1], out),
    }
