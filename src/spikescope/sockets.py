"""Sockets: the empty hooks of a module. Monitors plug in at any time, also after `torch.compile`.

PyTorch ignores a hook that is put on a module after its first compiled call. The socket of a module of ours is there
before that call, and compiled code watches what is plugged into it: a new set of points is one recompilation, the same
set again is none, and switching a subscriber on or off never is one. Other modules have a socket while somebody
listens, unless `instrument` gave them one; putting it there costs a recompilation.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .form import (
    ENDING,
    Deferred,
    Failure,
    Told,
    attribute_of,
    described,
    leaves_of,
    part_of,
    part_of_call,
    rebuilt,
    same_tensors,
    unpacked,
    with_own_tensors,
)
from .gradient_squares import Squared, common, listen
from .hooks import has_hooks_of_all, may_change_output, put_hooks, take_hooks_off
from .internals import at_work, exporting, forget_compiled_code, keep_in_order, never_a_frame_of_its_own

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
# the gradient of an input: this comes before all that reads.
_FIRST = {"start": 0, "call": 0, "grad_input": 1}

_KEY = "spikescope"  # hooks are numbered anew in every process: a numbered one would be overwritten after unpickling
_CUT = "cut "  # before the form of a value that has a graph, which an operator cannot hand over
_points: weakref.WeakValueDictionary[int, Point] = weakref.WeakValueDictionary()
_handles = itertools.count()


class Signal(NamedTuple):
    """What is to be seen of a module: a kind and, for an attribute or a tap, its name. A `call` is all its arguments.

    The name of an input, an output, or a gradient of one, is the path to one of several: `0` is the first of a tuple,
    `1.v` something inside the second. A tensor alone is what is meant, whatever the path. That of an attribute may be a
    path as well.
    With `taps`, what the kernel of a neuron tells besides comes along: a value is a pair of itself and these by name.
    """

    kind: str
    name: str = ""
    taps: tuple[str, ...] = ()


class Subscriber(Protocol):
    """Somebody who wants a signal. `receive` handles its own errors: it must not raise."""

    @property
    def enabled(self) -> bool:
        """Whether it wants values now."""

    def receive(self, value: Any, compiled: bool, cut: bool) -> None:
        """Take one value; what it keeps of it, it copies. `cut`: it had a graph in compiled code, which it left."""


def _token() -> Tensor:
    with torch.inference_mode(False):
        return torch.zeros((), dtype=torch.int64, device="cpu")  # whatever the default: taps belong to no device


_forward_token, _backward_token = _token(), _token()


_library = torch.library.Library("spikescope", "FRAGMENT")
for _schema in (
    "tap(Tensor[] values, Tensor(a!) token, int handle, str form) -> ()",
    "tap_gradient(Tensor token, Tensor[] values, int handle, str form) -> ()",  # the first tensor gives the device
):
    # a CUDA graph would replay without calling Python: the compiler keeps these out of its graphs
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.cudagraph_unsafe))
tap = torch.ops.spikescope.tap.default  # a fifth of the cost of a call of torch.library.custom_op
tap_gradient = torch.ops.spikescope.tap_gradient.default


@torch.library.impl(_library, "tap", "CompositeExplicitAutograd")
def _tap(values: list[Tensor], token: Tensor, handle: int, form: str) -> None:
    """Hand values to the subscribers of a point when compiled code runs.

    The token makes the operator one with an effect, which the compiler neither removes nor reorders.
    """
    _tap_gradient(token, values, handle, form)
    token.add_(1)


@torch.library.impl(_library, "tap_gradient", "CompositeExplicitAutograd")
def _tap_gradient(token: Tensor, values: list[Tensor], handle: int, form: str) -> None:
    """The same in a backward pass, which may be of many calls: each has saved the token, so that none may change it."""
    point = _points.get(handle)
    if point is not None and point.live:
        point.deliver(rebuilt(form.removeprefix(_CUT), values), compiled=True, cut=form.startswith(_CUT))


def _skipped(info: Any, in_dims: Any, *args: Any) -> tuple[None, None]:
    """Inside `vmap` no value has its real shape: nothing is recorded."""
    return None, None


for _name in ("spikescope::tap", "spikescope::tap_gradient"):
    torch.library.register_fake(_name, lambda *values: None, lib=_library)
    torch.library.register_vmap(_name, _skipped, lib=_library)

_ORDERED = keep_in_order(tap_gradient)


class Point:
    """One signal of one module, and who listens to it. Compiled code sees only `signal`, `handle` and `states`."""

    def __init__(self, module: nn.Module, signal: Signal, states: tuple[nn.Module, ...]) -> None:
        self.signal, self.handle = signal, next(_handles)
        self.taps = ((signal.name,) if signal.kind == "tap" else ()) + signal.taps  # all that the kernel has to tell
        self.states = states  # of a start: the modules whose state tells that a sequence begins
        self.module = weakref.ref(module)
        self.subscribers: tuple[Subscriber, ...] = ()
        self.squared: Squared | None = None  # if all who listen want the squares of gradients
        self.live, self.recomputes, self.transforms = False, 0, 0  # the last two: calls that were skipped
        _points[self.handle] = self

    def refresh(self) -> None:
        """Take note of who is switched on."""
        listening = [subscriber for subscriber in self.subscribers if subscriber.enabled]
        self.live, self.squared = bool(listening), common(listening)
        if self.taps and (module := self.module()) is not None:
            _request_taps(module)

    def deliver(self, value: Any, compiled: bool = False, cut: bool = False) -> None:
        for subscriber in self.subscribers:
            if subscriber.enabled:
                subscriber.receive(value, compiled, cut)

    def send(self, value: Any, gradient: bool = False) -> None:
        """Deliver now, or from compiled code when it runs."""
        if not torch.compiler.is_compiling():
            self.deliver(value)
        elif not exporting():
            tensors: list[Tensor] = []
            form = described(value, tensors)
            if not gradient and any(tensor.requires_grad for tensor in tensors):
                form = _CUT + form
            values = [tensor.detach() for tensor in tensors]
            if gradient and _ORDERED:
                tap_gradient(torch.zeros((), device="cpu"), values, self.handle, form)
            else:  # a gradient like this: then a backward pass is of one call alone
                tap(values, _backward_token if gradient else _forward_token, self.handle, form)

    def gradient(self, grad: Tensor | None, place: int = 0, count: int = 1) -> None:
        """The hook on a tensor; it leaves the gradient as it is. One that nothing depends on comes as None."""
        compiling = torch.compiler.is_compiling()
        if compiling or self.live:
            value = grad if count == 1 or grad is None else _placed({place: grad}, count)
            if compiling:
                self.send(value, gradient=True)
            else:
                self.deliver(value)

    def gradients(self, grads: Sequence[Tensor | None], places: Sequence[int], count: int) -> None:
        if self.live:
            found = any(grad is not None for grad in grads)
            self.send(_placed(dict(zip(places, grads, strict=True)), count) if found else None, gradient=True)

    def watch(self, value: Any, compiling: bool) -> None:
        """Ask for the gradients of the tensors in `value`: of several things a tuple, with None where there is none."""
        leaves = leaves_of(value)
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if len(places) == 1:
            hook = partial(self.gradient, place=places[0], count=len(leaves))
            listen(leaves[places[0]], hook, None if compiling or len(leaves) > 1 else self.squared)
        elif places and not compiling:
            told = partial(self.gradients, places=places, count=len(leaves))
            torch.autograd.graph.register_multi_grad_hook([leaves[place] for place in places], told)
        elif places:
            self.send(_SEVERAL)


def _placed(grads: Mapping[int, Tensor | None], count: int) -> tuple[Tensor | None, ...]:
    return tuple([grads.get(place) for place in range(count)])


_SEVERAL = Failure(
    "In compiled code the gradient of one tensor can be recorded, but here are several. Record the module that makes "
    "or takes one of them, or run without torch.compile."
)


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
                point.watch(part_of_call((args, kwargs), name), compiling)
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
                point.watch(part_of(out, name), compiling)
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
            if held is not rest[name]:
                return False
        elif isinstance(held, (tuple, list, dict)) and not same_tensors(held, rest[name]):
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
        point = Point(module, signal, states)
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
    points = tuple(sorted(heard, key=lambda point: _FIRST.get(point.signal.kind, 2)))
    if points != socket.points:
        socket.points = points


def _request_taps(module: Any) -> None:
    """Tell a neuron what its kernel has to give besides the output."""
    sockets = found_sockets(module)
    points = [point for point in sockets[1].known if point.taps and point.subscribers] if sockets else []
    module.request_taps(_taps(points), live=_taps(point for point in points if point.live))


def _taps(points: Iterable[Point]) -> frozenset[str]:
    return frozenset(name for point in points for name in point.taps)
