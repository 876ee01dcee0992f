"""A listener at a neuron that brings all that the ring keeps of a call at once, in place of a probe for each signal.

In a training step the Python of a probe lies in no cache: each signal of each layer costs more than what is kept of it.
So where nobody else listens to a neuron and its calls go the short way, one function takes all there is in memory, and
the places in time, which nobody needs before, are found when the step is over. The probes stay plugged in: they take
what comes any other way.
"""

from __future__ import annotations

import time
import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...neuron.spiking import gives_spikes
from ...sockets import found_sockets, hear
from .ring import Ring, Room
from .short import Bits, Both, Chosen, Numbers, Taken, Way

__all__ = ["Ear"]


class Known:
    """What is the same for all calls by one run.

    - `samples`: whose numbers are copied. `way`: how what comes in is, where it is kept; `back`: how the gradients are,
      once one has come. `bits`: bytes of spikes; `size`: bytes that are kept of a call.
    """

    __slots__ = ("back", "bits", "both", "dtype", "run", "samples", "shape", "size", "strides", "way")

    def __init__(self, run: Any, x: Tensor, way: Way | None, samples: tuple[int, int]) -> None:
        self.run, self.samples, self.way = run, samples, way
        self.shape, self.strides, self.dtype = x.shape, x.stride(), x.dtype
        self.bits = len(x) * -(-x[0].numel() // 8)
        self.size = self.bits + (0 if way is None else way.room.nbytes)
        self.back: Way | None = None
        self.both: Both | None = None  # the two at once


class Heard:
    """What was heard of one call.

    - `x`: what came in, of which a copy is `taken` together with the gradient: till then the graph of the call holds it
      too. `version`: how often it had been changed. `graph`: whether there is one. `call`: its number, once it has
      found its place.
    """

    __slots__ = ("bits", "call", "fired", "graph", "known", "rests", "taken", "version", "x")

    def __init__(self, known: Known, bits: Tensor, rests: bool) -> None:
        self.known, self.bits, self.rests = known, bits, rests
        self.fired: bool | None = None
        self.taken: Taken | None = None
        self.x: Tensor | None = None
        self.version, self.graph = 0, False
        self.call: int | None = None


def _gradient(ear: weakref.ref[Ear], heard: Heard, grad: Tensor | None, plain: bool) -> None:
    """What the graph of a call tells, which keeps no ear and no ring alive."""
    there = ear()
    if there is not None:
        there.gradient(heard, grad, plain)


class Ear:
    """Hears a neuron of which the spikes are kept, and maybe what comes in and the gradients.

    - `bits`, `numbers`, `gradients`: the short ways of these signals.
    """

    def __init__(
        self,
        module: nn.Module,
        ring: Ring,
        chosen: Chosen,
        bits: Bits,
        numbers: Numbers | None,
        gradients: Numbers | None,
    ) -> None:
        self._module, self._ring, self._chosen = module, ring, chosen
        self._bits, self._numbers, self._gradients = bits, numbers, gradients
        ways = [held for held in (bits, numbers, gradients) if held is not None]
        self._lines = [held.line for held in ways]
        self._probes = [held.probe for held in ways]
        self._points = [probe.point for probe in self._probes]
        self._before = [held.probe for held in (bits, numbers) if held is not None]  # that are told of a start
        self._weak, self._turn = weakref.ref(self), bits.probe.turn
        self._probe, self._back = bits.probe, None if gradients is None else gradients.probe
        self._short: Any = None  # the way through the neuron on which it gives spikes
        self._known: dict[Any, Known] = {}  # by run
        self._now: Known | None = None
        self._subscribers = [*self._probes, *[probe.start for probe in self._before]]
        self.offer()

    def offer(self) -> None:
        """Hear from now on, where nobody else listens: again, where somebody did."""
        sockets = found_sockets(self._module)
        if sockets is not None and sockets[0].ear is not self:
            hear(self._module, self, self._subscribers)

    def takes(self, x: Tensor, short: Any, run: Any) -> Known | None:
        """What is known of a call by this run, if it is one that is heard here."""
        for point in self._points:
            if not point.live:
                return None
        if torch.is_inference_mode_enabled():  # what is kept are tensors like any other
            return None
        now = self._now if self._bits.line.packed else None  # once there were other numbers, all are kept as numbers
        if now is not None and run is now.run and short is self._short and self._chosen.now is now.samples:
            return now
        try:
            return self._admits(x, short, run)
        except Exception as error:  # it belongs to the recorder, not to the forward pass
            self._fail(error)
            return None

    def _admits(self, x: Tensor, short: Any, run: Any) -> Known | None:
        if short is not self._short:
            self._known.clear()
            self._short = short if gives_spikes(self._module) else None
        seen = all(line.kept for line in self._lines) and self._bits.line.packed
        if self._short is None or not seen or not x.is_cpu or not x.is_contiguous():
            return None
        known, samples = self._known.get(run), self._chosen.now
        if known is None or known.samples is not samples:
            if any(probe.axes.shape != x.shape for probe in self._before) or x.ndim < 2:
                return None
            way = None if self._numbers is None else Way(x, self._numbers.probe.axes, self._chosen)
            if way is not None and way.copy is None:
                return None
            known = self._known[run] = Known(run, x, way, samples)
        self._now = known
        return known

    def hears(self, known: Known, neuron: Any, x: Tensor, y: Tensor, rests: bool) -> None:
        """A call is over. `rests`: whether it was the first of a sequence."""
        began, turn = time.perf_counter_ns(), self._turn
        if not turn.acquire(False) and not self._waits():
            return
        try:
            heard = Heard(known, neuron.tapped["packed"], rests)
            if known.way is not None:
                heard.x, heard.version = x, x._version
            if self._back is not None and y.requires_grad:
                heard.graph = True
                y.grad_fn.ear = partial(_gradient, self._weak, heard)  # type: ignore[union-attr]
            elif heard.x is not None:
                self._take(heard)
            self._ring.later(self._place, known.size, (heard,))
            if heard.taken is not None and heard.taken[2]:
                self._ring.settle()  # at once: what is the cause is seen before the update
        except Exception as error:
            self._fail(error)
        finally:
            self._probe.nanoseconds += time.perf_counter_ns() - began
            turn.release()

    def _take(self, heard: Heard) -> None:
        """Copy what came in."""
        x, known, numbers, heard.x = heard.x, heard.known, self._numbers, None
        assert x is not None
        assert known.way is not None
        assert numbers is not None
        if x._version == heard.version:
            heard.taken = known.way.take(x.data_ptr(), self._ring, heard.bits.data_ptr(), known.bits)
            heard.fired = known.way.fired
        elif numbers.probe.error is None:
            text = (
                f"What came into {self._probe.name!r} was changed in place after the call, before the recorder had it: "
                "its potentials cannot be kept. Change a clone."
            )
            numbers.probe.fail(RuntimeError(text))

    def gradient(self, heard: Heard, grad: Tensor | None, plain: bool) -> None:
        """The gradient of the output of a call that was heard has come, to the node of its graph.

        - `plain`: it is a tensor like any other, and nothing traces or transforms what is done with it.
        """
        numbers, probe, turn, known = self._gradients, self._back, self._turn, heard.known
        assert numbers is not None
        assert probe is not None
        if not (plain and grad is not None and probe.point.live):
            self._ring.settle()
            return probe.point.gradient(grad, call=heard.call)
        began = time.perf_counter_ns()
        if not turn.acquire(False) and not self._waits():
            return None
        try:
            x, back, both = heard.x, known.back, known.both
            form = grad.stride() == known.strides and grad.dtype is known.dtype
            alike = form and self._chosen.now is known.samples
            if alike and both is not None and x is not None and x._version == heard.version:
                heard.x, bits = None, heard.bits.data_ptr()
                heard.taken, taken, heard.fired = both.take(x.data_ptr(), grad.data_ptr(), self._ring, bits, known.bits)
            else:
                if x is not None:
                    self._take(heard)
                found = back.take(grad.data_ptr(), self._ring) if alike and back is not None else numbers.taken(grad)
                if found is None:
                    self._ring.settle()
                    return probe.point.deliver(grad, call=heard.call)
                taken = found
                if alike and back is None and numbers.way is not None:
                    known.back = numbers.way
                    known.both = None if known.way is None else Both(known.way, numbers.way)
            self._ring.later(self._place_back, taken[1].nbytes, (heard, *taken))
            if heard.taken is not None and heard.taken[2]:
                self._ring.settle()
        except Exception as error:
            probe.fail(error)
        finally:
            probe.nanoseconds += time.perf_counter_ns() - began
            turn.release()
        return None

    def _place(self, heard: Heard) -> None:
        """What was heard of a call finds its places."""
        try:
            if heard.rests:
                for probe in self._before:
                    probe.begin()
            if heard.x is not None:
                self._take(heard)
            if self._numbers is not None and heard.taken is not None:
                self._numbers.place(*heard.taken)
            self._bits.place(heard.bits, heard.known.shape, heard.known.dtype, heard.fired)
            if self._back is not None:
                heard.call = self._back.point.asked(heard.graph)
        except Exception as error:
            self._fail(error)
        del heard.bits  # the graph, and so the state that goes on, holds what was heard
        heard.taken = None

    def _place_back(self, heard: Heard, held: Tensor, room: Room, odd: bool) -> None:
        """The same of a gradient; where one finds none, those behind it are not taken either."""
        numbers, probe = self._gradients, self._back
        assert numbers is not None
        assert probe is not None
        if probe.error is None:
            before, probe.asked = probe.asked, heard.call  # of one that this comes before
            try:
                numbers.place(held, room, odd)
            except Exception as error:
                probe.fail(error)
            probe.asked = before

    def _waits(self) -> bool:
        """Wait for the turn; whether it came."""
        try:
            self._probe.wait_for_turn()
        except RuntimeError as error:
            self._fail(error)
            return False
        return True

    def settle(self) -> None:
        """What was heard so far finds its place."""
        self._ring.settle()

    def _fail(self, error: Exception) -> None:
        for probe in self._probes:
            probe.fail(error)
