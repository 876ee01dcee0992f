"""Prepared runs by the Triton kernels: compiled code that is found once, and arguments by value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..derivative import Call
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
    sums_of,
    totals,
)
from .gpu import backward_kernel, forward_kernel
from .kernel import WHOLE, Way
from .launch import Again, Launcher

__all__ = ["PreparedOnGpu"]


class PreparedOnGpu(Prepared):
    """A run by the Triton kernels, on a GPU or in Triton's interpreter."""

    by_channel: Channels | None = None  # where fields have a value per channel, how the channels lie

    def __init__(self, call: Call, x: Tensor, first: Sequence[float | None]) -> None:
        super().__init__(call, x, first)
        self.prologues: dict[tuple[int, ...] | None, tuple[Body, Rest]] = {}
        self.launchers: dict[object, Launcher] = {}
        self.known: dict[object, Again] = {}

    def forward(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
        y, last, told = torch.empty_like(x), [self._buffer() for _ in self.first], self._told()
        kept = self.no_checkpoints is None and checkpoints is not None
        state, fields = rest[: self.call.held], rest[self.call.held :]

        def arguments(constants: Constants) -> list[Any]:
            out = Outputs(y, last, None, checkpoints, told)
            return forward_arguments(x, self.step.numel, self._first(rest), self.step, out, constants)

        def launcher(constants: Constants) -> Launcher:
            form = form_of(self.real, self._first(rest), constants)
            kernel = forward_kernel(self.call.key, form, frozenset(self.taps))
            length = segment_length("triton", self.steps, self.call.states) if kept else 1
            return Launcher(kernel, self.device, blocks_of(self.step.numel), K=length, KEEP_V=False, KEEP_CK=kept)

        tensors = [x, y, *last, *state, *told.values()]
        if checkpoints is not None:
            tensors.append(checkpoints)
        self._launch(kept, None, fields, tensors, arguments, launcher)
        return (y, *last, *told.values())

    def backward(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor | None,
        gstate: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        return self._back(x, rest, checkpoints, self._over_time(gy), self._ends(gstate), needed)

    def _back(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: tuple[Tensor, int],
        ends: Sequence[Tensor],
        needed: Sequence[bool],
        correction: Sequence[Tensor] = (),
    ) -> list[Tensor | None]:
        """The kernel backwards on gradients as it takes them; with a `correction` as `gpu.backward` has it."""
        tensors, wanted = rest[self.call.held :], self._wanted(needed)
        slots = tuple([self.slots[i] for i in wanted])
        scalars = tuple([self.kinds[slot] == "s" for slot in slots])
        gx, has_g = torch.empty_like(x), bool(ends)
        way, blocks, rows = self._way(bool(correction))
        starts = [self._buffer() for _ in range(self.call.held)]  # the kernel writes them all
        sums = sums_of(scalars, [self._buffer() for _ in range(scalars.count(False))], x, blocks)

        def arguments(constants: Constants) -> list[Any]:
            given = iter(starts)
            gstart = [next(given) if number is None else None for number in self.first]
            return [
                *backward_arguments(
                    x,
                    self.step.numel,
                    states_of(self._first(rest), self.step, gstart, ends or [gx] * len(self.first)),
                    gx if self.no_checkpoints is not None else checkpoints,
                    gy,
                    gx,
                    gx,
                    sums,
                    constants,
                ),
                *correction,
                *rows,
            ]

        self._launch_back(
            (slots, scalars, has_g, gy[1], way, blocks),
            rest,
            [x, gx, gy[0], checkpoints, *starts, *ends, *sums, *correction],
            arguments,
        )
        first = [held if need else None for held, need in zip(starts, needed, strict=False)]
        return self._gradients(gx, first, wanted, totals(scalars, sums, self.real), tensors)

    def _launch_back(
        self,
        of: tuple[tuple[int, ...], tuple[bool, ...], bool, int, Way, int],
        rest: Sequence[Tensor],
        tensors: Sequence[Tensor],
        arguments: Callable[[Constants], list[Any]],
    ) -> None:
        """Launch the kernel backwards for gradients `of` a kind."""
        slots, scalars, has_g, _, way, blocks = of

        def launcher(constants: Constants) -> Launcher:
            length = segment_length("triton", self.steps, self.call.states)
            form = form_of(self.real, self._first(rest), constants)
            kernel = backward_kernel(self.call.key, form, slots, length, scalars, way)
            options = {"HAS_CK": self.no_checkpoints is None, "KEEP_V": False, "HAS_G": has_g}
            return Launcher(kernel, self.device, blocks, **options)

        held = self.call.held
        self._launch(of, slots, rest[held:], [*tensors, *rest[:held]], arguments, launcher)

    def _launch(
        self,
        kind: object,
        slots: tuple[int, ...] | None,
        fields: Sequence[Tensor],
        tensors: list[Tensor],
        arguments: Callable[[Constants], list[Any]],
        launcher: Callable[[Constants], Launcher],
    ) -> None:
        """Launch a kernel with the results of a prologue, forwards or, for gradients of the fields in `slots`,
        backwards. Its tensors are among `tensors` and these results; where they are taken as they are, the next launch
        of the kind needs nothing else.
        """
        body, rest = self._prologue(slots)
        held = rest.computed(fields)
        tensors += held
        known = self.known.get(kind)
        if known is not None:
            known(tensors)
            return
        constants = as_taken(body, rest.among(held), self.step, self.real, self.device, self.by_channel)
        given = [*arguments(constants), self.steps, self.step.numel]
        made = self.launchers.get((kind, constants.numbers))
        if made is None:
            made = self.launchers[kind, constants.numbers] = launcher(constants)
        made(given)
        if constants.numbers == body.numbers:
            self._keep(kind, made, given, tensors)

    def _keep(self, kind: object, launcher: Launcher, given: Sequence[Any], tensors: Sequence[Tensor]) -> None:
        """Have the next launch of the kind go by `tensors` alone, where each of those that were `given` is one of
        them, and it is told from the others.
        """
        among = {id(each) for each in tensors}
        taken = {id(held) for held in given if isinstance(held, Tensor)}
        if len(among) == len(tensors) and taken <= among:
            self.known[kind] = Again(launcher, given, tensors)

    def _prologue(self, slots: tuple[int, ...] | None) -> tuple[Body, Rest]:
        """The body of a kernel, and what its prologue leaves to do."""
        found = self.prologues.get(slots)
        if found is None:
            of = program(self.call.key)
            body = of.forward(self.real) if slots is None else of.backward(self.real, slots)
            found = self.prologues[slots] = body, body.prologue(self.call.numbers)
        return found

    def _way(self, corrected: bool) -> tuple[Way, int, Sequence[int]]:
        """What a pass backwards is for, in how many programs it runs, and what it takes besides."""
        return WHOLE, blocks_of(self.step.numel), ()

    def _first(self, rest: Sequence[Tensor]) -> list[float | Tensor]:
        tensors = iter(rest)
        return [next(tensors) if number is None else number for number in self.first]

    def _ends(self, gstate: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients of the last state, none if no entry has one; zeros where another entry has one."""
        if set(map(type, gstate)) == {type(None)}:
            return []
        return [self._buffer().zero_() if grad is None else self._at_the_end(grad) for grad in gstate]
