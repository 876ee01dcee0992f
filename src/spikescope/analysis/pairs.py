"""Trains against trains, spike by spike: how often one fires so many steps after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import check_choice, check_number, check_switches, check_whole
from .gather import Run, both, check_window, numbers_in, runs
from .registry import measure
from .source import Array, Per, Spikes, check_per

__all__ = ["Lags", "correlogram", "cross_correlation_histogram", "spike_time_tiling_coefficient"]

AT_ONCE = 1 << 21
"""Pairs of spikes that are looked at at a time."""


class Lags(NamedTuple):
    """Lags in steps `[L]`, and what there is at each, `[L, ...]`."""

    lag: Tensor
    value: Tensor


def _near(a: Array, b: Array, window: tuple[int, int]) -> Iterator[tuple[Array, Array]]:
    """The places of each two numbers of a and of b, both sorted, with `window[0] <= b - a <= window[1]`."""
    low, high = np.searchsorted(b, a + window[0], side="left"), np.searchsorted(b, a + window[1], side="right")
    number = high - low
    ends = np.cumsum(number)
    start = 0
    while start < len(a):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + AT_ONCE, side="right")))
        some = number[start:stop]
        left = np.repeat(np.arange(start, stop), some)
        right = np.arange(int(some.sum())) - np.repeat(np.cumsum(some) - some, some) + np.repeat(low[start:stop], some)
        yield left, right
        start = stop


@measure("lags", "pairs of spikes", "Elephant `cross_correlation_histogram`", takes=("spikes", "other"), window=(-5, 5))
def cross_correlation_histogram(
    spikes: Spikes,
    other: Spikes,
    window: tuple[int, int] | Literal["full"] = "full",
    border_correction: bool = False,
    per: Literal["layer", "neuron"] = "layer",
) -> Lags:
    """How many spikes of `other` come so many steps after one of `spikes`, train beside train, by lag.

    - `other`: of the same runs, samples and neurons, so that neuron f is held against neuron f. Two neurons i and j of
      one layer are `spikes[..., i]` and `spikes[..., j]`.
    - `window`: the first and the last lag; `"full"` are all that a run has.
    - `border_correction`: times T / (T - |lag|), for the lags that reach over the ends of a run of T steps.
    - `per`: the sum of the layer, or of each neuron over its samples.

    >>> train = torch.tensor([1.0, 0, 0, 1, 0]).view(5, 1, 1)
    >>> cross_correlation_histogram(train, train.roll(1, 0), window=(-2, 2)).value  # one step later, each time
    tensor([1., 0., 0., 2., 0.], dtype=torch.float64)
    """
    owner = "cross_correlation_histogram"
    check_choice(owner, "per", per, ("layer", "neuron"))
    check_switches(owner, border_correction=border_correction)
    pairs = both(owner, spikes, other)
    longest = max(run.steps for run, _ in pairs) - 1
    first, last = (-max(0, longest), max(0, longest)) if window == "full" else check_window(owner, window)
    lags = np.arange(first, last + 1)
    shape = pairs[0][0].neuron_shape
    size = shape.numel() if per == "neuron" else 1
    total = np.zeros((len(lags), size))
    for a, b in pairs:
        stride = a.steps + max(abs(first), abs(last)) + 1  # so that no lag reaches another train
        ours, theirs = a.train * stride + a.step, b.train * stride + b.step
        counts = np.zeros(len(lags) * size, dtype=np.int64)
        for left, right in _near(ours, theirs, (first, last)):
            at = (theirs[right] - ours[left] - first) * size
            counts += np.bincount(at + a.train[left] % size, minlength=len(counts))
        found = counts.reshape(len(lags), size).astype(np.float64)
        if border_correction:
            found *= (a.steps / np.maximum(1, a.steps - np.abs(lags)))[:, None]
        total += found
    value = torch.from_numpy(total)
    return Lags(torch.from_numpy(lags), value[:, 0] if per == "layer" else value.reshape(len(lags), *shape))


@measure("pairs", "over the mean rate", "pynapple `compute_crosscorrelogram`, `compute_autocorrelogram`", window=5)
def correlogram(
    spikes: Spikes, window: int, neurons: Sequence[int] | None = None, norm: bool = True, bin_size: int = 1
) -> Lags:
    """The rate of each neuron j around the spikes of each neuron i, by lag: `value[lag, i, j]`.

    - `window`: the longest lag in steps. `bin_size`: steps of a bin, odd, with the lag in its middle.
    - `neurons`: which of the flattened neurons; None takes all, up to 256.
    - `norm`: divided by the mean rate of j, so that independent trains are at 1; else in spikes per step.

    The diagonal holds the autocorrelograms, where a spike is not counted with itself. NaN where i has no spike, or with
    `norm` j has none. Spikes near the ends of a run count as everywhere, as in pynapple.

    >>> train = torch.tensor([1.0, 0, 0, 1, 0]).view(5, 1, 1)
    >>> correlogram(train, window=3, norm=False).value.flatten()  # half of the spikes have another three steps later
    tensor([0.5000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.5000],
           dtype=torch.float64)
    """
    owner = "correlogram"
    check_switches(owner, norm=norm)
    window = check_whole(owner, "window, the longest lag in steps,", window)
    bin_size = check_whole(owner, "bin_size, in steps,", bin_size)
    if bin_size % 2 == 0:
        raise ValueError(f"{owner}: bin_size is odd, with the lag in the middle of the bin, but got {bin_size!r}.")
    found = runs(owner, spikes)
    size = found[0].neuron_shape.numel()
    chosen = _chosen(owner, neurons, size)
    half = window // bin_size
    reach = half * bin_size + bin_size // 2
    total = np.zeros((2 * half + 1, len(chosen), len(chosen)), dtype=np.int64)
    number, seen = np.zeros(len(chosen), dtype=np.int64), 0
    place = np.full(size, -1)
    place[chosen] = np.arange(len(chosen))
    for run in found:
        time, neuron = _of_neurons(run, place, run.steps + reach + 1)
        number += np.bincount(neuron, minlength=len(chosen))
        seen += run.steps * run.samples
        for left, right in _near(time, time, (-reach, reach)):
            lag = (time[right] - time[left] + reach) // bin_size
            at = (lag * len(chosen) + neuron[left]) * len(chosen) + neuron[right]
            total += np.bincount(at[left != right], minlength=total.size).reshape(total.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = total / (number[:, None] * np.float64(bin_size))
        value = value / (number / np.float64(seen)) if norm else value
    return Lags(torch.arange(-half, half + 1, device="cpu") * bin_size, torch.from_numpy(value))


def _chosen(owner: str, neurons: Sequence[int] | None, size: int) -> Array:
    chosen = np.arange(size) if neurons is None else numbers_in(owner, "neurons", neurons)
    if (
        chosen.ndim != 1
        or len(chosen) > 256
        or len(np.unique(chosen)) < len(chosen)
        or not all(0 <= i < size for i in chosen)
    ):
        raise ValueError(
            f"{owner} takes up to 256 different neurons of the {size}, by their numbers, but got "
            f"{'all' if neurons is None else chosen.tolist()}. Give some: neurons=[0, 5, 7]."
        )
    return chosen


def _of_neurons(run: Run, place: Array, stride: int) -> tuple[Array, Array]:
    """The spikes of the chosen neurons by sample, then time: their time, with samples far apart, and whose they are."""
    size = len(place)
    kept = place[run.train % size] >= 0 if size else np.zeros(0, dtype=np.bool_)
    train = run.train[kept]
    time = train // max(1, size) * stride + run.step[kept]
    order = np.argsort(time, kind="stable")
    return time[order], place[train[order] % max(1, size)]


@measure("values", "from -1 to 1", "Elephant `spike_time_tiling_coefficient`; Cutts and Eglen 2014",
         takes=("spikes", "other"), dt=1.5)  # fmt: skip
def spike_time_tiling_coefficient(spikes: Spikes, other: Spikes, dt: float, per: Per = "neuron") -> Tensor:
    r"""The spike time tiling coefficient: how much two trains fire within `dt` steps of each other, at any rates.

    $$\mathrm{STTC} = \frac 12 \Big( \frac{P_A - T_B}{1 - P_A T_B} + \frac{P_B - T_A}{1 - P_B T_A} \Big)$$

    with the share $T$ of time that is within `dt` of a spike, and the share $P$ of spikes that are within `dt` of one
    of the other train. A spike stands in the middle of its step. Of each neuron `[*F]` over all its samples, or with
    `per="train"` of each `[samples, *F]`. A part whose $P T$ is 1 counts as 1. NaN where either train has no spike.

    >>> train = torch.tensor([1.0, 0, 0, 0, 1, 0]).view(6, 1, 1)
    >>> spike_time_tiling_coefficient(train, train, dt=0.5)
    tensor([1.], dtype=torch.float64)
    """
    owner = "spike_time_tiling_coefficient"
    check_per(owner, per)
    check_number(owner, "dt, in steps,", dt, above=0)
    parts = []  # of each train of both: its spikes, those near the other, the time near a spike; and the whole time
    pairs = both(owner, spikes, other)
    shape = pairs[0][0].neuron_shape
    for a, b in pairs:
        trains = a.samples * shape.numel()
        parts.append(np.stack([*_tiled(a, b, dt, trains), *_tiled(b, a, dt, trains), np.full(trains, float(a.steps))]))
    held = np.concatenate(parts, 1).reshape(7, sum(a.samples for a, _ in pairs), shape.numel())
    held = held.sum(1) if per == "neuron" else held
    with np.errstate(divide="ignore", invalid="ignore"):
        number_a, near_a, tiled_a, number_b, near_b, tiled_b, time = held
        p_a, p_b, t_a, t_b = near_a / number_a, near_b / number_b, tiled_a / time, tiled_b / time
        made = (_half(p_a, t_b) + _half(p_b, t_a)) / 2
    return torch.from_numpy(made).reshape((*made.shape[:-1], *shape))


def _half(p: Array, t: Array) -> Array:
    return np.where(p * t == 1, 1.0, (p - t) / (1 - p * t))


def _tiled(a: Run, b: Run, dt: float, trains: int) -> tuple[Array, Array, Array]:
    """Of each train of a its spikes, those within dt of one of b, and the time within dt of its own."""
    number = np.bincount(a.train, minlength=trains).astype(np.float64)
    stride = 2 * a.steps + 2  # farther than any two spikes of a train
    ours, theirs = a.train * stride + a.step, b.train * stride + b.step
    far = np.array([np.iinfo(np.int64).min // 2, np.iinfo(np.int64).max // 2])
    edges = np.concatenate((far[:1], theirs, far[1:]))
    after = np.searchsorted(edges, ours)
    distance = np.minimum(edges[after] - ours, ours - edges[after - 1])
    near = np.bincount(a.train, (distance <= dt) & (distance <= a.steps), minlength=trains)
    first = np.ones(len(a.train), dtype=np.bool_)
    first[1:] = a.train[1:] != a.train[:-1]
    before = np.minimum(np.where(first, a.step + 0.5, np.diff(ours, prepend=0) / 2), dt)
    behind = np.minimum(np.where(np.roll(first, -1), a.steps - a.step - 0.5, np.diff(ours, append=0) / 2), dt)
    return number, near, np.bincount(a.train, before + behind, minlength=trains)
