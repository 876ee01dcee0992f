"""The intervals between the spikes of a train: their lengths, and how much they vary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import check_number, check_whole
from .formulas import spread
from .gather import runs
from .registry import measure
from .source import Array, Chunk, Per, Spikes, check_per, chunks, grown

__all__ = ["Intervals", "IsiHistogram", "burst_share", "cv", "cv2", "isi", "isi_histogram", "lv", "lvr"]


AT_ONCE = 1 << 16
"""Spikes that are looked at at a time."""


class Intervals(NamedTuple):
    """What `isi` results in: flat arrays of one length, in the order of trains, then of time."""

    train: Tensor
    length: Tensor


class IsiHistogram(NamedTuple):
    """What `isi_histogram` results in: how many intervals of each length in steps there are."""

    length: Tensor
    number: Tensor


class Found(NamedTuple):
    """The intervals that end in some trains of a chunk: a length and the one before it, 0 where there is none."""

    chunk: Chunk
    train: Array
    first: Array  # whether it is the first spike of its train in the chunk
    length: Array
    before: Array


def _found(owner: str, spikes: Spikes) -> Iterator[Found]:
    """An entry for each spike. What is open at the end of a chunk is carried on, up to the end of the run."""
    run, last, open_ = -1, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for chunk in chunks(owner, spikes):
        if chunk.run != run:
            run, last, open_ = chunk.run, last[:0], open_[:0]
        size = (chunk.first + chunk.samples) * chunk.size
        last, open_ = grown(last, size, -1), grown(open_, size)
        for train, step in _pieces(*chunk.places):
            first = np.ones(len(train), dtype=np.bool_)
            np.not_equal(train[1:], train[:-1], out=first[1:])
            length = np.empty_like(step)
            np.subtract(step[1:], step[:-1], out=length[1:])
            begun = train[first]
            length[first] = np.where(last[begun] < 0, 0, step[first] - last[begun])
            before = np.empty_like(length)
            before[1:] = length[:-1]
            before[first] = open_[begun]
            final = np.roll(first, -1)
            last[train[final]], open_[train[final]] = step[final], length[final]
            yield Found(chunk, train, first, length, before)


def _pieces(train: Array, step: Array) -> Iterator[tuple[Array, Array]]:
    """Whole trains, some at a time, so that what is made of them stays in the cache. At least one piece."""
    start = 0
    while True:
        stop = start + AT_ONCE
        if stop < len(train):
            stop = int(np.searchsorted(train, train[stop], side="left"))
            stop = stop if stop > start else int(np.searchsorted(train, train[start], side="right"))
        yield train[start:stop], step[start:stop]
        if stop >= len(train):
            return
        start = stop


class _Sums:
    """Numbers added up by train in the order of time: the same to the last bit wherever chunks end."""

    def __init__(self, owner: str, per: Per, columns: int, dtype: type = np.float64) -> None:
        check_per(owner, per)
        self._per, self._columns, self._dtype = per, columns, dtype
        self._runs: dict[int, list[Array]] = {}
        self._shape = torch.Size()

    def add(self, chunk: Chunk, train: Array, *values: Array) -> None:
        self._shape = chunk.neuron_shape
        held = self._runs.setdefault(chunk.run, [np.zeros(0, self._dtype) for _ in range(self._columns)])
        size = (chunk.first + chunk.samples) * chunk.size
        for place, value in enumerate(values):
            held[place] = grown(held[place], size)
            np.add.at(held[place], train, value.astype(self._dtype, copy=False))

    def result(self) -> list[Tensor]:
        """Of each neuron `[*F]` over all its samples, or of each train `[samples, *F]`."""
        shape = (sum(len(held[0]) for held in self._runs.values()) // max(1, self._shape.numel()), *self._shape)
        made = [
            torch.from_numpy(np.concatenate([held[place] for held in self._runs.values()])).reshape(shape)
            for place in range(self._columns)
        ]
        return made if self._per == "train" else [column.sum(0) for column in made]


@measure("table", "steps", "Elephant `isi`")
def isi(spikes: Spikes) -> Intervals:
    """The intervals between successive spikes of each train in steps, none across the end of a run.

    The train of neuron f of sample n is `n * F + f`, with the samples of all runs counted one after the other. A train
    of fewer than two spikes has none.

    >>> isi(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1))
    Intervals(train=tensor([0, 0]), length=tensor([1, 3]))
    """
    trains, lengths, samples = [], [], 0
    for run in runs("isi", spikes):
        same = run.train[1:] == run.train[:-1]
        trains.append(run.train[1:][same] + samples * run.neuron_shape.numel())
        lengths.append(np.diff(run.step)[same])
        samples += run.samples
    return Intervals(torch.from_numpy(np.concatenate(trains)), torch.from_numpy(np.concatenate(lengths)))


@measure("values", "deviation / mean", "Elephant `cv`")
def cv(spikes: Spikes, per: Per = "neuron") -> Tensor:
    r"""The coefficient of variation of the intervals: $\sqrt{\frac 1n \sum_k (I_k - \bar I)^2} / \bar I$.

    1 for a Poisson process, 0 for a clock. Of each neuron `[*F]` over the intervals of all its samples, or with
    `per="train"` of each `[samples, *F]`. NaN where there is no interval.

    >>> cv(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1))  # intervals 1 and 3
    tensor([0.5000], dtype=torch.float64)
    """
    sums = _Sums("cv", per, 3, np.int64)
    for chunk, train, _, length, _ in _found("cv", spikes):
        sums.add(chunk, train, length > 0, length, length * length)
    mean, variance = spread(*sums.result())
    return variance.sqrt() / mean


@measure("values", "2 |difference| / sum, mean", "Elephant `cv2`; Holt et al. 1996")
def cv2(spikes: Spikes, per: Per = "neuron") -> Tensor:
    r"""How unlike neighbouring intervals are: the mean of $2 \lvert I_{k+1} - I_k\rvert / (I_{k+1} + I_k)$.

    Slow changes of the rate hardly enter, unlike in `cv`. `per` as there. NaN where there are fewer than two intervals.

    >>> cv2(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1))  # 2 * 2 / 4
    tensor([1.], dtype=torch.float64)
    """
    return _mean_of_pairs("cv2", spikes, per, lambda a, b: 2 * np.abs((b - a) / (a + b)))


@measure("values", "local variation", "Elephant `lv`; Shinomoto et al. 2003")
def lv(spikes: Spikes, per: Per = "neuron") -> Tensor:
    r"""The local variation: the mean of $3 (I_{k+1} - I_k)^2 / (I_{k+1} + I_k)^2$ over neighbouring intervals.

    1 for a Poisson process, 0 for a clock. `per` as in `cv`. NaN where there are fewer than two intervals.

    >>> lv(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1))  # 3 * 4 / 16
    tensor([0.7500], dtype=torch.float64)
    """
    return _mean_of_pairs("lv", spikes, per, lambda a, b: 3 * ((b - a) / (a + b)) ** 2)


@measure("values", "local variation", "Elephant `lvr`; Shinomoto et al. 2009")
def lvr(spikes: Spikes, R: float = 5.0, per: Per = "neuron") -> Tensor:
    r"""The local variation, revised for a refractory time of `R` steps.

    $$\mathrm{LvR} = \frac{3}{n - 1} \sum_k \Big(1 - \frac{4 I_k I_{k+1}}{(I_k + I_{k+1})^2}\Big)
      \Big(1 + \frac{4 R}{I_k + I_{k+1}}\Big)$$

    `per` as in `cv`. NaN where there are fewer than two intervals; `R` is at least 0.

    >>> lvr(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1), R=1.0)  # 3 * (1 - 12 / 16) * (1 + 4 / 4)
    tensor([1.5000], dtype=torch.float64)
    """
    check_number("lvr", "R, the refractory time in steps,", R, least=0, most=1e100)
    return _mean_of_pairs("lvr", spikes, per, lambda a, b: 3 * (1 - 4 * a * b / (a + b) ** 2) * (1 + 4 * R / (a + b)))


def _mean_of_pairs(owner: str, spikes: Spikes, per: Per, value: Callable[[Array, Array], Array]) -> Tensor:
    """The mean of a function of each interval and the next of the same train."""
    sums = _Sums(owner, per, 2)
    for chunk, train, _, length, before in _found(owner, spikes):
        there = before > 0
        held = value(before[there], length[there])
        sums.add(chunk, train[there], np.ones_like(held), held)
    number, total = sums.result()
    return total / number


@measure("histogram", "intervals", "the distribution of Elephant's `isi`")
def isi_histogram(spikes: Spikes) -> IsiHistogram:
    """How many intervals of each length there are, over all neurons and samples, from 1 step to the longest.

    Both tensors are empty where there is no interval.

    >>> isi_histogram(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1)).number
    tensor([1, 0, 1])
    """
    number = np.zeros(1, dtype=np.int64)
    for _, _, _, length, _ in _found("isi_histogram", spikes):
        more = np.bincount(length, minlength=len(number))
        more[: len(number)] += number
        number = more
    return IsiHistogram(torch.arange(1, len(number), device="cpu"), torch.from_numpy(number[1:]))


@measure("values", "share of the spikes", "bursts by a longest interval, as in Cotterill et al. 2016")
def burst_share(spikes: Spikes, within: int = 2, least: int = 3, per: Per = "neuron") -> Tensor:
    """The share of the spikes of each neuron that are part of a burst.

    - `within`: the longest interval inside a burst, in steps. `least`: the fewest spikes of one.

    `per` as in `cv`. NaN for a neuron that never fired.

    >>> burst_share(torch.tensor([1.0, 1, 1, 0, 0, 1]).view(6, 1, 1))  # three in a row, and one on its own
    tensor([0.7500], dtype=torch.float64)
    """
    check_number("burst_share", "within, the longest interval inside a burst in steps,", within, least=1)
    least = check_whole("burst_share", "least, the fewest spikes of a burst,", least, 2)
    sums = _Sums("burst_share", per, 2)
    run, chains = -1, np.zeros(0, dtype=np.int64)  # spikes of the chain that each train is in
    for chunk, train, first, length, _ in _found("burst_share", spikes):
        if chunk.run != run:
            run, chains = chunk.run, chains[:0]
        chains = grown(chains, (chunk.first + chunk.samples) * chunk.size)
        goes_on = (length > 0) & (length <= within)
        # a spike that makes a chain long enough brings those before it along; each later one counts as it comes
        starts = np.flatnonzero(first | ~goes_on)
        place = np.arange(len(train)) - np.repeat(starts, np.diff(np.append(starts, len(train)))) + 1
        carried = np.where(goes_on[starts], chains[train[starts]], 0)
        place += np.repeat(carried, np.diff(np.append(starts, len(train))))
        final = np.roll(first, -1)
        chains[train[final]] = place[final]
        more = np.where(place == least, least, place > least)
        sums.add(chunk, train, np.ones(len(train)), more)
    number, inside = sums.result()
    return inside / number
