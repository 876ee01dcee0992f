"""The law of the reducers: measure a chunk, merge two summaries, read the result."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, get_type_hints

import torch
from torch import Tensor

from ...errors import ShapeError, check_choice, check_sequence, check_tensor, dims
from ...spikes import PackedSpikes

__all__ = ["Along", "Reducer", "Rule", "nbytes", "registry", "rules"]

registry: dict[str, type[Reducer]] = {}

Along = Literal["time", "batch"]


class Rule(NamedTuple):
    """How one entry of a summary merges along time and along the batch.

    - `"sum"`, `"min"`, `"max"`: entry by entry. Along the batch, ranks can do it with an all-reduce.
    - `"same"`: both must hold the same value.
    - `"cat"`: one after the other along the first axis, the samples of an open sequence. Empty once it is closed.
    - `"span"`: along time neighbours join, along the batch both must be the same.
    - `"own"`: the reducer has a rule of its own; ranks gather whole summaries and merge them.
    """

    time: str
    batch: str


SUM, MIN, MAX, OWN = (Rule(name, name) for name in ("sum", "min", "max", "own"))
SAMPLES = Rule("same", "sum")
SPAN = Rule("span", "span")
OPEN_SUM, OPEN_MIN, OPEN_OWN = (Rule(name, "cat") for name in ("sum", "min", "own"))


class Span(NamedTuple):
    """The steps of its run that a summary speaks of, `start` to before `stop`; `Span(0, 0)` once it is closed."""

    start: int
    stop: int

    def then(self, other: Span) -> Span:
        """This span and its neighbour after it."""
        if self.stop != other.start:
            raise ValueError(
                f"A merge along time joins neighbours, but the first summary ends before step {self.stop} and the "
                f"second begins at step {other.start}. Measure each chunk with start=, the index of its first step in "
                "the run, and merge in the order of time; close() a run before another is added along the batch."
            )
        return Span(self.start, other.stop)

    def beside(self, other: Span) -> Span:
        """This span, which other samples must share."""
        if self != other:
            raise ValueError(
                f"A merge along the batch joins samples of the same steps, but got the steps {self.start} to "
                f"{self.stop} and {other.start} to {other.stop}. What keeps every step, such as Raw and Packed, holds "
                "runs of one length: begin a recording of its own for runs of another."
            )
        return self


class Reducer:
    """What to keep of a signal that arrives in chunks `[T, N, *F]`. Defining a subclass registers it.

    - `measure(x, start)` sums up one chunk; `start` is the index of its first step in its run.
    - `merge(a, b, along)` joins two summaries: with `"time"`, b holds the steps right after those of a, of the same
      samples; with `"batch"`, b holds other samples.
    - `close(a)` ends a sequence (a reset): what only its next step could need is folded away. Runs of their own are
      closed, then merged along the batch.
    - `result(a)` is what the user reads. It closes what is open. A real number that nothing was seen for is NaN.

    The law, tested for every reducer: measuring a whole run, or merging its chunks, gives the same, however time and
    batch are cut. Whole numbers are exact; real ones are summed in float64, or squares of large signals first in blocks
    of float32, and differ by rounding alone.

    `taps` names what a fused kernel can hand over in place of the signal: of spikes `count`, over T, with the shape of
    a step, and `packed`, `[T, ceil(M / 8)]` bytes in the memory order of a step; of potentials before the reset
    `range`, `[blocks, 3]` of minimum, maximum and sum, and `support:...`, `[blocks]`, see `dynamics.support_tap`.
    A summary is a NamedTuple of tensors and numbers, each annotated with its `Rule`. A subclass is a frozen
    dataclass and writes `Summary`, `chunk`, `result`, and what differs of the rest.
    """

    Summary: ClassVar[Any]
    taps: Any = ()  # names; a property where they depend on the arguments
    signals: ClassVar[tuple[str, ...]] = ()  # of which alone it is told; of any where empty
    instead: ClassVar[str] = ""  # what to take of another, in a sentence
    gathers: ClassVar[bool] = False  # whether a summary grows with every run: then runs are merged late
    example: ClassVar[Mapping[str, Any]] = {}  # values for the arguments that have no default

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not abstract:
            registry[cls.__name__] = cls

    def measure(self, x: Tensor, start: int = 0) -> Any:
        """The summary of one chunk `[T, N, *F]` of any dtype, which may be empty."""
        check_tensor(type(self).__name__, "the signal", x)
        check_sequence(type(self).__name__, x, least=2)
        return self.chunk(x.detach(), start)

    def measure_taps(self, taps: dict[str, Tensor], x: Tensor, start: int = 0) -> Any:
        """The summary of one chunk from what a kernel has reduced; of `x`, the output, only shape and layout count."""
        missing = [name for name in self.taps if name not in taps]
        if missing or not self.taps:
            needs = f"the taps {', '.join(self.taps)}" if self.taps else "the signal itself"
            raise ValueError(
                f"{type(self).__name__} needs {needs}, but got {', '.join(taps) or 'no taps'}. Use measure(x) instead."
            )
        check_sequence(type(self).__name__, x, least=2)
        return self.tapped(taps, x, start)

    def merge(self, a: Any, b: Any, along: Along = "time") -> Any:
        """Both summaries in one: b after a in time, or beside it in the batch."""
        check_choice(type(self).__name__, "along", along, ("time", "batch"))
        for held in (a, b):
            if not isinstance(held, self.Summary):
                raise TypeError(
                    f"{type(self).__name__} merges its own summaries, {self.Summary.__qualname__}, "
                    f"but got {type(held).__name__}."
                )
        return self.after(a, b) if along == "time" else self.beside(a, b)

    def chunk(self, x: Tensor, start: int) -> Any:
        """The summary of a detached chunk."""
        raise NotImplementedError("a reducer defines chunk(x, start)")

    def tapped(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Any:
        """The summary from the taps."""
        raise NotImplementedError("a reducer that names taps defines tapped(taps, x, start)")

    def kept(self, taps: dict[str, Tensor], x: Tensor, start: int) -> Any:
        """The same of taps that were made for this call alone, so that they may be kept as they are."""
        return self.tapped(taps, x, start)

    def after(self, a: Any, b: Any) -> Any:
        """b right after a in time, by the declared rules."""
        return self._by_rules(a, b, "time")

    def beside(self, a: Any, b: Any) -> Any:
        """b beside a in the batch, by the declared rules."""
        return self._by_rules(a, b, "batch")

    def check_beside(self, a: Any, b: Any) -> None:
        """Raise what `beside` would, where that comes late."""

    def close(self, a: Any) -> Any:
        """The summary of a sequence that has ended."""
        return a

    def result(self, a: Any) -> Any:
        """What the user reads."""
        raise NotImplementedError("a reducer defines result(a)")

    def _by_rules(self, a: Any, b: Any, along: Along) -> Any:
        return self.Summary(*(_combine(self, name, along, a, b) for name in a._fields))


@functools.cache
def rules(summary: type) -> dict[str, Rule]:
    """The rule of each entry of a summary class.

    >>> from spikescope.monitor.reduce import Norm
    >>> rules(Norm.Summary)
    {'squares': Rule(time='sum', batch='sum'), 'seen': Rule(time='sum', batch='sum')}
    """
    hints = get_type_hints(summary, include_extras=True)
    return {name: next(r for r in hint.__metadata__ if isinstance(r, Rule)) for name, hint in hints.items()}


def _combine(reducer: Reducer, name: str, along: Along, a: Any, b: Any) -> Any:
    """One entry of two summaries, joined by its rule."""
    rule = getattr(rules(reducer.Summary)[name], along)
    left, right = getattr(a, name), getattr(b, name)
    if rule == "span":
        return left.then(right) if along == "time" else left.beside(right)
    if isinstance(left, Tensor):
        axes = (left.shape[1:], right.shape[1:]) if rule == "cat" else (left.shape, right.shape)
        if axes[0] != axes[1]:
            raise ShapeError(
                f"{type(reducer).__name__} cannot merge summaries of other shapes: {name} is {dims(left.shape)} and "
                f"{dims(right.shape)}. Along time both hold the same samples; neurons and channels always agree."
            )
        if rule == "cat":
            return torch.cat((left, right))
    if rule == "same" and left != right:
        raise ShapeError(f"{type(reducer).__name__} cannot merge along time: {name} is {left} and {right}.")
    if rule == "sum":
        return left + right
    if rule == "same":
        return left
    if isinstance(left, Tensor):
        return torch.minimum(left, right) if rule == "min" else torch.maximum(left, right)
    return min(left, right) if rule == "min" else max(left, right)


def nbytes(summary: Any) -> int:
    """The bytes that the tensors of a summary take.

    >>> from spikescope.monitor.reduce import Count
    >>> nbytes(Count().measure(torch.zeros(7, 2, 3)))  # a float64 for each of three neurons
    24
    """
    total, left = 0, [summary]
    for held in left:  # what a tuple holds comes behind it; a function for each number would take as long as to measure
        if isinstance(held, tuple):
            left += held
        elif isinstance(held, (Tensor, PackedSpikes)):
            total += held.nbytes
    return total
