"""The error of a backward pass that reaches a stateful module whose graph an earlier backward pass has freed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import is_of_a_freed_graph, walked_before
from ..internals import node_at_work, will_run

__all__ = ["watch_freed_graph"]

_NEAR = 64  # nodes behind a state that are asked; one that saves something is within a few of it
_kept: dict[type, list[str]] = {}  # of each kind of node the attributes that hold what it has saved


def watch_freed_graph(owner: str, states: Iterable[Any]) -> None:
    """Have a backward pass through the states that a call starts from say that their graph has been freed, if it has.

    A kernel and a surrogate say it by themselves; this is for the operations of PyTorch, which cannot name the module.

    >>> x = torch.ones(1, requires_grad=True)
    >>> state = x * x
    >>> state.sum().backward()
    >>> watch_freed_graph("Sum", [state])
    >>> (state + 1).sum().backward()
    Traceback (most recent call last):
    RuntimeError: A backward pass came to Sum of a call whose graph an earlier backward pass has freed. ...
    """
    for value in states:
        for held in (value,) if isinstance(value, Tensor) else pytree.tree_leaves(value):
            node = held.grad_fn if isinstance(held, Tensor) else None
            if node is not None and _seems_freed(node):
                node.register_prehook(_check(owner))


def _check(owner: str) -> Callable[[Any], None]:
    def check(grads: Any) -> None:
        if _is_freed(node_at_work()):
            raise RuntimeError(walked_before(owner))

    return check


def _seems_freed(node: Any) -> bool:
    """Whether the nearest node that saves something has nothing."""
    for _ in range(_NEAR):
        if _keeps(node):
            return _is_empty(node)
        for before, _ in node.next_functions:
            if before is not None and before.next_functions:
                node = before
                break
        else:
            return False
    return False


def _is_freed(node: Any) -> bool:
    """Whether the backward pass that is at `node` will come to one near it that has nothing saved any more."""
    asked, waiting = {node}, [node]
    while waiting and len(asked) < _NEAR:
        here = waiting.pop(0)
        if _keeps(here) and _is_empty(here):
            return True
        before = {other for other, _ in here.next_functions if other is not None and other.next_functions}
        before = {other for other in before - asked if will_run(other)}  # it takes no leaf
        waiting += before
        asked |= before
    return False


def _keeps(node: Any) -> list[str]:
    """The attributes that hold what a node has saved, as it was packed."""
    kind = type(node)
    if kind not in _kept:
        _kept[kind] = [name for name in dir(node) if name.startswith("_raw_saved_")]
    return _kept[kind]


def _is_empty(node: Any) -> bool:
    """Whether a node has given up what it had saved. Nothing is unpacked, which a checkpoint would compute anew."""
    try:
        for name in _keeps(node):
            held = getattr(node, name)
            if not isinstance(held, tuple) and held.data is None:  # given up, or not needed
                getattr(node, name.removeprefix("_raw"))
    except RuntimeError as error:
        return is_of_a_freed_graph(error)
    return False
