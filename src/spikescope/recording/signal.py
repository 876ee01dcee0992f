"""What was recorded of one signal of one module: labelled, cut in any direction, read piece by piece."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import did_you_mean, dims
from ..spikes import PackedSpikes
from .events import Events, Whole, found_in

__all__ = ["Block", "Layer", "Piece", "Run", "Signal"]

Index = int | slice | Sequence[int] | Sequence[bool] | Tensor | np.ndarray[Any, Any] | None

AXES = {0: (), 1: ("neuron",), 2: ("channel", "x"), 3: ("channel", "y", "x"), 4: ("channel", "z", "y", "x")}


class Run(NamedTuple):
    """A sequence, from reset to reset."""

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody misses here
    steps: int
    samples: int


class _Four(NamedTuple):
    run: int
    step: int  # the first
    sample: int  # the first
    values: Tensor | PackedSpikes


class Block(_Four):
    """Neighbours in time of one run: `values` is `[t, n, *F]`, or `[t, n, k]` where neurons were chosen.

    - `chosen`, beside the four: which steps were recorded, see `Signal`.
    """

    chosen: str = ""

    def of(self, chosen: str) -> Block:
        """The same, of a recording of chosen steps."""
        if chosen:
            self.chosen = chosen
        return self

    def _replace(self, **kwargs: Any) -> Block:
        return super()._replace(**kwargs).of(self.chosen)


class Piece(Protocol):
    """Where some steps of a run lie."""

    @property
    def run(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def neuron_shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def packed(self) -> bool: ...
    @property
    def nbytes(self) -> int:
        """What it takes where it lies."""

    def read(self, steps: range, samples: range, neurons: Whole | None) -> Tensor | PackedSpikes:
        """Some of its steps, counted from its own first, of some samples and neurons: `[t, n, *F]` or `[t, n, k]`."""


class Signal(Sequence["RunView"]):
    """One signal of one module over all runs. Nothing is read before it is asked for, and no more than that.

    - `name`, `layer`: as `'spike'` and the name of the module; `dims`: the names of the axes.
    - `neurons`: of a recorded subset the flat indices in the module, else None.
    - `chosen`: in words, which steps of a run were recorded, where these are not its first ones; a step is then the
      number among them.

    `signal[run]` is a run, sliced as a tensor `[T, N, *F]` is.

    >>> rec = spikescope.recording.in_memory({"conv": {"spike": [torch.eye(3).view(3, 1, 3)]}})
    >>> spikes = rec["conv"]["spike"]
    >>> spikes
    Signal('conv', 'spike', 1 run, 3 steps, neurons [3], packed)
    >>> spikes.read(run=0, step=slice(1, 3), neuron=2)
    tensor([[[0.]],
    <BLANKLINE>
            [[1.]]])
    >>> spikes[0][1:, 0]
    tensor([[0., 1., 0.],
            [0., 0., 1.]])
    """

    def __init__(
        self,
        layer: str,
        name: str,
        pieces: Iterable[Piece],
        neurons: Sequence[int] | None = None,
        lost: str = "",
        chosen: str = "",
    ) -> None:
        self.layer, self.name = layer, name
        self.neurons = None if neurons is None else tuple(neurons)
        self._pieces = sorted(pieces, key=lambda piece: (piece.run, piece.start))
        self._first = [piece.run for piece in self._pieces]
        self._lost = lost
        self.chosen = chosen

    @property
    def _any(self) -> Piece:
        if not self._pieces:
            raise ValueError(f"Nothing of {self.name!r} of {self.layer!r} was recorded.")
        return self._pieces[0]

    @property
    def neuron_shape(self) -> tuple[int, ...]:
        """The axes of a sample."""
        shapes = {piece.neuron_shape for piece in self._pieces}
        if len(shapes) > 1:
            raise ValueError(
                f"{self.name!r} of {self.layer!r} has neurons of several shapes, "
                f"{' and '.join(sorted(map(dims, shapes)))}: read one run at a time, or blocks(run=...)."
            )
        return self._any.neuron_shape

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the axes: run, step, sample, and those of a neuron."""
        count = len(self.neuron_shape)
        return ("run", "step", "sample", *AXES.get(count, tuple(f"axis{i}" for i in range(count))))

    @property
    def dtype(self) -> torch.dtype:
        """Of the values that `read` gives."""
        return self._any.dtype

    @cached_property
    def packed(self) -> bool:
        """Whether all its blocks are packed spikes."""
        return self._any.packed and all(piece.packed for piece in self._pieces)

    @property
    def nbytes(self) -> int:
        """What it takes where it lies."""
        return sum(piece.nbytes for piece in self._pieces)

    @cached_property
    def runs(self) -> list[Run]:
        """The runs of which something was recorded; they may differ in length and batch."""
        return [self._run(index) for index in self._known]

    @cached_property
    def _known(self) -> list[int]:
        """The numbers of the runs."""
        return sorted(set(self._first))

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, run: Any) -> Any:
        if isinstance(run, tuple):
            return self[run[0]][run[1:]]
        if not isinstance(run, (int, np.integer)):
            raise TypeError(f"A signal is cut in runs one at a time, signal[3][10:20], but got {run!r}.")
        held = self.runs
        index = int(run) if run >= 0 else held[int(run)].index if -len(held) <= run else -1
        return RunView(self, self._run(index))

    def __iter__(self) -> Iterator[RunView]:
        return (RunView(self, run) for run in self.runs)

    def _of(self, run: int) -> list[Piece]:
        return self._pieces[bisect_left(self._first, run) : bisect_left(self._first, run + 1)]

    def _run(self, run: int) -> Run:
        pieces = self._of(run)
        if not pieces:
            known = self._known
            there = f"there are {len(known)}, {known[0]} to {known[-1]}" if known else "there is none"
            raise IndexError(f"{self.layer!r} has no run {run} of {self.name!r}; {there}.")
        return Run(run, max(piece.start + piece.steps for piece in pieces), pieces[0].samples)

    def blocks(
        self, run: Index = None, step: Index = None, sample: Index = None, neuron: Index = None
    ) -> Iterator[Block]:
        """The values piece by piece, in the order of run and time: of all runs, or of these; see `read`.

        Where a slice takes one step in so many, or one sample, each is a block by itself, as a block is neighbours.
        """
        for block in self._cut(run, step, sample, neuron):
            along, beside = _strides(step, sample)
            yield from [block] if along == beside == 1 else _apart(block, along, beside)

    def _cut(self, run: Index, step: Index, sample: Index, neuron: Index) -> Iterator[Block]:
        """What is wanted of each piece, the steps and samples as far apart as slices say."""
        for index in self._chosen(run):
            held = self._run(index)
            steps, samples = span("step", step, held.steps), span("sample", sample, held.samples)
            end = 0
            for piece in self._of(index):
                self._check_gap(index, end, piece, steps)
                inside = _within(steps, piece.start, piece.steps)
                if len(inside):
                    self._check_fit(held, end, piece)
                    neurons = chosen(neuron, math.prod(piece.neuron_shape))
                    values = piece.read(inside, samples, neurons)
                    yield Block(index, piece.start + inside[0], samples.start, values).of(self.chosen)
                end = max(end, piece.start + piece.steps)

    def _check_gap(self, run: int, end: int, piece: Piece, steps: range) -> None:
        missing = range(max(end, min(steps, default=0)), min(piece.start, max(steps, default=-1) + 1))
        if len(missing):
            raise ValueError(
                f"The steps {missing.start} to {missing.stop} of run {run} of {self.name!r} of {self.layer!r} are lost."
                f"{self._lost} Read the runs that are whole, or the steps before and after."
            )

    def _check_fit(self, run: Run, end: int, piece: Piece) -> None:
        """Refuse steps that are there twice, or are of other samples or neurons than the first of the run."""
        shape = self._of(run.index)[0].neuron_shape
        if piece.start < end or (piece.samples, piece.neuron_shape) != (run.samples, shape):
            raise ValueError(
                f"The steps {piece.start} to {piece.start + piece.steps} of run {run.index} of {self.name!r} of "
                f"{self.layer!r}, {piece.samples} samples of neurons {dims(piece.neuron_shape)}, do not go on from "
                f"those up to {end}, {run.samples} samples of neurons {dims(shape)}: they are of different recordings."
                f"{self._lost} Read the runs that are whole."
            )

    def _chosen(self, run: Index) -> list[int]:
        known = self._known
        if run is None:
            return known
        if isinstance(run, slice):
            wanted = range(*run.indices(known[-1] + 1 if known else 0))
            return [index for index in known if index in wanted]
        if isinstance(run, (int, np.integer)):
            return [int(run)]
        if isinstance(run, (str, bytes)) or not isinstance(run, Iterable):
            raise TypeError(f"run is a number, a slice or several numbers, but got {run!r}.")
        several = list(run)
        if odd := [index for index in several if not isinstance(index, (int, np.integer))]:
            raise TypeError(f"run is a number, a slice or several numbers, but got {odd[0]!r} among them.")
        return [int(index) for index in several]

    def read(self, run: int = 0, step: Index = None, sample: Index = None, neuron: Index = None) -> Tensor:
        """The values of one run as a tensor `[t, n, *F]`; `[t, n, k]` where neurons are chosen.

        - `step`, `sample`: a number or a slice. `neuron`: of the flattened axes of a sample a number, a slice, indices
          or a mask. A number keeps its axis.
        """
        if not isinstance(run, (int, np.integer)):
            raise TypeError(
                f"read gives one run, by its number, but got {run!r}. blocks(run=...) goes through several."
            )
        parts = [block.values for block in self._cut(int(run), step, sample, neuron)]
        if not parts:
            held = self._run(int(run))
            shape = self._of(int(run))[0].neuron_shape
            picked = chosen(neuron, math.prod(shape))
            axes = shape if picked is None else (len(picked),)
            return torch.zeros(0, len(span("sample", sample, held.samples)), *axes, dtype=self.dtype, device="cpu")
        dense = [part.dense() if isinstance(part, PackedSpikes) else part for part in parts]
        return dense[0] if len(dense) == 1 else torch.cat(dense)

    def events(self, run: Index = None, step: Index = None, sample: Index = None, neuron: Index = None) -> Events:
        """The spikes as flat arrays, with the numbers that step and sample have in the run; of chosen neurons, `neuron`
        counts through the chosen ones.
        """
        found = found_in(self._cut(run, step, sample, neuron), *_strides(step, sample))
        found = found if found.runs else found._replace(neuron_shape=self.neuron_shape)
        found.chosen = self.chosen
        if step is None and sample is None:
            return found
        none, chosen = (range(0), range(0)), map(self._run, self._chosen(run))
        places = {held.index: (span("step", step, held.steps), span("sample", sample, held.samples)) for held in chosen}
        found.looked = tuple(places.get(index, none) for index in range(len(found.runs)))
        return found

    def __repr__(self) -> str:
        runs = self.runs
        lengths = sorted({held.steps for held in runs})
        steps = f"{lengths[0]} steps" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} steps" if runs else ""
        shapes = sorted({dims(piece.neuron_shape) for piece in self._pieces})
        kind = ("packed" if self.packed else str(self.dtype)) if runs else "empty"
        count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
        parts = [repr(self.layer), repr(self.name), count, *([steps] if steps else [])]
        return f"Signal({', '.join([*parts, *(['neurons ' + ' or '.join(shapes)] if shapes else []), kind])})"


