"""Two recordings held against each other: where they begin to differ, by how much, and where the difference grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ShapeError, dims
from ..recording import Signal, StoredRecording
from ..recording.steps import steps_alike
from ..spikes import PackedSpikes

__all__ = ["Comparison", "Difference", "Place"]


class Place(NamedTuple):
    """Where a value stands, and what it is in both."""

    run: int
    step: int  # 0 of what has one value for a run
    sample: int
    neuron: int  # of the flattened neurons
    a: float
    b: float


@dataclass(frozen=True)
class Difference:
    """What differs in one signal of one layer.

    - `first`: the earliest value that differs, by run, step, sample, neuron; None where none does.
    - `values`, `differing`: how many there are, and how many differ. `largest`: the largest difference that is finite.
    - `by_step`: the share of the values that differ at each step, over all runs and samples.
    """

    layer: str
    signal: str
    first: Place | None
    values: int
    differing: int
    largest: float
    by_step: Tensor

    @property
    def share(self) -> float:
        """The share of the values that differ; NaN for no value."""
        return self.differing / self.values if self.values else float("nan")


@dataclass(frozen=True)
class Comparison:
    """What `compare` results in: the layers in the order of `a`, and what only one has; `print` says it in words."""

    layers: tuple[Difference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def first(self) -> Difference | None:
        """The first layer that differs, in the order of data; None where all is the same."""
        return next((held for held in self.layers if held.differing), None)

    @property
    def growth(self) -> tuple[Difference, Difference] | None:
        """Layers that follow each other, between which the share of what differs grows most; None if nowhere."""
        rows: dict[str, list[Difference]] = {}
        for held in self.layers:
            rows.setdefault(held.signal, []).append(held)
        pairs = [pair for row in rows.values() for pair in pairwise(row) if pair[1].share > pair[0].share]
        return max(pairs, key=lambda pair: pair[1].share - pair[0].share, default=None)

    @property
    def same(self) -> bool:
        """Whether nothing differs, and neither has what the other has not."""
        return self.first is None and not self.only_a and not self.only_b

    def __str__(self) -> str:
        begin = self.first
        words = ["Nothing differs." if begin is None else _said(begin)]
        for held in self.layers:
            steps = held.by_step.nonzero().flatten()
            grows = ""
            if len(steps) and len(held.by_step) > 1:
                at, last = int(steps[0]), int(held.by_step.argmax())
                grows = f", from step {at} on, most at step {last} ({100 * held.by_step[last]:.3g} %)"
            size = f"by up to {held.largest:.3g}" if held.largest else "none by a finite number"
            words.append(
                f"{held.layer or 'the network'} {held.signal}: {held.differing:,} of {held.values:,} differ"
                f"{f' ({100 * held.share:.3g} %), {size}{grows}' if held.differing else ''}"
            )
        if (pair := self.growth) is not None and len(self.layers) > 2:
            before, after = pair
            words.append(
                f"It grows most from {_quoted(before.layer)} to {_quoted(after.layer)}, {after.signal}: "
                f"{100 * before.share:.3g} % and {100 * after.share:.3g} %."
            )
        for side, names in (("first", self.only_a), ("second", self.only_b)):
            words += [f"Only the {side} has {', '.join(names)}."] if names else []
        return "\n".join(words)


def _quoted(layer: str) -> str:
    return repr(layer) if layer else "the network"


def _said(held: Difference) -> str:
    place = held.first
    assert place is not None
    step = f"step {place.step}, " if len(held.by_step) > 1 else ""
    return (
        f"They first differ in {_quoted(held.layer)}, {held.signal}: run {place.run}, {step}"
        f"sample {place.sample}, neuron {place.neuron}: {place.a:.6g} and {place.b:.6g}."
    )


def differences(a: Any, b: Any, tolerance: float) -> Comparison:
    """What `compare` says of two recordings, or of mappings of the names of layers to values."""
    left, right = (_signals(held) for held in (a, b))
    both = [key for key in left if key in right]
    if not both:
        raise ValueError(f"compare: no layer is in both: {_names(left)} and {_names(right)}.")
    return Comparison(
        tuple(_compared(key, left[key], right[key], tolerance) for key in both),
        tuple(f"{layer or 'the network'} {signal}" for layer, signal in left if (layer, signal) not in right),
        tuple(f"{layer or 'the network'} {signal}" for layer, signal in right if (layer, signal) not in left),
    )


Values = Signal | Tensor | PackedSpikes


def _signals(given: Any) -> dict[tuple[str, str], Values]:
    if isinstance(given, StoredRecording):
        return {(name, signal): held for name, layer in given.items() for signal, held in layer.items()}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"compare takes recordings, or mappings of the names of layers to values [T, N, *], but got "
            f"{type(given).__name__}."
        )
    for name, held in given.items():
        if not isinstance(held, (Tensor, PackedSpikes)) or len(held.shape) < 2:
            what = dims(held.shape) if isinstance(held, (Tensor, PackedSpikes)) else type(held).__name__
            raise ShapeError(f"compare takes values [T, N, *], but {name!r} is {what}.")
    return {(str(name), "spike"): held for name, held in given.items()}


def _names(signals: Mapping[tuple[str, str], Values]) -> str:
    return ", ".join(f"{layer} {signal}" for layer, signal in signals) or "nothing"


def _pieces(held: Values) -> Iterator[tuple[int, int, Tensor]]:
    """The run, the first step and the values `[t, n, F]` of each piece."""
    if isinstance(held, Signal):
        for block in held.blocks():
            yield block.run, block.step, _dense(block.values)
    else:
        yield 0, 0, _dense(held)


def _dense(values: Tensor | PackedSpikes) -> Tensor:
    x = values.dense() if isinstance(values, PackedSpikes) else values.detach()
    return x.reshape(*x.shape[:2], x.shape[2:].numel()).cpu()


def _extents(held: Values) -> list[tuple[int, ...]]:
    if isinstance(held, Signal):
        return [(run.index, run.steps, run.samples, *held.neuron_shape) for run in held.runs]
    return [(0, *held.shape)]


def _matched(a: Values, b: Values) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """The pieces of both, cut alike: their borders may lie elsewhere."""
    ours, theirs = _pieces(a), _pieces(b)
    left, right = next(ours, None), next(theirs, None)
    while left is not None and right is not None:
        run, step, x = left
        y = right[2]
        steps = min(len(x), len(y))
        yield run, step, x[:steps], y[:steps]
        left = (run, step + steps, x[steps:]) if len(x) > steps else next(ours, None)
        right = (right[0], right[1] + steps, y[steps:]) if len(y) > steps else next(theirs, None)


def _check_steps(key: tuple[str, str], a: str, b: str) -> None:
    """Refuse recordings of other steps, and of steps of which nothing says whether they are the same."""
    alike = steps_alike(a, b)
    if alike is None:
        raise ValueError(
            f"compare: {_quoted(key[0])} has {key[1]} of steps that predicates chose, {a} in the first and {b} in the "
            "second, which do not say whether these are the same. Record both with a slice of steps, as every(n) gives."
        )
    if not alike:
        raise ValueError(
            f"compare: {_quoted(key[0])} has {key[1]} of other steps of a run in the first, {a or 'all'}, than in the "
            f"second, {b or 'all'}. Record the same steps of both."
        )


def _compared(key: tuple[str, str], a: Values, b: Values, tolerance: float) -> Difference:
    if isinstance(a, Signal) and isinstance(b, Signal):
        _check_steps(key, a.chosen, b.chosen)
    if _extents(a) != _extents(b):
        raise ShapeError(
            f"compare: {_quoted(key[0])} has {key[1]} of the runs {_extents(a)} in the first, and {_extents(b)} in the "
            "second (run, steps, samples, neurons). Give both the same input."
        )
    first, values, differing, largest = None, 0, 0, 0.0
    counts = torch.zeros(2, 0, dtype=torch.int64, device="cpu")  # of what differs, and of all, at each step
    for run, step, x, y in _matched(a, b):
        if x.is_complex() or y.is_complex():
            raise TypeError(
                f"compare takes real values, but {_quoted(key[0])} has complex ones. Give x.real and x.imag."
            )
        gap = (x.double() - y.double()).abs()
        odd = (x != y) & ~(x.isnan() & y.isnan())  # of large whole numbers the gap may round to 0
        odd &= ~(gap <= tolerance) if tolerance else True
        if first is None and bool(odd.any()):
            t, n, f = (int(i) for i in odd.nonzero()[0])
            first = Place(run, step + t, n, f, x[t, n, f].item(), y[t, n, f].item())
        finite = gap[odd & gap.isfinite()]
        largest = max(largest, finite.max().item() if finite.numel() else 0.0)
        values, differing = values + odd.numel(), differing + int(odd.sum())
        missing = max(0, step + len(x) - counts.shape[1])
        counts = torch.cat((counts, counts.new_zeros(2, missing)), 1)
        counts[0, step : step + len(x)] += odd.sum((1, 2))
        counts[1, step : step + len(x)] += odd[0].numel() if len(odd) else 0
    return Difference(*key, first, values, differing, largest, (counts[0].double() / counts[1]).nan_to_num())
