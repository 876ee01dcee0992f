"""Spikes counted: how many, how often, and which neurons never or always fire."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor

from ...errors import check_choice, check_number, check_whole
from .core import MAX, SUM, Reducer
from .cpp.trains import has_fired
from .tally import Counts, counts_of, counts_told, summing_dtype

__all__ = ["Count", "CountReducer", "Rate", "SaturatedShare", "SilentShare", "check_whole_counts", "is_tallied"]

Per = Literal["neuron", "channel", "layer"]


class Spikes(NamedTuple):
    """Spikes, and how many steps of how many samples each neuron was seen for."""

    spikes: Annotated[Tensor, SUM]  # float64, whole
    seen: Annotated[int, SUM]


class Fired(NamedTuple):
    """Whether each neuron has fired at all."""

    fired: Annotated[Tensor, MAX]  # uint8
    seen: Annotated[int, SUM]


class CountReducer(Reducer, abstract=True):
    """Base of what follows from the spikes of each neuron, however they came in time: write `Summary`, `counted`,
    `result`. What a kernel counts is added up over all runs (`Tally`) and reduced only when somebody reads.
    """

    taps = ("count",)

    def counted(self, counts: Counts) -> Any:
        """The summary of these spikes."""
        raise NotImplementedError("a reducer of counts defines counted(counts)")

    def chunk(self, x: Tensor, start: int) -> Any:
        return self.counted(counts_of(x))

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Any:
        return self.counted(counts_told(taps["count"], len(x)))


def is_tallied(reducer: Reducer) -> TypeGuard[CountReducer]:
    """Whether added counts are all that a reducer needs: not if somebody has written its `tapped` anew."""
    return isinstance(reducer, CountReducer) and type(reducer).tapped is CountReducer.tapped


def check_whole_counts(owner: str, spikes: Tensor) -> None:
    """Refuse counts that are no whole numbers: the signal was no spikes."""
    odd = spikes[spikes - spikes.round() != 0]  # NaN is not 0: an infinite one is odd too
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
class Count(CountReducer):
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

    def __post_init__(self) -> None:
        check_per("Count", self.per)

    def counted(self, counts: Counts) -> Spikes:
        return Spikes(grouped(counts.spikes, self.per), counts.seen)

    def result(self, a: Spikes) -> Tensor:
        check_whole_counts("Count", a.spikes)
        return a.spikes.long()


@dataclass(frozen=True)
class Rate(CountReducer):
    r"""Spikes per step, the mean firing rate: of each neuron `[*F]`, each channel (the first axis of F), or the layer.

    $$r = \frac{1}{T N} \sum_{t, n} S_{t, n}$$

    Signed spikes cancel out, and a signal that does not sum up to whole numbers is a ValueError, as in `Count`.

    >>> rate = Rate()
    >>> rate.result(rate.measure(torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]]))).tolist()
    [1.0, 0.5]
    """

    per: Per = "neuron"

    class Summary(NamedTuple):
        spikes: Annotated[Tensor, SUM]
        seen: Annotated[int, SUM]  # steps, times samples, times the neurons of a group

    def __post_init__(self) -> None:
        check_per("Rate", self.per)

    def counted(self, counts: Counts) -> Summary:
        spikes = grouped(counts.spikes, self.per)
        return self.Summary(spikes, counts.seen * counts.spikes.numel() // max(spikes.numel(), 1))

    def result(self, a: Summary) -> Tensor:
        check_whole_counts("Rate", a.spikes)
        return a.spikes / a.seen


@dataclass(frozen=True)
class SilentShare(CountReducer):
    """The share of neurons that never fired, in any step of any sample.

    >>> silent = SilentShare()
    >>> silent.result(silent.measure(torch.tensor([[[1.0, 0.0, 0.0, 0.0]], [[1.0, 1.0, 0.0, 0.0]]])))
    0.5
    """

    Summary = Fired

    def chunk(self, x: Tensor, start: int) -> Fired:  # of any sign: +1 and -1 cancel out, and are no silence
        seen = x.shape[0] * x.shape[1]
        if not seen:
            return Fired(x.new_zeros(x.shape[2:], dtype=torch.uint8), 0)
        fired = has_fired(x)
        if fired is None:
            fired = ((x.amax((0, 1)) != 0) | (x.amin((0, 1)) != 0)).to(torch.uint8)
        return Fired(fired, seen)

    def counted(self, counts: Counts) -> Fired:
        return Fired((counts.spikes != 0).to(torch.uint8), counts.seen)

    def result(self, a: Fired) -> float:
        if not a.seen or not a.fired.numel():
            return math.nan
        return (a.fired.numel() - a.fired.sum().item()) / a.fired.numel()


def _given(x: Tensor, most: int | None) -> Tensor:
    """How many spikes each neuron gave, float64 `[*F]`, each value by itself; NaN where a value says no number."""
    if most == 1:  # of any height
        if not x.is_floating_point():
            return (x != 0).sum((0, 1)).double()
        return torch.linalg.vector_norm(x, 0, (0, 1), dtype=summing_dtype(x, x.shape[0] * x.shape[1])).double()
    size = x.double().abs()
    whole = size == size.round()
    if most is None:
        return size.where(whole & size.isfinite(), math.nan).sum((0, 1))
    return size.where(whole & (size <= most), 0).sum((0, 1))


@dataclass(frozen=True)
class SaturatedShare(CountReducer):
    r"""The share of neurons that gave so many spikes to the step: with 0 and 1, those that fired in every step.

    $$\frac{1}{T N} \sum_{t, n} |S_{t, n}| \ge \text{threshold}$$

    - `threshold`: the spikes per step, in the mean, from which on a neuron counts as saturated. Of several spikes in a
      step it may be above 1.
    - `most`: how many spikes a neuron can give in a step, where heights need not be numbers of spikes, as of converted
      networks. With 1 each value but 0 is one spike. With more, whole numbers up to it are so many, and all others,
      whose height is unknown, are none. Without it values are numbers of spikes: others are a ValueError.

    >>> saturated = SaturatedShare()
    >>> saturated.result(saturated.measure(torch.tensor([[[1.0, 0.0, 0.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]])))
    0.25
    """

    threshold: float = 1.0
    most: int | None = None

    Summary = Spikes

    def __post_init__(self) -> None:
        check_number("SaturatedShare", "threshold", self.threshold, above=0)
        if self.most is None:
            return
        check_whole("SaturatedShare", "most, the spikes that a neuron can give in a step,", self.most)
        if self.threshold > self.most:
            raise ValueError(
                f"SaturatedShare: threshold is at most the spikes that a neuron can give in a step, {self.most}, but "
                f"got {self.threshold}. Give most= of neurons that give several."
            )

    def chunk(self, x: Tensor, start: int) -> Spikes:
        seen = x.shape[0] * x.shape[1]
        return Spikes(_given(x, self.most) if seen else counts_of(x).spikes, seen)

    def counted(self, counts: Counts) -> Spikes:
        return Spikes(counts.spikes, counts.seen)

    def result(self, a: Spikes) -> float:
        if not a.seen or not a.spikes.numel():
            return math.nan
        if odd := int(a.spikes.isnan().sum()):
            raise ValueError(
                f"SaturatedShare counts spikes, which are whole numbers, but {odd} of {a.spikes.numel()} neurons gave "
                "other values. Choose the spikes as the signal, divide scaled spikes by their scale, or give most=, "
                "the spikes that a neuron can give in a step."
            )
        return (a.spikes / a.seen >= self.threshold).sum().item() / a.spikes.numel()
