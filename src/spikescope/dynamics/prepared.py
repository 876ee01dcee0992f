"""Prepared runs: calls of a neuron that differ only in the values of tensors share all that is found out about them.

What takes time in a small run is not the kernel but the way to it. Here the checks are done, the kernel is found and
its arguments are packed; a call makes what is filled and gives the addresses. Derivatives beyond the first, and
gradients in a form that no kernel takes, go the way of all others. `cpp/prepared.py` and `triton/prepared.py` call the
kernels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import saved_tensors
from ..internals import LeanFunction, are_plain_gradients, is_plain, like_these, saved_tensors_hook
from ..toolchain.compiler import CompileError
from .call import Call, tap_names
from .cpp.squares import squares_in
from .fused import rule
from .gain import gradients_of_product
from .graphs.program import Values
from .layout import checkpoint_shape, layout, make_taps, real_dtype, sequence_in_layout, state_in_layout
from .operator import like_fields, tensor_slots
from .saved import Form, as_saved, forms_of

__all__ = ["Prepared", "as_form", "lies_without_gaps"]


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


def as_form(made: Tensor) -> Tensor:
    """A tensor that was made for this, without its memory, for others to be made like it.

    That takes less time than to say the form, and than to make them like a tensor that has a gradient.
    """
    made.untyped_storage().resize_(0)
    return made


class Prepared(ABC):
    """A run by kernels over inputs like `x`, whose memory has no gaps.

    - `first`: where the state starts: of each entry its number, or None for a tensor that lies like a step of `x`.
    - `gained`: whether each step of the input is multiplied by a number first; these come after the fields.
    """

    def __init__(self, call: Call, x: Tensor, first: Sequence[float | None], gained: bool = False) -> None:
        x_seq, step = layout(call.with_time(x))
        self.call, self.step, self.first, self.kinds = call, step, first, call.kinds
        self.owner, self.learns, self.gained = call.owner, call.keep_checkpoints, gained
        self.steps, self.io, self.real, self.device = len(x_seq), x.dtype, real_dtype(x), x.device
        self.shape, self.strides, self.place = x.shape, x.stride(), x.get_device()
        self.elements, self.in_order = x.numel(), x.is_contiguous()
        self.as_input, self.as_value = (
            as_form(torch.empty_strided(shape, strides, dtype=dtype, device=x.device))
            for shape, strides, dtype in ((x.shape, x.stride(), self.io), (step.shape, step.strides, self.real))
        )
        self.states, self.held, self.fields = call.states, call.held, len(self.kinds) - self.kinds.count("n")
        self.of_numbers = set(self.kinds) <= {"n"}
        self.slots = tensor_slots(self.kinds)
        self.taps = tuple(tap_names(call.taps))
        made = make_taps(frozenset(self.taps), self.steps, step, self.real, torch.device("meta"))
        self.told = [(name, made[name].shape, made[name].stride(), made[name].dtype) for name in self.taps]
        self.rows = checkpoint_shape(call.backend, self.steps, call.states, step.numel)
        self.no_checkpoints = None if self.rows[0] else self._empty(*self.rows)
        self.forms: Sequence[Form | None] = ()  # of what is saved, the same at every call
        self.of_rest: Sequence[tuple[torch.Size, torch.dtype]] = ()
        self.as_saved: Callable[..., bool] | None = None  # says of what comes back that it lies as it did

    def __call__(self, x: Tensor, rest: Sequence[Tensor]) -> Sequence[Tensor]:
        """Output, last state, potentials where they are kept, and taps; `rest` are the entries of the first state that
        are tensors, then such fields, then the gains of the steps, if there are any.

        No transform of `torch.func` is at work.
        """
        if not self.learns:
            return self.forward(x, rest, None)
        told: list[Tensor] | None = [] if self.taps else None
        found: Sequence[Tensor] = PreparedRun.outside((self, told), x, *rest)
        return (*found, *told) if told else found

    @abstractmethod
    def forward(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor | None) -> tuple[Tensor, ...]:
        """The kernel forwards: output, last state, potentials where they are kept, taps."""

    @abstractmethod
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
        """The kernel backwards: gradients of the input and of those of `rest` that are `needed`.

        - `squares`: the room where it leaves the squares of the gradient of the output.
        """

    def room_for_squares(self) -> Tensor | None:
        """Such a room; None where no kernel fills it."""
        return None

    def checkpoints(self) -> Tensor:
        """Where the run forwards leaves the states from which segments of it run again."""
        return self._empty(*self.rows) if self.no_checkpoints is None else self.no_checkpoints

    def knows(self, held: Sequence[Tensor]) -> bool:
        """Whether what was saved has come back as it lay: whoever keeps saved tensors elsewhere may lay them anew."""
        if self.as_saved is not None and self.as_saved(*held):
            return True
        if not self._lie_as_saved(held):
            return False
        self.as_saved = like_these(held)
        return True

    def _lie_as_saved(self, held: Sequence[Tensor]) -> bool:
        """The same, asked in words."""
        x, checkpoints, *rest = held
        return self._lies_well(x, rest, checkpoints)

    def _lies_well(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor) -> bool:
        place = self.place
        if not (
            x.shape == self.shape
            and x.stride() == self.strides
            and x.dtype is self.io
            and x.get_device() == place
            and not x.is_neg()
            and (self.no_checkpoints is not None or self._knows_checkpoints(checkpoints))
        ):
            return False
        for i, each in enumerate(rest):
            shape, dtype = self.of_rest[i]
            if each.shape != shape or each.dtype is not dtype or each.get_device() != place or each.is_neg():
                return False
            if i < self.held and not self.step.fits(each.stride()):
                return False
        return not self.gained or rest[-1].layout is torch.strided

    def remember(self, kept: Sequence[Tensor | None], rest: Sequence[Tensor]) -> Sequence[Form | None]:
        """The forms of what a call saves, which ends with `rest`; those of all calls are the same."""
        if not self.forms:
            self.of_rest = [(held.shape, held.dtype) for held in rest]
            self.forms = forms_of((*kept, *rest))
        return self.forms

    def _knows_checkpoints(self, checkpoints: Tensor) -> bool:
        return (
            checkpoints.shape == self.rows
            and checkpoints.dtype is self.real
            and checkpoints.get_device() == self.place
            and checkpoints.is_contiguous()
            and not checkpoints.is_neg()
        )

    def _values(self, tensors: Sequence[Tensor]) -> Values:
        return Values(self.kinds, tensors, self.call.numbers)

    def _told(self) -> dict[str, Tensor]:
        """Where the kernel leaves the taps, in their order."""
        if not self.told:
            return {}
        place = self.device
        return {
            name: torch.empty_strided(shape, strides, dtype=dtype, device=place)
            for name, shape, strides, dtype in self.told
        }

    def _wanted(self, needed: Sequence[bool]) -> tuple[int, ...]:
        """Which of the fields that are tensors are to have gradients."""
        return tuple([i for i, need in enumerate(needed[self.held : self.held + self.fields]) if need])

    def _gradients(
        self,
        gx: Tensor,
        starts: Sequence[Tensor | None],
        wanted: Sequence[int],
        found: Sequence[Tensor],
        tensors: Sequence[Tensor],
    ) -> list[Tensor | None]:
        """The gradients in the order of the arguments; those `found` belong to the fields `wanted`."""
        made: list[Tensor | None] = [gx, *starts, *[None] * len(tensors)]
        if wanted:
            for i, grad in zip(wanted, like_fields(found, [tensors[i] for i in wanted]), strict=True):
                made[1 + len(starts) + i] = grad
        return made

    def _buffer(self) -> Tensor:
        """Memory for a value per neuron, laid like a step."""
        return torch.empty_like(self.as_value)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.real, device=self.device)

    def _over_time(self, gy: Tensor | None) -> tuple[Tensor, int]:
        """The gradient of the output as the kernel takes it, and its stride in time."""
        if gy is None:  # of a network that is told of its last step alone, the output of all steps before
            return torch.zeros(self.step.numel, dtype=self.io, device=self.device), 0
        if gy.dtype is self.io:
            if gy.stride() == self.strides:
                return gy, self.step.numel
            if self.in_order:
                return gy.contiguous(), self.step.numel
        gy = sequence_in_layout(self.call.with_time(gy), self.step, self.io)
        return gy, gy.stride(0)

    def _at_the_end(self, grad: Tensor) -> Tensor:
        """The gradient of an entry of the last state as the kernel takes it."""
        if self.in_order and grad.dtype is self.real and grad.is_contiguous():
            return grad
        return state_in_layout(grad.expand(self.step.shape), self.step, self.real)


class PreparedRun(LeanFunction):
    """A prepared run and its gradient as one node of the graph."""

    at_first = {"ear": None, "handed": None, "hooked": False}

    @staticmethod
    def forward(ctx: Any, run: tuple[Prepared, list[Tensor] | None], x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        made, told = run
        checkpoints = made.checkpoints() if made.no_checkpoints is None else made.no_checkpoints
        ctx.save_for_backward(x, checkpoints, *rest)  # as the run that is not prepared: a recomputation may be one
        if not made.forms:
            made.remember((x, checkpoints), rest)
        ctx.made = made
        if saved_tensors_hook() is not None:
            ctx.hooked = True
        ctx.set_materialize_grads(False)
        out = made.forward(x, rest, checkpoints)
        if told is None:
            return out
        cut = len(out) - len(made.taps)  # beside the node: what it gives out is wrapped, and taps have no gradient
        told += out[cut:]
        return out[:cut]

    @staticmethod
    def backward(ctx: Any, gy: Tensor | None, *gstate: Tensor | None) -> tuple[Tensor | None, ...]:
        made = ctx.made
        held = saved_tensors(ctx, made.owner)
        x, checkpoints, *rest = held
        plain = not torch.is_grad_enabled() and are_plain_gradients(gy, *gstate)
        if made.call.keep_v and gstate[-1] is not None:  # the potentials of all steps were asked for
            plain = False
        if plain and ctx.hooked:  # else what is saved comes back itself
            plain = is_plain(x, None if made.no_checkpoints is not None else checkpoints, *rest)
        if plain and made.knows(held):
            handed = ctx.handed  # to who wants the squares of the gradient of the output
            room = None if handed is None or not handed.is_read_as(gy) else made.room_for_squares()
            try:
                ends = gstate[: made.states]
                found = made.backward(x, rest, checkpoints, gy, ends, ctx.needs_input_grad[2:], room)
            except CompileError:
                pass  # that way says so, and runs the eager loop
            else:
                if room is not None:
                    handed.tell(squares_in(room))
                if ctx.ear is not None:  # who listens to the neuron; the kernel has brought the gradient near
                    ctx.ear(gy, True)
                if made.gained:
                    wants = ctx.needs_input_grad[1]
                    found = _multiplied(made.call, found[0], x, rest[-1], found[1:], own=True, wants_x=wants)
                return None, *found
        if ctx.ear is not None:
            ctx.ear(gy, False)
        held = as_saved(made.owner, held, made.forms)
        if not made.gained:
            return rule(made.call, ctx.needs_input_grad, held, (gy, *gstate))
        x, checkpoints, *rest, gain = held
        driven = made.call.without_time(made.call.with_time(x) * _by_step(gain, made.call.with_time(x)))
        _, grad, *more = rule(made.call, ctx.needs_input_grad[:-1], (driven, checkpoints, *rest), (gy, *gstate))
        return None, *_multiplied(made.call, grad, x, gain, more)


def _multiplied(
    call: Call,
    driven: Tensor | None,
    x: Tensor,
    gain: Tensor,
    others: Sequence[Tensor | None],
    own: bool = False,
    wants_x: bool = True,
) -> list[Tensor | None]:
    """The gradients of the input and of the gains of its steps from that of the product, with the `others` between."""
    assert driven is not None
    x_seq = call.with_time(x)
    grad, summed = gradients_of_product(call.with_time(driven), x_seq, _by_step(gain, x_seq), own, wants_x)
    return [None if grad is None else call.without_time(grad), *others, summed.reshape(gain.shape)]


def _by_step(gain: Tensor, x_seq: Tensor) -> Tensor:
    """The numbers in the shape in which they multiply a sequence."""
    return gain.reshape(-1, *(1,) * (x_seq.ndim - 1))
