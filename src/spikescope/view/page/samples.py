"""What one sample did: its image, the spikes of each layer, the potentials of some neurons."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...display import amount
from ..document.shape import Document, Image, Potential, Raster, value
from .courses import courses
from .frame import framed, labels_beside, path
from .markup import clean, finite, place, short, tag

__all__ = ["potentials", "rasters"]

ROW = 4  # pixels of a neuron
STRIP = 96  # pixels of a potential
SHOWN = 12  # rasters that are not folded
GREYS = 15  # levels of an image


def rasters(document: Document, key: str = "") -> str:
    """A strip for each layer, a mark for each spike; the axis stands below the last."""
    held = document["rasters"]
    ends = (min(SHOWN, len(held)) - 1, len(held) - 1)
    made = [_raster(raster, f"{key}rasters.{at}", at, at in ends) for at, raster in enumerate(held)]
    if len(held) > SHOWN:
        head = tag("summary", clean(f"{amount(len(held) - SHOWN, 'layer')} more"))
        made[SHOWN:] = [tag("details", head, *made[SHOWN:], class_="more")]
    image = _image(document["image"]) if document["image"] is not None else ""
    scores = courses(document, key, of_sample=True)
    head = tag("div", image, scores, class_="head") if image or scores else ""
    return (head or _samples(held)) + tag("div", *made, class_="strips") if head or made else ""


def _samples(held: Sequence[Raster] | Sequence[Potential]) -> str:
    """Which sample the strips are of."""
    named = dict.fromkeys(strip["sample"] for strip in held if strip["sample"])
    return tag("p", clean("; ".join(named)), class_="note") if named else ""


def _raster(held: Raster, data: str, at: int, last: bool) -> str:
    count = max(1, len(held["rows"]))
    each = max(ROW, min(16, 48 // count))
    height, bin = count * each, held["bin"]
    marks = []
    for row, columns in enumerate(held["marks"]):
        y = place((row + 0.5) * each)
        marks += [f"M{_at(held['first'] - 0.5 + (column + 0.14) * bin)} {y}h{_at(0.72 * bin)}" for column in columns]
    drawn = tag("path", class_=f"marks s{at % 6}", d="".join(marks), stroke_width=each - 1.0) if marks else ""
    ends = (held["first"] - 0.5, held["first"] + held["steps"] - 0.5)
    spikes = sum(map(len, held["marks"]))
    words = f"Spikes of {held['layer']}, {held['sample']}: {amount(spikes, 'mark')}"
    rows = held["rows"]
    y_labels = [(each / 2, f"{rows[0]:,}")] if rows else []
    y_labels += [(height - each / 2, f"{rows[-1]:,}")] if count > 3 else []
    group = f"steps {held['steps']}"
    plot = framed(
        drawn, words, ends, y_labels, height=height, axis="time step", group=group, data=data, axis_below=last
    )
    said = [held["note"] or amount(held["neurons"], "neuron"), *([] if spikes else ["no spike"])]
    return _strip(held["layer"], "; ".join(filter(None, said)), plot)


def potentials(document: Document, key: str = "") -> str:
    """A strip for each neuron: dashed its threshold, dotted the reset, marks above where it fired."""
    held = document["potentials"]
    made = [_potential(potential, f"{key}potentials.{at}") for at, potential in enumerate(held)]
    return _samples(held) + tag("div", *made, class_="strips apart") if made else ""


def _potential(held: Potential, data: str) -> str:
    layer = held["layer"] or "(network)"
    numbers = finite([*held["values"], held["threshold"], held["reset"]])
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    high = high if high > low else low + 1

    def pixel(number: float) -> float:
        return 14 + (STRIP - 20) * (high - number) / (high - low)

    ends = (held["x"][0] - 0.5, held["x"][-1] + 0.5) if held["x"] else (0.0, 1.0)
    points = [
        (float(at), pixel(value(number))) if math.isfinite(value(number)) else None
        for at, number in zip(held["x"], held["values"], strict=True)
    ]
    parts, words = [], []
    for name, number, class_ in (("threshold", held["threshold"], "limit"), ("reset", held["reset"], "rest")):
        if number is not None and math.isfinite(value(number)):
            y = pixel(value(number))
            parts.append(tag("path", class_=class_, d=f"M{_at(ends[0])} {place(y)}H{_at(ends[1])}"))
            words.append((y, f"{name} {short(number)}", class_))
    parts.append(path(points, "line s0"))
    if held["spikes"]:
        parts.append(tag("path", class_="fired", d="".join(f"M{_at(at)} 1v9" for at in held["spikes"])))
    odd = sum(not math.isfinite(value(number)) for number in held["values"])
    reads = held["threshold"] is None and not held["spikes"]  # a read-out, which fires at nothing
    fired = "" if reads else amount(len(held["spikes"]), "spike")
    said = ": ".join(filter(None, (f"Potential of neuron {held['neuron']} of {layer}, {held['sample']}", fired)))
    note = [fired, held["note"], f"{amount(odd, 'value')} not finite" if odd else ""]
    y_labels = [(pixel(at), short(float(f"{at:.3g}"))) for at in (high, low)]
    plot = framed(
        "".join(parts), said, ends, y_labels, height=STRIP, right=labels_beside(words, STRIP), axis="time step",
        group=f"steps {held['x'][-1] - held['x'][0] + 1 if held['x'] else 0}", data=data,
    )  # fmt: skip
    return _strip(f"{layer}, neuron {held['neuron']:,}", "; ".join(filter(None, note)), plot, held["layer"])


def _strip(name: str, note: str, plot: str, layer: str | None = None) -> str:
    head = tag("h3", clean(name or "(network)"), " ", tag("small", clean(note)))
    return tag("figure", head, plot, class_="strip", data_layer=name if layer is None else layer)


def _at(held: float) -> str:
    return place(held) if abs(held) < 100 else f"{held:.8g}"


def _image(held: Image) -> str:
    """An image as squares, those of one level of grey in one path."""
    rows = held["rows"]
    paths: dict[int, list[str]] = {}
    for y, row in enumerate(rows):
        for x, level in enumerate(row):
            paths.setdefault(round(level * GREYS / 255), []).append(f"M{x} {y}h1v1h-1z")
    drawn = [tag("path", fill=_grey(level), d="".join(d)) for level, d in sorted(paths.items())]
    picture = tag(
        "svg", tag("title", clean(held["words"])), *drawn, role="img", class_="image", shape_rendering="crispEdges",
        viewBox=f"0 0 {len(rows[0]) if rows else 1} {len(rows) or 1}", width="96", height="96",
    )  # fmt: skip
    return tag("figure", picture, tag("figcaption", clean(held["words"])), class_="sample")


def _grey(level: int) -> str:
    return "#" + f"{level:x}" * 3
