"""A batch normalisation in training on a CPU, as one node of the graph: PyTorch's bits in less time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import OF_LAYER
from ...internals import LeanFunction, is_ordinary, is_plain, is_undisturbed, saved_tensors_hook
from ..cpp.native import threads_for
from ..saved import save, saved
from .cpu import gives_the_same, norm_backward, norm_forward

__all__ = ["allow", "moments_of", "normalized"]

SMALL = 1 << 14
"""Values under which loading a kernel for the first time is not worth it."""

_LEAST = 4  # channels for each thread, which takes eight of them at a time

_allowed: list[Any] = [None]


def allow(hook: Any) -> None:
    """Take normalisations under this hook on saved tensors too: it gives back what it took, and tells nobody of it."""
    _allowed.append(hook)


def moments_of(node: object) -> tuple[Tensor, Tensor] | None:
    """Mean and inverse deviation of the batch, of a node of the graph that `normalized` has left; None of others."""
    held: Any = node if isinstance(node, _Normed._backward_cls) else None
    return None if held is None else (held.mean, held.inverse)


def normalized(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor | None, Tensor | None],
    taken: float,
    eps: float,
) -> Tensor | None:
    """The normalisation of a batch `[N, C, *]` by its own moments; None for what is left to PyTorch.

    The `running` mean and variance become `taken` those of the batch. The kernel takes what is large and lies in order,
    in no mode or transform, where nobody asks to see what is kept for the backward pass.
    """
    if torch.compiler.is_compiling() or not is_undisturbed() or not (_is_large(x) and is_ordinary(x) and eps > 0):
        return None
    held = [each for each in (weight, bias, *running) if each is not None]
    if not is_plain(*held) or not all(_is_row(each, x.shape[1]) for each in held):
        return None
    if saved_tensors_hook() not in _allowed or not gives_the_same(x.numel() // (x.shape[0] * x.shape[1])):
        return None
    y: Tensor = _Normed.apply(x, weight, bias, running, taken, eps)
    return y


def _is_large(x: Tensor) -> bool:
    """Whether there is work for the kernel, and a share of it for each thread."""
    if type(x) is not Tensor or x.dtype is not torch.float32 or x.ndim < 3 or not x.is_cpu or x.numel() < SMALL:
        return False
    channels = x.shape[1]
    planes = 1 < channels < x.numel() // x.shape[0] and x.is_contiguous()
    return planes and channels >= _LEAST * threads_for(x.numel())


def _is_row(held: Tensor, channels: int) -> bool:
    """Whether it has a value for each channel, as the kernel takes it."""
    return held.shape == (channels,) and held.dtype is torch.float32 and held.is_contiguous() and held.is_cpu


class _Normed(LeanFunction):
    """The normalisation and its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None],
        taken: float,
        eps: float,
    ) -> Tensor:
        found = norm_forward(x, weight, bias, running, taken, eps)
        assert found is not None
        y, ctx.mean, ctx.inverse = found
        ctx.eps = eps
        save(ctx, x, weight)
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = saved(ctx, "BatchNorm", OF_LAYER)
        if len(x) == 1:  # PyTorch takes one sample in another order of memory for one in that of `x`
            gy = gy.contiguous()
        wanted = ctx.needs_input_grad[:3]
        found = None
        if not torch.is_grad_enabled() and is_plain(gy, x, weight):
            found = norm_backward(gy, x, weight, ctx.mean, ctx.inverse)
        if found is None:
            of: Any = torch.ops.aten.native_batch_norm_backward
            found = of(gy, x, weight, None, None, ctx.mean, ctx.inverse, True, ctx.eps, wanted)
        gradients = [grad if need else None for grad, need in zip(found, wanted, strict=True)]
        return *gradients, None, None, None
