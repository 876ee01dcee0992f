"""Measuring what autograd keeps of each part of a network, and how long the part takes, while nothing is kept.

A training step that does not fit into memory cannot be run in order to be measured. So the network runs forwards with
gradients, and what autograd would save is written down and dropped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from ...errors import StateError
from ...hooks import put_hooks, take_hooks_off
from ..checkpoint import check_state_known, untouched
from ..network import reset_net
from .saved_tensors import Kept, Ledger, keeping_books_by
from .segments import Stretch, is_row
from .stand_ins import LEAST, Memory, Spikes

__all__ = ["Call", "Course", "Part", "follow"]

_EVENT = "spikescope course"
_LONGEST = 64  # children of a row that are tried as one segment, where there are more


@dataclass
class Part:
    """What runs between two borders of modules: bytes that are kept, plain and lean, and seconds.

    - `largest`: bytes of one tensor that is kept or handed over here; working memory goes with it.
    - `learned`: bytes of the gradients of parameters that come about here in the backward pass.
    """

    plain: int = 0
    lean: int = 0
    seconds: float = 0.0
    largest: int = 0
    learned: int = 0


@dataclass(frozen=True)
class Call:
    """A call of the module at `path`: the parts `first` to before `last`, and the bytes of what it is given, lean."""

    path: str
    first: int
    last: int
    given: int


@dataclass
class Course:
    """The parts of a forward pass in their order, and the calls and rows of calls that may be segments.

    - `ties`: parts that give what a lean network computes again, with parts that so need not keep it. A segment with
      the first alone would have the second keep it.
    """

    parts: list[Part] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    ties: list[tuple[int, int]] = field(default_factory=list)
    stretches: dict[Stretch, Call] = field(default_factory=dict)


def follow(net: nn.Module, args: tuple[Any, ...], device: torch.device) -> Course:
    """The course of `net(*args)`; `net` is to be lean."""
    tracer = _Tracer(net, args, device)
    with tracer.listening(), untouched(net), keeping_books_by(lambda: _Dropping(tracer)), torch.enable_grad():
        reset_net(net)
        net(*args)
        reset_net(net)
    course = Course(tracer.parts, tracer.calls, tracer.ties)
    once = {path for path, number in Counter(call.path for call in course.calls).items() if number == 1}
    calls = {call.path: call for call in course.calls if call.path in once and _may_run_again(net, call.path)}
    for path, call in calls.items():
        if path:
            course.stretches[Stretch(path)] = call
    for path, module in net.named_modules():
        if path in once and is_row(module):
            row = [calls.get(f"{path}.{name}".lstrip(".")) for name, _ in module.named_children()]
            course.stretches.update(_rows(path, row))
    return course


def _may_run_again(net: nn.Module, path: str) -> bool:
    try:
        check_state_known(net.get_submodule(path))
    except StateError:
        return False
    return True


def _rows(path: str, row: list[Call | None]) -> Iterator[tuple[Stretch, Call]]:
    """The runs of at least two neighbours, but not all of the row, which is a call itself."""
    for first, begun in enumerate(row):
        for last in range(first + 1, min(len(row), first + _LONGEST)):
            ended = row[last]
            if begun is None or ended is None:
                break
            if path == "" or (first, last) != (0, len(row) - 1):
                yield Stretch(path, first, last), Call(path, begun.first, ended.last, begun.given)


class _Tracer:
    """Writes down borders, and what would be kept between them."""

    def __init__(self, net: nn.Module, args: Any, device: torch.device) -> None:
        self.parts: list[Part] = [Part()]
        self.calls: list[Call] = []
        self.ties: list[tuple[int, int]] = []
        self.ledger: Ledger | None = None
        self._paths = {module: path for path, module in net.named_modules()}
        self._device, self._since = device, 0.0
        self._open: list[tuple[int, int]] = []
        self._kept: dict[int, StorageWeakRef] = {}
        held = [*net.parameters(), *net.buffers(), *_tensors(args)]
        self._outside = {x.untyped_storage()._cdata for x in held}
        self._owned: set[nn.Parameter] = set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hooks on all modules while the block runs."""
        for module in self._paths:
            put_hooks(module, _EVENT, self._enter, self._leave)
        try:
            self._since = self._now()
            yield
        finally:
            for module in self._paths:
                take_hooks_off(module, _EVENT)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _border(self) -> None:
        """Here a part ends and another begins."""
        self.parts[-1].seconds = self._now() - self._since
        self.parts.append(Part())

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._border()
        tensors = _tensors((args, kwargs))
        given = {x.untyped_storage()._cdata: self._given(x) for x in tensors}
        self._open.append((len(self.parts) - 1, sum(given.values())))
        own = list(module.parameters(recurse=False))
        self._hand_over([*tensors, *own])  # some libraries have copies of weights in an order of their own
        for held in own:
            if held.requires_grad and held not in self._owned:
                self._owned.add(held)
                self.parts[-1].learned += held.nbytes
        self._since = self._now()

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        self._border()
        self._hand_over(_tensors(out), self.parts[-2])
        first, given = self._open.pop()
        self.calls.append(Call(self._paths[module], first, len(self.parts) - 1, given))
        self._since = self._now()

    def _hand_over(self, tensors: list[Tensor], part: Part | None = None) -> None:
        part = self.parts[-1] if part is None else part
        part.largest = max([part.largest, *(x.nbytes for x in tensors)])

    def _given(self, x: Tensor) -> int:
        """The bytes that a segment keeps of `x`: none of what is there anyway, few bits of spikes."""
        storage = x.untyped_storage()
        if storage._cdata in self._outside:
            return 0
        what = None if self.ledger is None else self.ledger.known(x)
        return _size(storage, what) if isinstance(what, _Mark) and what.width else storage.nbytes()

    def keep(self, x: Tensor) -> None:
        """Write down that autograd would keep `x`."""
        storage = x.untyped_storage()
        known = self._kept.get(storage._cdata)
        if storage._cdata in self._outside or (known is not None and not known.expired()):
            return
        self._kept[storage._cdata] = StorageWeakRef(storage)
        part, what = self.parts[-1], None if self.ledger is None else self.ledger.kept_as(x)
        part.plain += storage.nbytes()
        part.lean += _size(storage, what)
        if isinstance(what, _Mark) and not what.width:
            self.ties.append((what.part, len(self.parts) - 1))
        part.largest = max(part.largest, storage.nbytes())


