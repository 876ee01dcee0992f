"""Rows with a bar: how far the gradient reaches, where the energy goes, and the evidence of a finding."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...report.energy import joules
from ..document.shape import Document, Energy, EnergyOfLayer, Finding, Number, value
from .frame import rows_of
from .levels import LEVELS, colours
from .markup import clean, finite, place, short, tag

__all__ = ["energy", "evidence", "gradients"]

WIDE = 1000.0
PARTS = (("operations", "products and additions"), ("updates", "updates of neurons"), ("accesses", "memory"))


def gradients(document: Document) -> str:
    """A row for each layer, last layers below: the norm of the gradient at each step by colour, and over all steps."""
    flow = document["flow"]
    if flow is None:
        return ""
    numbers = [number for row in flow["norms"] for number in finite(row) if number > 0]
    low, high = (min(numbers), max(numbers)) if numbers else (1.0, 1.0)
    low = max(low, high / 1e8)
    depths = [math.hypot(*finite(row)) for row in flow["norms"]]
    rows = []
    for name, norms, depth in zip(flow["layers"], flow["norms"], depths, strict=True):
        odd = sum(not math.isfinite(value(number)) for number in norms)
        said = f"{short(depth)}{f', {odd} not finite' if odd else ''}"
        rows.append((clean(name or "(network)"), _heat(name, norms, low, high), clean(said)))
    steps = max(map(len, flow["norms"]), default=0)
    last = f"step {max(0, steps - 1):,} on the right"
    words = (
        f"norm of the gradient, from step 0 on the left to {last}, on a logarithmic scale; the number is of all steps"
    )
    scale = tag("span", f"0, then {clean(short(low))} ", colours(), f" {clean(short(high))}", class_="key")
    key = tag("p", tag("b", clean(words)), " ", scale)
    note = tag("p", clean(flow["note"]), class_="note") if flow["note"] else ""
    return tag("div", key, class_="legend") + rows_of(rows, "heat", "Gradient of each layer over time") + note


def _heat(name: str, norms: Sequence[Number], low: float, high: float) -> str:
    paths: dict[str, list[str]] = {}
    for at, held in enumerate(norms):
        paths.setdefault(_level(held, low, high), []).append(f"M{at} 0h1v1h-1z")
    drawn = [tag("path", class_=f"c{level}", d="".join(d)) for level, d in sorted(paths.items())]
    listed = ", ".join(short(held) for held in norms[:8])
    tip = f"{name}\nat steps 0 to {min(8, len(norms)) - 1}: {listed}{' …' if len(norms) > 8 else ''}"
    return tag(
        "svg", *drawn, class_="shape", viewBox=f"0 0 {max(1, len(norms))} 1", preserveAspectRatio="none",
        aria_hidden="true", data_tip=tip, shape_rendering="crispEdges",
    )  # fmt: skip


def _level(held: Number, low: float, high: float) -> str:
    number = value(held)
    if not math.isfinite(number):
        return "odd"
    if number <= 0:
        return "0"
    share = math.log(number / low) / math.log(high / low) if high > low else 1.0
    return str(min(LEVELS, 1 + int(LEVELS * max(0.0, min(share, 1.0)))))


def energy(held: Energy | None) -> str:
    """A bar of three parts for each layer, over the pale bar of the twin without spikes."""
    if held is None:
        return ""
    layers = held["layers"]
    top = max([1e-12, *map(_total, layers), *finite(layer["twin"] for layer in layers)])
    rows = []
    for layer in layers:
        left, parts = 0.0, [_bar(0.0, _of(layer["twin"]) / top, "twin", 0.0, 1.0)]
        for at, (part, _) in enumerate(PARTS):
            width = _of(_part(layer, part)) / top
            parts.append(_bar(left, width, f"e{at}", 0.2, 0.6))
            left += width
        drawn = tag("svg", *parts, class_="shape", viewBox="0 0 1000 1", preserveAspectRatio="none",
                    aria_hidden="true", data_tip=_tip(layer))  # fmt: skip
        label = f"{clean(layer['name'] or '(itself)')} {tag('small', clean(layer['kind']))}"
        rows.append((label, drawn, clean(_joules(sum_of(layer)))))
    swatches = [_swatch(f"e{at}", words) for at, (_, words) in enumerate(PARTS)]
    key = tag("p", *swatches, _swatch("twin", "the twin without spikes, memory included"))
    words = (
        f"A sample takes {_joules(held['total'])}. Its twin without spikes would take {_joules(held['twin'])}, "
        f"{short(held['honest'])} times as much; by products and additions alone {short(held['usual'])} times. "
        f"Costs: {held['model']}. {held['source']}"
    )
    shown = rows_of(rows, "energy", "Energy of each layer")
    return tag("p", clean(words)) + tag("div", key, class_="legend") + shown


def sum_of(layer: EnergyOfLayer) -> Number:
    """The picojoules of a layer; without a price where a part has none."""
    held = sum(value(_part(layer, part)) for part, _ in PARTS)
    return held if math.isfinite(held) else "nan"


def _part(layer: EnergyOfLayer, part: str) -> Number:
    return {"operations": layer["operations"], "updates": layer["updates"], "accesses": layer["accesses"]}[part]


def _total(layer: EnergyOfLayer) -> float:
    return sum(_of(_part(layer, part)) for part, _ in PARTS)


def _of(held: Number) -> float:
    number = value(held)
    return number if math.isfinite(number) else 0.0


def _joules(held: Number) -> str:
    number = value(held)
    return joules(number) if math.isfinite(number) else "no price"


def _tip(layer: EnergyOfLayer) -> str:
    lines = [f"{words}: {_joules(_part(layer, part))}" for part, words in PARTS]
    return "\n".join([layer["name"] or "(itself)", *lines, f"the twin: {_joules(layer['twin'])}"])


def _bar(left: float, width: float, class_: str, y: float, height: float) -> str:
    return tag("rect", class_=class_, x=WIDE * left, width=WIDE * width, y=y, height=height) if width > 0 else ""


def _swatch(class_: str, words: str) -> str:
    drawn = tag("svg", tag("rect", class_=class_, width="12", height="12"), width="12", height="12", aria_hidden="true")
    return tag("span", drawn, " ", clean(words), class_="key")


def evidence(found: Finding) -> str:
    """A bar for each label of what was seen, and the threshold as a line."""
    numbers = finite([*found["values"], found["limit"]])
    if not found["labels"] or not numbers:
        return ""
    top, low = max(numbers), min(0.0, *numbers)
    span = (top - low) or 1.0
    rows = []
    for label, held in zip(found["labels"], found["values"], strict=True):
        number = value(held)
        here = " here" if label == found["layer"] else ""
        start, end = sorted((0.0, number if math.isfinite(number) else 0.0))
        parts = [_bar((start - low) / span, (end - start) / span, f"seen{here}", 0.15, 0.7)]
        if found["limit"] is not None and math.isfinite(value(found["limit"])):
            x = place(WIDE * (value(found["limit"]) - low) / span)
            parts.append(tag("path", class_="limit", d=f"M{x} 0v1"))
        drawn = tag("svg", *parts, class_="shape", viewBox="0 0 1000 1", preserveAspectRatio="none", aria_hidden="true")
        rows.append((clean(label or "(network)"), drawn, clean(short(held))))
    words = found["unit"] + ("; the line is the threshold" if found["limit"] is not None else "")
    return tag("p", clean(words), class_="note") + rows_of(rows, "evidence", found["unit"] or "evidence")
