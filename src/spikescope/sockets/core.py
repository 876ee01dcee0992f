"""Sockets: the empty hooks of a module. Monitors plug in at any time, also after `torch.compile`.

PyTorch ignores a hook that is put on a module after its first compiled call. The socket of a module of ours is there
before that call, and compiled code watches what is plugged into it: a new set of points is one recompilation, the same
set again is none, and switching a subscriber on or off never is one. Other modules have a socket while somebody
listens, unless `instrument` gave them one; putting it there costs a recompilation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..form import (
    ENDING,
    Deferred,
    Failure,
    Told,
    attribute_of,
    part_of,
    part_of_call,
    same_tensors,
    unpacked,
    with_own_tensors,
)
from ..hooks import has_hooks_of_all, may_change_output, put_hooks, take_hooks_off
from ..internals import at_work, forget_compiled_code, never_a_frame_of_its_own
from .points import Point, Signal, Subscriber

__all__ = [
    "KINDS",
    "Ear",
    "Point",
    "Signal",
    "Subscriber",
    "are_bare",
    "at_rest",
    "forget",
    "hear",
    "instrument",
    "is_bare",
    "is_watched",
    "place_sockets",
    "subscribe",
    "unsubscribe",
]

KINDS = ("start", "call", "input", "before", "grad_input", "output", "after", "grad_output", "tap")
_AT_ENTRY = frozenset(KINDS[:5])

# A run begins before what belongs to it. A compiler that has read an attribute does not see it change after the hook on
# the gradient of an input: this comes before all that reads. That of an output is asked for when the call was told.
_ORDER = {"start": 0, "call": 0, "grad_input": 1, "grad_output": 3}

_KEY = "spikescope"  # hooks are numbered anew in every process: a numbered one would be overwritten after unpickling


class Ear(Protocol):
    """Who hears a call of a neuron that goes a short way as a whole, for all who listen there."""

    def takes(self, x: Tensor, short: Any, run: Any) -> Any:
        """What is known of a call by this run of that way, if it is one that is heard; else None."""

    def hears(self, known: Any, neuron: Any, x: Tensor, y: Tensor, rests: bool) -> None:
        """The call is over. `rests`: whether it was the first of a sequence."""

    def settle(self) -> None:
        """Others are told again: what was heard so far comes before it."""


class Socket:
    """What both hooks of a module share; it comes after all hooks that others have put there.

    Copies of a module by `deepcopy`, pickle or `torch.save` are unmonitored.

    A shallow copy (`copy.copy`, a replica of `nn.DataParallel`) has the same hooks: it is the module for a monitor.
    """

    ear: Ear | None = None  # goes when somebody plugs in or out

    def __init__(self, passing: bool) -> None:
        self.passing = passing  # goes when nobody listens any more
        self.points: tuple[Point, ...] = ()  # a tuple: compiled code is guarded by it
        self.known: tuple[Point, ...] = ()  # with those that nobody listens to: used again, they compile nothing anew

    @property
    def only_starts(self) -> bool:
        """Whether nobody is told anything but where a sequence begins: no code of a user's comes by."""
        return len(self.points) == 1 and self.points[0].signal.kind == "start"

    def __getstate__(self) -> dict[str, Any]:
        return {"passing": self.passing, "points": (), "known": ()}

    def note_transform(self) -> None:
        """`torch.func` hides the values of this call."""
        for point in self.points:
            point.transforms += point.live