def _tensors(value: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(value) if isinstance(x, Tensor) and x.layout is torch.strided]


class _Dropping(Ledger):
    """A ledger of what would be kept: nothing is, neither by autograd nor here."""

    keeps = False

    def __init__(self, tracer: _Tracer) -> None:
        self._tracer, tracer.ledger = tracer, self
        super().__init__()

    def note(self, y: Tensor, what: Memory) -> None:
        super().note(y, _Mark(what, len(self._tracer.parts) - 1))

    def _keep(self, x: Tensor) -> Kept:
        self._tracer.keep(x)
        return Kept(None, 0, _Mark(Spikes(x.dtype), 0))  # for the words of its error: it cannot be had


class _Mark(Memory):
    """That memory holds spikes, or what a normalisation gave, and in which part it came to."""

    def __init__(self, of: Memory, part: int) -> None:
        self.dtype, self.binary, self.sure, self.part = of.dtype, of.binary, of.sure, part
        self.width = of.width

    def memory(self) -> Tensor:
        raise RuntimeError(
            "fit_memory follows a forward pass without keeping anything, and the network takes gradients within it. "
            "Put functional.checkpoint around its parts by hand."
        )


def _size(storage: UntypedStorage, what: Memory | None) -> int:
    """The bytes that a lean network keeps of it."""
    if not isinstance(what, _Mark) or storage.nbytes() // what.dtype.itemsize < LEAST:
        return storage.nbytes()
    return what.size(storage)
