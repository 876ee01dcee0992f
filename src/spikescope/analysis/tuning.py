"""What neurons tell: of a class, of a quantity, of an event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, check_switches, check_whole, dims
from .gather import check_labels, check_window, classes_of, numbers_in, runs, trials
from .registry import measure
from .source import Array, Spikes, grown

__all__ = [
    "PeriEvent",
    "Selectivity",
    "Tuning",
    "mutual_information",
    "peri_event",
    "selectivity",
    "tuning_curves",
]


class Selectivity(NamedTuple):
    """What `selectivity` results in, of each neuron `[*F]`: its index, and the place of its class in `classes`."""

    index: Tensor  # type: ignore[assignment]  # a tuple has a method of this name, which nobody misses here
    preferred: Tensor
    classes: tuple[Any, ...]


class Tuning(NamedTuple):
    """What `tuning_curves` results in: the rate in each bin `[bins, *F]`, its edges, and the steps that were in it."""

    rate: Tensor
    edges: Tensor
    steps: Tensor


class PeriEvent(NamedTuple):
    """What `peri_event` results in: the rate `[L, *F]` at each lag, and how many events have a step there."""

    lag: Tensor
    rate: Tensor
    events: Tensor


def _by_class(owner: str, spikes: Spikes, place: Array) -> Iterator[tuple[int, Array, int, torch.Size]]:
    """Of each run and class: the class, the counts of its samples `[n, size]`, the steps, the shape of the neurons."""
    samples = 0
    for steps, counts, shape in trials(owner, spikes):
        own = place[samples : samples + len(counts)]
        samples += len(counts)
        for at in np.unique(own) if len(own) == len(counts) else ():
            yield int(at), counts[own == at], steps, shape
    check_labels(owner, place, samples)


@measure("values", "from 0 to 1", "the class selectivity index of Morcos et al. 2018", takes=("spikes", "labels"))
def selectivity(spikes: Spikes, labels: Any) -> Selectivity:
    r"""How much more a neuron fires for its preferred class: $(r_{max} - \bar r_{rest}) / (r_{max} + \bar r_{rest})$.

    r are the mean rates of the classes. 0 where all classes evoke the same, 1 where only one evokes anything. NaN for a
    neuron that never fired, and where there is one class. Of classes that tie, the first is preferred.

    - `labels`: one for each sample, of all runs one after the other.

    >>> spikes = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])  # the first neuron fires for class "a" alone
    >>> selectivity(spikes, ["a", "b"]).index
    tensor([1., 0.], dtype=torch.float64)
    """
    classes, place = classes_of("selectivity", labels)
    total, seen, shape = np.zeros((len(classes), 1)), np.zeros((len(classes), 1)), torch.Size()
    for at, counts, steps, neurons in _by_class("selectivity", spikes, place):
        shape = neurons
        total = total + np.zeros(counts.shape[1])
        total[at] += counts.sum(0)
        seen[at] += steps * len(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = total / seen
        preferred = rate.argmax(0) if len(classes) else np.zeros(total.shape[1], dtype=np.int64)
        most = rate.max(0, initial=0.0)
        others = (rate.sum(0) - most) / np.float64(len(classes) - 1)
        index = (most - others) / (most + others)
    return Selectivity(torch.from_numpy(index).reshape(shape), torch.from_numpy(preferred).reshape(shape), classes)


@measure(
    "values", "bits", "the information of counts about a stimulus, Panzeri et al. 2007", takes=("spikes", "labels")
)
def mutual_information(spikes: Spikes, labels: Any, bias_correction: bool = False) -> Tensor:
    r"""What the number of spikes of a neuron in a sample says of its class, in bits, of each neuron `[*F]`.

    $$I(C; L) = \sum_{c, l} p(c, l) \log_2 \frac{p(c, l)}{p(c)\, p(l)}$$

    with the shares of the samples for probabilities. Of few samples that is too much: $k$ classes and $m$ different
    counts can bring about $(k - 1)(m - 1) / (2 N \ln 2)$ bits of nothing.

    - `labels`: one for each sample, of all runs one after the other.
    - `bias_correction`: with $\frac{1}{2 N \ln 2} \big(\sum_l (m_l - 1) - (m - 1)\big)$ taken off, Panzeri and Treves
      1996, where $m_l$ counts of the m occur in class l. It may be below 0 then.

    NaN where there is no sample.

    >>> spikes = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])  # the first neuron tells the class, the second nothing
    >>> mutual_information(spikes, ["a", "b"])
    tensor([1., 0.], dtype=torch.float64)
    """
    owner = "mutual_information"
    check_switches(owner, bias_correction=bias_correction)
    classes, place = classes_of(owner, labels)
    joint, shape = np.zeros((1, len(classes), 1)), torch.Size()  # [counts, classes, size]
    for at, counts, _, neurons in _by_class(owner, spikes, place):
        shape = neurons
        levels, size = int(counts.max(initial=0)) + 1, counts.shape[1]
        joint = grown(joint + np.zeros(size), levels)
        found = np.bincount((counts * size + np.arange(size)).ravel(), minlength=levels * size)
        joint[:levels, at] += found.reshape(levels, size)
    samples = len(place)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = joint / np.float64(samples)
        apart = p.sum(0, keepdims=True) * p.sum(1, keepdims=True)
        bits = np.where(p > 0, p * np.log2(p / apart), 0.0).sum((0, 1)) if samples else np.full(p.shape[2], np.nan)
        if bias_correction:
            met = (joint > 0).sum(0)
            off = (met - (met > 0)).sum(0) - ((joint.sum(1) > 0).sum(0) - 1)
            bits = bits - off / (2 * samples * np.log(2))
    return torch.from_numpy(np.asarray(bits)).reshape(shape)


@measure("tuning", "spikes per step", "pynapple `compute_tuning_curves`", takes=("spikes", "feature"))
def tuning_curves(spikes: Spikes, feature: Any, bins: int | Any = 10) -> Tuning:
    """The rate of each neuron while a quantity is in each of some bins.

    - `feature`: of each sample `[samples]`, or at each of its steps `[T, samples]`, of all runs one after the other.
    - `bins`: how many from its minimum to its maximum, or their edges; the last edge belongs to the last bin.

    What is outside, or NaN, is left out. NaN for a bin in which no step was.

    >>> held = tuning_curves(torch.tensor([[[0.0], [1.0]], [[0.0], [1.0]]]), feature=[0.0, 90.0], bins=2)
    >>> held.rate.flatten(), held.edges.tolist()
    (tensor([0., 1.], dtype=torch.float64), [0.0, 45.0, 90.0])
    """
    owner = "tuning_curves"
    held = numbers_in(owner, "a feature", feature, float)
    if held.ndim not in (1, 2):
        raise ShapeError(f"{owner} takes a feature [samples] or [T, samples], but got {dims(held.shape)}.")
    if np.ndim(bins) == 0:
        bins = check_whole(owner, "bins, unless they are edges that rise,", bins)
        edges = np.histogram_bin_edges(held[np.isfinite(held)], bins)
    else:
        edges = numbers_in(owner, "bins", bins, float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"{owner} takes edges of bins that rise, or at least 1 bin, but got {bins!r}.")
    inside = (held >= edges[0]) & (held <= edges[-1])
    place = np.where(inside, np.minimum(np.searchsorted(edges, held, side="right"), len(edges) - 1) - 1, len(edges) - 1)
    total, steps, samples, shape = np.zeros((len(edges), 1)), np.zeros(len(edges), dtype=np.int64), 0, torch.Size()
    for run in runs(owner, spikes, "any"):
        shape, size = run.neuron_shape, run.neuron_shape.numel()
        own = place[..., samples : samples + run.samples]
        samples += run.samples
        if own.shape != (run.steps, run.samples)[-held.ndim :]:
            raise ShapeError(
                f"{owner} takes a feature [samples] or [T, samples], of all runs one after the other, but got "
                f"{dims(held.shape)} for {run.steps} steps and {samples} samples or more."
            )
        sample = run.train // max(1, size)
        bin_ = own[sample] if own.ndim == 1 else own[run.step, sample]
        at = bin_ * size + run.train % max(1, size)
        total = total + np.bincount(at, minlength=len(edges) * size).reshape(len(edges), size)
        steps += np.bincount(own.ravel(), minlength=len(edges)) * (run.steps if own.ndim == 1 else 1)
    if held.shape[-1] != samples:
        raise ShapeError(f"{owner} got a feature of {held.shape[-1]} samples, but there are {samples}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = torch.from_numpy(total[:-1] / steps[:-1, None])
    return Tuning(rate.reshape(len(rate), *shape), torch.from_numpy(edges), torch.from_numpy(steps[:-1]))


@measure("lags", "spikes per step", "pynapple `compute_perievent`", takes=("spikes", "events"), window=(-3, 5))
def peri_event(spikes: Spikes, events: Any, window: tuple[int, int] = (-10, 10)) -> PeriEvent:
    """The rate of each neuron at each step from some before to some after an event.

    - `events`: the steps `[K]`, the same in all samples; or `[K, 2]` of sample and step, with the samples of all runs
      counted one after the other. Of a part of a run, as `signal.events(step=slice(50, None))`, steps have the numbers
      of the run. `window`: the first and the last lag in steps.

    A lag that an event has beyond the ends of its run is not counted for it; NaN where no event has one.

    >>> peri_event(torch.tensor([0.0, 0, 1, 0, 0]).view(5, 1, 1), events=[1], window=(0, 2)).rate.flatten()
    tensor([0., 1., 0.], dtype=torch.float64)
    """
    owner = "peri_event"
    held = numbers_in(owner, "events", events)
    if not (held.ndim == 1 or (held.ndim == 2 and held.shape[1] == 2)):
        raise ShapeError(
            f"{owner} takes the steps of events [K], or sample and step [K, 2], but got {dims(held.shape)}."
        )
    first, last = check_window(owner, window)
    lags = np.arange(first, last + 1)
    total, seen, samples, shape, used = (
        np.zeros((len(lags), 1)),
        np.zeros(len(lags), dtype=np.int64),
        0,
        torch.Size(),
        0,
    )
    for run in runs(owner, spikes, "numbered"):
        shape, size = run.neuron_shape, run.neuron_shape.numel()
        if held.ndim == 2 and run.begin[1]:
            raise ValueError(
                f"{owner}: events have the numbers of samples, but the spikes are of chosen samples, from "
                f"{run.begin[1]} on. Give steps alone, or a tensor, as signal.read(run, sample=...) gives it."
            )
        sample, step = _of_run(held, samples, run.samples)
        samples += run.samples
        used += len(step)
        step = step - run.begin[0]
        if (odd := step[(step < 0) | (step >= run.steps)]).size:
            raise ValueError(
                f"{owner}: there is an event at step {odd[0] + run.begin[0]}, but a run has {run.steps} steps, from "
                f"{run.begin[0]} on."
            )
        at = np.add.outer(lags, step)
        seen += ((at >= 0) & (at < run.steps)).sum(1)
        before, behind = max(0, last), max(0, -first)
        there = np.zeros((run.samples, before + run.steps + behind))  # the events, with room on both sides
        np.add.at(there, (sample, step + before), 1)
        fired, neuron = run.train // max(1, size), run.train % max(1, size)
        more = [np.bincount(neuron, there[fired, run.step - lag + before], minlength=size) for lag in lags]
        total = total + np.stack(more)
    if held.ndim == 2 and used < len(held):
        odd = held[(held[:, 0] < 0) | (held[:, 0] >= samples), 0]
        raise ValueError(f"{owner}: there is an event of sample {odd[0]}, but there are {samples} samples, from 0 on.")
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = torch.from_numpy(total / seen[:, None])
    return PeriEvent(torch.from_numpy(lags), rate.reshape(len(lags), *shape), torch.from_numpy(seen))


def _of_run(events: Array, first: int, samples: int) -> tuple[Array, Array]:
    """Sample and step of the events of a run, whose first sample has this number."""
    if events.ndim == 1:
        return np.repeat(np.arange(samples), len(events)), np.tile(events, samples)
    own = events[(events[:, 0] >= first) & (events[:, 0] < first + samples)]
    return own[:, 0] - first, own[:, 1]
