"""Judging each step: whether something went wrong in it, so that the last steps are written down."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...warn import warn
from .checks.glance import Glance, Question
from .checks.gpu import capturing, elsewhere
from .checks.pending import Answer, Late
from .checks.table import FINITE
from .locate import in_input, in_kept, in_loss, in_weights
from .ring import Frame, Ring
from .triggers import LossJump, Step, Trigger, watches

__all__ = ["Judge"]


class Judge:
    """Looks at the steps in a ring as they end. `found` is what is to be written down."""

    def __init__(self, net: nn.Module, ring: Ring, on: Any, scaled: bool = False) -> None:
        self.net, self.ring = net, ring
        self._signals = {"current", "h"} if scaled else {"current", "h", "grad_output"}  # a scaler tries what overflows
        self.watches, self.outside = watches(on, ring.keep_steps)
        self.found: list[Trigger] = []
        self.last = -ring.keep_steps - 1  # the last step with a trigger
        self._late: deque[_Sealed] = deque()
        self._ended: Frame | None = None  # the last one that is judged, or will be
        self._inputs: list[tuple[Tensor, int | None]] = []  # of this step, on devices that one would have to wait for
        self._loss: Answer | None = None
        self._bad_input: Trigger | None = None
        self._bad_loss: Trigger | None = None
        self._weights = [held for held in net.parameters() if held.is_floating_point() and not held.is_meta]
        lasting = {("weights", place): held for place, held in enumerate(self._weights)}
        self._glance, self._whole = Glance(lasting, max(1, ring.keep_steps - 1)), Glance(lasting)
        self._bad_weights: Trigger | None = None
        self._suspected = False  # whether all weights were looked at in this step
        ring.alarm = self._suspect
        self._once = Glance()
        self._odd: Question | None = None  # of inputs that are like the last one

    @property
    def unjudged(self) -> list[str]:
        """What cannot be judged, and why."""
        jumps = [held for held in self.watches if isinstance(held, LossJump)]
        return ["loss jumps: no loss was told; call recorder.loss(loss)"] if jumps and not jumps[0].last else []

    def look(self, given: Tensor | None, call: int | None) -> Trigger | None:
        """The network is given this; where it is not finite, and that is known at once, the place.

        - `call`: of a network that is called for each step of a sequence, which one it is.
        """
        if "nonfinite" not in self.outside or given is None or not given.numel():
            return None
        if elsewhere(given):
            self._inputs.append((given.detach(), call))
        elif self._bad_input is None and self._is_odd(given):
            self._bad_input = in_input(self.ring.open.number, given.detach(), self._axes(), call)
            return self._bad_input
        return None

    def _is_odd(self, given: Tensor) -> bool:
        if self._odd is None or not self._odd.is_of(given):
            self._odd = Question(given, FINITE)
        found = self._odd(given)
        return bool(self._once(finite={"input": given.detach()}).values().get("input")) if found is None else found

    def _axes(self) -> tuple[int, int] | None:
        """Steps and samples of the last step that is known."""
        for frame in (self.ring.open, *reversed(self.ring.frames)):
            for held in frame.of("spike").values():
                shape = held[0].values.shape
                return (shape[0] if len(held) == 1 else 1), shape[1]
        return None

    def tell_loss(self, loss: Tensor | float) -> None:
        """Take the loss of this step."""
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise ValueError(f"A loss is one number, but got {tuple(loss.shape)}: give its mean.")
            if capturing(loss):
                return
            if elsewhere(loss):
                self._loss = loss.detach().reshape(()).clone()
                return
        self._loss = loss.item() if isinstance(loss, Tensor) else float(loss)
        if "nonfinite" in self.outside and not math.isfinite(self._loss):
            self._bad_loss = in_loss(self.ring.open.number, self._loss, self.net)  # while the states show where
            self._suspect()

    def _suspect(self) -> None:
        """A number of a forward pass is not finite: before the next update it is seen whether a weight is the cause."""
        if self._glance.turns > 1 and not self._suspected and "nonfinite" in self.outside:
            self._suspected = True
            odd = [self._weights[key[1]] for key, held in self._whole().values().items() if not math.isfinite(held)]
            self._bad_weights = in_weights(self.ring.open.number - 1, self.net, odd)

    def tell_exception(self, error: Exception) -> None:
        """An exception ends the training; where this step or the last had a trigger, it follows from that."""
        if "exception" not in self.outside:
            return
        self.end(wait=True)
        number = self.ring.open.number
        trigger = Trigger("exception", number, f"{type(error).__name__}: {error}")
        if self.found or number - self.last > 1:
            self.found.append(trigger)
            self.last = number

    def end(self, wait: bool = False) -> None:
        """The step that is open is over."""
        frame = self.ring.open
        if frame is not self._ended and (frame.entries or self._loss is not None):
            self._ended = frame
            if not self._late and (layers := self._sound(frame)) is not None:
                self._watch(frame, self._loss, layers, [])  # type: ignore[arg-type]  # it is a number
                self._loss, self._suspected = None, False
                return
            known = self._bad_input, self._bad_loss, self._bad_weights
            self._late.append(_Sealed(frame, self._inputs, self._ask(frame), *known))
        self._inputs, self._loss, self._suspected = [], None, False
        self._bad_input = self._bad_loss = self._bad_weights = None
        while self._late and (wait or self._late[0].late.there):
            self._judge(self._late.popleft())
        for held in self._late:
            held.frame.lent = True  # it is looked at again

    def _sound(self, frame: Frame) -> dict[str, bool] | None:
        """Which layers fired in a step of which all is known, and finite; None where more has to be asked."""
        layers: dict[str, bool] = {}
        for signal, _, moment, _, seen in frame.entries:
            if seen is None:
                return None
            if signal == "spike":
                layers[moment.name] = seen or layers.get(moment.name, False)
            elif seen:
                return None
        loss = self._loss
        if self._inputs or self._bad_input or self._bad_weights:
            return None
        if isinstance(loss, Tensor) or not (loss is None or math.isfinite(loss)):
            return None
        return layers if "nonfinite" not in self.outside or self._glance.is_sound() else None

    def _ask(self, frame: Frame) -> Late:
        """What a step is judged by: whether layers fired, the loss, and of other values what is not finite."""
        told: dict[Any, Answer] = {}
        fired: dict[Any, Tensor] = {}
        finite: dict[Any, Tensor] = {}
        judged = "nonfinite" in self.outside
        for place, (signal, values, moment, _, seen) in enumerate(frame.entries):
            if signal == "spike":
                key = "fired", moment.name, place
                told[key] = 1.0 if seen else 0.0  # its place among the layers
                if seen is None:
                    fired[key] = values if isinstance(values, Tensor) else values.bits
            elif seen is not False and judged and signal in self._signals and isinstance(values, Tensor):
                if seen is None:
                    finite["kept", place] = values
                else:
                    told["kept", place] = math.nan
        if self._loss is not None:
            told["loss"] = self._loss
        if not judged:
            return self._once(fired, told=told)
        for place, (given, _) in enumerate(self._inputs):
            finite["input", place] = given
        return self._glance(fired, finite, told)

    def _judge(self, sealed: _Sealed) -> None:
        frame, numbers = sealed.frame, sealed.late.values()
        triggers = []
        bad = [key for key, held in numbers.items() if not math.isfinite(held)]
        if (bad or sealed.bad_input or sealed.bad_weights) and (
            trigger := self._nonfinite(sealed, bad, numbers)
        ) is not None:
            triggers.append(trigger)
        layers: dict[str, bool] = {}
        for key, held in numbers.items():
            if key[0] == "fired":
                layers[key[1]] = layers.get(key[1], False) or held != 0
        self._watch(frame, numbers.get("loss"), layers, triggers)

    def _watch(self, frame: Frame, loss: float | None, layers: dict[str, bool], triggers: list[Trigger]) -> None:
        """Have the step looked at by all watches, besides what is known already."""
        if loss is not None:
            frame.told["loss"] = loss
        step = Step(frame.number, loss, layers)
        for watch in list(self.watches):
            try:
                trigger = watch.look(step)
            except Exception as error:  # of a function of the user's
                self.watches.remove(watch)
                warn(f"The flight recorder no longer asks {watch.name!r}: {type(error).__name__}: {error}")
                continue
            if trigger is not None:
                triggers.append(trigger)
        if triggers:
            follows = frame.number - self.last <= self.ring.keep_steps
            self.last = frame.number
            self.found += [] if follows else triggers

    def _nonfinite(self, sealed: _Sealed, bad: list[Any], numbers: dict[Any, float]) -> Trigger | None:
        """Where a value that is not finite came up first. A sum may overflow where no value does."""
        frame, trigger = sealed.frame, sealed.bad_input
        for key in bad:
            if trigger is None and key[0] == "input":
                given, call = sealed.inputs[key[1]]
                trigger = in_input(frame.number, given, self._axes(), call)
        kinds = {key if isinstance(key, str) else key[0] for key in bad}
        trigger = trigger or sealed.bad_weights
        if trigger is None and "kept" in kinds:
            trigger = in_kept(frame, frame.told.get("samples"))
        if trigger is None and "loss" in kinds and "nonfinite" in self.outside:
            trigger = sealed.bad_loss or in_loss(frame.number, numbers["loss"], None)
        if trigger is None and "weights" in kinds:
            odd = [self._weights[key[1]] for key in bad if key[0] == "weights"]
            trigger = in_weights(frame.number, self.net, odd, self._glance.turns)
        return trigger


class _Sealed(NamedTuple):
    """A step that is over, and what it is judged by."""

    frame: Frame
    inputs: list[tuple[Tensor, int | None]]
    late: Late
    bad_input: Trigger | None
    bad_loss: Trigger | None
    bad_weights: Trigger | None
