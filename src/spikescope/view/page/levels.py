"""How a measure of layers becomes a level of colour: one hue, nine levels, the first for what is zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...report.energy import joules
from ..document.parts import IN_HUNDRED
from ..document.shape import Document, Layer, Number, value
from .markup import finite, percent, short, tag

__all__ = ["LEVELS", "MEASURES", "Measure", "Scale", "colours", "measure_of", "measured", "scales_of"]

LEVELS = 8
"""Beside that of zero."""


def colours() -> str:
    """All colours in a row, as a legend shows them."""
    cells = [tag("rect", class_=f"c{at}", x=14 * at, y="0", width="13", height="12") for at in range(LEVELS + 1)]
    return tag("svg", *cells, width="126", height="12", aria_hidden="true")


@dataclass(frozen=True)
class Measure:
    """A number of a layer: its key, its name, how it is shown, and how its scale runs."""

    key: Literal["rate", "silent", "gradient", "operations", "energy"]
    name: str
    means: str
    unit: str  # behind each number, where these are many
    show: Callable[[Number], str]
    kind: Literal["linear", "share", "log"] = "linear"


def _in_hundred(held: Number) -> str:
    number = value(held)
    return short(float(f"{100 * number:.3g}")) if math.isfinite(number) else short(held)


def _energy(held: Number) -> str:
    number = value(held)
    return joules(number) if math.isfinite(number) else "no price" if held == "nan" else short(held)


MEASURES = (
    Measure("rate", "firing rate", IN_HUNDRED, "in 100 steps", _in_hundred),
    Measure("silent", "silent neurons", "share of the neurons that never fired", "", percent, "share"),
    Measure("gradient", "gradient", "norm of the gradient of the output", "", short, "log"),
    Measure("operations", "operations", "synaptic operations of a sample", "", short),
    Measure("energy", "energy", "energy of a sample", "", _energy),
)


@dataclass(frozen=True)
class Scale:
    """From a value to a level; `low` and `high` are the ends of the colours, and `over` says that values lie above."""

    measure: Measure
    low: float
    high: float
    over: bool = False

    def level(self, held: Number) -> str:
        """`'0'` to `'8'`; `'odd'` for what is not finite, `'none'` for what was not measured.

        >>> scale = Scale(MEASURES[1], 0.0, 1.0)
        >>> [scale.level(held) for held in (0, 0.01, 0.5, 1, "nan", None)]
        ['0', '1', '5', '8', 'odd', 'none']
        """
        if held is None:
            return "none"
        number = value(held)
        if not math.isfinite(number):
            return "odd"
        if number <= 0:
            return "0"
        if self.measure.kind == "log":
            span = math.log(self.high / self.low)
            share = math.log(number / self.low) / span if span else 1.0
        else:
            share = (number - self.low) / (self.high - self.low) if self.high > self.low else 1.0
        return str(min(LEVELS, 1 + int(LEVELS * max(0.0, min(share, 1.0)))))


def measure_of(layer: Layer, key: str) -> Number:
    """A measure of a layer; None where it has none."""
    held: Mapping[str, Any] = layer
    found: Number = held.get(key)
    return found


def measured(documents: Iterable[Document]) -> list[Measure]:
    """The measures that a layer of any of the documents has."""
    layers = [layer for document in documents for layer in document["layers"]]
    return [measure for measure in MEASURES if any(layer.get(measure.key) is not None for layer in layers)]


def scales_of(documents: Sequence[Document]) -> dict[str, Scale]:
    """A scale for each measure, the same for all documents."""
    layers = [layer for document in documents for layer in document["layers"]]
    return {measure.key: _scale(measure, layers) for measure in measured(documents)}


def _scale(measure: Measure, layers: Sequence[Layer]) -> Scale:
    held: list[Any] = [layer.get(measure.key) for layer in layers]
    numbers = finite(held)
    if measure.kind == "share":
        return Scale(measure, 0.0, 1.0)
    if measure.kind == "log":
        above = [number for number in numbers if number > 0] or [1.0]
        high = max(above)
        return Scale(measure, min(*above, high / 100), high)
    top = max([0.0, *numbers])
    busiest = top
    if measure.key == "rate":  # colours of single neurons: a few that fire always do not make all others pale
        spreads = [finite(layer.get("spread") or []) for layer in layers]
        top = max([top, *(spread[-2] if len(spread) > 1 else spread[0] for spread in spreads if spread)])
        busiest = max([top, *(spread[-1] for spread in spreads if spread)])
    return Scale(measure, 0.0, top or 1.0, busiest > top)