class RunView:
    """One run of a signal, `[T, N, *F]`: reading happens where it is sliced."""

    def __init__(self, signal: Signal, run: Run) -> None:
        self.signal, self.run = signal, run

    @property
    def shape(self) -> tuple[int, ...]:
        """Steps, samples, and the axes of a neuron."""
        return (self.run.steps, self.run.samples, *self.signal._of(self.run.index)[0].neuron_shape)

    def __len__(self) -> int:
        return self.run.steps

    def __getitem__(self, key: Any) -> Tensor:
        """As of a tensor; of the axes of a neuron, those that are cut after reading."""
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            keys = (*keys[:place], *[slice(None)] * (len(self.shape) - len(keys) + 1), *keys[place + 1 :])
        first, rest = (*keys, slice(None), slice(None))[:2], keys[2:]
        step, sample = first
        flat = len(self.shape) == 3 and len(rest) == 1
        values = self.signal.read(self.run.index, step, sample, rest[0] if flat else None)
        tail = (0 if isinstance(rest[0], (int, np.integer)) else slice(None),) if flat else rest
        return values[tuple(0 if isinstance(one, (int, np.integer)) else slice(None) for one in first) + tuple(tail)]

    def __repr__(self) -> str:
        return f"RunView(run {self.run.index} of {self.signal!r})"


