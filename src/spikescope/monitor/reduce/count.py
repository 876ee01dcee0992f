"""Spikes counted: how many, how often, and which neurons never or always fire."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from ...errors import check_choice
from .core import MAX, SUM, Reducer

__all__ = ["Count", "Rate", "SaturatedShare", "SilentShare", "check_whole", "neuron_counts", "summed"]

Per = Literal["neuron", "channel", "layer"]

EXACT_ROWS = 2**20
"""Steps times samples up to which float32 adds whole numbers, up to 16 spikes to the step, without rounding."""


class Spikes(NamedTuple):
    """Spikes, and how many steps of how many samples each neuron was seen for."""

    spikes: Annotated[Tensor, SUM]  # float64, whole
    seen: Annotated[int, SUM]


class Fired(NamedTuple):
    """Whether each neuron has fired at all."""

    fired: Annotated[Tensor, MAX]  # uint8
    seen: Annotated[int, SUM]


def neuron_counts(x: Tensor) -> Tensor:
    """The spikes of each neuron over time and samples, `[*F]`, float64 and exact."""
    if x.dtype in (torch.float16, torch.bfloat16, torch.float32):
        exact = x.shape[0] * x.shape[1] <= EXACT_ROWS
        return x.sum((0, 1), dtype=torch.float32 if exact else torch.float64).double()
    return x.sum((0, 1)).double()


def summed(taps: dict[str, Tensor], steps: int) -> Tensor:
    """The counts `[N, *F]` of a kernel over so many steps, summed up over the samples, float64; once for all reducers.

    Bytes add up forty times faster than anything wider, as long as they do not overflow.
    """
    if "count of neurons" not in taps:
        counts = taps["count"]
        if counts.dtype is not torch.uint8:
            total = counts.sum(0, dtype=torch.float64)
        elif len(counts) * steps <= 255:
            total = counts.sum(0, dtype=torch.uint8).double()
        else:
            parts = counts.split(max(1, 255 // steps))
            total = torch.stack([part.sum(0, dtype=torch.uint8) for part in parts]).sum(0, dtype=torch.float64)
        taps["count of neurons"] = total
    return taps["count of neurons"]


def check_whole(owner: str, spikes: Tensor) -> None:
    """Refuse counts that are no whole numbers: the signal was no spikes."""
    odd = spikes[spikes != spikes.round()]
    if odd.numel():
        raise ValueError(
            f"{owner} counts spikes, which are whole numbers, but the signal summed up to {odd[0].item():.6g}. "
            "Choose the spikes as the signal, or divide scaled spikes by their scale."
        )


def check_per(owner: str, per: str) -> None:
    """Refuse an unknown grouping."""
    check_choice(owner, "per", per, ("neuron", "channel", "layer"))


def grouped(counts: Tensor, per: Per) -> Tensor:
    """Values per neuron `[*F]` summed up per channel, the first axis of F, or over the layer."""
    if per == "neuron":
        return counts
    return counts.sum() if per == "layer" else counts.flatten(1).sum(1) if counts.ndim > 1 else counts


@dataclass(frozen=True)
class Count(Reducer):
    """The number of spikes, int64: of each neuron `[*F]`, each channel (the first axis of F), or the layer.

    A step may hold several spikes of a neuron. Signed spikes cancel out: reduce their `abs()`.
    A signal that does not sum up to whole numbers is a ValueError.

    >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
    >>> count = Count()
    >>> count.result(count.measure(spikes)), Count(per="layer").result(Count(per="layer").measure(spikes))
    (tensor([2, 1]), tensor(3))
    """

    per: Per = "neuron"

    Summary = Spikes
    taps = ("count",)

    def __post_init__(self) -> None:
        check_per("Count", self.per)

    def chunk(self, x: Tensor, start: int) -> Spikes:
        return Spikes(grouped(neuron_counts(x), self.per), x.shape[0] * x.shape[1])

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Spikes:
        counts = summed(taps, len(x))
        return Spikes(grouped(counts, self.per), x.shape[0] * x.shape[1])

    def result(self, a: Spikes) -> Tensor:
        check_whole("Count", a.spikes)
        return a.spikes.long()


@dataclass(frozen=True)
class Rate(Reducer):
    r"""Spikes per step, the mean firing rate: of each neuron `[*F]`, each channel (the first axis of F), or the layer.

    $$r = \frac{1}{T N} \sum_{t, n} S_{t, n}$$

    A signal that does not sum up to whole numbers is a ValueError, as in `Count`.

    >>> rate = Rate()
    >>> rate.result(rate.measure(torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]))).tolist()
    [1.0, 0.5]
    """

    per: Per = "neuron"

    class Summary(NamedTuple):
        spikes: Annotated[Tensor, SUM]
        seen: Annotated[int, SUM]  # steps, times samples, times the neurons of a group

    taps = ("count",)

    def __post_init__(self) -> None:
        check_per("Rate", self.per)

    def chunk(self, x: Tensor, start: int) -> Summary:
        return self._summary(neuron_counts(x), x.shape)

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Summary:
        return self._summary(summed(taps, len(x)), x.shape)

    def result(self, a: Summary) -> Tensor:
        check_whole("Rate", a.spikes)
        return a.spikes / a.seen

    def _summary(self, counts: Tensor, shape: torch.Size) -> Summary:
        spikes = grouped(counts, self.per)
        return self.Summary(spikes, math.prod(shape) // max(spikes.numel(), 1))


@dataclass(frozen=True)
class SilentShare(Reducer):
    """The share of neurons that never fired, in any step of any sample.

    >>> silent = SilentShare()
    >>> silent.result(silent.measure(torch.tensor([[[1.0, 0.0, 0.0, 0.0]], [[1.0, 1.0, 0.0, 0.0]]])))
    0.5
    """

    Summary = Fired
    taps = ("count",)

    def chunk(self, x: Tensor, start: int) -> Fired:
        seen = x.shape[0] * x.shape[1]
        if not seen:
            return Fired(x.new_zeros(x.shape[2:], dtype=torch.uint8), 0)
        fired = (x.amax((0, 1)) != 0) | (x.amin((0, 1)) != 0)
        return Fired(fired.to(torch.uint8), seen)

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Fired:
        return Fired((summed(taps, len(x)) != 0).to(torch.uint8), x.shape[0] * x.shape[1])

    def result(self, a: Fired) -> float:
        if not a.seen or not a.fired.numel():
            return math.nan
        return (a.fired.numel() - a.fired.sum().item()) / a.fired.numel()


@dataclass(frozen=True)
class SaturatedShare(Reducer):
    """The share of neurons that fired in every step of every sample.

    - `threshold`: the spikes per step from which on a neuron counts as saturated; 1.0 is every step.

    >>> saturated = SaturatedShare()
    >>> saturated.result(saturated.measure(torch.tensor([[[1.0, 0.0, 0.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]])))
    0.25
    """

    threshold: float = 1.0

    Summary = Spikes
    taps = ("count",)

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ValueError(f"SaturatedShare: threshold must be above 0 spikes per step, but got {self.threshold}.")

    def chunk(self, x: Tensor, start: int) -> Spikes:
        return Spikes(neuron_counts(x), x.shape[0] * x.shape[1])

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Spikes:
        return Spikes(summed(taps, len(x)), x.shape[0] * x.shape[1])

    def result(self, a: Spikes) -> float:
        if not a.seen or not a.spikes.numel():
            return math.nan
        check_whole("SaturatedShare", a.spikes)
        return (a.spikes / a.seen >= self.threshold).sum().item() / a.spikes.numel()
