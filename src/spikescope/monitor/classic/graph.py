"""Copies of values that a monitor keeps: what they share, and how long they hold on to an autograd graph."""

from __future__ import annotations

import copy
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...form import mapped

__all__ = ["let_go", "own_copy"]

_SIMPLE = (type(None), bool, int, float, str, bytes, type)


def own_copy(value: Any, given: Any) -> Any:
    """A value that nothing else changes: tensors that share memory with `given` are copied, as is all that can change.

    `given` is what the module holds; a tensor that a function made of it is nobody else's already. PyTorch refuses the
    deepcopy of a tensor with a graph: those inside of other objects are copied first.
    """
    shared = {tensor.untyped_storage().data_ptr() for tensor in _tensors_within(given)}

    def keep(held: Any) -> Any:
        if not isinstance(held, Tensor):
            return copy.deepcopy(held, {id(t): t.clone() for t in _tensors_within(held) if not t.is_leaf})
        if isinstance(held, nn.Parameter) or held.untyped_storage().data_ptr() in shared or held._base is not None:
            return held.clone()
        return held

    return mapped(keep, value, all=True)


def let_go(record: Any, given: Any) -> None:
    """Have a record lose its graph as soon as a backward pass has gone through the value that it was made from.

    By then it has gone through the record, too, if that is part of the loss: a gradient is handed on when it is whole.
    """
    kept = [weakref.ref(tensor) for tensor in _tensors_within(record) if not tensor.is_leaf]
    if not kept:
        return
    handles: list[Any] = []

    def drop(*_: Any) -> None:
        for handle in handles:
            handle.remove()
        for reference in kept:
            tensor = reference()
            if tensor is not None:
                tensor.detach_()

    for tensor in _tensors_within(given):
        if tensor.grad_fn is not None:  # a hook on the tensor would tell others that its gradient is watched
            handles.append(tensor.grad_fn.register_prehook(drop))
        elif tensor.requires_grad:
            handles.append(tensor.register_hook(drop))


def _tensors_within(value: Any) -> list[Tensor]:
    """The tensors in a value of any kind, in the attributes of objects too."""
    found: list[Tensor] = []
    todo, seen = [value], {}
    while todo:
        held = todo.pop()
        if isinstance(held, Tensor):
            found.append(held)
        elif not isinstance(held, _SIMPLE) and id(held) not in seen:
            seen[id(held)] = held
            todo += _parts(held)
    return found


def _parts(held: Any) -> list[Any]:
    """What a collection or an object holds."""
    if isinstance(held, nn.Module):  # its hooks lead to everything that watches it
        return [*held.parameters(), *held.buffers()]
    parts = list(held.values()) if isinstance(held, Mapping) else []
    if isinstance(held, (tuple, list, set, frozenset, deque)):
        parts += held
    slots = (name for cls in type(held).__mro__ for name in getattr(cls, "__slots__", ()))
    parts += [getattr(held, name) for name in slots if hasattr(held, name)]
    return parts + list(getattr(held, "__dict__", {}).values())
