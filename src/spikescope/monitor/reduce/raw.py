"""The signal itself, kept whole or as packed spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from ...errors import ShapeError, dims
from ...spikes import PackedSpikes
from .core import OWN, SPAN, Reducer, Span
from .pieces import Pieces, join, whole

__all__ = ["Packed", "Raw"]


class Course(NamedTuple):
    """Chunks in the order of time."""

    span: Annotated[Span, SPAN]
    pieces: Annotated[Pieces, OWN]


class PackedCourse(NamedTuple):
    """Rows of bits, one to the step, in the order of time; `shape` is that of a step."""

    span: Annotated[Span, SPAN]
    pieces: Annotated[Pieces, OWN]
    shape: Annotated[torch.Size, OWN]
    dtype: Annotated[torch.dtype, OWN]


@dataclass(frozen=True)
class Raw(Reducer):
    """The whole signal `[T, N, *F]`, copied. It grows with time and batch.

    >>> raw = Raw()
    >>> first, then = raw.measure(torch.zeros(1, 1, 2)), raw.measure(torch.ones(1, 1, 2), start=1)
    >>> raw.result(raw.merge(first, then))
    tensor([[[0., 0.]],
    <BLANKLINE>
            [[1., 1.]]])
    """

    Summary = Course
    gathers = True

    def chunk(self, x: Tensor, start: int) -> Course:
        return Course(Span(start, start + len(x)), (x.clone(),))

    def after(self, a: Course, b: Course) -> Course:
        check_steps("Raw", a.pieces[0].shape[1:], b.pieces[0].shape[1:])
        return Course(a.span.then(b.span), join(a.pieces, b.pieces))

    def check_beside(self, a: Course, b: Course) -> None:
        check_steps("Raw", a.pieces[0].shape[2:], b.pieces[0].shape[2:])
        a.span.beside(b.span)

    def beside(self, a: Course, b: Course) -> Course:
        self.check_beside(a, b)
        return Course(a.span, (torch.cat((whole(a.pieces), whole(b.pieces)), 1),))

    def result(self, a: Course) -> Tensor:
        return torch.cat(a.pieces)  # a copy: it is the reader's


@dataclass(frozen=True)
class Packed(Reducer):
    """All spikes as `PackedSpikes`, one bit each. It grows with time and batch; a value but 0 and 1 is a ValueError.

    >>> packed = Packed()
    >>> packed.result(packed.measure(torch.ones(3, 2, 5)))
    PackedSpikes([T=3, N=2, 5], torch.float32, order='step', 6 bytes)
    """

    Summary = PackedCourse
    gathers = True
    taps = ("packed",)

    def chunk(self, x: Tensor, start: int) -> PackedCourse:
        spikes = PackedSpikes.from_dense(x)
        return PackedCourse(Span(start, start + len(x)), (spikes.bits,), x.shape[1:], x.dtype)

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> PackedCourse:
        return self.kept({"packed": taps["packed"].clone()}, x, start)

    def kept(self, taps: dict[str, Tensor], x: Tensor, start: int) -> PackedCourse:
        if len(x) and not x[0].is_contiguous():  # the bits lie in another order
            return self.chunk(x, start)
        return PackedCourse(Span(start, start + x.shape[0]), (taps["packed"],), x.shape[1:], x.dtype)

    def after(self, a: PackedCourse, b: PackedCourse) -> PackedCourse:
        check_steps("Packed", a.shape, b.shape)
        return a._replace(span=a.span.then(b.span), pieces=join(a.pieces, b.pieces))

    def check_beside(self, a: PackedCourse, b: PackedCourse) -> None:
        check_steps("Packed", a.shape[1:], b.shape[1:])
        a.span.beside(b.span)

    def beside(self, a: PackedCourse, b: PackedCourse) -> PackedCourse:
        self.check_beside(a, b)
        span = a.span
        if a.shape.numel() % 8 == 0:  # whole bytes, as they are
            bits = torch.cat((whole(a.pieces), whole(b.pieces)), 1)
            shape = torch.Size((a.shape[0] + b.shape[0], *a.shape[1:]))
            return PackedCourse(span, (bits,), shape, torch.promote_types(a.dtype, b.dtype))
        both = torch.cat((self.result(a).dense(), self.result(b).dense()), 1)
        return self.chunk(both, span.start)

    def result(self, a: PackedCourse) -> PackedSpikes:
        bits = torch.cat(a.pieces)  # a copy: it is the reader's
        return PackedSpikes(bits, torch.Size((len(bits), *a.shape)), a.dtype)


def check_steps(owner: str, a: torch.Size, b: torch.Size) -> None:
    """Refuse to join signals whose other axes differ."""
    if a != b:
        raise ShapeError(
            f"{owner} cannot merge {dims(a)} and {dims(b)}: beside the axis that is joined, all axes must agree. "
            "Record batches of another shape as runs of their own."
        )