class Layer(Mapping[str, Signal]):
    """The signals of one module by name.

    - `name`; `kind`: its class; `fields`: its numbers at the start, as `tau` and `v_threshold`. `most_spikes`: how many
      a neuron may give in a step.
    """

    def __init__(self, name: str, signals: Mapping[str, Signal], about: Mapping[str, Any] | None = None) -> None:
        self.name, self._signals = name, dict(signals)
        self.kind = str((about or {}).get("type", ""))
        self.fields: dict[str, Any] = dict((about or {}).get("fields", {}))
        self.most_spikes = int((about or {}).get("most_spikes", 1))

    def __getitem__(self, name: str) -> Signal:
        if name not in self._signals:
            there = ", ".join(map(repr, self._signals)) or "nothing"
            raise KeyError(f"{self.name!r} has no signal {name!r}; there is {there}.{did_you_mean(name, self)}")
        return self._signals[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._signals)

    def __len__(self) -> int:
        return len(self._signals)

    def __repr__(self) -> str:
        return f"Layer({self.name!r}{f', {self.kind}' if self.kind else ''}: {', '.join(self)})"


def _strides(*keys: Index) -> list[int]:
    """How far apart the places are that each of these takes."""
    return [(key.step or 1) if isinstance(key, slice) else 1 for key in keys]


