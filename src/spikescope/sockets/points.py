"""Points: one signal of one module, and who listens to it. Compiled code reaches them by operators."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..form import Failure, described, leaves_of, rebuilt
from ..internals import exporting, hooks_read_their_call, in_backward, keep_in_order
from .gradient_squares import Squared, common, listen

__all__ = ["Point", "Signal", "Subscriber", "tap", "tap_gradient"]

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

    def receive(self, value: Any, compiled: bool, cut: bool, call: int | None = None) -> None:
        """Take one value; what it keeps of it, it copies. `cut`: it had a graph in compiled code, which it left.

        `call`: of a gradient, the number of the call that it is of, as the point counts them; None if it knows none.
        """


def _token() -> Tensor:
    with torch.inference_mode(False):
        return torch.zeros((), dtype=torch.int64, device="cpu")  # whatever the default: taps belong to no device


_forward_token, _backward_token = _token(), _token()


_library = torch.library.Library("spikescope", "FRAGMENT")
for _schema in (
    "tap(Tensor[] values, Tensor(a!) token, int handle, str form) -> ()",
    "tap_gradient(Tensor call, Tensor[] values, int handle, str form) -> ()",  # the first tensor gives the device
    "call_number(Tensor(a!) token, int handle, bool graph) -> Tensor",
):
    # a CUDA graph would replay without calling Python: the compiler keeps these out of its graphs
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.cudagraph_unsafe))
tap = torch.ops.spikescope.tap.default  # a fifth of the cost of a call of torch.library.custom_op
tap_gradient = torch.ops.spikescope.tap_gradient.default
call_number = torch.ops.spikescope.call_number.default


@torch.library.impl(_library, "tap", "CompositeExplicitAutograd")
def _tap(values: list[Tensor], token: Tensor, handle: int, form: str) -> None:
    """Hand values to the subscribers of a point when compiled code runs.

    The token makes the operator one with an effect, which the compiler neither removes nor reorders. It may compute it
    again, for a checkpoint.
    """
    token.add_(1)
    if not (_ORDERED and in_backward()):
        _hand_over(values, handle, form, None)


@torch.library.impl(_library, "tap_gradient", "CompositeExplicitAutograd")
def _tap_gradient(call: Tensor, values: list[Tensor], handle: int, form: str) -> None:
    """The same in a backward pass, which may be of many calls: each has saved its number, which none may change."""
    _hand_over(values, handle, form, int(call) or None)


@torch.library.impl(_library, "call_number", "CompositeExplicitAutograd")
def _call_number(token: Tensor, handle: int, graph: bool) -> Tensor:
    """The number of a call of which gradients are asked for; 0 where nobody counts, or it is computed again."""
    token.add_(1)
    point = _points.get(handle)
    call = point.asked(graph) if point is not None and point.live and not in_backward() else 0
    return torch.tensor(call, device="cpu")


def _hand_over(values: list[Tensor], handle: int, form: str, call: int | None) -> None:
    point = _points.get(handle)
    if point is not None and point.live:
        point.deliver(rebuilt(form.removeprefix(_CUT), values), compiled=True, cut=form.startswith(_CUT), call=call)


def _skipped(info: Any, in_dims: Any, *args: Any) -> tuple[None, None]:
    """Inside `vmap` no value has its real shape: nothing is recorded."""
    return None, None


for _name in ("spikescope::tap", "spikescope::tap_gradient"):
    torch.library.register_fake(_name, lambda *values: None, lib=_library)
    torch.library.register_vmap(_name, _skipped, lib=_library)

torch.library.register_fake(
    "spikescope::call_number", lambda *_: torch.empty((), dtype=torch.int64, device="cpu"), lib=_library
)
_ORDERED = keep_in_order(tap_gradient)
_NUMBERED = _ORDERED and hooks_read_their_call()


class Point:
    """One signal of one module, and who listens to it. Compiled code sees only `signal`, `handle` and `states`.

    - `states`: of a start, the modules whose state tells that a sequence begins.
    - `request`: has a neuron told which taps are wanted.
    """

    def __init__(
        self, module: nn.Module, signal: Signal, states: tuple[nn.Module, ...], request: Callable[[nn.Module], None]
    ) -> None:
        self.signal, self.handle = signal, next(_handles)
        self.taps = ((signal.name,) if signal.kind == "tap" else ()) + signal.taps  # all that the kernel has to tell
        self.states, self._request = states, request
        self.module = weakref.ref(module)
        self.subscribers: tuple[Subscriber, ...] = ()
        self.squared: Squared | None = None  # if all who listen want the squares of gradients
        self.live, self.recomputes, self.transforms = False, 0, 0  # the last two: calls that were skipped
        self.bare = 0  # the last call of which the gradients were asked for, where it had no graph
        self._count, self._calls = itertools.count(1), dict[int, int]()  # the number of the call of each thread
        self._told_first = signal.kind == "grad_output"
        _points[self.handle] = self

    def refresh(self) -> None:
        """Take note of who is switched on."""
        listening = [subscriber for subscriber in self.subscribers if subscriber.enabled]
        self.live, self.squared = bool(listening), common(listening)
        if self.taps and (module := self.module()) is not None:
            self._request(module)

    def deliver(self, value: Any, compiled: bool = False, cut: bool = False, call: int | None = None) -> None:
        for subscriber in self.subscribers:
            if subscriber.enabled:
                subscriber.receive(value, compiled, cut, call)

    def send(self, value: Any, gradient: bool = False, call: Any = None) -> None:
        """Deliver now, or from compiled code when it runs; of a gradient, `call` is a tensor with its number."""
        if not torch.compiler.is_compiling():
            self.deliver(value)
        elif not exporting():
            tensors: list[Tensor] = []
            form = described(value, tensors)
            if not gradient and any(tensor.requires_grad for tensor in tensors):
                form = _CUT + form
            values = [tensor.detach() for tensor in tensors]
            if gradient and _ORDERED:
                tap_gradient(torch.zeros((), device="cpu") if call is None else call, values, self.handle, form)
            else:  # a gradient like this: then a backward pass is of one call alone
                tap(values, _backward_token if gradient else _forward_token, self.handle, form)

    def gradient(self, grad: Tensor | None, place: int = 0, count: int = 1, call: Any = None) -> None:
        """The hook on a tensor; it leaves the gradient as it is. One that nothing depends on comes as None."""
        compiling = torch.compiler.is_compiling()
        if compiling or self.live:
            value = grad if count == 1 or grad is None else _placed({place: grad}, count)
            if compiling:
                self.send(value, gradient=True, call=call)
            else:
                for subscriber in self.subscribers:
                    if subscriber.enabled:
                        subscriber.receive(value, False, False, call)

    def gradients(self, grads: Sequence[Tensor | None], places: Sequence[int], count: int, call: int | None) -> None:
        if self.live:
            found = any(grad is not None for grad in grads)
            self.deliver(_placed(dict(zip(places, grads, strict=True)), count) if found else None, call=call)

    def number(self) -> int:
        """The number of the call that this thread tells of: that of an output before it is asked for, else after."""
        thread = get_ident()
        held = self._calls.get(thread)
        if held is None:
            held = self._calls[thread] = next(self._count)
        return held

    def asked(self, graph: bool) -> int:
        """The number of a call of which the gradients are asked for; with a graph, or none."""
        thread = get_ident()
        call = self._calls.pop(thread, None) if self._told_first else None
        if call is None:
            call = next(self._count)
        if not self._told_first:
            self._calls[thread] = call
        if not graph:
            self.bare = call
        return call

    def watch(self, value: Any, compiling: bool, again: bool) -> None:
        """Ask for the gradients of the tensors in `value`: of several things a tuple, with None where there is none.

        `again`: of a call that is computed again; what a graph counts are the calls of the forward pass.
        """
        if type(value) is Tensor:
            leaves, places = [value], [0] if value.requires_grad else []
        else:
            leaves = leaves_of(value)
            places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
        call: Any = None
        if compiling and _NUMBERED and not exporting():
            call = call_number(_forward_token, self.handle, bool(places))
        elif not (compiling or again):
            call = self.asked(bool(places))
        if len(places) == 1:
            hook = partial(self.gradient, place=places[0], count=len(leaves), call=call)
            listen(leaves[places[0]], hook, None if compiling or len(leaves) > 1 else self.squared)
        elif places and not compiling:
            told = partial(self.gradients, places=places, count=len(leaves), call=call)
            torch.autograd.graph.register_multi_grad_hook([leaves[place] for place in places], told)
        elif places:
            self.send(_SEVERAL)


def _placed(grads: Mapping[int, Tensor | None], count: int) -> tuple[Tensor | None, ...]:
    return tuple([grads.get(place) for place in range(count)])


_SEVERAL = Failure(
    "In compiled code the gradient of one tensor can be recorded, but here are several. Record the module that makes "
    "or takes one of them, or run without torch.compile."
)
