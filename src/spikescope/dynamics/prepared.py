"""The runs of a neuron that differ in nothing but the values of tensors, prepared once: then a call takes few steps.

What takes time in a small run is not the kernel but the way to it. Here the checks are done, the kernel is found and
its arguments are packed; a call makes what is filled and gives the addresses. Derivatives beyond the first, and
gradients in a form that no kernel takes, go the way of all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..internals import LeanFunction, is_plain
from ..toolchain.compiler import CompileError
from .derivative import Call
from .entry import address, given
from .fused import rule, saved
from .layout import BLOCK, checkpoint_shape, layout, real_dtype, sequence_in_layout, state_in_layout
from .native import Ready, Run, in_memory, ready_backward, ready_forward, threads_for, totals
from .operator import like_fields, tensor_slots
from .program import Values

__all__ = ["Prepared", "lies_without_gaps"]

_NO_TAPS = (0, 0, 0, 0)


def lies_without_gaps(x: Tensor, state: Sequence[float | Tensor], single: bool) -> bool:
    """Whether a kernel can take an input and a state as they lie: in one run of memory, each entry like a step."""
    x_seq, step = layout(x.unsqueeze(0) if single else x)
    if x_seq.data_ptr() != x.data_ptr() or (len(x_seq) > 1 and x_seq.stride(0) != step.numel):
        return False
    real = real_dtype(x)
    return all(
        held.shape == step.shape and held.dtype is real and step.fits(held.stride())
        for held in state
        if isinstance(held, Tensor)
    )


class Back(NamedTuple):
    """A backward pass that gives gradients to some of the fields."""

    wanted: tuple[int, ...]  # of the fields that are tensors
    run: Run
    scalars: tuple[bool, ...]  # of these, whether it is one number for all neurons
    always: Ready | None  # where no field is a tensor


class Prepared:
    """A run by the C++ kernels over inputs like `x`, whose memory has no gaps.

    Where the state starts is given by `first`: of each entry its number, or None for a tensor that lies like a step of
    the input.
    """

    def __init__(self, call: Call, x: Tensor, first: Sequence[float | None]) -> None:
        x_seq, step = layout(call.with_time(x))
        strides = tuple(1 if held is None or not step.shape else 0 for held in first)
        self.call, self.step, self.kinds = call, step, call.key.rpartition("|")[2]
        self.run = Run(call.key, x.dtype, step, len(x_seq), step.numel, strides)
        self.like = x.shape, x.stride(), x.dtype
        self.elements, self.in_order = x.numel(), x.is_contiguous()
        self.numbers = [None if held is None else in_memory(held, step, self.run.real) for held in first]
        self.always = ready_forward(self.run, self._values(())) if set(self.kinds) <= {"n"} else None
        self.slots = tensor_slots(self.kinds)
        self.backs: dict[tuple[int, ...], Back] = {}
        rows, *row = checkpoint_shape("cpp", self.run.steps, call.states, step.numel)
        self.rows = (rows, *row)
        self.no_checkpoints = None if rows else torch.empty(self.rows, dtype=self.run.real, device="cpu")

    def __call__(self, x: Tensor, rest: Sequence[Tensor]) -> Sequence[Tensor]:
        """Output and last state; `rest` are the entries of the first state that are tensors, then such fields."""
        if not self.call.keep_checkpoints:
            return self.forward(x, rest, None)
        found: Sequence[Tensor] = PreparedRun.apply(self, x, *rest)
        return found

    def forward(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
        """The kernel forwards."""
        ready = self.always or ready_forward(self.run, self._values(rest[self.call.held :]))
        y, state = torch.empty_like(x), [self._buffer() for _ in self.numbers]
        pointers = [*self._starts(rest), *[held.data_ptr() for held in (*state, *ready.arrays)], *_NO_TAPS]
        head = address(x), y.data_ptr(), 0, address(checkpoints), threads_for(self.elements)
        ready.kernel(ready.fixed, given(5 + len(pointers))(*head, *pointers))
        return (y, *state)

    def backward(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor,
        gstate: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        """The kernel backwards: gradients of the input and of those of `rest` that are `needed`."""
        tensors = rest[self.call.held :]
        back = self._back(needed[self.call.held :])
        ready = back.always or ready_backward(back.run, self._values(tensors))
        gy, in_time = self._over_time(gy)
        ends = [None if grad is None else self._at_the_end(grad) for grad in gstate]
        gx = torch.empty_like(x)
        starts = [self._buffer() if need else None for need in needed[: self.call.held]]
        fields = [self._buffer() for scalar in back.scalars if not scalar]
        sums = self._sums(back) if back.wanted else None
        in_turn = iter(starts)
        pointers = [
            *self._starts(rest),
            *[0 if held is None else address(held) for held in ends],
            *[0 if number is not None else address(next(in_turn)) for number in self.numbers],
            *[held.data_ptr() for held in (*ready.arrays, *fields)],
        ]
        head = address(x), address(checkpoints), address(gy), in_time, 0, gx.data_ptr(), address(sums)
        ready.kernel(ready.fixed, given(8 + len(pointers))(*head, threads_for(self.elements), *pointers))
        found: list[Tensor | None] = [gx, *starts, *[None] * len(tensors)]
        if sums is not None:
            told = totals(back.scalars, sums, fields, self.run.real)
            for i, grad in zip(back.wanted, like_fields(told, [tensors[i] for i in back.wanted]), strict=True):
                found[1 + len(starts) + i] = grad
        return found

    def knows(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor) -> bool:
        """Whether what was saved has come back as it lay: whoever keeps saved tensors elsewhere may lay them anew."""
        state = rest[: self.call.held]
        return (
            (x.shape, x.stride(), x.dtype) == self.like
            and checkpoints.is_contiguous()
            and False not in [held.dtype is self.run.real and self.step.fits(held.stride()) for held in state]
        )

    def _values(self, tensors: Sequence[Tensor]) -> Values:
        return Values(self.kinds, tensors, self.call.numbers)

    def _buffer(self) -> Tensor:
        return torch.empty_strided(self.step.shape, self.step.strides, dtype=self.run.real, device="cpu")

    def _sums(self, back: Back) -> Tensor:
        """Where the kernel leaves the gradients of fields of one number, a block of neurons each."""
        return torch.empty(-(-self.step.numel // BLOCK), sum(back.scalars), dtype=torch.float64, device="cpu")

    def _starts(self, rest: Sequence[Tensor]) -> list[int]:
        """The addresses of the first state."""
        tensors = iter(rest)
        return [address(next(tensors) if number is None else number) for number in self.numbers]

    def _back(self, needed: Sequence[bool]) -> Back:
        wanted = tuple([i for i, need in enumerate(needed) if need])
        if wanted not in self.backs:
            slots = tuple(self.slots[i] for i in wanted)
            scalars = tuple(self.kinds[slot] == "s" for slot in slots)
            run = self.run._replace(wanted=slots)
            always = None if self.always is None else ready_backward(run, self._values(()))
            self.backs[wanted] = Back(wanted, run, scalars, always)
        return self.backs[wanted]

    def _over_time(self, gy: Tensor) -> tuple[Tensor, int]:
        """The gradient of the output as the kernel takes it, and its stride in time."""
        if self.in_order and gy.dtype is self.run.io and gy.is_contiguous():
            return gy, self.step.numel
        gy = sequence_in_layout(self.call.with_time(gy), self.step, self.run.io)
        return gy, gy.stride(0)

    def _at_the_end(self, grad: Tensor) -> Tensor:
        """The gradient of an entry of the last state as the kernel takes it."""
        if self.in_order and grad.dtype is self.run.real and grad.is_contiguous():
            return grad
        return state_in_layout(grad.expand(self.step.shape), self.step, self.run.real)


class PreparedRun(LeanFunction):
    """A prepared run and its gradient as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, made: Prepared, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        checkpoints = made.no_checkpoints
        if checkpoints is None:
            checkpoints = torch.empty(made.rows, dtype=made.run.real, device="cpu")
        ctx.save_for_backward(x, checkpoints, *rest)  # as the run that is not prepared: a recomputation may be one
        ctx.made, ctx.call = made, made.call
        ctx.set_materialize_grads(False)
        return made.forward(x, rest, checkpoints)

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *gstate: Tensor | None) -> tuple[Tensor | None, ...]:
        held, made = saved(ctx), ctx.made
        x, checkpoints, *rest = held
        plain = gy is not None and not torch.is_grad_enabled() and is_plain(gy, *gstate, *held)
        if plain and made.knows(x, rest, checkpoints):
            try:
                return None, *made.backward(x, rest, checkpoints, gy, gstate, ctx.needs_input_grad[2:])
            except CompileError:
                pass  # that way says so, and runs the eager loop
        return rule(ctx, held, (gy, *gstate))
