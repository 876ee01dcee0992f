"""Prepared runs by the Triton kernels: compiled code that is found once, and arguments by value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...internals import Blank, blank
from ..call import Call
from ..graphs.program import program
from ..graphs.prologue import Rest
from ..graphs.trace import Body
from ..layout import Outputs, segment_length
from ..prepared import Prepared
from .arguments import (
    Channels,
    Constants,
    as_taken,
    backward_arguments,
    blocks_of,
    form_of,
    forward_arguments,
    states_of,
    totals,
)
from .gpu import backward_kernel, forward_kernel
from .kernel import WHOLE, Way
from .launch import Again, Launcher, apart, stream_of

__all__ = ["Back", "Backwards", "PreparedOnGpu"]


Arguments = Callable[[Constants, Sequence[Tensor]], list[Any]]
"""What puts the arguments of a kernel together, of the results of a prologue and of what else was given to a launch."""

Rows = Sequence[tuple[int, int]]
"""Which of some tensors are given as the whole whose row they are, and as which row of it."""

Computed = dict[int, list[Tensor]]
"""What was computed of fields in one pass, by the list of operations: several kernels may want the same."""

_CORRECTION = (0, 2), (1, 3)  # of what goes into the gradient of an input, in the rows of what tells it


@dataclass(frozen=True, eq=False)
class Back:
    """A pass backwards that gives gradients to some of the fields; one is told from another by identity."""

    wanted: tuple[int, ...]  # the places of these among the fields that are tensors
    slots: tuple[int, ...]  # and among all fields
    scalars: tuple[bool, ...]  # whether it is one number for all neurons
    way: Way
    blocks: int
    more: Sequence[int] = ()  # what the kernel takes besides
    sums: Blank | None = None  # where it leaves the gradient of such a number, a sum a program


class Backwards(NamedTuple):
    """What a pass backwards is given, in one kernel or in several."""

    stream: Any  # as `Again` takes it
    x: Tensor
    rest: Sequence[Tensor]
    fields: Sequence[Tensor]  # all that are tensors, or `wholes`
    checkpoints: Tensor
    gy: Tensor
    in_time: int  # the stride of `gy` in time
    ends: Sequence[Tensor]  # the gradients of the last state, where it has any
    computed: Computed  # of these fields


ArgumentsBack = Callable[[Backwards, Back, Constants, Sequence[Tensor]], list[Any]]
"""The same of a kernel backwards, whose own tensors come first."""


class PreparedOnGpu(Prepared):
    """A run by the Triton kernels, on a GPU or in Triton's interpreter."""

    by_channel: Channels | None = None  # where fields have a value per channel, how the channels lie

    def __init__(self, call: Call, x: Tensor, first: Sequence[float | None]) -> None:
        super().__init__(call, x, first)
        self.prologues: dict[tuple[int, ...] | None, tuple[Body, Rest]] = {}
        self.launchers: dict[object, Launcher] = {}
        self.known: dict[object, Again] = {}
        self.backs: dict[tuple[object, bool], Back] = {}
        self.own: Sequence[int] = self.slots  # of the fields that are given
        self.wholes: Rows = ()  # of all fields that are tensors
        self.like_input = blank(self.shape, self.strides, self.io, self.device)
        self.like_value = blank(self.step.shape, self.step.strides, self.real, self.device)

    def forward(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
        return self._fore(stream_of(self.device), x, rest, rest[self.held :], checkpoints)

    def _fore(
        self, stream: Any, x: Tensor, rest: Sequence[Tensor], fields: Sequence[Tensor], checkpoints: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The kernel forwards, on a stream as `Again` takes it; `fields` are all that are tensors, or `wholes`."""
        value = self.like_value.on(stream)
        y, last, told = self.like_input.on(stream)(), [value() for _ in self.first], self._told()
        kept = self.no_checkpoints is None and checkpoints is not None
        tensors = [x, y, *last, *rest[: self.held], *told.values()]
        if kept:
            assert checkpoints is not None
            tensors.append(checkpoints)
        if not self._launch_again(stream, kept, None, fields, {}, tensors):
            self._launch_forwards(kept, rest, fields, tensors, Outputs(y, last, None, checkpoints, told))
        return (y, *last, *told.values())

    def _launch_forwards(
        self, kept: bool, rest: Sequence[Tensor], fields: Sequence[Tensor], tensors: Sequence[Tensor], out: Outputs
    ) -> None:
        def arguments(constants: Constants, given: Sequence[Tensor]) -> list[Any]:
            return forward_arguments(given[0], self.step.numel, self._first(rest), self.step, out, constants)

        def launcher(constants: Constants) -> Launcher:
            form = form_of(self.real, self._first(rest), constants)
            kernel = forward_kernel(self.call.key, form, frozenset(self.taps))
            length = segment_length("triton", self.steps, self.call.states) if kept else 1
            return Launcher(kernel, self.device, blocks_of(self.step.numel), K=length, KEEP_V=False, KEEP_CK=kept)

        self._launch(kept, None, fields, tensors, arguments, launcher)

    def backward(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor | None,
        gstate: Sequence[Tensor | None],
        needed: Sequence[bool],
        squares: Tensor | None = None,
    ) -> list[Tensor | None]:
        given = self._backwards(x, rest, rest[self.held :], checkpoints, gy, gstate)
        return self._back(given, needed)

    def _backwards(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        fields: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor | None,
        gstate: Sequence[Tensor | None],
    ) -> Backwards:
        """What a pass backwards is given, as its kernels take it."""
        ends = self._ends(gstate)
        return Backwards(stream_of(self.device), x, rest, fields, checkpoints, *self._over_time(gy), ends, {})

    def _back(self, of: Backwards, needed: Sequence[bool], gains: Tensor | None = None) -> list[Tensor | None]:
        """The gradients of the input and of those that are `needed`; the last two rows of `gains` are a correction as
        `gpu.backward` has it.
        """
        kind = needed, gains is not None
        back = self.backs.get(kind) or self._pass(*kind)
        gx, value = self.like_input.on(of.stream)(), self.like_value.on(of.stream)
        starts = [value() for _ in range(self.held)]  # the kernel writes them all
        sums = [back.sums.on(of.stream)() if scalar and back.sums else value() for scalar in back.scalars]
        if gains is None:
            self._launch_back(of, back, [gx, *starts, *sums], self._arguments_back)
        else:
            self._launch_back(of, back, [gains, gains, gx, *starts, *sums], self._arguments_back, _CORRECTION)
        first = [held if need else None for held, need in zip(starts, needed, strict=False)]
        found = totals(back.scalars, sums, self.real) if sums else ()
        return self._gradients(gx, first, back.wanted, found, of.rest[self.held :])

    def _arguments_back(self, of: Backwards, back: Back, constants: Constants, own: Sequence[Tensor]) -> list[Any]:
        """What the kernel backwards takes; its `own` are a correction, if there is one, the gradient of the input, and
        those of the first state and of fields.
        """
        corrected = 2 if back.way.corrected else 0
        correction, (gx, *rest) = own[:corrected], own[corrected:]
        starts, sums = iter(rest[: self.held]), rest[self.held : self.held + len(back.slots)]
        gstart = [next(starts) if number is None else None for number in self.first]
        states = states_of(self._first(of.rest), self.step, gstart, of.ends or [gx] * len(self.first))
        checkpoints, gy = gx if self.no_checkpoints is not None else of.checkpoints, (of.gy, of.in_time)
        given = backward_arguments(of.x, self.step.numel, states, checkpoints, gy, gx, gx, sums, constants)
        return [*given, *correction, *back.more]

    def _pass(self, needed: Sequence[bool], corrected: bool) -> Back:
        """What gives gradients to those that are `needed`, of the first state and of fields."""
        wanted = self._wanted(needed)
        slots = tuple([self.own[i] for i in wanted])
        scalars = tuple([self.kinds[slot] == "s" for slot in slots])
        way, blocks, more = self._way(corrected)
        sums = blank((max(1, blocks),), (1,), torch.float64, self.device)
        back = self.backs[needed, corrected] = Back(wanted, slots, scalars, way, blocks, more, sums)
        return back

    def _launch_back(
        self, of: Backwards, back: Back, own: list[Tensor], arguments: ArgumentsBack, rows: Rows = ()
    ) -> None:
        """Launch the kernel of a pass backwards, whose `own` tensors are told from what the pass was given."""
        tensors = [*own, of.x, of.gy, *of.ends, *of.rest[: self.held]]
        if self.no_checkpoints is None:
            tensors.append(of.checkpoints)
        kind = back, bool(of.ends), of.in_time
        if self._launch_again(of.stream, kind, back.slots, of.fields, of.computed, tensors):
            return

        def launcher(constants: Constants) -> Launcher:
            length = segment_length("triton", self.steps, self.call.states)
            form = form_of(self.real, self._first(of.rest), constants)
            kernel = backward_kernel(self.call.key, form, back.slots, length, back.scalars, back.way)
            options = {"HAS_CK": self.no_checkpoints is None, "KEEP_V": False, "HAS_G": bool(of.ends)}
            return Launcher(kernel, self.device, back.blocks, **options)

        self._launch(kind, back.slots, of.fields, tensors, partial(arguments, of, back), launcher, rows)

    def _launch_again(
        self,
        stream: Any,
        kind: object,
        slots: tuple[int, ...] | None,
        fields: Sequence[Tensor],
        computed: Computed,
        tensors: Sequence[Tensor],
    ) -> bool:
        """Launch a kernel that is known, and whether it is: with `tensors` and the results of a prologue, forwards or,
        for gradients of the fields in `slots`, backwards. What other kernels of the pass have `computed` is there.
        """
        known = self.known.get(kind)
        if known is None:
            return False
        _, rest = self.prologues[slots]
        held = computed.get(id(rest.operations))
        if held is None:
            held = computed[id(rest.operations)] = rest.computed(fields)
        known(stream, [*tensors, *held])
        return True

    def _launch(
        self,
        kind: object,
        slots: tuple[int, ...] | None,
        fields: Sequence[Tensor],
        tensors: Sequence[Tensor],
        arguments: Arguments,
        launcher: Callable[[Constants], Launcher],
        rows: Rows = (),
    ) -> None:
        """Launch a kernel whose tensors are among `tensors` and the results of a prologue. Where these are taken as
        they are, the next launch of the kind needs nothing else.
        """
        body, rest = self.prologues.get(slots) or self._prologue(slots)
        wholes = [*(tensors[at] for at, _ in rows), *(fields[place] for place, _ in self.wholes)]
        tensors, held = apart(tensors, rows), rest.computed(apart(fields, self.wholes))
        constants = as_taken(body, rest.among(held), self.step, self.real, self.device, self.by_channel)
        given = [*arguments(constants, tensors), self.steps, self.step.numel]
        made = self.launchers.get((kind, constants.numbers))
        if made is None:
            made = self.launchers[kind, constants.numbers] = launcher(constants)
        made(given)
        if constants.numbers == body.numbers and not rest.reads(place for place, _ in self.wholes):
            rows = *rows, *((len(tensors) + place, row) for place, row in self.wholes)
            self._keep(kind, made, given, [*tensors, *held], rows, wholes)

    def _keep(
        self,
        kind: object,
        launcher: Launcher,
        given: Sequence[Any],
        tensors: Sequence[Tensor],
        rows: Rows = (),
        wholes: Sequence[Tensor] = (),
    ) -> None:
        """Have the next launch of the kind go by `tensors` alone, where each of those that were `given` is one of
        them, and it is told from the others. One without values stays what it is.
        """
        among = {id(each) for each in tensors}
        taken = {id(held) for held in given if isinstance(held, Tensor) and held.numel()}
        if len(among) == len(tensors) and taken <= among:
            self.known[kind] = Again(launcher, given, tensors, rows, wholes)

    def _prologue(self, slots: tuple[int, ...] | None) -> tuple[Body, Rest]:
        """The body of a kernel, and what its prologue leaves to do."""
        of = program(self.call.key)
        body = of.forward(self.real) if slots is None else of.backward(self.real, slots)
        rest = body.prologue(self.call.numbers)
        for _, other in self.prologues.values():
            rest.share(other)
        found = self.prologues[slots] = body, rest
        return found

    def _way(self, corrected: bool) -> tuple[Way, int, Sequence[int]]:
        """What a pass backwards is for, in how many programs it runs, and what it takes besides."""
        return WHOLE, blocks_of(self.step.numel), ()

    def _first(self, rest: Sequence[Tensor]) -> list[float | Tensor]:
        tensors = iter(rest)
        return [next(tensors) if number is None else number for number in self.first]

    def _ends(self, gstate: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients of the last state, none if no entry has one; zeros where another entry has one."""
        for grad in gstate:
            if grad is not None:
                break
        else:
            return []
        return [self._buffer().zero_() if grad is None else self._at_the_end(grad) for grad in gstate]
