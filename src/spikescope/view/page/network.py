"""The map: the network as a silhouette in the order of the data, each layer as wide as it has neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ...display import amount
from ..document.shape import Document, Layer, value
from .levels import Scale, colours, measure_of
from .markup import clean, place, tag

__all__ = ["legend", "map_of"]

DENSE = 60  # layers from which on rows are low
WIDE = 1000.0  # units of the drawing
BAR, RIBBON = 10.0, 10.0  # units of a row in height
STRIPES = 100  # layers up to which the neurons of a bar are told apart

Scales = Mapping[str, Scale]


def map_of(document: Document, scales: Scales) -> str:
    """The network from its input, above, to its output."""
    layers = document["layers"]
    if not layers:
        return ""
    widths = _widths(layers)
    striped = sum(layer["role"] == "neurons" for layer in layers) <= STRIPES
    first = next(iter(scales), "none")
    rows = []
    for group, before, after in _stretches(layers, widths):
        rows += _between(group, before, after, scales)
        if after is not None:
            rows.append(_neurons(after[0], after[1], scales, striped))
    dense = " dense" if len(layers) > DENSE else ""
    listed = tag("ol", *rows, class_=f"map{dense}", data_by=first, aria_label="Layers in the order of the data")
    return tag("div", listed, class_="scroll", tabindex="0") if dense else listed


def legend(scales: Scales) -> str:
    """What the colours mean: one for each measure, of which the chosen one is shown."""
    made = []
    for key, scale in scales.items():
        show, log = scale.measure.show, scale.measure.kind == "log"
        least = f"0, then {show(scale.low)}" if log else show(0)
        most = f"{show(scale.high)}{' and more' if scale.over else ''}"
        words = f"{scale.measure.means}{', on a logarithmic scale' if log else ''}"
        made.append(
            tag("p", tag("b", clean(words)), " ", clean(least), " ", colours(), " ", clean(most), data_show=key)
        )
    return tag("div", *made, class_="legend", data_by=next(iter(scales), "none"))


def _widths(layers: Sequence[Layer]) -> dict[str, float]:
    """The width of each layer of neurons: their square root, so that all can be seen; a hundredth at least."""
    roots = {row["name"]: math.sqrt(row.get("neurons", 0)) for row in layers if row["role"] == "neurons"}
    top = max([1.0, *roots.values()])
    return {name: max(WIDE / 100, WIDE * root / top) for name, root in roots.items()}


Bar = tuple[Layer, float]


def _stretches(
    layers: Sequence[Layer], widths: Mapping[str, float]
) -> list[tuple[list[Layer], Bar | None, Bar | None]]:
    """What lies between layers of neurons, with the one before and the one after."""
    found: list[tuple[list[Layer], Bar | None, Bar | None]] = []
    group: list[Layer] = []
    before: Bar | None = None
    for layer in layers:
        if layer["role"] != "neurons":
            group.append(layer)
            continue
        after = (layer, widths[layer["name"]])
        found.append((group, before, after))
        group, before = [], after
    return [*found, *([(group, before, None)] if group else [])]


def _between(group: list[Layer], before: Bar | None, after: Bar | None, scales: Scales) -> list[str]:
    """The ribbon from a bar to the next, a piece of it for each layer that lies between."""
    ends = [bar[1] for bar in (before, after) if bar is not None] or [WIDE / 4]
    start, end = ends[0], ends[-1]
    if not group:
        return (
            [tag("li", _ribbon(start, end, 0, 1, {}), class_="joint", aria_hidden="true")] if before and after else []
        )
    rows = []
    for at, layer in enumerate(group):
        drawn = _ribbon(start, end, at, len(group), _levels(layer, scales))
        rows.append(_row(layer, drawn, scales, _parameters(layer)))
    return rows


def _ribbon(start: float, end: float, at: int, count: int, levels: Mapping[str, str]) -> str:
    """A piece of a ribbon whose width goes smoothly from one to the other."""

    def half(share: float) -> float:
        return (start + (end - start) * share * share * (3 - 2 * share)) / 2

    samples = [step / 8 for step in range(9)]
    edge = [(half((at + share) / count), RIBBON * share) for share in samples]
    left = [f"{place(WIDE / 2 - x)} {place(y)}" for x, y in edge]
    right = [f"{place(WIDE / 2 + x)} {place(y)}" for x, y in reversed(edge)]
    shape = tag("path", class_="ribbon", d=f"M{'L'.join(left + right)}Z", **levels)
    return _drawing(shape, RIBBON)


def _neurons(layer: Layer, width: float, scales: Scales, striped: bool) -> str:
    left, whole = (WIDE - width) / 2, {"y": 0, "height": BAR}
    bar = tag("rect", x=left, width=width, class_="bar", **whole, **_levels(layer, scales))
    stripes = ""
    spread = layer.get("spread")
    if striped and spread and "rate" in scales:
        levels = [scales["rate"].level(held) for held in spread]
        stripes = tag("g", *_stripes(levels, left, width), class_="stripes")
    edge = tag("rect", x=left, width=width, class_="edge", **whole)
    return _row(layer, _drawing(bar + stripes + edge, BAR), scales, amount(layer.get("neurons", 0), "neuron"))


def _stripes(levels: Sequence[str], left: float, width: float) -> list[str]:
    """The neurons sorted by rate, the busiest in the middle; neighbours of one colour are one rectangle."""
    mirrored = [*levels, *reversed(levels)]
    each, made, start = width / len(mirrored), [], 0
    for at in range(1, len(mirrored) + 1):
        if at == len(mirrored) or mirrored[at] != mirrored[start]:
            x, span = left + start * each, (at - start) * each
            made.append(tag("rect", class_=f"c{mirrored[start]}", x=x, y=0, width=span, height=BAR))
            start = at
    return made


def _drawing(inside: str, height: float) -> str:
    return tag(
        "svg", inside, class_="shape", viewBox=f"0 0 {place(WIDE)} {place(height)}", preserveAspectRatio="none",
        aria_hidden="true",
    )  # fmt: skip


def _row(layer: Layer, drawing: str, scales: Scales, size: str) -> str:
    name = layer["name"] or "(network)"
    words = tag("span", clean(name), " ", tag("small", clean(layer["kind"])), class_="name")
    values = [
        tag("b", clean(scale.measure.show(measure_of(layer, key))), data_show=key)
        for key, scale in scales.items()
        if measure_of(layer, key) is not None
    ]
    number = tag("span", *values, tag("small", clean(size)), class_="value")
    return tag("li", words, drawing, number, class_=layer["role"], data_layer=name, data_tip=_tip(layer, scales, size))


def _tip(layer: Layer, scales: Scales, size: str) -> str:
    lines = [f"{layer['name'] or '(network)'}, {layer['kind']}".rstrip(", "), size]
    lines += [
        f"{scale.measure.name}: {scale.measure.show(measure_of(layer, key))} {scale.measure.unit}".rstrip()
        for key, scale in scales.items()
        if measure_of(layer, key) is not None
    ]
    return "\n".join(line for line in lines if line)


def _parameters(layer: Layer) -> str:
    return amount(layer.get("parameters", 0), "parameter") if layer.get("parameters") else ""


def _levels(layer: Layer, scales: Scales) -> dict[str, str]:
    """The level of each measure, as attributes that the style colours by."""
    return {
        f"data_{key}": scale.level(measure_of(layer, key))
        for key, scale in scales.items()
        if measure_of(layer, key) is not None and not (key == "silent" and math.isnan(value(measure_of(layer, key))))
    }
