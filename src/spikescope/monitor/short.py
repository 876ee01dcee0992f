"""The short ways of values to what a recording keeps of them: for calls that differ from the last in numbers alone.

Between two activations of a monitor a convolution has thrown its code out of the caches, so that questions whose
answers are known cost more than sums over a layer. What is left over goes the way of any value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..base import StepModule
from ..form import Told
from .probe.single import Probe, Short
from .reduce import Packed
from .track import GradientTrack, Track

__all__ = ["forward_way", "short_way"]


def short_way(track: Track, probe: Probe) -> Short | None:
    """Of the values that a track measures."""
    if track.every != 1 or not probe.subset.everything or not isinstance(track.module, StepModule):
        return None
    if isinstance(track, GradientTrack):
        return Backwards(track, probe) if probe.scaler is None else None
    packed = [label for label in track.tapped if type(track.totals[label].reducer).tapped is Packed.tapped]
    told = len(packed) == len(track.tapped) and track.tapped | track.tallied.keys() == track.totals.keys()
    return AsTold(track, probe) if told else None


def forward_way(track: GradientTrack, probe: Probe) -> Short | None:
    """Of the values that tell a track of gradients that the forward pass goes on."""
    return Ahead(track, probe) if isinstance(track.module, StepModule) else None


class AsTold:
    """Of what a kernel has told alone: spikes that it has counted and packed."""

    def __init__(self, track: Track, probe: Probe) -> None:
        self._track, self._probe = track, probe
        self._way: Any = None  # through the neuron: on it, what the kernel tells is trusted
        self._run: Any = None  # of the call before, if that was short: what it leaves lies in memory as before

    def __call__(self, given: Any) -> bool:
        told = given[1] if type(given) is tuple else None
        track, probe = self._track, self._probe
        if type(told) is not Told or told.way is not self._way:
            self._way = told.way if type(told) is Told and track.trusted() else None
            self._run = None
            return False
        value = given[0]
        if told.run is not self._run:
            self._run = told.run if track.fits(value, told) else None
            if self._run is None:
                return False
        if not track.take_alike(value, told, probe.run if track.runs else probe.calls):
            self._run = None
            return False
        probe.go_on(value.shape[0])
        return True


class Ahead:
    """Of outputs and inputs of the shape of the last one, which are counted alone."""

    def __init__(self, track: GradientTrack, probe: Probe) -> None:
        self._track, self._probe = track, probe
        self._module: Any = track.module

    def __call__(self, value: Any) -> bool:
        track, probe = self._track, self._probe
        if not probe.fired or type(value) is not Tensor:
            return False
        axes = probe.axes
        if value.shape != axes.shape or self._module._step_mode != axes.mode:
            return False
        track.go_ahead(axes.steps, probe.run if track.runs else probe.calls)
        probe.go_on(axes.steps)
        return True


class Backwards:
    """Of gradients of the shape of the last one, of sequences."""

    def __init__(self, track: GradientTrack, probe: Probe) -> None:
        self._track, self._probe = track, probe
        self._module: Any = track.module

    def __call__(self, value: Any) -> bool:
        probe = self._probe
        if not probe.fired or type(value) is not Tensor or torch.is_grad_enabled():
            return False
        axes = probe.axes
        if not axes.timed or value.shape != axes.shape or self._module._step_mode != axes.mode:
            return False
        probe.calls += 1
        probe.fired += 1
        self._track.take_chunk(value)
        return True
