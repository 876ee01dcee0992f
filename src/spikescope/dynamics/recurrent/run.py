"""A recurrent cell over a sequence: two calls a step, forwards and backwards, and one node of the graph.

What drives the gates comes for all steps at once, and the gradients of the weights are one product of all steps. Of a
step there is left the product with the last output, by PyTorch as in the loop, and one kernel for all else.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import Words
from ...internals import LeanFunction, in_forward_mode, is_plain, takes_operations_alone
from ...toolchain.compiler import CompileError, trouble
from ..cpp.borrowed import load
from ..cpp.entry import given, packed
from ..cpp.native import threads_for
from ..loop import leaf
from ..saved import save, saved
from .equations import Cell, graphs, refusal
from .gates import Joined

__all__ = ["loop", "run_kernels"]

States = tuple[Tensor, ...]

_WORDS = Words(
    "its input, its states and its weights",
    "the states that were handed over have carried its graph along",
    "begin each batch without states, or hand over state.detach()",
    learns=True,
)


def loop(
    step: Callable[[Tensor, States], States], drive: Tensor, states: States, backwards: bool
) -> tuple[Tensor, ...]:
    """The outputs `[T, N, H]` and the states at the end of steps from a drive `[T, N, *]`, one after the other."""
    outputs, drives = [], list(drive.unbind(0))
    for each in reversed(drives) if backwards else drives:
        states = step(each, states)
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if backwards else outputs), *states


def run_kernels(
    cell: Cell,
    numbers: Sequence[float],
    drive: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    states: States,
    backwards: bool,
) -> tuple[Tensor, ...] | None:
    """What `loop` gives, by the kernels; None where they cannot run, or not with the same states bit for bit.

    - `weight`, `bias`: of the linear layer from the last output to the gates.
    """
    flat = [drive, weight, *(() if bias is None else (bias,)), *states]
    if not _lie_plainly(flat) or trouble() or refusal(cell, drive.dtype) is not None:
        return None
    made = _kernels(cell, drive.dtype, tuple(numbers))
    if made is None:
        return None
    if torch.is_grad_enabled() and any(held.requires_grad for held in flat):
        out: tuple[Tensor, ...] = _Run.apply(made, backwards, drive, weight, bias, *states)
        return out
    return _forward(made, backwards, drive, weight, bias, states, False).results


def _lie_plainly(flat: Sequence[Tensor]) -> bool:
    """Whether these are values of one dtype in the memory of a CPU, outside of all modes and transforms."""
    dtype = flat[0].dtype
    return (
        is_plain(*flat)
        and not (in_forward_mode() or takes_operations_alone() or torch.is_autocast_enabled("cpu"))
        and dtype in (torch.float32, torch.float64)
        and flat[0].numel() > 0
        and all(held.dtype is dtype and held.device.type == "cpu" for held in flat)
    )


class _Made(NamedTuple):
    """A cell with its numbers, and its kernels with the constants that follow from these."""

    cell: Cell
    numbers: tuple[float, ...]
    alike: bool
    forward: Callable[[bytes, bytes], None]
    backward: Callable[[bytes, bytes], None]
    constants: tuple[list[float], list[float]]


_told: set[Cell] = set()


@lru_cache(maxsize=256)
def _kernels(cell: Cell, real: torch.dtype, numbers: tuple[float, ...]) -> _Made | None:
    found = graphs(cell, real)
    try:
        entries = load(found.forward_text).enter_forward, load(found.backward_text).enter_backward
    except CompileError as error:
        if cell not in _told:
            _told.add(cell)
            warnings.warn(
                f"The kernels of {cell.name} could not be compiled, so it runs as the slower eager loop on the CPU: "
                f"{error}",
                RuntimeWarning,
                stacklevel=2,
            )
        return None
    for entry in entries:
        entry.argtypes, entry.restype = (ctypes.c_char_p, ctypes.c_char_p), None
    forth, back = ([float(held) for held in body.prologue(numbers)(())] for body in (found.forward, found.backward))
    return _Made(cell, numbers, found.alike, *entries, (forth, back))


class _Passed(NamedTuple):
    """A run forwards: what it gives, and what its gradient needs."""

    results: tuple[Tensor, ...]
    feedback: Tensor
    others: list[Tensor]  # the states but the output, of all steps


def _moments(steps: int, backwards: bool) -> range:
    """The steps in the order in which they run."""
    return range(steps - 1, -1, -1) if backwards else range(steps)


def _forward(
    made: _Made, backwards: bool, drive: Tensor, weight: Tensor, bias: Tensor | None, states: States, keep: bool
) -> _Passed:
    """The run; with `keep` the feedback and the states of all steps are kept, else those of two."""
    drive, before = drive.contiguous(), [held.contiguous() for held in states]
    steps, samples, units = len(drive), *before[0].shape
    y = drive.new_empty(steps, samples, units)
    others = [drive.new_empty(steps if keep else 2, samples, units) for _ in before[1:]]
    feedback = drive.new_empty(steps if keep else 1, *drive.shape[1:])
    fixed, pack = packed([samples, units], made.constants[0]), given(3 + 2 * len(before))
    threads, turned = threads_for(drive[0].numel()), weight.t()
    for number, t in enumerate(_moments(steps, backwards)):
        back = feedback[t if keep else 0]
        if bias is None:
            torch.mm(before[0], turned, out=back)
        else:
            torch.addmm(bias, before[0], turned, out=back)
        after = [y[t], *(held[t if keep else number % 2] for held in others)]
        made.forward(fixed, pack(threads, *[held.data_ptr() for held in (drive[t], back, *before, *after)]))
        before = after
    return _Passed((y, *(held.clone() for held in before)), feedback, others)


class _Run(LeanFunction):
    """The run and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, made: _Made, backwards: bool, drive: Tensor, weight: Tensor, bias: Tensor | None, *states: Tensor
    ) -> tuple[Tensor, ...]:
        run = _forward(made, backwards, drive, weight, bias, states, True)
        ctx.made, ctx.backwards, ctx.biased = made, backwards, bias is not None
        y, *ends = run.results
        save(ctx, drive, weight, bias, y, run.feedback, *states, *run.others)
        ctx.set_materialize_grads(False)
        return y.clone(), *ends  # what is given away may be changed in place

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        made, count = ctx.made, ctx.made.cell.states
        drive, weight, bias, y, feedback, *rest = saved(ctx, made.cell.name, _WORDS)
        states, others = tuple(rest[:count]), rest[count:]
        if torch.is_grad_enabled() or not is_plain(drive, weight, bias, y, feedback, *rest, *grads):
            return None, None, *_by_the_loop(ctx, [drive, weight, bias, *states], grads)
        back = _backward(made, ctx.backwards, drive, weight, y, feedback, states, others, grads)
        return None, None, *_of_all_steps(ctx, back, y, states[0])


