"""Checkpointed segments of a network, by hooks on its modules: the network itself stays as it is.

A segment is one module, or neighbours in an `nn.Sequential`. Its first computation runs where it always did, between
two hooks; its second runs within the backward pass, as that of `functional.checkpoint` does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import (
    _DEFAULT_DETERMINISM_MODE,
    _checkpoint_without_reentrant_generator,
    noop_context_fn,
)

from ...hooks import put_hooks, take_hooks_off
from ...internals import in_backward
from ..checkpoint import Segment
from .saved_tensors import may_keep_less

__all__ = ["Stretch", "held_stretches", "is_row", "put_segments", "take_segments_off"]

_WHOLE, _ROW, _PLACE = "spikescope segment", "spikescope row of segments", "spikescope place in a row"


class Stretch(NamedTuple):
    """A segment by its place: the module at `path`, or of the `nn.Sequential` there the children `first` to `last`."""

    path: str
    first: int = -1
    last: int = -1

    @property
    def name(self) -> str:
        """As a table names it: `'layer2.0'`, `'features.3 .. 5'`."""
        if self.first < 0:
            return self.path
        return f"{self.path}.{self.first} .. {self.last}".lstrip(".")


def is_row(module: nn.Module) -> bool:
    """Whether a module does no more than to call its children one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def put_segments(net: nn.Module, stretches: Sequence[Stretch]) -> None:
    """Have `net` keep, of each of these stretches, which do not overlap, what goes in alone."""
    take_segments_off(net)
    rows: dict[str, list[tuple[int, int]]] = {}
    for path, first, last in stretches:
        if first >= 0:
            rows.setdefault(path, []).append((first, last))
        else:
            _put(net.get_submodule(path), _WHOLE, _Whole())
    for path, runs in rows.items():
        row = net.get_submodule(path)
        _put(row, _ROW, _Row(tuple(runs)))
        for child in row.children():
            _put(child, _PLACE, _Place())


def take_segments_off(net: nn.Module) -> None:
    """Undo `put_segments`."""
    for module in net.modules():
        for name in (_WHOLE, _ROW, _PLACE):
            take_hooks_off(module, name)
            _always(module).pop(name, None)


def held_stretches(net: nn.Module) -> list[Stretch]:
    """The segments that `net` has."""
    found = []
    for path, module in net.named_modules():
        if _WHOLE in module._forward_hooks:
            found.append(Stretch(path))
        row = module._forward_hooks.get(_ROW)
        found += [Stretch(path, *run) for run in getattr(getattr(row, "__self__", None), "runs", ())]
    return found


def _put(module: nn.Module, name: str, hook: _Hook) -> None:
    put_hooks(module, name, hook.before, hook.after)
    _always(module)[name] = True  # also after an error


def _always(module: nn.Module) -> dict[Any, bool]:
    return module._forward_hooks_always_called


class _Hook:
    """What stands before and after the forward of a module, without a word of the module: replicas share it."""

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None: ...

    def after(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None: ...


class _Under:
    """A call of a row under way: at which of its children it is, and the segment that has begun there."""

    def __init__(self, row: nn.Module, runs: Sequence[tuple[int, int]]) -> None:
        self.children, self.runs = list(row.children()), dict(runs)
        self.place, self.last = -1, -1
        self.inside: nn.Module | None = None
        self.begun: Iterator[None] | None = None


class _Here(threading.local):
    """The segments and rows that are under way in this thread, the innermost last."""

    def __init__(self) -> None:
        self.whole: list[Iterator[None] | None] = []
        self.rows: list[_Under | None] = []


_here = _Here()


class _Whole(_Hook):
    """A module that is a segment."""

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            _here.whole.append(_begun(module, args, kwargs) if _wanted() else None)

    def after(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if not torch.compiler.is_compiling() and _here.whole:
            _ended(_here.whole.pop())


class _Row(_Hook):
    """A row of children, of which these runs are segments, each by its first and last place."""

    def __init__(self, runs: tuple[tuple[int, int], ...]) -> None:
        self.runs = runs

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            _here.rows.append(_Under(module, self.runs) if _wanted() else None)

    def after(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if not torch.compiler.is_compiling() and _here.rows:
            under = _here.rows.pop()
            if under is not None:
                _ended(under.begun)  # an error has come up inside


class _Place(_Hook):
    """A child of a row."""

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling() or not _here.rows:
            return
        under = _here.rows[-1]
        if under is None or under.inside is not None or under.place + 1 == len(under.children):
            return  # a call from within a child is part of it
        if under.children[under.place + 1] is not module:
            return
        under.place, under.inside = under.place + 1, module
        if under.place in under.runs:
            under.last = under.runs[under.place]
            run = under.children[under.place : under.last + 1]
            under.begun = _begun(nn.Sequential(*run), args, kwargs)

    def after(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if torch.compiler.is_compiling() or not _here.rows:
            return
        under = _here.rows[-1]
        if under is not None and under.inside is module:
            under.inside = None
            if under.place == under.last:
                _ended(under.begun)
                under.begun = None


def _wanted() -> bool:
    """Whether a call keeps what could be computed again; within a backward pass it is being computed again."""
    return not in_backward() and may_keep_less()


def _begun(module: nn.Module, args: Any, kwargs: Any) -> Iterator[None]:
    """Autograd keeps the leaves of the segment alone until `_ended`.

    `torch.utils.checkpoint.checkpoint` calls a function; what it does around the call is not public by itself.
    """
    segment = Segment(module, args, kwargs)
    rest = (True, noop_context_fn, _DEFAULT_DETERMINISM_MODE, False, True)
    block: Iterator[None] = _checkpoint_without_reentrant_generator(segment.again, *rest, *segment.leaves)
    next(block)
    return block


def _ended(block: Iterator[None] | None) -> None:
    if block is not None:
        next(block, None)
