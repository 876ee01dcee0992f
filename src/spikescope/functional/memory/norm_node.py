"""A batch normalisation whose backward pass takes no memory but for its result.

PyTorch's allocates two gradients of the input, and uses one. The kernel of `dynamics.norm.cpu` needs one, and computes
as PyTorch does; that its bits are the same is tried before it is relied on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...dynamics.norm.cpu import norm_backward
from ...dynamics.saved import save, saved
from ...errors import OF_LAYER
from ...internals import is_plain
from ...layer.norm import BatchNorm
from .slices import flags, in_shape, lies_in_order, may_be_replaced
from .stand_ins import through_views

__all__ = ["normed_without_waste"]

_TRIED = 4  # samples that are enough to see in which order sums are taken


def normed_without_waste(module: BatchNorm, x: Tensor, y: Tensor) -> Tensor | None:
    """What `module` made of `x`, with a backward pass by our kernel; None where it stays PyTorch's.

    - `y`: the result with PyTorch's node behind it, by the moments of the batch.
    """
    of = through_views(y.grad_fn)
    if type(of).__name__ != "NativeBatchNormBackward0" or not may_be_replaced(x, y) or not of._saved_training:
        return None
    given, *learned = (edge[0] for edge in of.next_functions)
    if not x.requires_grad or through_views(given) is not through_views(x.grad_fn):
        return None
    held = [None if edge is None else getattr(edge, "variable", None) for edge in learned]
    if held[0] is not module.weight or held[1] is not module.bias:
        return None
    mean, inverse = of._saved_result1.detach(), of._saved_result2.detach()
    folded = x.shape if module.step_mode == "s" else (x.shape[0] * x.shape[1], *x.shape[2:])
    found: Tensor = _Normed.apply(_Held(y.detach(), mean, inverse, of._saved_eps, folded), x, *held)
    return found


@dataclass
class _Held:
    """What a normalisation comes with: its result, the moments of the batch, and the shape without time."""

    y: Tensor | None
    mean: Tensor
    inverse: Tensor
    eps: float
    folded: tuple[int, ...]


class _Normed(torch.autograd.Function):
    """Gives the result that is there; its gradients are PyTorch's."""

    @staticmethod
    def forward(ctx: Any, held: _Held, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        assert held.y is not None
        y, held.y = held.y, None
        ctx.held = held
        save(ctx, x, weight)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Any, ...]:
        held: _Held = ctx.held
        x, weight = saved(ctx, "BatchNorm", OF_LAYER)
        shape, wanted = x.shape, ctx.needs_input_grad[1:]
        x, gy = in_shape(x, held.folded), in_shape(gy, held.folded)
        plain = not torch.is_grad_enabled() and is_plain(gy, x) and lies_in_order(gy)
        same = plain and _gives_the_same(tuple(x.shape), x.dtype, flags())
        found = norm_backward(gy, x, weight, held.mean, held.inverse) if same else None
        if found is None:
            found = _by_pytorch(gy, x, weight, held.mean, held.inverse, held.eps, wanted)
        gx, *learned = found
        return None, None if gx is None else gx.view(shape), *learned


def _by_pytorch(
    gy: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse: Tensor,
    eps: float,
    wanted: tuple[bool, ...] = (True, True, True),
) -> tuple[Any, ...]:
    """The gradients of input, weight and bias, which have gradients as well."""
    of: Any = torch.ops.aten.native_batch_norm_backward
    found: tuple[Any, ...] = of(gy, x, weight, None, None, mean, inverse, True, eps, wanted)
    return found


@lru_cache(maxsize=256)
def _gives_the_same(shape: tuple[int, ...], dtype: torch.dtype, flags: tuple[Any, ...]) -> bool:
    """Whether the kernel gives the bits of PyTorch for such an input, on random numbers with and without a weight."""
    if dtype is not torch.float32:
        return False
    own = torch.Generator("cpu").manual_seed(0)
    few = (min(shape[0], _TRIED), *shape[1:])
    x, gy = (torch.randn(few, generator=own, device="cpu") for _ in range(2))
    mean, inverse, weight = (torch.rand(shape[1], generator=own, device="cpu") + 0.5 for _ in range(3))
    for gain in (weight, None):
        found = norm_backward(gy, x, gain, mean, inverse)
        if found is None:
            return False
        whole = _by_pytorch(gy, x, gain, mean, inverse, 1e-5, (True, gain is not None, gain is not None))
        if not all(b is None or torch.equal(a, b) for a, b in zip(whole, found, strict=True)):
            return False
    return True
