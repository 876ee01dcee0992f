"""How often neurons fire, over a run, along it, and after what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, check_choice, check_number, check_switches
from .binning import binned
from .formulas import fano, spread
from .gather import check_labels, classes_of, trials
from .registry import measure
from .source import Array, Per, Spikes, check_per

__all__ = ["Psth", "fanofactor", "instantaneous_rate", "mean_firing_rate", "psth", "time_histogram"]


class Psth(NamedTuple):
    """What `psth` results in.

    - `rate`: `[classes, bins]`, or `[classes, bins, *F]`. `start`: the first step of each bin, `[bins]`.
    - `classes`: the labels in order. `trials`: the samples of each class.
    """

    rate: Tensor
    start: Tensor
    classes: tuple[Any, ...]
    trials: Tensor


@measure("values", "spikes per step", "Elephant `mean_firing_rate`")
def mean_firing_rate(spikes: Spikes, per: Per = "neuron") -> Tensor:
    """Spikes per step: of each neuron `[*F]` over all samples, or with `per="train"` of each `[samples, *F]`.

    Divided by the length of a step in seconds it is in hertz. NaN where there is no step.

    >>> mean_firing_rate(torch.tensor([1.0, 1, 0, 0, 1]).view(5, 1, 1))
    tensor([0.6000], dtype=torch.float64)
    """
    check_per("mean_firing_rate", per)
    counts, seen, shape = [], [], torch.Size()
    for steps, held, neurons in trials("mean_firing_rate", spikes):
        counts.append(held)
        seen.append(np.full(len(held), steps))
        shape = neurons
    number, length = np.concatenate(counts), np.concatenate(seen)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = number / length[:, None] if per == "train" else number.sum(0) / length.sum()
    return torch.from_numpy(rate).reshape((*rate.shape[:-1], *shape))


@measure("values", "variance / mean of the counts", "Elephant `fanofactor`", window=4)
def fanofactor(spikes: Spikes, window: int | None = None) -> Tensor:
    r"""The variance of the spike counts of trials, divided by their mean: $\mathrm{Var}(C) / \bar C$, of each neuron.

    - `window`: steps of a trial, end to end from the start of a run; what a run does not fill is left out. None: each
      sample of each run is one trial.

    1 for a Poisson process. NaN for a neuron that never fired, and where there is no whole window.

    >>> fanofactor(torch.tensor([1.0, 1, 0, 0, 1, 1, 0, 0]).view(8, 1, 1), window=2)  # counts 2, 0, 2, 0
    tensor([1.], dtype=torch.float64)
    """
    number, sums, shape = 0, np.zeros((2, 1), dtype=np.int64), torch.Size()
    for counts, neurons in _windows("fanofactor", spikes, window):
        shape = neurons
        number += len(counts)
        sums = sums + np.stack((counts.sum(0), (counts * counts).sum(0)))
    total, squares = torch.from_numpy(sums)
    return fano(spread(number, total, squares)).reshape(shape)


def _windows(owner: str, spikes: Spikes, window: int | None) -> Iterator[tuple[Array, torch.Size]]:
    """The counts of trials `[n, size]`, some at a time."""
    if window is None:
        for _, counts, shape in trials(owner, spikes):
            yield counts, shape
        return
    for held in binned(owner, spikes, window, "any"):
        bins, samples, size = held.counts.shape
        yield held.counts.reshape(bins * samples, size), held.shape


@measure("course", "spikes", "Elephant `time_histogram`", bin_size=3, output="mean")
def time_histogram(
    spikes: Spikes, bin_size: int = 1, output: Literal["counts", "mean", "rate"] = "counts", binary: bool = False
) -> Tensor:
    """The spikes of all trains in each bin of time, `[bins]`: `"counts"`, their `"mean"` over trains, or that per step.

    - `bin_size`: steps; what a run does not fill is left out. `binary`: a train counts once in a bin.

    Runs may differ in length: the mean is over the trains that were there. NaN for no train.

    >>> time_histogram(torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])).tolist()
    [1.0, 2.0]
    """
    check_switches("time_histogram", binary=binary)
    check_choice("time_histogram", "output", output, ("counts", "mean", "rate"))
    total, trains = np.zeros(0), np.zeros(0)
    for _, first, _, counts, _ in binned("time_histogram", spikes, bin_size):
        held = np.minimum(counts, 1) if binary else counts
        missing = max(0, first + len(counts) - len(total))
        total, trains = (np.concatenate((had, np.zeros(missing))) for had in (total, trains))
        total[first : first + len(counts)] += held.sum((1, 2))
        trains[first : first + len(counts)] += counts[:1].size
    if output != "counts":
        with np.errstate(divide="ignore", invalid="ignore"):
            total = total / trains / (bin_size if output == "rate" else 1)
    return torch.from_numpy(total)


MOST = 1e6
"""Steps of a deviation of a kernel, and deviations of it: it has points to its end on both sides."""

KERNELS = {  # density at t for a deviation of 1, and where it ends
    "gaussian": (lambda t: np.exp(-t * t / 2) / math.sqrt(2 * math.pi), math.inf),
    "rectangular": (lambda t: (np.abs(t) < math.sqrt(3)) / (2 * math.sqrt(3)), math.sqrt(3)),
    "triangular": (lambda t: np.maximum(0.0, math.sqrt(6) - np.abs(t)) / 6, math.sqrt(6)),
}


@measure("course", "spikes per step", "Elephant `instantaneous_rate`", sigma=2.0)
def instantaneous_rate(
    spikes: Spikes,
    sigma: float,
    kernel: Literal["gaussian", "rectangular", "triangular"] = "gaussian",
    cutoff: float = 5.0,
    per: Literal["layer", "neuron"] = "layer",
) -> Tensor:
    """The rate at each step, spikes smoothed by a kernel of deviation `sigma` steps: of the layer `[T]`, or `[T, *F]`.

    - `cutoff`: where the kernel ends, in deviations; it has `2 * ceil(cutoff * sigma) + 1` points, as in Elephant.

    What the kernel brings past the ends of a run is lost. Runs have one length, the mean is over all samples. NaN for a
    layer without neurons or samples.

    >>> instantaneous_rate(torch.tensor([0.0, 0, 1, 0, 0]).view(5, 1, 1), sigma=1.0).argmax()
    tensor(2)
    """
    owner = "instantaneous_rate"
    check_choice(owner, "kernel", kernel, tuple(KERNELS))
    check_choice(owner, "per", per, ("layer", "neuron"))
    density, end = KERNELS[kernel]
    check_number(owner, "sigma, in steps,", sigma, above=0, most=MOST)
    check_number(
        owner, "cutoff, in deviations of this kernel,", cutoff, least=round(min(end, 3.0) - 5e-4, 3), most=MOST
    )
    half = math.ceil(cutoff * sigma)
    weights = density(np.linspace(-cutoff, cutoff, 2 * half + 1)) / sigma
    counts, trains, shape = _summed(owner, spikes, per)
    padded = np.concatenate((np.zeros((half, counts.shape[1])), counts, np.zeros((half, counts.shape[1]))))
    made = sum(weight * padded[place : place + len(counts)] for place, weight in enumerate(weights[::-1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = torch.from_numpy(np.asarray(made / np.float64(trains)))
    return rate[:, 0] if per == "layer" else rate.reshape(len(rate), *shape)


def _summed(owner: str, spikes: Spikes, per: str) -> tuple[Array, int, torch.Size]:
    """The spikes at each step of all samples, of runs of one length, `[T, size]` or `[T, 1]`; of how many trains."""
    total, lengths, samples, shape = np.zeros((0, 0)), dict[int, int](), 0, torch.Size()
    for run, first, sample, counts, neurons in binned(owner, spikes, 1):
        shape = neurons
        held = counts.sum(1)
        held = held.sum(1, keepdims=True) if per == "layer" else held
        last = first + len(held)
        total = np.concatenate((total.reshape(-1, held.shape[1]), np.zeros((max(0, last - len(total)), held.shape[1]))))
        total[first:last] += held
        lengths[run] = max(lengths.get(run, 0), last)
        samples = max(samples, sample + counts.shape[1])
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"{owner} takes runs of one length, but got {', '.join(map(str, lengths.values()))} steps.")
    return total, samples * (shape.numel() if per == "layer" else 1), shape


@measure("courses", "spikes per neuron and step", "pynapple `compute_perievent` of the starts of samples, by class",
         takes=("spikes", "labels"), bin_size=5)  # fmt: skip
def psth(spikes: Spikes, labels: Any, bin_size: int = 1, per: Literal["layer", "neuron"] = "layer") -> Psth:
    """The peri-stimulus time histogram: the rate in each bin of time over the samples of each class.

    - `labels`: one for each sample, of all runs one after the other.
    - `bin_size`: steps; what a run does not fill is left out. `per`: the mean of the layer, or each neuron.

    A class without a sample in a bin, because its runs are shorter, is NaN there.

    >>> held = psth(torch.tensor([[[1.0], [0.0]], [[1.0], [1.0]]]), labels=["a", "b"])
    >>> held.classes, held.rate.tolist()
    (('a', 'b'), [[1.0, 1.0], [0.0, 1.0]])
    """
    check_choice("psth", "per", per, ("layer", "neuron"))
    classes, place = classes_of("psth", labels)
    total, seen, samples, shape = np.zeros((len(classes), 0, 1)), np.zeros((len(classes), 0)), 0, torch.Size()
    for _, first, sample, counts, neurons in binned("psth", spikes, bin_size):
        shape = neurons
        held = counts.sum(2, keepdims=True) if per == "layer" else counts
        last, samples = first + len(held), max(samples, sample + held.shape[1])
        own = place[sample : sample + held.shape[1]]
        if len(own) == held.shape[1]:
            missing = np.zeros((len(classes), max(0, last - seen.shape[1])))
            seen = np.concatenate((seen, missing), 1)
            total = np.concatenate((total + np.zeros(held.shape[2]), missing[:, :, None] + np.zeros(held.shape[2])), 1)
            for at in np.unique(own):
                total[at, first:last] += held[:, own == at].sum(1)
                seen[at, first:last] += (own == at).sum()
    check_labels("psth", place, samples)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = torch.from_numpy(
            total / seen[:, :, None] / (bin_size * np.float64(shape.numel() if per == "layer" else 1))
        )
    return Psth(
        rate[:, :, 0] if per == "layer" else rate.reshape(*rate.shape[:2], *shape),
        torch.arange(rate.shape[1], device="cpu") * bin_size,
        classes,
        torch.from_numpy(np.bincount(place, minlength=len(classes))),
    )
