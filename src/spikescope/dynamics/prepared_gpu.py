"""Prepared runs by the Triton kernels: compiled code that is found once, and arguments by value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .arguments import (
    Constants,
    backward_arguments,
    blocks_of,
    constants_of,
    form_of,
    forward_arguments,
    states_of,
    sums_of,
    totals,
)
from .derivative import Call
from .gpu import backward_kernel, forward_kernel
from .launch import Launcher
from .layout import Outputs, segment_length
from .prepared import Prepared
from .program import program
from .triton import WHOLE, Way

__all__ = ["PreparedOnGpu"]


class PreparedOnGpu(Prepared):
    """A run by the Triton kernels, on a GPU or in Triton's interpreter."""

    def __init__(self, call: Call, x: Tensor, first: Sequence[float | None]) -> None:
        super().__init__(call, x, first)
        self.constants: dict[tuple[int, ...] | None, Constants] = {}
        self.launchers: dict[object, Launcher] = {}

    def forward(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
        constants = self._constants(rest[self.call.held :], None)
        state = self._first(rest)
        y, last = torch.empty_like(x), [self._buffer() for _ in self.first]
        out = Outputs(y, last, None, checkpoints, self._told())
        arguments = forward_arguments(x, self.step.numel, state, self.step, out, constants)
        kept = self.no_checkpoints is None and checkpoints is not None
        launcher = self.launchers.get((constants.numbers, kept))
        if launcher is None:
            kernel = forward_kernel(self.call.key, form_of(self.real, state, constants), frozenset(self.taps))
            length = segment_length("triton", self.steps, self.call.states) if kept else 1
            launcher = Launcher(kernel, self.device, blocks_of(self.step.numel), K=length, KEEP_V=False, KEEP_CK=kept)
            self.launchers[constants.numbers, kept] = launcher
        launcher([*arguments, self.steps, self.step.numel])
        return (y, *last, *out.taps.values())

    def backward(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor,
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
        constants, state = self._constants(tensors, slots), self._first(rest)
        gx, has_g = torch.empty_like(x), bool(ends)
        way, blocks, rows = self._way(bool(correction))
        starts = [self._buffer() for _ in range(self.call.held)]  # the kernel writes them all
        given = iter(starts)
        gstart = [next(given) if number is None else None for number in self.first]
        sums = sums_of(scalars, [self._buffer() for _ in range(scalars.count(False))], x, blocks)
        arguments = backward_arguments(
            x,
            self.step.numel,
            states_of(state, self.step, gstart, ends or [gx] * len(self.first)),
            gx if self.no_checkpoints is not None else checkpoints,
            gy,
            gx,
            gx,
            sums,
            constants,
        )
        launcher = self._backwards(constants, state, slots, scalars, has_g, gy[1], way, blocks)
        launcher([*arguments, *correction, *rows, self.steps, self.step.numel])
        first = [held if need else None for held, need in zip(starts, needed, strict=False)]
        return self._gradients(gx, first, wanted, totals(scalars, sums, self.real), tensors)

    def _backwards(
        self,
        constants: Constants,
        state: Sequence[float | Tensor],
        slots: tuple[int, ...],
        scalars: tuple[bool, ...],
        has_g: bool,
        in_time: int,
        way: Way,
        blocks: int,
    ) -> Launcher:
        """What launches the kernel backwards for gradients like these."""
        launcher = self.launchers.get((constants.numbers, slots, has_g, in_time, way))
        if launcher is None:
            length = segment_length("triton", self.steps, self.call.states)
            kernel = backward_kernel(self.call.key, form_of(self.real, state, constants), slots, length, scalars, way)
            options = {"HAS_CK": self.no_checkpoints is None, "KEEP_V": False, "HAS_G": has_g}
            launcher = Launcher(kernel, self.device, blocks, **options)
            self.launchers[constants.numbers, slots, has_g, in_time, way] = launcher
        return launcher

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

    def _constants(self, tensors: Sequence[Tensor], slots: tuple[int, ...] | None) -> Constants:
        """The results of a prologue, forwards or, for gradients of the fields in `slots`, backwards."""
        found = self.constants.get(slots)
        if found is None:
            made = program(self.call.key)
            body = made.forward(self.real) if slots is None else made.backward(self.real, slots)
            found = constants_of(body, self._values(tensors), self.step, self.real, self.device)
            if self.of_numbers:
                self.constants[slots] = found
        return found
