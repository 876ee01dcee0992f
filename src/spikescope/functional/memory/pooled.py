"""An average over parts of a plane whose backward pass takes the shape of its input, which PyTorch's has as floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .slices import in_shape, may_be_replaced
from .stand_ins import through_views

__all__ = ["pooled_by_shape"]


def pooled_by_shape(x: Tensor, y: Tensor) -> Tensor | None:
    """What an adaptive average made of `x`, with a backward pass that reads no value; None where it stays PyTorch's.

    - `y`: the result with PyTorch's node behind it.
    """
    of = through_views(y.grad_fn)
    if type(of).__name__ != "AdaptiveAvgPool2DBackward0" or not may_be_replaced(x, y):
        return None
    given = of.next_functions[0][0]
    if not x.requires_grad or given is None or through_views(given) is not through_views(x.grad_fn):
        return None
    made: Tensor = _Pooled.apply(_Held(y.detach(), x.shape), x)
    return made


@dataclass
class _Held:
    """What an average comes with: its result, and the shape of its input."""

    y: Tensor | None
    shape: tuple[int, ...]


class _Pooled(torch.autograd.Function):
    """Gives the result that is there; its gradient is PyTorch's, of an input that takes no memory."""

    @staticmethod
    def forward(ctx: Any, held: _Held, x: Tensor) -> Tensor:
        assert held.y is not None
        y, held.y = held.y, None
        ctx.shape = held.shape
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Any, ...]:
        shape = ctx.shape if len(ctx.shape) < 5 else (ctx.shape[0] * ctx.shape[1], *ctx.shape[2:])
        like = gy.new_empty(1).expand(shape)
        of: Any = torch.ops.aten._adaptive_avg_pool2d_backward
        return None, of(in_shape(gy, (*shape[:-2], *gy.shape[-2:])), like).view(ctx.shape)
