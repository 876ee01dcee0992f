"""What a tensor is: whether it has memory, whose that is, and what mode or transform has made it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Blank",
    "are_plain_gradients",
    "blank",
    "holders",
    "is_batched_gradient",
    "is_distributed",
    "is_left_behind",
    "is_ordinary",
    "is_plain",
    "keys_of",
    "like_these",
    "materialized",
    "memory_question",
    "out_of_inference",
    "overlaps_itself",
    "readable",
]


def _keys(*names: str) -> int:
    """What the dispatcher knows a tensor with these keys by."""
    found = 0
    for name in names:
        found |= torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name)).raw_repr()
    return found


_PLAIN_TYPES, _PLACES, _KINDS = (Tensor, nn.Parameter), ("CPU", "CUDA", "XPU"), ("", "Autograd", "Autocast")


_ODD_KEYS = ~_keys("ADInplaceOrView", *[kind + place for kind in _KINDS for place in _PLACES])


def _in_a_mode() -> bool:
    """Whether tensors may be stand-ins, in a mode or a transform or in compiled code."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are tensors with memory of their own, outside every mode and transform of PyTorch.

    Only then may a kernel be called on their addresses directly. What has no memory (a tensor of zeros that is none, a
    fake one, one that a transform has left behind) looks like any other; the dispatcher alone knows them, by their
    keys. PyTorch has no public question for these, nor for modes and transforms.
    """
    if _in_a_mode():
        return False
    keys = torch._C._dispatch_keys
    for held in tensors:  # a loop: a generator costs as much as the checks
        if held is not None and (type(held) not in _PLAIN_TYPES or keys(held).raw_repr() & _ODD_KEYS):
            return False
    return True


def are_plain_gradients(*grads: Tensor | None) -> bool:
    """The same of gradients that the engine brings to a node of plain tensors: it has seen to device, dtype and shape.

    What is left are lazy signs and what has no memory, and to ask for these takes a third of the time.
    """
    if _in_a_mode():
        return False
    try:
        for held in grads:
            if held is not None and (type(held) not in _PLAIN_TYPES or held.is_neg() or not held.data_ptr()):
                return False
    except RuntimeError:  # of other layouts, of many gradients at once, and what a transform has left behind
        return False
    return True


_ORDINARY = frozenset(_keys("ADInplaceOrView", *[kind + place for kind in _KINDS]) for place in _PLACES[:2])


_OF_INFERENCE = frozenset(_keys(place, f"Autocast{place}") for place in _PLACES[:2])


def is_distributed(*tensors: Tensor) -> bool:
    """Whether one of these is a `DTensor`, of which each process has a part.

    Where nobody has imported it there is none, and to import it takes long; nor is there while another thread does.
    """
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    if kind is None or torch.compiler.is_compiling():
        return False
    return any(type(held) not in _PLAIN_TYPES and isinstance(held, kind) for held in tensors)


def is_ordinary(x: Tensor) -> bool:
    """Whether a tensor is like those that `torch.empty` makes: with memory, and of no mode or transform.

    One of `torch.inference_mode` is, as long as that lasts.
    """
    keys = torch._C._dispatch_keys(x).raw_repr()
    return keys in _ORDINARY or (keys in _OF_INFERENCE and torch.is_inference_mode_enabled())


def keys_of(x: Tensor) -> int:
    """What the dispatcher knows a tensor by: where it lies, and whether it is a tensor like any other."""
    return int(torch._C._dispatch_keys(x).raw_repr())


def like_these(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    """What says of as many others whether they differ from these in values alone: type, dtype, device, shape, strides,
    the need of a gradient and what the dispatcher knows them by are the same. No two of them are one.

    PyTorch asks this before it runs compiled code again, in one call into C; in Python it takes six for each tensor.
    """
    guards: Any = torch._C._dynamo.guards
    question: Callable[..., bool] = guards.TensorGuards(
        *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
    ).check
    return question


class Blank(NamedTuple):
    """What makes memory of one form again and again: on a device that is the current one, and on one wherever it is."""

    here: Callable[[], Tensor]
    there: Callable[[], Tensor]

    def on(self, stream: Any) -> Callable[[], Tensor]:
        """What makes it for a kernel on a stream, which is None where the device is not the current one."""
        return self.there if stream is None else self.here


def blank(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device) -> Blank:
    """Memory of this form on this device.

    On the current one as PyTorch's compiled code has it made, past the dispatcher, in half the time.
    """
    form = tuple(shape), tuple(strides)
    made = getattr(torch._C._dynamo.guards, f"_empty_strided_{device.type}")
    return Blank(partial(made, *form, dtype), partial(torch.empty_strided, *form, dtype=dtype, device=device))


def readable(x: Tensor) -> bool:
    """Whether Python may look at the values of `x`: not in compiled code, under `vmap`, or on the meta device.

    PyTorch has no public question for a tensor that `torch.func.vmap` has batched.
    """
    if torch.compiler.is_compiling() or x.is_meta:
        return False
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):  # by one transform inside another
        if functorch.is_batchedtensor(x):
            return False
        x = functorch.get_unwrapped(x)
    return True


def is_left_behind(x: Any) -> bool:
    """Whether `x` has no values outside of the mode or transform of PyTorch that has made it."""
    if not isinstance(x, Tensor):
        return False
    functorch, fakes = torch._C._functorch, sys.modules.get("torch._subclasses.fake_tensor")
    fake = fakes is not None and isinstance(x, fakes.FakeTensor)
    return fake or x.is_meta or functorch.is_functorch_wrapped_tensor(x) or torch._is_functional_tensor(x)


def materialized(x: Tensor | None) -> Tensor | None:
    """A tensor of zeros or of a sparse layout as one with memory; others as they are.

    PyTorch gives the zeros that have none as gradients and tangents; it fills them for an operator, not in a list.
    """
    if x is None or type(x) not in _PLAIN_TYPES:
        return x
    if x.layout is not torch.strided:
        return x.to_dense()
    return torch.zeros(x.shape, dtype=x.dtype, device=x.device) if x._is_zerotensor() else x


def is_batched_gradient(x: Tensor | None) -> bool:
    """Whether `x` is one of many gradients that `torch.autograd.grad(..., is_grads_batched=True)` takes at once.

    They are tensors of a `vmap` that is older than that of torch.func, and known to neither modes nor transforms.
    """
    return x is not None and torch._C._functorch.is_legacy_batchedtensor(x)


def overlaps_itself(x: Tensor) -> bool:
    """Whether two elements of a tensor share memory, as far as PyTorch can tell. It has no public question for it."""
    return bool(torch._debug_has_internal_overlap(x))


def holders(storage: torch.UntypedStorage) -> int:
    """How many hold this memory: tensors, whether Python sees them or not, and `storage` itself.

    PyTorch has no public question for it; its own compiler asks this before it takes memory back.
    """
    return torch._C._storage_Use_Count(storage._cdata)


def memory_question() -> Callable[[Tensor, Tensor], bool]:
    """The function that says whether a change of one tensor in place may be one of another.

    PyTorch has no public one. In compiled code and under transforms a tensor has no memory yet; there the answer is
    what is known of views.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return _are_views
    question: Callable[[Tensor, Tensor], bool] = torch._C._is_alias_of  # type: ignore[attr-defined]  # not in the stubs
    return question


def _are_views(a: Tensor, b: Tensor) -> bool:
    return a is b or a._base is b or b._base is a or (a._base is not None and a._base is b._base)


def out_of_inference(x: Tensor) -> Tensor:
    """A tensor that a backward pass can keep: `x`, or of one of inference mode a copy of its numbers.

    A frame that is repeated stays one frame, which layers without a state compute once.

    >>> with torch.inference_mode():
    ...     frames = torch.rand(1, 3).expand(4, 3)
    >>> held = out_of_inference(frames)
    >>> held.is_inference(), held.stride(), torch.equal(held, frames)
    (False, (0, 1), True)
    """
    if not x.is_inference():
        return x
    once = x.detach()
    if x.layout is torch.strided:
        for axis, stride in enumerate(x.stride()):
            once = once.narrow(axis, 0, 1) if stride == 0 and x.shape[axis] > 1 else once
    held = once.clone()
    return held if once.shape == x.shape else held.expand(x.shape)
