"""Prepared runs by the C++ kernels: arguments that stay are packed once, those of a call are addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..derivative import Call
from ..layout import BLOCK, TAPS
from ..offered import as_result
from ..prepared import Prepared
from .entry import address, given
from .native import Ready, Run, in_memory, ready_backward, ready_forward, threads_for, totals

__all__ = ["PreparedOnCpu"]


class Back(NamedTuple):
    """A backward pass that gives gradients to some of the fields."""

    run: Run
    scalars: tuple[bool, ...]  # of these, whether it is one number for all neurons
    always: Ready | None  # where no field is a tensor


class PreparedOnCpu(Prepared):
    """A run by the C++ kernels."""

    def __init__(self, call: Call, x: Tensor, first: Sequence[float | None]) -> None:
        super().__init__(call, x, first)
        step = self.step
        strides = tuple(1 if held is None or not step.shape else 0 for held in first)
        self.run = Run(call.key, self.io, step, self.steps, step.numel, strides, frozenset(self.taps))
        self.numbers = [None if held is None else in_memory(held, step, self.real) for held in first]
        self.always = ready_forward(self.run, self._values(())) if self.of_numbers else None
        self.backs: dict[tuple[int, ...], Back] = {}

    def forward(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
        ready = self.always or ready_forward(self.run, self._values(rest[self.call.held :]))
        y, state, told = torch.empty_like(x), [self._buffer() for _ in self.numbers], self._told()
        pointers = [*self._starts(rest), *[held.data_ptr() for held in (*state, *ready.arrays)]]
        pointers += [address(told.get(name)) for name in TAPS]
        head = address(x), y.data_ptr(), 0, address(checkpoints), threads_for(self.elements)
        ready.kernel(ready.fixed, given(5 + len(pointers))(*head, *pointers))
        return (y, *state, *told.values())

    def backward(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor,
        gstate: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        tensors, wanted = rest[self.call.held :], self._wanted(needed)
        back = self._back(wanted)
        ready = back.always or ready_backward(back.run, self._values(tensors))
        gy, in_time = self._over_time(gy)
        ends = [None if grad is None else self._at_the_end(grad) for grad in gstate]
        gx = as_result(x)
        gx = torch.empty_like(x) if gx is None else gx
        starts = [self._buffer() if need else None for need in needed[: self.call.held]]
        fields = [self._buffer() for scalar in back.scalars if not scalar]
        sums = self._sums(back) if wanted else None
        in_turn = iter(starts)
        pointers = [
            *self._starts(rest),
            *[0 if held is None else address(held) for held in ends],
            *[0 if number is not None else address(next(in_turn)) for number in self.numbers],
            *[held.data_ptr() for held in (*ready.arrays, *fields)],
        ]
        head = address(x), address(checkpoints), address(gy), in_time, 0, gx.data_ptr(), address(sums)
        ready.kernel(ready.fixed, given(8 + len(pointers))(*head, threads_for(self.elements), *pointers))
        found = [] if sums is None else totals(back.scalars, sums, fields, self.real)
        return self._gradients(gx, starts, wanted, found, tensors)

    def _sums(self, back: Back) -> Tensor:
        """Where the kernel leaves the gradients of fields of one number, a block of neurons each."""
        return torch.empty(-(-self.step.numel // BLOCK), sum(back.scalars), dtype=torch.float64, device="cpu")

    def _starts(self, rest: Sequence[Tensor]) -> list[int]:
        """The addresses of the first state."""
        tensors = iter(rest)
        return [address(next(tensors) if number is None else number) for number in self.numbers]

    def _back(self, wanted: tuple[int, ...]) -> Back:
        if wanted not in self.backs:
            slots = tuple(self.slots[i] for i in wanted)
            run = self.run._replace(taps=frozenset(), wanted=slots)
            always = ready_backward(run, self._values(())) if self.of_numbers else None
            self.backs[wanted] = Back(run, tuple(self.kinds[slot] == "s" for slot in slots), always)
        return self.backs[wanted]
