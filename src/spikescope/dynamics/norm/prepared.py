"""A neuron behind a normalisation, prepared: three kernels forwards, three backwards, and no operation of PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...internals import blank
from ..call import Call
from ..saved import Form
from ..triton.arguments import Channels, Constants, backward_arguments, states_of
from ..triton.kernel import Way
from ..triton.launch import Launcher, stream_of
from ..triton.prepared import Back, Backwards, PreparedOnGpu
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
        self.by_batch, self.amount, self.affine = norm.by_batch, x.numel() / channels.number, norm.weight is not None
        self.channels = self.by_channel = channels
        self.wholes = sorted(zip(places, (0, 1), strict=True))
        self.own = [slot for place, slot in enumerate(self.slots) if place not in places]
        self.chunks, self.tiles, self.rows_of_one = Chunks.of(channels, n), channels.tiles(n), n // channels.number
        both, tiles = tuple([self.slots[place] for place in places]), math.prod(self.tiles)
        summing = Way(sums=True, width=channels.width)
        self.summing = Back((), both, (False, False), summing, tiles, (self.rows_of_one,))
        self.correcting = Way(corrected=True, width=channels.width)
        kernels, number = norm_kernels(self.real), channels.number
        device, parts = self.device, (self.chunks.number, self.tiles[0])
        self.like_sums, self.like_tiles = (
            blank((2, number, each), (number * each, each, 1), dtype, device)
            for each, dtype in zip(parts, (torch.float64, self.real), strict=True)
        )
        self.of_settled, self.of_gains = rows_by_channel(channels.shape), rows_by_channel(channels.shape[:1])
        self.like_settled, self.like_gains = (blank(*of, self.real, device) for of in (self.of_settled, self.of_gains))
        self.moments = Launcher(kernels.spikescope_moments, self.device, self.chunks.programs, W=channels.width)
        self.settle = Launcher(kernels.spikescope_settle, self.device, number, **settle_options(norm, True))
        self.settle_back = Launcher(kernels.spikescope_settle_back, self.device, number)

    def run(
        self, x: Tensor, norm: Norm, rest: Sequence[Tensor], checkpoints: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the normalisation comes to, a row each of scale, shift, mean and rate; then output and last state."""
        stream = stream_of(self.device)
        settled = sums = self.like_settled.on(stream)()
        if self.by_batch:
            sums = self.like_sums.on(stream)()
            self._moments(stream, x, sums)
        self._settle(stream, x, sums, norm, settled)
        return settled, self._fore(stream, x, rest, self._fields(rest, settled), checkpoints)

    def _moments(self, stream: Any, x: Tensor, sums: Tensor) -> None:
        known, n = self.known.get("moments"), self.step.numel
        if known is not None:
            known(stream, (x, sums))
            return
        given = moments_arguments(x, n, sums, self.steps, n, self.channels, self.chunks)
        self.moments(given)
        self._keep("moments", self.moments, given, (x, sums))

    def _settle(self, stream: Any, x: Tensor, sums: Tensor, norm: Norm, settled: Tensor) -> None:
        held = (sums if self.by_batch else None, norm.weight, norm.bias, norm.mean, norm.variance, norm.tracked)
        tensors, known = [each for each in (x, *held, settled) if each is not None], self.known.get("settle")
        if known is not None:
            known(stream, tensors, norm.taken)
            return
        *given, taken = settle_arguments(x, sums, norm, settled, self.channels, self.amount)
        self.settle([*given, taken])
        self._keep("settle", self.settle, given, tensors)

    def knows(self, held: Sequence[Tensor | None]) -> bool:
        return super().knows([each for each in held if each is not None])

    def _lie_as_saved(self, held: Sequence[Tensor]) -> bool:
        first = 5 if self.affine else 3
        x, *learned, settled, checkpoints = held[:first]
        return (
            (settled.shape, settled.stride()) == self.of_settled
            and settled.dtype is self.real
            and settled.get_device() == self.place
            and not settled.is_neg()
            and all(map(_is_alike, learned, self.forms[1:3]))
            and self._lies_well(x, held[first:], checkpoints)
        )

    def gradients(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        settled: Tensor,
        rest: Sequence[Tensor],
        checkpoints: Tensor,
        gy: Tensor | None,
        gstate: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of input, weight, bias, first state and fields, those that are `needed`."""
        of = self._backwards(x, rest, self._fields(rest, settled), checkpoints, gy, gstate)
        learned: list[Tensor | None] = [None, None]
        gains = None
        if self.by_batch or needed[1] or needed[2]:
            gains = self._settle_back(of.stream, settled, self._sums(of))
            for place, held in enumerate((weight, bias)):
                if held is not None and needed[1 + place]:
                    grad = gains[place]
                    learned[place] = grad if held.dtype is self.real else grad.to(held.dtype)
        gx, *made = self._back(of, needed[3:], gains if self.by_batch else None)
        return [gx, *learned, *made]

    def _fields(self, rest: Sequence[Tensor], settled: Tensor) -> list[Tensor]:
        """All fields that are tensors; scale and shift are given as the whole whose rows they are."""
        fields = [*rest[self.held :]]
        for place, _ in self.wholes:
            fields.insert(place, settled)
        return fields

    def _sums(self, of: Backwards) -> Tensor:
        """The gradients of scale and shift as sums of tiles; see `gpu.channel_sums`."""
        sums = self.like_tiles.on(of.stream)()
        self._launch_back(of, self.summing, [sums], self._arguments_of_sums)
        return sums

    def _arguments_of_sums(self, of: Backwards, back: Back, constants: Constants, own: Sequence[Tensor]) -> list[Any]:
        """What the kernel takes that leaves these in its `own`, and writes no other memory."""
        sums = own[0]
        nothing = [sums if number is None else None for number in self.first]
        states = states_of(self._first(of.rest), self.step, nothing, of.ends or [sums] * len(self.first))
        checkpoints, gy = sums if self.no_checkpoints is not None else of.checkpoints, (of.gy, of.in_time)
        given = backward_arguments(of.x, self.step.numel, states, checkpoints, gy, sums, of.x, [sums], constants)
        return [*given, *back.more]

    def _settle_back(self, stream: Any, settled: Tensor, sums: Tensor) -> Tensor:
        """Of each channel, a row each, the gradients of weight and bias, then constant and slope of the correction."""
        out = self.like_gains.on(stream)()
        known = self.known.get("settle back")
        if known is not None:
            known(stream, (settled, sums, out))
        else:
            given = settle_back_arguments(settled, sums, out, self.channels, self.amount)
            self.settle_back(given)
            self._keep("settle back", self.settle_back, given, (settled, sums, out))
        return out

    def _way(self, corrected: bool) -> tuple[Way, int, Sequence[int]]:
        if not corrected:
            return super()._way(False)
        if not self.correcting.tiled:
            return self.correcting, super()._way(False)[1], ()
        return self.correcting, math.prod(self.tiles), (self.rows_of_one,)


def _is_alike(held: Tensor, form: Form | None) -> bool:
    """Whether a weight or a bias has come back as it was, wherever it lies: no kernel reads it."""
    return form is not None and held.shape == form.shape and held.dtype is form.dtype
