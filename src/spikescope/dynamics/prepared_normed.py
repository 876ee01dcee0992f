"""A neuron behind a normalisation, prepared: three kernels forwards, three backwards, and no operation of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .arguments import Channels, Constants, backward_arguments, constants_of, states_of
from .derivative import Call
from .launch import Launcher
from .norm_kernels import (
    Chunks,
    Norm,
    by_channel,
    moments_arguments,
    norm_kernels,
    settle_arguments,
    settle_back_arguments,
    settle_options,
)
from .prepared_gpu import PreparedOnGpu
from .program import program
from .triton import Way

__all__ = ["PreparedNormed"]


class PreparedNormed(PreparedOnGpu):
    """A run of the neuron and of a normalisation that differs from `norm` in nothing but tensors and its momentum."""

    def __init__(
        self,
        call: Call,
        x: Tensor,
        first: Sequence[float | None],
        places: tuple[int, int],
        channels: Channels,
        norm: Norm,
    ) -> None:
        super().__init__(call, x, first)
        n = self.step.numel
        self.by_batch, self.channels, self.amount = norm.by_batch, channels, x.numel() / channels.number
        self.places, self.inserts = places, sorted(zip(places, (0, 1), strict=True))
        self.both = tuple([self.slots[place] for place in places])
        self.chunks, self.tiles, self.rows_of_one = Chunks.of(channels, n), channels.tiles(n), n // channels.number
        self.summing = Way(sums=True, width=channels.width)
        self.correcting = Way(corrected=True, width=channels.width)
        kernels, number = norm_kernels(self.real), channels.number
        self.moments = Launcher(kernels.spikescope_moments, self.device, self.chunks.programs, W=channels.width)
        self.settle = Launcher(kernels.spikescope_settle, self.device, number, **settle_options(norm, True))
        self.settle_back = Launcher(kernels.spikescope_settle_back, self.device, number)
        self.patterns: dict[tuple[int, ...] | None, tuple[Constants, list[tuple[int, int]]]] = {}

    def run(
        self, x: Tensor, norm: Norm, rest: Sequence[Tensor], checkpoints: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the normalisation comes to, a row each of scale, shift, mean and rate; then output and last state."""
        settled = sums = by_channel(x, self.real, self.channels.shape)
        if self.by_batch:
            sums = x.new_empty((2, self.channels.number, self.chunks.number), dtype=torch.float64)
            n = self.step.numel
            self.moments(moments_arguments(x, n, sums, self.steps, n, self.channels, self.chunks))
        self.settle(settle_arguments(x, sums, norm, settled, self.channels, self.amount))
        return settled, self.forward(x, self._with(rest, settled.unbind()), checkpoints)

    def still_knows(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor, settled: Tensor) -> bool:
        """Whether what was saved has come back as it lay."""
        rows = settled.dtype is self.real and settled.shape == (4, *self.channels.shape)
        return rows and self.knows(x, (*rest, settled), checkpoints)

    def gradients(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        settled: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor,
        gstate: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of input, weight, bias, first state and fields, those that are `needed`."""
        rest, over_time, ends = self._with(rest, settled.unbind()), self._over_time(gy), self._ends(gstate)
        learned: list[Tensor | None] = [None, None]
        correction: Sequence[Tensor] = ()
        if self.by_batch or needed[1] or needed[2]:
            sums = self._sums(x, rest, checkpoints, over_time, ends)
            gains = self._settle_back(settled, sums)
            correction = gains[2:] if self.by_batch else ()
            for place, held in enumerate((weight, bias)):
                if held is not None and needed[1 + place]:
                    grad = gains[place]
                    learned[place] = grad if held.dtype is self.real else grad.to(held.dtype)
        wanted = [needed[0], *needed[3:]]
        for place, _ in self.inserts:
            wanted.insert(1 + self.call.held + place, False)
        gx, *made = self._back(x, rest, checkpoints, over_time, ends, wanted[1:], correction)
        for place, _ in reversed(self.inserts):
            del made[self.call.held + place]
        return [gx, *learned, *made]

    def _with(self, rest: Sequence[Tensor], settled: Sequence[Tensor]) -> list[Tensor]:
        """States and fields that are tensors, scale and shift among them."""
        made = list(rest)
        for place, row in self.inserts:
            made.insert(self.call.held + place, settled[row])
        return made

    def _sums(
        self,
        x: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: tuple[Tensor, int],
        ends: Sequence[Tensor],
    ) -> Tensor:
        """The gradients of scale and shift as sums of tiles; see `gpu.channel_sums`."""
        tiles, columns = self.tiles
        sums = x.new_empty((2, self.channels.number, tiles), dtype=self.real)
        constants, state = self._constants(rest[self.call.held :], self.both), self._first(rest)
        arguments = backward_arguments(
            x,
            self.step.numel,
            states_of(state, self.step, [sums if n is None else None for n in self.first], ends or [sums] * len(state)),
            sums if self.no_checkpoints is not None else checkpoints,
            gy,
            sums,
            x,
            [sums],
            constants,
        )
        launcher = self._backwards(
            constants, state, self.both, (False, False), bool(ends), gy[1], self.summing, tiles * columns
        )
        launcher([*arguments, self.rows_of_one, self.steps, self.step.numel])
        return sums

    def _settle_back(self, settled: Tensor, sums: Tensor) -> Sequence[Tensor]:
        """Of each channel the gradients of weight and bias, then constant and slope of the correction."""
        out = by_channel(settled, self.real, self.channels.shape[:1])
        self.settle_back(settle_back_arguments(settled, sums, out, self.channels, self.amount))
        return out.unbind()

    def _way(self, corrected: bool) -> tuple[Way, int, Sequence[int]]:
        if not corrected:
            return super()._way(False)
        if not self.correcting.tiled:
            return self.correcting, super()._way(False)[1], ()
        return self.correcting, math.prod(self.tiles), (self.rows_of_one,)

    def _constants(self, tensors: Sequence[Tensor], slots: tuple[int, ...] | None) -> Constants:
        """The results of a prologue. Where these are numbers and fields as they are, only the fields are put in."""
        known = self.patterns.get(slots)
        if known is not None:
            constants, where = known
            arguments = list(constants.arguments)
            for at, place in where:
                arguments[at] = tensors[place]
            return Constants(arguments, constants.numbers, constants.channels)
        made = program(self.call.key)
        body = made.forward(self.real) if slots is None else made.backward(self.real, slots)
        found = constants_of(body, self._values(tensors), self.step, self.real, self.device, self.channels)
        where = [
            (at, place)
            for at, held in enumerate(found.arguments)
            for place, tensor in enumerate(tensors)
            if held is tensor
        ]
        if len(where) == sum(isinstance(held, Tensor) for held in found.arguments):
            arguments = [None if isinstance(held, Tensor) else held for held in found.arguments]
            self.patterns[slots] = Constants(arguments, found.numbers, found.channels), where
        return found
