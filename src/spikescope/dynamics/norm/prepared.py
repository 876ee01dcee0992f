"""A neuron behind a normalisation, prepared: three kernels forwards, three backwards, and no operation of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..derivative import Call
from ..triton.arguments import Channels, Constants, backward_arguments, states_of
from ..triton.kernel import Way
from ..triton.launch import Launcher
from ..triton.prepared import PreparedOnGpu
from .kernels import (
    Chunks,
    Norm,
    moments_arguments,
    norm_kernels,
    rows_by_channel,
    settle_arguments,
    settle_back_arguments,
    settle_options,
)

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
        self.by_batch, self.amount = norm.by_batch, x.numel() / channels.number
        self.channels = self.by_channel = channels
        self.places, self.inserts = places, sorted(zip(places, (0, 1), strict=True))
        self.both = tuple([self.slots[place] for place in places])
        self.chunks, self.tiles, self.rows_of_one = Chunks.of(channels, n), channels.tiles(n), n // channels.number
        self.summing = Way(sums=True, width=channels.width)
        self.correcting = Way(corrected=True, width=channels.width)
        kernels, number = norm_kernels(self.real), channels.number
        self.of_sums = 2, number, self.chunks.number
        self.of_settled, self.of_gains = rows_by_channel(channels.shape), rows_by_channel(channels.shape[:1])
        self.moments = Launcher(kernels.spikescope_moments, self.device, self.chunks.programs, W=channels.width)
        self.settle = Launcher(kernels.spikescope_settle, self.device, number, **settle_options(norm, True))
        self.settle_back = Launcher(kernels.spikescope_settle_back, self.device, number)

    def run(
        self, x: Tensor, norm: Norm, rest: Sequence[Tensor], checkpoints: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the normalisation comes to, a row each of scale, shift, mean and rate; then output and last state."""
        settled = sums = self._rows(self.of_settled)
        if self.by_batch:
            sums = torch.empty(self.of_sums, dtype=torch.float64, device=self.device)
            self._moments(x, sums)
        self._settle(x, sums, norm, settled)
        return settled, self.forward(x, self._with(rest, settled.unbind()), checkpoints)

    def _rows(self, of: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor:
        """Memory for four values of each channel."""
        return torch.empty_strided(*of, dtype=self.real, device=self.device)

    def _moments(self, x: Tensor, sums: Tensor) -> None:
        known, n = self.known.get("moments"), self.step.numel
        if known is not None:
            known((x, sums))
            return
        given = moments_arguments(x, n, sums, self.steps, n, self.channels, self.chunks)
        self.moments(given)
        self._keep("moments", self.moments, given, (x, sums))

    def _settle(self, x: Tensor, sums: Tensor, norm: Norm, settled: Tensor) -> None:
        held = (sums if self.by_batch else None, norm.weight, norm.bias, norm.mean, norm.variance, norm.tracked)
        tensors, known = [each for each in (x, *held, settled) if each is not None], self.known.get("settle")
        if known is not None:
            known(tensors, norm.taken)
            return
        *given, taken = settle_arguments(x, sums, norm, settled, self.channels, self.amount)
        self.settle([*given, taken])
        self._keep("settle", self.settle, given, tensors)

    def still_knows(self, x: Tensor, rest: Sequence[Tensor], checkpoints: Tensor, settled: Tensor) -> bool:
        """Whether what was saved has come back as it lay."""
        return settled.get_device() == self.place and not settled.is_neg() and self.knows(x, rest, checkpoints)

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

        def arguments(constants: Constants) -> list[Any]:
            nothing = [sums if number is None else None for number in self.first]
            return [
                *backward_arguments(
                    x,
                    self.step.numel,
                    states_of(self._first(rest), self.step, nothing, ends or [sums] * len(self.first)),
                    sums if self.no_checkpoints is not None else checkpoints,
                    gy,
                    sums,
                    x,
                    [sums],
                    constants,
                ),
                self.rows_of_one,
            ]

        of = (self.both, (False, False), bool(ends), gy[1], self.summing, tiles * columns)
        self._launch_back(of, rest, [x, sums, gy[0], checkpoints, *ends], arguments)
        return sums

    def _settle_back(self, settled: Tensor, sums: Tensor) -> Sequence[Tensor]:
        """Of each channel the gradients of weight and bias, then constant and slope of the correction."""
        out = self._rows(self.of_gains)
        known = self.known.get("settle back")
        if known is not None:
            known((settled, sums, out))
        else:
            given = settle_back_arguments(settled, sums, out, self.channels, self.amount)
            self.settle_back(given)
            self._keep("settle back", self.settle_back, given, (settled, sums, out))
        return out.unbind()

    def _way(self, corrected: bool) -> tuple[Way, int, Sequence[int]]:
        if not corrected:
            return super()._way(False)
        if not self.correcting.tiled:
            return self.correcting, super()._way(False)[1], ()
        return self.correcting, math.prod(self.tiles), (self.rows_of_one,)