class _Gradients(NamedTuple):
    """What the run backwards gives."""

    drive: Tensor
    feedback: Tensor
    states: list[Tensor]


def _backward(
    made: _Made,
    backwards: bool,
    drive: Tensor,
    weight: Tensor,
    y: Tensor,
    feedback: Tensor,
    states: States,
    others: Sequence[Tensor],
    grads: Sequence[Tensor | None],
) -> _Gradients:
    """The gradients of drive, feedback and first states, step by step, the last one first."""
    drive, start = drive.contiguous(), [held.contiguous() for held in states]
    steps, samples, units = y.shape
    gdrive = torch.empty_like(drive)
    gfeedback = gdrive if made.alike else torch.empty_like(drive)
    gy = torch.zeros_like(y) if grads[0] is None else grads[0].contiguous()
    ahead = [torch.zeros_like(y[0]) if held is None else held.contiguous() for held in grads[1:]]
    fixed, pack = packed([samples, units], made.constants[1]), given(6 + 3 * len(start))
    threads = threads_for(drive[0].numel())
    order = _moments(steps, backwards)
    for number in range(steps - 1, -1, -1):
        t = order[number]
        before = start if number == 0 else [held[order[number - 1]] for held in (y, *others)]
        found = [torch.empty_like(y[0]) for _ in start]
        places = drive[t], feedback[t], *before, gy[t], *ahead, gdrive[t], gfeedback[t], *found
        made.backward(fixed, pack(threads, *[held.data_ptr() for held in places]))
        ahead = [found[0].addmm_(gfeedback[t], weight), *found[1:]]
    return _Gradients(gdrive, gfeedback, ahead)


def _of_all_steps(ctx: Any, back: _Gradients, y: Tensor, first: Tensor) -> list[Tensor | None]:
    """The gradients in the order of the arguments; those of the weights as one product of all steps."""
    _, _, wants_drive, wants_weight, wants_bias, *wanted = ctx.needs_input_grad
    gweight = gbias = None
    if wants_weight:
        gweight = back.feedback[-1 if ctx.backwards else 0].t().mm(first)
        if len(y) > 1:
            later, earlier = (back.feedback[:-1], y[1:]) if ctx.backwards else (back.feedback[1:], y[:-1])
            gweight.addmm_(later.flatten(0, 1).t(), earlier.flatten(0, 1))
    if wants_bias:
        gbias = back.feedback.sum((0, 1))
    states = [grad if want else None for grad, want in zip(back.states, wanted, strict=True)]
    return [back.drive if wants_drive else None, gweight, gbias, *states]


def _by_the_loop(ctx: Any, inputs: Sequence[Tensor | None], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients by autograd through the loop: where they are to have gradients, or are many at once."""
    made, again = ctx.made, torch.is_grad_enabled()
    wanted = ctx.needs_input_grad[2:]
    with torch.enable_grad():
        held: list[Any] = [
            leaf(each, again) if each is not None and want else each for each, want in zip(inputs, wanted, strict=True)
        ]
        out = _loop(made, ctx.backwards, held)
        pairs = [(o, g) for o, g in zip(out, grads, strict=True) if g is not None and o.requires_grad]
        leaves = [each for each, want in zip(held, wanted, strict=True) if want]
        outputs, seeds = [o for o, _ in pairs], [g for _, g in pairs]
        found = iter(torch.autograd.grad(outputs, leaves, seeds, create_graph=again, allow_unused=True))
    return [next(found) if want else None for want in wanted]


def _loop(made: _Made, backwards: bool, held: Sequence[Any]) -> tuple[Tensor, ...]:
    drive, weight, bias, *states = held
    cell, functions, units = made.cell, made.cell.surrogates(made.numbers), states[0].shape[-1]

    def step(each: Tensor, states: States) -> States:
        back = Joined(F.linear(states[0], weight, bias), units)
        return cell.equations(cell.options, functions, Joined(each, units), back, states)

    return loop(step, drive, tuple(states), backwards)
