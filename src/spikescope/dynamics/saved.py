"""The tensors that the node of a kernel saves for its backward pass, and that they come back as they were saved.

Whoever puts hooks on saved tensors may give back what they like, and may give a tensor other memory meanwhile. The
operations of PyTorch look at what they are given; a kernel goes by the sizes of the call, and would read past the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import OF_NEURON, Words, saved_tensors

__all__ = ["Form", "as_saved", "forms_of", "save", "saved"]


class Form(NamedTuple):
    """A tensor that was saved."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    strides: tuple[int, ...]
    order: tuple[int, ...] | None = None  # the strides that it gets where it comes back with others


def forms_of(tensors: Sequence[Tensor | None], order: tuple[int, ...] | None = None) -> list[Form | None]:
    """The forms of tensors, of those that are there.

    - `order`: the strides without gaps in which a kernel takes the first of them, which may have gaps.
    """
    held = [None if each is None else Form(each.shape, each.dtype, each.device, each.stride()) for each in tensors]
    if order is not None and (first := held[0]) is not None:
        held[0] = first._replace(order=order)
    return held


def save(ctx: Any, *tensors: Tensor | None, order: tuple[int, ...] | None = None) -> None:
    """Have a node save tensors, and remember their forms."""
    ctx.save_for_backward(*tensors)
    ctx.forms = forms_of(tensors, order)


def saved(ctx: Any, owner: str, words: Words = OF_NEURON) -> Sequence[Any]:
    """What a node has saved by `save`, in the form that it had; with what to say where it is gone."""
    return as_saved(owner, saved_tensors(ctx, owner, words), ctx.forms)


def as_saved(owner: str, found: Sequence[Tensor | None], forms: Sequence[Form | None]) -> Sequence[Any]:
    """What has come back, as it lay, and floating numbers of another width in the one that they had; RuntimeError where
    it is something else.
    """
    if all(map(_is_same, found, forms)):
        return found
    return [_restored(owner, *each) for each in zip(found, forms, strict=True)]


def _is_same(held: Tensor | None, form: Form | None) -> bool:
    if held is None or form is None:
        return True
    return (
        held.layout is torch.strided
        and (held.shape, held.dtype, held.device, held.stride()) == form[:4]
        and not held.is_neg()
    )


def _restored(owner: str, held: Tensor | None, form: Form | None) -> Tensor | None:
    if held is None or form is None:
        return held
    shape, dtype, device, strides, order = form
    alike = held.dtype is dtype or (held.is_floating_point() and dtype.is_floating_point)
    if not alike or (held.shape, held.device, held.layout) != (shape, device, torch.strided):
        kind = "" if held.layout is torch.strided else f", {held.layout}"
        raise RuntimeError(
            f"A hook on saved tensors gave {owner} {tuple(held.shape)}, {held.dtype} on {held.device}{kind} where it "
            f"took {tuple(shape)}, {dtype} on {device}: give back what was taken. Without a hook, the tensor itself "
            "was given other memory, as by net.to(...) or x.data = ...: do so after the backward pass."
        )
    held = held.to(dtype).resolve_neg()
    if held.stride() == strides:
        return held
    if order is None and _apart(strides, shape):
        order = strides
    return held if order is None else held.new_empty_strided(shape, order).copy_(held)


def _apart(strides: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether each value of such a tensor has a place of its own."""
    reach = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1:
            if stride < reach:
                return False
            reach += stride * (size - 1)
    return True
