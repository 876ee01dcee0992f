"""Multiplying each step of a sequence by a number that may learn, with all gradients in one pass over memory.

A prepared run multiplies by itself and takes its gradients from here as well: so they are the same to the bit,
whichever way a call goes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from ..errors import watch_input
from ..internals import LeanFunction, exporting, is_ordinary, is_plain, is_undisturbed
from ..toolchain.compiler import function
from ..toolchain.declared import declare
from .cpp.borrowed import header
from .cpp.native import threads_for
from .layout import layout
from .saved import save, saved

__all__ = ["gradients_of_product", "multiplied"]

_REAL = {torch.float32: "float", torch.float64: "double"}

_CHUNK = 4096  # as in the kernel


def _text(real: str) -> str:
    return f"{header('math.h')}using real = {real};\n{header('gain.h')}"


for _name in _REAL.values():
    declare("gain", partial(_text, _name))


@cache
def _kernel(real: str) -> Callable[..., Any] | None:
    return function(_text(real), "gain_backward", *[ctypes.c_void_p] * 5, *[ctypes.c_long] * 2, ctypes.c_int)


def multiplied(owner: str, x_seq: Tensor, gain: Tensor, by_kernel: bool) -> Tensor:
    """`x_seq * gain` for an input `[T, *]` and a gain `[T, 1, ...]` or `[T, *]`; `owner` stands in errors.

    - `by_kernel`: whether a kernel may compute the gradients.
    """
    learns = gain.requires_grad and torch.is_grad_enabled()
    out: Tensor
    if learns and by_kernel and torch.compiler.is_compiling():
        if not exporting() and _may_read(x_seq, gain):
            out = _operator(x_seq, gain, owner)
            return out
    elif learns and by_kernel and _takes(x_seq, gain):
        out = _Product.outside(owner, x_seq, gain)
        return out
    driven = x_seq * gain
    if learns:
        watch_input(owner, driven, x_seq)
    return driven


def _takes(x_seq: Tensor, gain: Tensor) -> bool:
    """Whether the kernel may have to do with it: one number a step, of an input that it can read."""
    return (
        _may_read(x_seq, gain)
        and type(x_seq) in (Tensor, torch.nn.Parameter)
        and is_ordinary(x_seq)
        and is_ordinary(gain)
        and is_undisturbed(in_backward=True)  # a checkpoint runs it again there, and has to save the same
        and _reads(x_seq)
    )


def _may_read(x_seq: Tensor, gain: Tensor) -> bool:
    """The same of what compiled code knows of them."""
    return gain.numel() == len(x_seq) > 0 and x_seq.dtype in _REAL and x_seq.device.type == "cpu"


def _reads(x_seq: Tensor) -> bool:
    if not x_seq.numel() or x_seq.is_neg():
        return False
    lies, step = layout(x_seq)
    return lies.data_ptr() == x_seq.data_ptr() and (len(x_seq) == 1 or x_seq.stride(0) == step.numel)


class _Product(LeanFunction):
    @staticmethod
    def forward(ctx: Any, owner: str, x_seq: Tensor, gain: Tensor) -> Tensor:
        ctx.owner = owner
        save(ctx, x_seq, gain)
        return x_seq * gain

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_seq, gain = saved(ctx, ctx.owner)
        gx, summed = gradients_of_product(grad, x_seq, gain, wants_x=ctx.needs_input_grad[1])
        return None, gx, summed


def gradients_of_product(
    grad: Tensor, x_seq: Tensor, gain: Tensor, own: bool = False, wants_x: bool = True
) -> tuple[Tensor | None, Tensor]:
    """The gradients of an input, or None where it `wants_x` not, and of its gains, `[T, 1, ...]`, from that of their
    product.

    - `own`: whether `grad` is the caller's own memory, which then becomes that of the input.
    """
    found = None if torch.is_grad_enabled() else _by_kernel(grad, x_seq, gain, own, wants_x)
    if found is not None:
        return found
    gx, summed = _by_pytorch(grad, x_seq, gain)  # which knows further derivatives too
    return gx if wants_x else None, summed


def _by_pytorch(grad: Tensor, x_seq: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    return grad * gain, (grad * x_seq).sum_to_size(gain.shape)


def _by_kernel(
    grad: Tensor, x_seq: Tensor, gain: Tensor, own: bool, wants_x: bool
) -> tuple[Tensor | None, Tensor] | None:
    if not is_plain(grad, x_seq, gain) or grad.is_neg() or not (_may_read(x_seq, gain) and _reads(x_seq)):
        return None
    if not (grad.dtype is gain.dtype is x_seq.dtype and grad.stride() == x_seq.stride()):
        return None
    kernel = _kernel(_REAL[x_seq.dtype])
    if kernel is None:
        return None
    steps, n = len(x_seq), x_seq[0].numel()
    sums = torch.empty(steps, -(-n // _CHUNK), dtype=torch.float64, device="cpu")
    factors, gx = gain.contiguous(), None if not wants_x else grad if own else torch.empty_like(grad)
    given = [None if held is None else held.data_ptr() for held in (grad, x_seq, factors, gx, sums)]
    kernel(*given, steps, n, threads_for(x_seq.numel()))
    return gx, sums.sum(1).to(gain.dtype).reshape(gain.shape)


# For compiled code, which is to give the same bits.
@torch.library.custom_op("spikescope::product", mutates_args=())
def _operator(x_seq: Tensor, gain: Tensor, owner: str) -> Tensor:
    return _by_multiplying(x_seq, gain, owner)


@torch.library.custom_op("spikescope::product_backward", mutates_args=())
def _operator_backward(grad: Tensor, x_seq: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    gx, summed = gradients_of_product(grad, x_seq, gain)
    assert gx is not None
    return gx, summed


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    *tensors, ctx.owner = inputs
    save(ctx, *tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    gx, summed = _operator_backward(grad, *saved(ctx, ctx.owner))
    return gx, summed, None


def _by_multiplying(x_seq: Tensor, gain: Tensor, owner: str) -> Tensor:
    return x_seq * gain


def _in_front(size: int, tensors: Sequence[Tensor], axes: Sequence[int | None]) -> list[Tensor]:
    """The tensors with the axis of `vmap`, of this size, in front."""
    held = [each.unsqueeze(0) if at is None else each.movedim(at, 0) for each, at in zip(tensors, axes, strict=True)]
    return [each.expand(size, *each.shape[1:]) for each in held]


_operator.register_fake(_by_multiplying)
_operator_backward.register_fake(_by_pytorch)
_operator.register_autograd(_backward, setup_context=_save)


@_operator.register_vmap
def _(info: Any, axes: Any, x_seq: Tensor, gain: Tensor, owner: str) -> tuple[Tensor, int]:
    x_seq, gain = _in_front(info.batch_size, (x_seq, gain), axes[:2])
    return _by_multiplying(x_seq, gain, owner), 0


@_operator_backward.register_vmap
def _(info: Any, axes: Any, *tensors: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    return _by_pytorch(*_in_front(info.batch_size, tensors, axes)), (0, 0)
