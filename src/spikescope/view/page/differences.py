"""Two documents held against each other: what differs first, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ..document.shape import Course, Document, Number, value
from .levels import measured
from .markup import clean, short, tag

__all__ = ["differences"]

MOST = 40  # rows of a table


def differences(documents: Sequence[Document]) -> str:
    """The first difference in words, then configuration, facts and measures side by side; nothing of one document."""
    if len(documents) < 2:
        return ""
    a, b = documents[:2]
    words = [*_of_values(b), *_first_course(a, b)]
    said = [tag("li", clean(text)) for text in words or ["Nothing that both hold differs."]]
    tables = [
        _table("Facts", _pairs(a["facts"], b["facts"])),
        _table("Configuration", _pairs(a["configuration"] + a["versions"], b["configuration"] + b["versions"])),
        _table("Layers, those that differ most", _layers(a, b)),
    ]
    head = tag("h2", "What differs first", id="differences-title")
    return tag(
        "section",
        head,
        tag("ul", *said, class_="first"),
        *tables,
        id="differences",
        aria_labelledby="differences-title",
    )


def _of_values(b: Document) -> list[str]:
    """What the comparison of the recorded values themselves said."""
    held = b["difference"]
    return [] if held is None else held["words"]


def _first_course(a: Document, b: Document) -> Iterator[str]:
    """The earliest place at which a course of both differs."""
    theirs = {held["title"]: held for held in b["courses"]}
    found = []
    for order, ours in enumerate(a["courses"]):
        if ours["title"] in theirs and (place := _apart(ours, theirs[ours["title"]])) is not None:
            found.append((place[0], order, ours, place))
    for _, _, course, (x, name, left, right) in sorted(found, key=lambda one: one[:2])[:4]:
        where = f"{course['title']} of {name} differs from {course['axis']} {short(x)} on"
        yield f"{where}: {short(left)} and {short(right)}."


def _apart(a: Course, b: Course) -> tuple[float, str, Number, Number] | None:
    theirs = {line["name"]: dict(zip(b["x"], line["values"], strict=True)) for line in b["series"]}
    for at, x in enumerate(a["x"]):
        for line in a["series"]:
            other = theirs.get(line["name"], {})
            if x in other and other[x] != line["values"][at]:
                return value(x), line["name"], line["values"][at], other[x]
    return None


def _pairs(a: Sequence[Sequence[str]], b: Sequence[Sequence[str]]) -> list[tuple[str, str, str]]:
    ours, theirs = ({row[0]: row[1] for row in held} for held in (a, b))
    names = dict.fromkeys([*ours, *theirs])
    return [
        (name, ours.get(name, ""), theirs.get(name, "")) for name in names if ours.get(name, "") != theirs.get(name, "")
    ]


def _layers(a: Document, b: Document) -> list[tuple[str, str, str]]:
    """Measures of layers that both have, the largest ratios first; then the layers that only one has."""
    theirs = {layer["name"]: layer for layer in b["layers"]}
    ours = {layer["name"] for layer in a["layers"]}
    found = []
    for at, layer in enumerate(a["layers"]):
        for measure in measured((a, b)):
            other = theirs.get(layer["name"])
            left, right = layer.get(measure.key), other.get(measure.key) if other else None
            if left is None or right is None or left == right:
                continue
            name = f"{layer['name'] or '(network)'}, {measure.name}"
            found.append((-_ratio(value(left), value(right)), at, (name, measure.show(left), measure.show(right))))
    rows = [row for _, _, row in sorted(found, key=lambda one: one[:2])]
    rows += [(layer["name"], "there", "not there") for layer in a["layers"] if layer["name"] not in theirs]
    return rows + [(layer["name"], "not there", "there") for layer in b["layers"] if layer["name"] not in ours]


def _ratio(a: float, b: float) -> float:
    """How far apart two numbers are: infinitely, if one is zero or none.

    >>> _ratio(1.0, 1.0), _ratio(0.0, 1.0)
    (0.0, inf)
    """
    if a == b:
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)) or a * b <= 0:
        return math.inf
    return abs(math.log(a / b))


def _table(title: str, rows: Sequence[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    made = [
        tag("tr", tag("th", clean(name), scope="row"), *(tag("td", clean(text)) for text in both))
        for name, *both in rows[:MOST]
    ]
    more = [tag("p", f"… and {len(rows) - MOST:,} more.", class_="note")] if len(rows) > MOST else []
    head = tag("tr", tag("th", clean(title), scope="col"), tag("th", "A", scope="col"), tag("th", "B", scope="col"))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *made)), *more, class_="held")
