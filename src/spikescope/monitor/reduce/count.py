"""Spikes counted: how many, how often, and which neurons never or always fire."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor

from ...errors import check_choice, check_number, check_switches, check_whole
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


def _given(x: Tensor, most: int) -> Tensor:
    """How many spikes each neuron gave that can give so many in a step, float64 `[*F]`."""
    if most > 1:
        size = x.double().abs()
        if bool(((size == size.round()) & (size <= most)).all()):
            return size.sum((0, 1))
    if x.is_floating_point():
        fired = torch.linalg.vector_norm(x, 0, (0, 1), dtype=summing_dtype(x, x.shape[0] * x.shape[1]))
    else:
        fired = (x != 0).sum((0, 1))
    return fired.double() * most


@dataclass(frozen=True)
class SaturatedShare(CountReducer):
    """The share of neurons that fired in every step of every sample.

    - `threshold`: the spikes per step from which on a neuron counts as saturated; 1.0 is every step.
    - `most`: how many spikes a neuron can give in a step. With 1 any value but 0, of either sign, is one spike; with
      more, values that are no numbers up to it are each as many as there can be.
    - `scaled`: whether spikes may be of any height, as those of converted networks. Else a signal that does not sum up
      to whole numbers is a ValueError, as in `Count`.

    >>> saturated = SaturatedShare()
    >>> saturated.result(saturated.measure(torch.tensor([[[1.0, 0.0, 0.0, 1.0]], [[1.0, 1.0, 0.0, 0.0]]])))
    0.25
    """

    threshold: float = 1.0
    most: int = 1
    scaled: bool = False

    Summary = Spikes

    def __post_init__(self) -> None:
        check_number("SaturatedShare", "threshold", self.threshold, above=0)
        check_whole("SaturatedShare", "most, the spikes that a neuron can give in a step,", self.most)
        check_switches("SaturatedShare", scaled=self.scaled)
        if self.threshold > self.most:
            raise ValueError(
                f"SaturatedShare: threshold is at most the spikes that a neuron can give in a step, {self.most}, but "
                f"got {self.threshold}. Give most= of neurons that give several."
            )

    def chunk(self, x: Tensor, start: int) -> Spikes:
        seen = x.shape[0] * x.shape[1]
        spikes = _given(x, self.most) if seen else counts_of(x).spikes
        if seen and not self.scaled:
            total = counts_of(x).spikes
            spikes = spikes.where(total - total.round() == 0, total.where(total.isinf(), math.nan))  # for `result`
        return Spikes(spikes, seen)

    def counted(self, counts: Counts) -> Spikes:
        return Spikes(counts.spikes, counts.seen)

    def result(self, a: Spikes) -> float:
        if not a.seen or not a.spikes.numel():
            return math.nan
        check_whole_counts("SaturatedShare", a.spikes)
        return (a.spikes / a.seen >= self.threshold).sum().item() / a.spikes.numel()
