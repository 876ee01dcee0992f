"""Prepared runs by the C++ kernels: arguments that stay are packed once, those of a call are addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..call import Call
from ..donated import take_donated
from ..layout import BLOCK, TAPS
from ..prepared import Prepared, as_form
from .entry import address, addresses, given
from .native import Ready, Run, in_memory, ready_backward, ready_forward, runs_alone, threads_for

__all__ = ["PreparedOnCpu"]

data_ptr = Tensor.data_ptr

_NONE: tuple[Sequence[Tensor], Sequence[int]] = (), (0,) * len(TAPS)
"""The taps of a run without any, and where they lie."""


Again = Callable[[Tensor, Sequence[Tensor], Tensor | None], tuple[Tensor, ...]]
"""What runs forwards as `PreparedOnCpu.forward` does."""


BackAgain = Callable[
    [Tensor, Sequence[Tensor], Tensor, Tensor | None, Sequence[Tensor | None], Sequence[bool]], Sequence[Tensor | None]
]
"""What runs backwards as `PreparedOnCpu.backward` does."""


class Back(NamedTuple):
    """A backward pass that gives gradients to some of the fields."""

    run: Run
    scalars: tuple[bool, ...]  # of these, whether it is one number for all neurons
    always: Ready | None  # where no field is a tensor
    again: BackAgain | None  # where the addresses alone change from call to call


class PreparedOnCpu(Prepared):
    """A run by the C++ kernels."""

    def __init__(self, call: Call, x: Tensor, first: Sequence[float | None], gained: bool = False) -> None:
        super().__init__(call, x, first, gained)
        step = self.step
        strides = tuple(1 if held is None or not step.shape else 0 for held in first)
        self.run = Run(call.key, self.io, step, self.steps, step.numel, strides, frozenset(self.taps), gained=gained)
        self.in_memory = [None if held is None else in_memory(held, step, self.real) for held in first]
        self.numbers, self.nowhere = tuple(map(address, self.in_memory)), (0,) * self.states
        self.always = ready_forward(self.run, self._values(())) if self.of_numbers else None
        taps = (
            torch.empty_strided(shape, strides, dtype=dtype, device="cpu") for _, shape, strides, dtype in self.told
        )
        self.as_taps = [*map(as_form, taps)]
        self.places = [TAPS.index(name) for name in self.taps]
        self.as_number = as_form(torch.empty((), dtype=self.real, device="cpu"))
        self.as_states, self.alone = (self.as_value,) * self.states, runs_alone(self.elements)
        self.as_potentials = self._as_potentials() if call.keep_v else None
        self.backs: dict[tuple[int, ...], Back] = {}
        self.by_addresses = self.held in (0, self.states) and not self.gained and self.alone
        self.again = self._again()

    def forward(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
        if self.again is not None:
            return self.again(x, rest, checkpoints)
        kernel, fixed, arrays = self.always or ready_forward(self.run, self._values(self._of_fields(rest)))
        gains = [self._gains(rest)] if self.gained else []
        y, state = torch.empty_like(self.as_input), [*map(torch.empty_like, self.as_states)]
        told, places = self._taps() if self.taps else _NONE
        kept = () if self.as_potentials is None else (torch.empty_like(self.as_potentials),)
        pointers = (
            x.data_ptr() or address(x),
            y.data_ptr(),
            kept[0].data_ptr() if kept else 0,
            0 if self.no_checkpoints is not None else address(checkpoints),
            1 if self.alone else threads_for(self.elements),
            *self._starts(rest),
            *map(data_ptr, state),
            *map(data_ptr, arrays),
            *places,
            *addresses(gains),
        )
        kernel(fixed, given(len(pointers))(*pointers))
        return (y, *state, *kept, *told)

    def backward(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor | None,
        gstate: Sequence[Tensor | None],
        needed: Sequence[bool],
        squares: Tensor | None = None,
    ) -> Sequence[Tensor | None]:
        wanted = self._wanted(needed) if self.fields else ()
        back = self.backs.get(wanted) or self._back(wanted)
        if back.again is not None and squares is None:
            return back.again(x, rest, checkpoints, gy, gstate, needed)
        kernel, fixed, arrays = back.always or ready_backward(back.run, self._values(self._of_fields(rest)))
        over_time, in_time = self._over_time(gy)
        gx = None if self.gained else take_donated(x)  # else it is read again
        gx = torch.empty_like(self.as_input) if gx is None else gx
        found = [torch.empty_like(self.as_number) if each else self._buffer() for each in back.scalars]
        sums = self._sums(back) if True in back.scalars else None
        pointers = [
            x.data_ptr() or address(x),
            0 if self.no_checkpoints is not None else address(checkpoints),
            over_time.data_ptr() or address(over_time),
            in_time,
            0,
            gx.data_ptr(),
            0 if sums is None else address(sums),
            1 if self.alone else threads_for(self.elements),
            0 if squares is None else squares.data_ptr(),
            *self._starts(rest),
        ]
        ends: list[Tensor] = []  # loops: comprehensions take longer for the one state or two that most have
        for grad in gstate:
            if grad is None:
                pointers.append(0)
            else:
                ends.append(end := self._at_the_end(grad))
                pointers.append(end.data_ptr() or address(end))
        starts: list[Tensor | None] = []
        own: list[int] = []
        for need in needed[: self.held]:
            starts.append(start := torch.empty_like(self.as_value) if need else None)
            own.append(0 if start is None else start.data_ptr())
        pointers += self._by_state(own, self.nowhere)
        gains = [self._gains(rest)] if self.gained else []
        pointers += map(data_ptr, (*arrays, *found))
        pointers += addresses(gains)
        kernel(fixed, given(len(pointers))(*pointers))
        if not self.fields:
            return [gx, *starts]
        return self._gradients(gx, starts, wanted, found, self._of_fields(rest))

    def room_for_squares(self) -> Tensor | None:
        if self.io is not torch.float32:
            return None
        return torch.empty(2 + -(-self.step.numel // BLOCK), self.steps, dtype=torch.float64, device="cpu")

    def _again(self) -> Again | None:
        """The run forwards where only the addresses of input, state and checkpoints change from call to call.

        So it is where the fields are numbers, the state is all in tensors or all at rest, and nothing else is told.
        """
        if self.always is None or self.taps or self.as_potentials is not None or not self.by_addresses:
            return None
        kernel, fixed, arrays = self.always
        as_input, as_states, made, numbers = self.as_input, self.as_states, torch.empty_like, self.numbers
        keeps = self.no_checkpoints is None
        last = (*map(data_ptr, arrays), *_NONE[1])  # `always` keeps them
        pack = given(5 + 2 * self.states + len(last))

        def again(x: Tensor, state: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
            y, ends = made(as_input), [*map(made, as_states)]
            at, starts = x.data_ptr(), [*map(data_ptr, state)] or numbers
            if not at or 0 in starts:
                addresses((x, *state))  # it says what is wrong
            kept = address(checkpoints) if keeps else 0
            kernel(fixed, pack(at, y.data_ptr(), 0, kept, 1, *starts, *map(data_ptr, ends), *last))
            return (y, *ends)

        return again

    def _back_again(self, ready: Ready) -> BackAgain:
        """The run backwards in the same case; taps are of the run forwards."""
        kernel, fixed, arrays = ready
        as_input, as_value, made, numbers = self.as_input, self.as_value, torch.empty_like, self.numbers
        keeps, held = self.no_checkpoints is None, range(self.held)
        last = (*(() if self.held else self.nowhere), *map(data_ptr, arrays))
        pack = given(9 + 2 * self.states + self.held + len(last))

        def back_again(
            x: Tensor,
            state: Sequence[Tensor],
            checkpoints: Tensor,
            gy: Tensor | None,
            gstate: Sequence[Tensor | None],
            needed: Sequence[bool],
        ) -> Sequence[Tensor | None]:
            over_time, in_time = self._over_time(gy)
            gx = take_donated(x)
            gx = made(as_input) if gx is None else gx
            starts = [*map(data_ptr, state)] or numbers
            at, over = x.data_ptr(), over_time.data_ptr()
            if not (at and over) or 0 in starts:
                addresses((x, over_time, *state))  # it says what is wrong
            kept = address(checkpoints) if keeps else 0
            pointers = [at, kept, over, in_time, 0, gx.data_ptr(), 0, 1, 0, *starts]
            ends: list[Tensor] = []  # loops: comprehensions take longer for the one state or two that most have
            for grad in gstate:
                if grad is None:
                    pointers.append(0)
                else:
                    ends.append(end := self._at_the_end(grad))
                    pointers.append(end.data_ptr() or address(end))
            found: list[Tensor | None] = [gx]
            for i in held:
                found.append(start := made(as_value) if needed[i] else None)
                pointers.append(0 if start is None else start.data_ptr())
            kernel(fixed, pack(*pointers, *last))
            return found

        return back_again

    def _as_potentials(self) -> Tensor:
        """The form of the potentials of all steps."""
        shape, strides = (self.steps, *self.step.shape), (self.step.numel, *self.step.strides)
        return as_form(torch.empty_strided(shape, strides, dtype=self.real, device="cpu"))

    def make_ready(self, tensors: Sequence[Tensor]) -> None:
        """Have the kernel forwards made now, for fields that are these tensors."""
        ready_forward(self.run, self._values(tensors))

    def _taps(self) -> tuple[Sequence[Tensor], Sequence[int]]:
        """Memory for the taps, and its addresses as the kernel takes them."""
        told, places = [*map(torch.empty_like, self.as_taps)], [*_NONE[1]]
        for place, tap in zip(self.places, told, strict=True):
            places[place] = tap.data_ptr()
        return told, places

    def _sums(self, back: Back) -> Tensor:
        """Where the kernel adds up the gradients of fields of one number: a sum for each block of neurons."""
        return torch.empty(-(-self.step.numel // BLOCK), sum(back.scalars), dtype=torch.float64, device="cpu")

    def _of_fields(self, rest: Sequence[Tensor]) -> Sequence[Tensor]:
        """The fields among what a run takes besides the input."""
        return rest[self.held : self.held + self.fields]

    def _gains(self, rest: Sequence[Tensor]) -> Tensor:
        """The numbers by which the steps are multiplied, as the kernel takes them."""
        return rest[-1].to(self.real).contiguous()

    def _starts(self, rest: Sequence[Tensor]) -> Sequence[int]:
        """The addresses of the first state."""
        return self._by_state(addresses(rest[: self.held]), self.numbers) if self.held else self.numbers

    def _by_state(self, own: Sequence[int], others: Sequence[int]) -> Sequence[int]:
        """An address a state: of those that start from a tensor its `own`, of the rest that among `others`."""
        if len(own) in (0, self.states):
            return own or others
        left = iter(own)
        return [next(left) if held is None else other for held, other in zip(self.first, others, strict=True)]

    def _back(self, wanted: tuple[int, ...]) -> Back:
        if wanted not in self.backs:
            slots = tuple(self.slots[i] for i in wanted)
            run = self.run._replace(taps=frozenset(), wanted=slots)
            always = ready_backward(run, self._values(())) if self.of_numbers else None
            again = self._back_again(always) if always is not None and self.by_addresses else None
            self.backs[wanted] = Back(run, tuple(self.kinds[slot] == "s" for slot in slots), always, again)
        return self.backs[wanted]