class Entry(Socket):
    """The hook before the forward of a module."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if not self.points:
            return None
        changed, (compiling, hidden, again) = False, at_work()
        if hidden:
            return self.note_transform()
        if not compiling and self.ear is not None:
            self.ear.settle()
        for point in self.points:
            if not (compiling or point.live):
                continue
            kind, name, _ = point.signal
            tell = point.send if compiling else point.deliver
            if kind == "grad_input":
                args, kwargs, changed = with_own_tensors(args), with_own_tensors(kwargs), True
                point.watch(part_of_call((args, kwargs), name), compiling, again)
            elif again:
                point.recomputes += 1
            elif kind == "start":
                if all(map(at_rest, point.states)):
                    tell(None)
            elif kind == "input":
                tell(part_of(unpacked((*args, *kwargs.values())), name))
            elif kind == "call":
                tell((args, kwargs))
            else:
                tell(attribute_of(module, name))
        return (args, kwargs) if changed else None


class Exit(Socket):
    """The hook after the forward of a module."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if not self.points:
            return
        told, (compiling, hidden, again) = False, at_work()
        if hidden:
            return self.note_transform()
        for point in self.points:
            told = told or bool(point.taps)
            if not (compiling or point.live):
                continue
            kind, name, taps = point.signal
            tell = point.send if compiling else point.deliver
            if kind == "grad_output":
                point.watch(part_of(out, name), compiling, again)
            elif again:
                point.recomputes += 1
            elif kind == "after":
                tell(attribute_of(module, name))
            else:
                value = part_of(out, name) if kind == "output" else _told(module, name)
                tell(_with_taps(module, value, taps) if taps else value)
        if told:
            _forget_deferred(module, compiling)


def _told(module: Any, name: str) -> Any:
    """A tap of the last call, or why there is none: that belongs to whoever listens, not to the forward pass."""
    told = module.__dict__["tapped"]  # compiled code that put a hook on a tensor takes an attribute of the call before
    if name in told:
        held = told[name]
        if name == "v" and may_change_output(module):
            held = Deferred(ENDING, (held, module.step_mode, module.v))
        if isinstance(held, Deferred) and not torch.compiler.is_compiling():
            return held.value()  # of a neuron that is compiled by itself: its own hooks run outside of the graph
        return held
    text = f"{type(module).__name__} did not tell {name!r}: its step has no such potential, or it was asked too late."
    return Failure(text) if torch.compiler.is_compiling() else ValueError(text)


def _forget_deferred(module: Any, compiling: bool) -> None:
    """Keep what was told, but not what would compute a potential: it holds the input. A graph had to give out all."""
    told = module.__dict__["tapped"]
    if type(told) is not Told:
        for name in [name for name, held in told.items() if compiling or isinstance(held, Deferred)]:
            del told[name]


def _with_taps(module: Any, value: Any, names: tuple[str, ...]) -> Any:
    """A value and the taps that come along, by name, others maybe among them; or why one of them is missing."""
    told = module.__dict__["tapped"]
    if type(told) is Told and type(value) is Tensor and told.keys() >= {*names}:
        return value, told
    taps = {name: _told(module, name) for name in names}
    for held in (value, *taps.values()):
        if isinstance(held, (Failure, Exception)):
            return held
    return value, taps


for _hook in (Entry, Exit):
    never_a_frame_of_its_own(_hook.__call__)


def at_rest(module: Any) -> bool:
    """Whether a module with a state has none yet, or that of its reset: a new sequence begins."""
    rest = module._reset_values
    for name, held in module._memories.items():
        if isinstance(held, Tensor):
            if held is not rest.get(name):
                return False
        elif isinstance(held, (tuple, list, dict)) and not same_tensors(held, rest.get(name)):
            return False
    return True  # numbers may count steps where there is no state besides


def found_sockets(module: nn.Module) -> tuple[Entry, Exit] | None:
    """The sockets of a module, if it has them."""
    entry, leave = module._forward_pre_hooks.get(_KEY), module._forward_hooks.get(_KEY)  # type: ignore[call-overload]
    return (entry, leave) if isinstance(entry, Entry) and isinstance(leave, Exit) else None


def is_watched(module: nn.Module) -> bool:
    """Whether something of ours listens to a module."""
    sockets = found_sockets(module)
    return sockets is not None and any(socket.points for socket in sockets)


def are_bare(modules: Iterable[nn.Module]) -> bool:
    """Whether calls of these modules go through no hooks but sockets into which nobody has plugged anything."""
    for module in modules:  # a loop: what C calls back takes longer
        if not is_bare(module):
            return False
    return not has_hooks_of_all()


