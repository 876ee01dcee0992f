"""Spikes gathered from chunks: by trial, by run, as wholes; and the labels of their samples."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, check_numbers, dims
from .source import Array, Chunk, Spikes, Steps, chunks, grown

__all__ = [
    "Run",
    "both",
    "check_labels",
    "check_window",
    "classes_of",
    "dense",
    "numbers_in",
    "runs",
    "trials",
    "values_of",
]


def trials(owner: str, spikes: Spikes) -> Iterator[tuple[int, Array, torch.Size]]:
    """Of each run its steps, the spikes of each train in it, int64 `[samples, size]`, and the shape of the neurons."""
    run, steps, held = -1, 0, np.zeros((0, 0), dtype=np.int64)
    shape = torch.Size()
    for chunk in chunks(owner, spikes, "any"):
        if chunk.run != run and run >= 0:
            yield steps, held, shape
        if chunk.run != run:
            run, steps, shape, held = chunk.run, 0, chunk.neuron_shape, np.zeros((0, chunk.size), dtype=np.int64)
        steps = max(steps, chunk.start + chunk.steps)
        held = grown(held, chunk.first + chunk.samples)
        held[chunk.first : chunk.first + chunk.samples] += chunk.counts
    if run >= 0:
        yield steps, held, shape


class Run(NamedTuple):
    """All spikes of a run, in the order of trains, then of time."""

    steps: int
    samples: int
    neuron_shape: torch.Size
    train: Array
    step: Array
    begin: tuple[int, int]  # the step and the sample that count as 0


def runs(owner: str, spikes: Spikes, steps: Steps = "neighbours") -> list[Run]:
    """All runs, for what looks at trains as wholes: 16 bytes a spike. `steps` as in `chunks`."""
    found: dict[int, list[Chunk]] = {}
    for chunk in chunks(owner, spikes, steps):
        found.setdefault(chunk.run, []).append(chunk)
    made = []
    for held in found.values():
        train, step = (np.concatenate(parts) for parts in zip(*(chunk.places for chunk in held), strict=True))
        if len(held) > 1:
            order = np.argsort(train, kind="stable")
            train, step = train[order], step[order]
        length, samples = max(c.start + c.steps for c in held), max(c.first + c.samples for c in held)
        made.append(Run(length, samples, held[0].neuron_shape, train, step, held[0].begin))
    return made


def dense(run: Run) -> Tensor:
    """The spikes of a run as a bool tensor `[T, samples, *]`, for what has no shorter way."""
    fired = np.zeros((run.steps, run.samples * run.neuron_shape.numel()), dtype=np.bool_)
    fired[run.step, run.train] = True
    return torch.from_numpy(fired).reshape(run.steps, run.samples, *run.neuron_shape)


def both(owner: str, spikes: Spikes, other: Spikes) -> list[tuple[Run, Run]]:
    """The runs of two recordings of the same steps, samples and neurons, side by side."""
    pairs = list(zip(runs(owner, spikes), runs(owner, other), strict=False))
    shapes = [[(run.steps, run.samples, *run.neuron_shape) for run in held] for held in zip(*pairs, strict=True)]
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"{owner} takes two lots of spikes of the same runs, [T, N, *], train beside train, but got "
            f"{', '.join(dims(shape, 'TN') for shape in shapes[0])} and "
            f"{', '.join(dims(shape, 'TN') for shape in shapes[1])}."
        )
    return pairs


def values_of(owner: str, given: Any) -> Array:
    """What each sample evokes, float64 `[samples, F]`: the mean over time of real values, the rate of spikes.

    A tensor without time, `[N, F]`, is taken as it is.
    """
    if isinstance(given, Tensor):
        check_numbers(owner, given)
        if given.is_complex():
            raise TypeError(
                f"{owner} takes real numbers, but got a tensor of dtype {given.dtype}. Choose a part of it."
            )
        if given.ndim < 2:
            raise ShapeError(f"{owner} takes [N, F] or [T, N, *], but got {dims(given.shape)}.")
        held = given.detach().double()
        return (held if held.ndim == 2 else held.mean(0).flatten(1)).cpu().numpy()
    found: dict[int, tuple[int, Array]] = {}
    for chunk in chunks(owner, given, "any"):
        steps, total = found.get(chunk.run, (0, np.zeros((0, chunk.size))))
        last = chunk.first + chunk.samples
        total = grown(total, last)
        total[chunk.first : last] += _sums(chunk.held) if isinstance(chunk.held, Tensor) else chunk.counts
        found[chunk.run] = max(steps, chunk.start + chunk.steps), total
    with np.errstate(invalid="ignore"):
        return np.concatenate([total / np.float64(steps) for steps, total in found.values()])


def _sums(x: Tensor) -> Array:
    """Over time, float64 `[samples, F]`."""
    return x.detach().double().sum(0).flatten(1).cpu().numpy()


def numbers_in(owner: str, name: str, given: Any, kind: type[int] | type[float] = int) -> Array:
    """What was given as an array, of int64 or float64; whole numbers are not made of others."""
    try:
        held = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
        if held.size and held.dtype.kind not in ("iu" if kind is int else "iufb"):
            raise ValueError(f"{held.dtype}")
        return held.astype(np.int64 if kind is int else np.float64)
    except (ValueError, TypeError):
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{owner}: {name} must be {what}, in a list or a tensor, but got {given!r:.80}.") from None


def check_window(owner: str, window: Any) -> tuple[int, int]:
    """The first and the last lag, both with their sign."""
    if isinstance(window, (tuple, list)) and len(window) == 2 and all(isinstance(lag, Integral) for lag in window):
        first, last = map(int, window)
        if first <= last:
            return first, last
    raise ValueError(f"{owner}: window is the first and the last lag in whole steps, as (-10, 10), but got {window!r}.")


def classes_of(owner: str, labels: Any) -> tuple[tuple[Any, ...], Array]:
    """The classes that there are, in order, and the number of the class of each sample."""
    try:
        held = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    except ValueError:  # lists of several lengths
        raise ShapeError(f"{owner} takes a label for each sample, [N], but got {labels!r:.80}.") from None
    if held.ndim != 1:
        raise ShapeError(f"{owner} takes a label for each sample, [N], but got {dims(held.shape)}.")
    classes, place = np.unique(held, return_inverse=True)
    return tuple(classes.tolist()), place


def check_labels(owner: str, place: Array, samples: int) -> None:
    """Refuse labels that are not one for each sample."""
    if len(place) != samples:
        raise ShapeError(
            f"{owner} takes a label for each sample, of all runs one after the other: there are {samples} samples, but "
            f"got {len(place)} labels."
        )
