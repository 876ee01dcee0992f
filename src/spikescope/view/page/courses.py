"""Lines over training or over the steps of a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...display import amount
from ..document.shape import Course, Document, value
from .frame import HEIGHT, framed, labels_beside, path
from .markup import clean, finite, labels_of, percent, short, tag, ticks

__all__ = ["course", "courses"]

STEPS = "time step"
"""The axis of a course that is of one sample."""

COLOURED = 6
"""Lines that have a colour and their name beside them; the others are grey."""


def courses(document: Document, key: str = "", of_sample: bool = False) -> str:
    """Those over training, or those over the steps of a sample, side by side where there is room."""
    made = [
        course(held, f"{key}courses.{at}")
        for at, held in enumerate(document["courses"])
        if (held["axis"] == STEPS) == of_sample
    ]
    return tag("div", *made, class_="courses") if made else ""


def course(held: Course, data: str) -> str:
    """One, with the names and last values of its lines at their ends."""
    x = [value(at) for at in held["x"]]
    series = [[value(number) for number in line["values"]] for line in held["series"]]
    numbers = [number for line in series for number in line if math.isfinite(number)]
    show: Callable[[float], str] = percent if held["form"] == "share" else short
    low, high = _range(numbers, held["form"] == "share")
    high = high if high > low else low + 1

    def pixel(number: float) -> float:
        return 8 + (HEIGHT - 16) * (high - number) / (high - low)

    chosen = _chosen(series)
    drawn, words = [], []
    for at, line in enumerate(series):
        place = chosen.index(at) if at in chosen else None
        points = [(x_at, pixel(y)) if math.isfinite(y) else None for x_at, y in zip(x, line, strict=True)]
        drawn.append((place is not None, path(points, "line other" if place is None else f"line s{place}")))
        if place is not None:
            last = next((number for number in reversed(line) if math.isfinite(number)), None)
            text = f"{_cut(held['series'][at]['name'])} {'none' if last is None else show(last)}"
            words.append((HEIGHT - 8.0 if last is None else pixel(last), text, f"w{place}"))
    lines = "".join(text for _, text in sorted(drawn, key=lambda pair: pair[0]))
    said = f"{held['title']} over {held['axis']}: {', '.join(text for _, text, _ in words)}"
    ends = (min(finite(held["x"]), default=0.0), max(finite(held["x"]), default=1.0))
    marks = ticks(low, high)
    levels = list(zip(map(pixel, marks), labels_of(marks, held["form"] == "share"), strict=True))
    beside = labels_beside(words)
    plot = framed(lines, said, ends, levels, right=beside, axis=held["axis"], group=held["axis"], data=data)
    notes = _notes(held, series, len(chosen))
    note = tag("figcaption", clean("; ".join(notes)), class_="note") if notes else ""
    head = tag("h3", clean(held["title"]), " ", tag("small", clean(held["unit"])))
    return tag("figure", head, plot, note)


def _notes(held: Course, series: Sequence[Sequence[float]], coloured: int) -> list[str]:
    """What is to be known of a picture beside its lines."""
    notes = [held["note"]] if held["note"] else []
    if coloured < len(series):
        notes.append(f"{coloured} of {amount(len(series), 'line')} in colour: those that end highest and lowest")
    missing = sum(not math.isfinite(number) for line in series for number in line)
    return [*notes, f"{amount(missing, 'value')} not finite, left out"] if missing else notes


def _range(numbers: Sequence[float], share: bool) -> tuple[float, float]:
    """From zero where that wastes little, and to the largest."""
    if not numbers:
        return 0.0, 1.0
    low, high = min(numbers), max(numbers)
    if low >= 0 and (share or low < 0.6 * high):
        low = 0.0 if not share or low < 0.5 else 0.95 * low
    high = max(high, low + 1e-12)
    return low, min(1.0, 1.02 * high) if share else high


def _chosen(series: Sequence[Sequence[float]]) -> list[int]:
    """The lines in colour: all of few, of many those that end highest and lowest."""
    if len(series) <= COLOURED:
        return list(range(len(series)))
    ends = [next((number for number in reversed(line) if math.isfinite(number)), -math.inf) for line in series]
    order = sorted(range(len(series)), key=lambda at: -ends[at])
    return sorted([*order[: COLOURED // 2], *order[-COLOURED // 2 :]])


def _cut(name: str, most: int = 13) -> str:
    """The end of a long name, which tells it from its neighbours.

    >>> _cut("layer1.0.conv1.neuron")
    '…onv1.neuron'
    """
    return name if len(name) <= most else f"…{name[-most + 2 :]}"
