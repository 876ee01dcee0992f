"""What the kernels of a normalisation take: the sums of each channel, what follows from them, and the same backwards.

Sums are of parts: of chunks of the rows forwards, of tiles backwards. A kernel adds up those of its channel in double
precision and in one order, whoever runs first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..triton.arguments import Channels
from ..triton.kernel import norm_source
from ..triton.launch import load

__all__ = [
    "Chunks",
    "Norm",
    "Shared",
    "by_channel",
    "moments_arguments",
    "norm_kernels",
    "rows_by_channel",
    "settle_arguments",
    "settle_back_arguments",
    "settle_options",
]

_PROGRAMS = 2048  # of one pass over the input, which is several for every processor of a large GPU
_ALIGNED = 4  # values of a row, so that each row begins where a GPU fetches from


class Shared(Protocol):
    """How the processes of a group put their statistics together."""

    def moments(self, mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, float]:
        """Mean and population variance of each channel over all processes, and the number of values in it; gradients
        go to the processes that the moments come from.
        """


class Norm(NamedTuple):
    """A batch normalisation as a run takes it."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor | None  # the running statistics; None where there are none
    variance: Tensor | None
    tracked: Tensor | None  # the number of batches, which the run increases; None where it does not
    eps: float
    taken: float  # the share that the running statistics take of those of a batch; 0 for none
    by_batch: bool  # whether the statistics are those of the batch
    shared: Shared | None = None

    def without_tensors(self) -> Norm:
        """What of it a backward pass may keep."""
        return self._replace(weight=None, bias=None, mean=None, variance=None, tracked=None)


@cache
def norm_kernels(real: torch.dtype) -> Any:
    """The kernels for a state of the dtype `real`."""
    return load(norm_source(real))


class Chunks(NamedTuple):
    """How the rows of a step are shared out among programs: so many chunks of `span` tiles, in so many programs."""

    number: int
    span: int
    programs: int

    @classmethod
    def of(cls, channels: Channels, n: int) -> Chunks:
        """Those of a step of `n` neurons."""
        rows, columns = channels.tiles(n)
        span = -(-rows // min(rows, max(1, _PROGRAMS // columns)))
        number = -(-rows // span)
        return cls(number, span, number * columns)


def by_channel(x: Tensor, real: torch.dtype, shape: Sequence[int]) -> Tensor:
    """Memory for four values of each channel, as rows of the `shape` of a value per channel."""
    return x.new_empty_strided(*rows_by_channel(shape), dtype=real)


def rows_by_channel(shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides of such memory."""
    row = -(-shape[0] // _ALIGNED) * _ALIGNED
    return (4, *shape), (row, *(1,) * len(shape))


def moments_arguments(x: Tensor, in_time: int, sums: Tensor, steps: int, n: int, of: Channels, by: Chunks) -> list[Any]:
    """Of each channel the sums of its values and of their squares, both off the first value: `[2, C, chunks]`."""
    return [x, in_time, sums, steps, n // of.number, of.number, of.inner, by.number, by.span]


def settle_arguments(x: Tensor, sums: Tensor, norm: Norm, out: Tensor, of: Channels, amount: float) -> list[Any]:
    """Of each channel scale, shift, mean and rate, the inverse deviation, into the rows of `out`."""
    held = (norm.weight, norm.bias, norm.mean, norm.variance, norm.tracked)
    chunks, row = sums.shape[-1], out.stride(0)
    given = [out if each is None else each for each in held]
    return [x, sums, *given, out, of.number, of.inner, chunks, row, float(amount), norm.eps, norm.taken]


def settle_options(norm: Norm, alone: bool) -> dict[str, bool]:
    """What the kernel does: `alone` are the sums of this process."""
    return {
        "PIVOT": alone,
        "READ": not norm.by_batch,
        "TRACK": norm.by_batch and norm.taken > 0,
        "COUNT": norm.tracked is not None,
        "AFFINE": norm.weight is not None,
    }


def settle_back_arguments(settled: Tensor, sums: Tensor, out: Tensor, of: Channels, amount: float) -> list[Any]:
    """Of each channel the gradients of weight and bias, then constant and slope of what its inputs get besides, of the
    sums `[2, C, tiles]` of the gradients of scale and shift.
    """
    return [settled, sums, out, of.number, sums.shape[-1], settled.stride(0), out.stride(0), float(amount)]