def is_bare(module: nn.Module) -> bool:
    """Whether nobody has put a hook on a module or plugged anything into its sockets; there may be hooks of all."""
    held = module.__dict__
    before, after = held["_forward_pre_hooks"], held["_forward_hooks"]
    if before and (len(before) > 1 or (socket := before.get(_KEY)) is None or socket.points):
        return False
    if after and (len(after) > 1 or (socket := after.get(_KEY)) is None or socket.points):
        return False
    return not (held["_backward_hooks"] or held["_backward_pre_hooks"])


def place_sockets(module: nn.Module, passing: bool = False) -> tuple[Entry, Exit]:
    """The sockets of a module that no compiled code knows yet, put there if it has none."""
    sockets = found_sockets(module)
    if sockets is None:
        sockets = Entry(passing), Exit(passing)
        put_hooks(module, _KEY, *sockets)
    return sockets


def instrument(net: nn.Module) -> nn.Module:
    """Put sockets on every module of `net`, so that monitors can be attached after `torch.compile`. Gives `net` back.

    The modules of this library have theirs from the start; this is for PyTorch's own and those of others.

    >>> net = instrument(nn.Sequential(nn.Linear(2, 1), nn.ReLU()))
    >>> net(torch.zeros(3, 2)).shape
    torch.Size([3, 1])
    """
    modules = list(net.modules())
    if any(found_sockets(module) is None for module in modules):
        forget_compiled_code()
    for module in modules:
        for socket in place_sockets(module):
            socket.passing = False
    return net


def subscribe(module: nn.Module, signal: Signal, subscriber: Subscriber, states: tuple[nn.Module, ...] = ()) -> Point:
    """Plug in. `states` are the modules whose state tells the start of a sequence, for that signal alone."""
    if found_sockets(module) is None:
        forget_compiled_code()
    sockets, place = place_sockets(module, passing=True), signal.kind not in _AT_ENTRY
    known = sockets[place].known
    point = next((held for held in known if held.signal == signal and held.states == states), None)
    if point is None:
        point = Point(module, signal, states, _request_taps)
        sockets[place].known = (*known, point)
    point.subscribers = (*point.subscribers, subscriber)
    _replug(sockets, place)
    point.refresh()
    return point


def unsubscribe(point: Point, subscriber: Subscriber) -> None:
    """Unplug; a second time does nothing."""
    point.subscribers = tuple(held for held in point.subscribers if held is not subscriber)
    module = point.module()
    sockets = None if module is None else found_sockets(module)
    if module is not None and sockets is not None:
        _replug(sockets, point.signal.kind not in _AT_ENTRY)
        if sockets[0].passing and not (sockets[0].points or sockets[1].points):
            take_hooks_off(module, _KEY)
    point.refresh()


def hear(module: nn.Module, ear: Ear, subscribers: Collection[object]) -> None:
    """Have calls told to one ear, where nobody but these subscribers listens, until that changes."""
    sockets = found_sockets(module) or ()
    points = [point for socket in sockets for point in socket.points]
    if all(any(one is each for each in subscribers) for point in points for one in point.subscribers):
        for socket in sockets:
            socket.ear = ear


def forget(point: Point) -> None:
    """Drop a point that nobody listens to: of a signal that changes again and again they would pile up."""
    module = point.module()
    sockets = None if module is None or point.subscribers else found_sockets(module)
    for socket in sockets or ():
        socket.known = tuple(known for known in socket.known if known is not point)


def _replug(sockets: Sequence[Socket], place: int) -> None:
    for each in sockets:
        if each.ear is not None:
            each.ear.settle()
            each.ear = None
    socket = sockets[place]
    heard = (point for point in socket.known if point.subscribers)
    points = tuple(sorted(heard, key=lambda point: _ORDER.get(point.signal.kind, 2)))
    if points != socket.points:
        socket.points = points


def _request_taps(module: Any) -> None:
    """Tell a neuron what its kernel has to give besides the output."""
    sockets = found_sockets(module)
    points = [point for point in sockets[1].known if point.taps and point.subscribers] if sockets else []
    module.request_taps(_taps(points), live=_taps(point for point in points if point.live))


def _taps(points: Iterable[Point]) -> frozenset[str]:
    return frozenset(name for point in points for name in point.taps)