def _apart(block: Block, along: int, beside: int) -> Iterator[Block]:
    """The steps and samples of a cut that lie so far apart, those that are no neighbours each as a block."""
    values = block.values.dense() if isinstance(block.values, PackedSpikes) else block.values
    wide, high = (1 if apart != 1 else max(1, size) for apart, size in zip((along, beside), values.shape, strict=False))
    for at, steps in enumerate(values.split(wide)):
        for place, part in enumerate(steps.split(high, 1)):
            held = part if isinstance(block.values, Tensor) else PackedSpikes.from_dense(part)
            yield block._replace(step=block.step + along * at, sample=block.sample + beside * place, values=held)


def span(axis: str, key: Index, size: int) -> range:
    """The places of a number or a slice along an axis."""
    if key is None:
        return range(size)
    if isinstance(key, slice):
        return range(size)[key]
    if isinstance(key, (int, np.integer)):
        if not -size <= key < size:
            raise IndexError(f"There is no {axis} {key}; there are {size}.")
        return range(size)[int(key) % size :][:1]
    raise TypeError(f"{axis} is a number or a slice, but got {key!r}.")


def chosen(key: Index, size: int) -> Whole | None:
    """The flat indices of chosen neurons; None for all."""
    if key is None or (isinstance(key, slice) and key == slice(None)):
        return None
    if isinstance(key, (int, np.integer, slice)):
        return np.array(span("neuron", key, size), dtype=np.int64)
    held = np.asarray(key.cpu() if isinstance(key, Tensor) else key)
    if held.dtype == bool:
        if held.size != size:
            raise IndexError(f"A mask of {held.size} elements does not fit {size} neurons.")
        return np.flatnonzero(held)
    if held.size and held.dtype.kind not in "iu":
        raise TypeError(f"neuron is a number, a slice, whole indices or a mask, but got {key!r}.")
    held = held.astype(np.int64).reshape(-1)
    outside = held[(held < -size) | (held >= size)]
    if outside.size:
        raise IndexError(f"There is no neuron {outside[0]}; there are {size}.")
    return held % max(1, size)


def _within(steps: range, start: int, count: int) -> range:
    """Those of the steps that a piece has, counted from its first."""
    backwards = steps.step < 0
    held = steps[::-1] if backwards else steps
    if backwards:
        raise ValueError("Steps are read forwards in time; turn what was read.")
    first = max(0, -(-(start - held.start) // held.step))
    inside = held[first:]
    inside = inside[: max(0, -(-(start + count - inside.start) // inside.step))] if len(inside) else inside
    return range(inside.start - start, inside.stop - start, inside.step)
