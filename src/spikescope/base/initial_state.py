"""Checks that a call of a stateful module starts from the right state: in a recomputation, a trace, after inference."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import RecomputeError, StateError, absent
from ..form import tensors_of
from ..internals import (
    after_backward,
    at_work,
    checkpoint_at_work,
    in_backward,
    is_left_behind,
    is_plain,
    jit_trace,
    out_of_inference,
    recomputation,
    repeats_itself,
)
from ..sockets import at_rest

__all__ = ["Placed", "Traced", "check_export", "check_start", "note_end", "note_placed", "recomputing"]


class _Recompute(threading.local):
    """Whether stateful modules may run inside a backward pass: of each thread, for a network may have one to itself."""

    allowed = False


_recompute = _Recompute()


@contextmanager
def recomputing() -> Iterator[None]:
    """Let stateful modules run inside a backward pass of this thread: for code that puts the right state in place."""
    before, _recompute.allowed = _recompute.allowed, True
    try:
        yield
    finally:
        _recompute.allowed = before


class Placed(NamedTuple):
    """The state entries that a recomputation has put in place since its last call, all of the state before it, and how
    many calls may still go on from the last one that started right.
    """

    recomputation: tuple[int, Any]
    names: frozenset[str]
    before: dict[str, Any]
    left: float = 0


class Traced(NamedTuple):
    """The trace that a module has run in, and the state that it left."""

    trace: Any
    left: tuple[Any, ...]


def check_start(module: Any, args: tuple[Any, ...]) -> None:
    """Before a call outside compiled code: put right what can be, refuse in words what cannot."""
    if not in_backward():
        checkpoint = checkpoint_at_work(module.training)
        if checkpoint is not None:
            _note_start(module, checkpoint)
    elif not _recompute.allowed:
        _check_recomputation(module)
    trace = jit_trace()
    if trace is not None or module._traced is not None:
        _check_trace(module, trace)
    for name, held in module._memories.items():
        if type(held) is not float and not (isinstance(held, Tensor) and is_plain(held)):
            _check_present(module, name, held, args)
    if not torch.is_inference_mode_enabled():
        for held in module._memories.values():
            if type(held) is not float and _is_of_inference(held):
                _leave_inference(module)
                break


def _check_present(module: Any, name: str, value: Any, args: tuple[Any, ...]) -> None:
    """Refuse a state that a mode or transform of PyTorch has left behind to an input outside of it."""
    x = next((held for held in args if isinstance(held, Tensor)), None)
    if x is None or not is_plain(x):
        return
    for held in tensors_of(value):
        if is_left_behind(held):
            raise absent(f"{type(module).__name__}: the state {name!r}", held.shape, held.is_meta)


def note_end(module: Any) -> None:
    """After a call in a trace: remember the state that it left."""
    if module._traced is not None:
        module._traced = module._traced._replace(left=tuple(module._memories.values()))


def note_placed(module: Any, *names: str) -> None:
    """Somebody puts these state entries in place; inside a backward pass that is part of a recomputation."""
    compiling, _, backward = at_work()
    if not backward:
        if not compiling and module._starts is not None:
            module._renewed = module._renewed.union(names)
        return
    if _recompute.allowed:
        return
    placed = _begun(module)
    module._placed = placed._replace(names=placed.names.union(names))


def _begun(module: Any) -> Placed:
    """The recomputation that runs; each begins with the state that the backward pass has found, and leaves it there."""
    now, placed = recomputation(), module._placed
    if placed is not None and placed.recomputation == now:
        return placed
    if placed is not None and placed.recomputation[0] == now[0]:
        module._memories.update(placed.before)
        return Placed(now, frozenset(), placed.before)
    after_backward(lambda: _put_back(module))
    return Placed(now, frozenset(), module._memories.copy())


def _note_start(module: Any, checkpoint: Any) -> None:
    """In the first pass of a checkpoint: remember the state that the module starts from."""
    if module._starts is None:
        module._starts = weakref.WeakKeyDictionary()
    calls = module._starts.get(checkpoint)
    if calls is None:
        module._starts[checkpoint] = _Calls(_Start.of(module))
    elif not repeats_itself(checkpoint):
        calls.add(module)
    if module._renewed:
        module._renewed = frozenset()


class _Calls:
    """What is known of the calls of a module in the first pass of a checkpoint.

    A function that recomputes in an order of its own can do so from the state that it finds only where all its calls
    start alike, and from one that it puts in place for as many calls as went on from one such state.
    """

    def __init__(self, first: _Start) -> None:
        self.first: _Start | None = first
        self.longest = self._in_a_row = 1

    def add(self, module: Any) -> None:
        self._in_a_row = 1 if module._renewed.issuperset(module._memories) else self._in_a_row + 1
        self.longest = max(self.longest, self._in_a_row)
        if self.first is not None and not self.first.agrees(_Start.of(module), _seen_alike):
            self.first = None


class _Start(NamedTuple):
    """A state as it was: its tensors, with how often each had been changed in place."""

    leaves: list[Any]
    versions: list[int]
    structure: Any

    @classmethod
    def of(cls, module: Any) -> _Start:
        leaves, structure = pytree.tree_flatten(module._memories)
        leaves = [held.detach() if isinstance(held, Tensor) else held for held in leaves]
        return cls(leaves, [_version(held) for held in leaves], structure)

    def agrees(self, other: _Start, alike: Callable[[Any, Any], bool]) -> bool:
        """Whether nothing has changed meanwhile, and the other holds what is alike."""
        return (
            self.structure == other.structure
            and self.versions == [_version(held) for held in self.leaves]
            and all(map(alike, self.leaves, other.leaves))
        )


def _version(held: Any) -> int:
    return held._version if isinstance(held, Tensor) and not held.is_inference() else 0


def _alike(one: Any, other: Any) -> bool:
    """Whether two leaves of a state hold the same values."""
    return _seen_alike(one, other) or (_comparable(one, other) and torch.equal(one, other))


def _seen_alike(one: Any, other: Any) -> bool:
    """The same without waiting for a device: there, only the same memory is known to hold the same values."""
    if not _comparable(one, other):
        return type(one) is type(other) and not isinstance(one, Tensor) and bool(one == other)
    in_place = one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
    return in_place or (one.device.type == "cpu" and torch.equal(one, other))


def _comparable(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return False
    return (one.dtype, one.device, one.shape) == (other.dtype, other.device, other.shape)


def _check_recomputation(module: Any) -> None:
    """A recomputation gives what the first pass gave where it starts from the same state.

    It does where its function has put every entry of the state in place itself, since it is the same code, or where the
    user has, so that the state is now that of the first pass; and where it goes on from such a start as the first pass
    did. Of code whose first pass was not seen, nothing is known but what it puts in place.
    """
    placed, left = _begun(module), 0.0
    checkpoint = checkpoint_at_work(module.training)
    calls = None if checkpoint is None or module._starts is None else module._starts.get(checkpoint)
    repeats = checkpoint is None or repeats_itself(checkpoint)
    if placed.names.issuperset(module._memories):
        left = inf if calls is None or repeats else calls.longest
    elif placed.left:
        left = placed.left
    elif calls is not None and calls.first is not None and calls.first.agrees(_Start.of(module), _alike):
        left = inf if repeats else 1  # all its calls start alike: another one is for another run
    module._placed = placed._replace(names=frozenset(), left=left and left - 1)
    if not left:
        raise RecomputeError(
            f"{type(module).__name__} keeps a state and was run again inside the backward pass, as "
            "torch.utils.checkpoint and reversible blocks do: it would start from another state than the first "
            "time, mostly that of the end, and give wrong gradients. Use spikescope.functional.checkpoint, which "
            "puts the right state back first, or call functional.reset_net(net) inside the checkpointed function "
            "where every call starts from rest."
        )


def _put_back(module: Any) -> None:
    if module._placed is not None:
        module._memories.update(module._placed.before)
        module._placed = None


def _check_trace(module: Any, trace: Any) -> None:
    """A trace holds operations alone: it starts from the state of a reset at every call and keeps none."""
    before = module._traced
    if before is not None and before.trace is not trace:
        now = module._memories.values()
        if len(before.left) == len(now) and all(a is b for a, b in zip(before.left, now, strict=True)):
            module.reset()
        module._traced = before = None
    if trace is None or before is not None:
        return
    name = type(module).__name__
    rest = module._reset_values
    if not at_rest(module) or any(
        isinstance(held, (int, float)) and held != rest.get(name) for name, held in module._memories.items()
    ):
        raise StateError(
            f"{name} has a state from an earlier call, which torch.jit.trace would write into the graph as a constant. "
            "Call functional.reset_net(net) from spikescope first: the traced network then starts from rest at every "
            "call."
        )
    if module.step_mode == "s":
        warnings.warn(
            f"torch.jit.trace of {name} in step_mode='s': the traced graph starts from rest at every call and carries "
            "no state from one to the next. Trace the loop over time, or use step_mode='m'.",
            stacklevel=3,
        )
    module._traced = Traced(trace, ())


def check_export(module: Any) -> None:
    """The same for `torch.export`. Where that runs the code itself, a tensor of its own is no plain one; where it reads
    the code, the first call of a module tells, and what it notes is gone with the trace.
    """
    if torch.compiler.is_dynamo_compiling():
        if module._seen_by_export:
            return
        module._seen_by_export = True
    rest = module._reset_values
    if any(type(held) is Tensor and held is not rest.get(name) for name, held in module._memories.items()):
        raise StateError(
            f"{type(module).__name__} has a state from an earlier call, which torch.export would write into the graph "
            "as a constant. Call functional.reset_net(net) from spikescope first: the exported network then starts "
            "from rest at every call."
        )
    memories = module._memories.items()
    if module.step_mode == "s" and all(
        held is rest.get(name) or (type(held) is list and not held) for name, held in memories
    ):
        warnings.warn(
            f"torch.export of {type(module).__name__} in step_mode='s': the exported network starts from rest at every "
            "call and carries no state from one to the next. Unless its forward goes over the steps itself, use "
            "step_mode='m'.",
            stacklevel=3,
        )


def _is_of_inference(held: Any) -> bool:
    if isinstance(held, Tensor):
        return held.is_inference()
    return isinstance(held, (tuple, list, dict)) and any(
        isinstance(leaf, Tensor) and leaf.is_inference() for leaf in pytree.tree_leaves(held)
    )


def _leave_inference(module: Any) -> None:
    """Go on from a state of `torch.inference_mode` as from one of `torch.no_grad`: autograd takes no tensor of it."""
    module._memories.update(pytree.tree_map_only(Tensor, out_of_inference, module._memories))
