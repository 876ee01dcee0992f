"""Spikes as they come: a tensor, bits, events, or the blocks of a recording, as chunks of one form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError, check_choice, check_numbers, check_real, check_sequence, dims
from ..recording import Block, Events, Signal
from ..recording.steps import are_neighbours
from ..spikes import PackedSpikes, Places, places

__all__ = ["Array", "Block", "Chunk", "Per", "Spikes", "Steps", "check_per", "chunks", "grown"]

Array = NDArray[Any]
Per = Literal["neuron", "train"]
Steps = Literal["any", "neighbours", "numbered"]


Spikes = Tensor | PackedSpikes | Events | Signal | Iterable[Block]
"""`[T, N, *]`: a tensor or packed spikes of one run, `Events`, or a signal of a recording, or blocks in order."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Steps `start` to before `start + steps` of the samples `first` to before `first + samples` of a run."""

    owner: str  # whom it is for, in words
    run: int
    start: int
    steps: int
    first: int
    samples: int
    neuron_shape: torch.Size
    held: Tensor | PackedSpikes | Places
    begin: tuple[int, int] = (0, 0)  # the step and the sample of the run that count as 0
    chosen: str = ""  # in words, which steps of the run these are, where they are not its first ones

    @property
    def size(self) -> int:
        """The neurons."""
        return self.neuron_shape.numel()

    @cached_property
    def places(self) -> Places:
        """The train, `sample * size + neuron`, and the step of each spike, both counted from the start of the run."""
        if isinstance(self.held, tuple):
            return self.held
        if isinstance(self.held, Tensor):
            _check_spikes(self.owner, self.held)
        train, step = places(self.held)
        train += self.first * self.size  # both are ours: where they are large, a copy costs as much as finding them
        step += self.start
        return train, step

    @cached_property
    def counts(self) -> Array:
        """The spikes of each of its trains, int64 `[samples, size]`."""
        train = self.places[0] - self.first * self.size
        return np.bincount(train, minlength=self.samples * self.size).reshape(self.samples, self.size)

    @cached_property
    def together(self) -> Array:
        """The spikes of all neurons at each step, int64 `[samples, steps]`."""
        train, step = self.places
        at = (train // max(1, self.size) - self.first) * self.steps + step - self.start
        return np.bincount(at, minlength=self.samples * self.steps).reshape(self.samples, self.steps)


def chunks(owner: str, spikes: Spikes, steps: Steps = "neighbours") -> Iterator[Chunk]:
    """The spikes in order of run, then time. Any value but 0 is one spike; NaN is a ValueError.

    A part of a run is measured as that part of a tensor: it begins with step 0 and sample 0.

    - `steps`: what is asked of those that were recorded: each by itself, each after the one before, or to have the
      numbers of their run.
    """
    for chunk in _chunks(owner, spikes):
        chosen = chunk.chosen
        if chosen and (steps == "numbered" or (steps == "neighbours" and not are_neighbours(chosen))):
            raise ValueError(
                f"{owner} goes by the time between steps, but the recording holds chosen steps alone ({chosen}), one "
                "after the other. Record without time=; a tensor, as signal.read(run) gives it, is taken as it is."
            )
        yield chunk


def _chunks(owner: str, spikes: Spikes) -> Iterator[Chunk]:
    if isinstance(spikes, (Tensor, PackedSpikes)):
        yield _chunk(owner, 0, 0, 0, spikes)
    elif isinstance(spikes, Events):
        yield from _of_events(owner, spikes)
    else:
        yield from _of_blocks(owner, spikes)


def _chunk(owner: str, run: int, start: int, first: int, held: Tensor | PackedSpikes) -> Chunk:
    if isinstance(held, Tensor):
        check_numbers(owner, held)
        check_sequence(owner, held, least=2)
    steps, samples, *neurons = held.shape
    return Chunk(owner, run, start, steps, first, samples, torch.Size(neurons), held)


def _of_events(owner: str, spikes: Events) -> Iterator[Chunk]:
    if not spikes.runs:
        raise ValueError(f"{owner} got the events of no run: nothing was recorded, or no step of it chosen.")
    shape = torch.Size(spikes.neuron_shape)
    borders = np.searchsorted(spikes.run, np.arange(len(spikes.runs) + 1))
    looked = spikes.looked or tuple((range(steps), range(samples)) for steps, samples in spikes.runs)
    for run, (steps, samples) in enumerate(looked):
        if not any(spikes.runs[run]):  # there is none of this number
            continue
        for what, held in (("step", steps), ("sample", samples)):
            if held.step != 1 and len(held) > 1:
                raise _gap(owner, run, what, held.start, held.start + held.step)
        part = slice(borders[run], borders[run + 1])
        train = (np.asarray(spikes.sample[part]) - samples.start) * shape.numel() + spikes.neuron[part]
        step = np.asarray(spikes.step[part]) - steps.start
        begin = steps.start, samples.start
        yield Chunk(owner, run, 0, len(steps), 0, len(samples), shape, (train, step), begin, spikes.chosen)


def _gap(owner: str, run: int, what: str, last: int, coming: int) -> ValueError:
    """The error for what is left out between two steps or samples, and would count as without spikes."""
    return ValueError(
        f"{owner} takes each {what} after the one before it, but of run {run} {what} {coming} comes after {last}. "
        f"A tensor, as signal.read(run, {what}=...) gives it, is taken as it is."
    )


def _of_blocks(owner: str, spikes: Any) -> Iterator[Chunk]:
    blocks = spikes.blocks() if isinstance(spikes, Signal) else spikes
    if not isinstance(blocks, Iterable) or isinstance(blocks, (str, bytes, dict)):
        raise TypeError(
            f"{owner} takes spikes [T, N, *] as a tensor, PackedSpikes, Events, a signal of a recording such as "
            f"recording['conv1']['spike'], or its blocks, but got {type(spikes).__name__}."
        )
    before: Chunk | None = None
    begin = (0, 0)  # the first step and sample of the run that were looked at
    for block in blocks:
        if not isinstance(block, Block):
            raise TypeError(
                f"{owner} takes blocks with run, step, sample and values, as signal.blocks() gives them, but got "
                f"{type(block).__name__}. Join tensors along time with torch.cat first."
            )
        chunk = _chunk(owner, block.run, block.step, block.sample, block.values)
        if before is None or chunk.run != before.run:
            begin = chunk.start, chunk.first
        if before is not None:
            _check_order(owner, before, chunk)
        before = chunk
        yield replace(
            chunk, start=chunk.start - begin[0], first=chunk.first - begin[1], begin=begin, chosen=block.chosen
        )
    if before is None:
        raise ValueError(f"{owner} got no block of spikes. Record something first.")


def _check_order(owner: str, a: Chunk, b: Chunk) -> None:
    if a.neuron_shape != b.neuron_shape:
        raise ShapeError(
            f"{owner} takes blocks of the same neurons, but got {dims(a.neuron_shape)} and {dims(b.neuron_shape)}."
        )
    beside = (a.start, a.steps) == (b.start, b.steps) and b.first >= a.first + a.samples
    if not (b.run > a.run or (b.run == a.run and (b.start >= a.start + a.steps or beside))):
        raise ValueError(
            f"{owner} takes blocks in the order of runs and time, but step {b.start} of run {b.run} came after the "
            f"steps {a.start} to {a.start + a.steps - 1} of run {a.run}."
        )
    if b.run == a.run:
        what, end, coming = ("sample", a.first + a.samples, b.first) if beside else ("step", a.start + a.steps, b.start)
        if coming > end:
            raise _gap(owner, a.run, what, end - 1, coming)


def _check_spikes(owner: str, x: Tensor) -> None:
    """Refuse what is no spikes: potentials, whose values that are not 0 would all count as one."""
    check_real(owner, x)
    odd = x[x != x.round()] if x.is_floating_point() else x[:0]
    if odd.numel():
        raise ValueError(
            f"{owner} takes spikes, whole numbers, but got the value {odd[0].item():.6g}. Choose the spikes as the "
            "signal, or divide scaled spikes by their scale; NaN comes from the network."
        )


def grown(held: Array, length: int, value: int = 0) -> Array:
    """An array of at least this length, filled up with a value."""
    missing = max(0, length - len(held))
    return np.concatenate((held, np.full((missing, *held.shape[1:]), value, held.dtype))) if missing else held


def check_per(owner: str, per: str) -> None:
    """Refuse an unknown grouping."""
    check_choice(owner, "per", per, ("neuron", "train"))
