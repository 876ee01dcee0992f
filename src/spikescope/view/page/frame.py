"""A plot that keeps the size of its words at every width: its axes are drawings of their own beside it.

The plot itself stretches with the page, so it holds no text; along x it is in the units of the data, along y in pixels.
The words of the axis of x stand at per cents of its width. Script zooms by setting the window of the plot anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from .markup import clean, place, tag, ticks

__all__ = ["HEIGHT", "axis_of_x", "framed", "labels_beside", "path", "rows_of"]

HEIGHT = 180
"""Pixels of a plot."""
LINE = 15.0
"""Pixels between two words one above the other."""


def path(points: Sequence[tuple[float, float] | None], class_: str) -> str:
    """A line through points; None breaks it, and a point alone is a dot.

    >>> path([(0, 1), (1, 2), None, (3, 1)], "s0")
    '<path class="s0" d="M0 1L1 2M3 1h0"></path>'
    """
    parts, begun, alone = [], False, False
    for point in points:
        if point is None:
            parts += ["h0"] if alone else []
            begun = alone = False
            continue
        parts.append(f"{'L' if begun else 'M'}{_exact(point[0])} {place(point[1])}")
        begun, alone = True, not begun
    parts += ["h0"] if alone else []
    return tag("path", class_=class_, d="".join(parts)) if parts else ""


def _exact(held: float) -> str:
    """A coordinate in the units of the data, which may be large."""
    return place(held) if abs(held) < 1000 else f"{held:.7g}"


def framed(
    inside: str,
    words: str,
    x: tuple[float, float],
    y_labels: Sequence[tuple[float, str]],
    *,
    height: int = HEIGHT,
    right: str = "",
    axis: str = "",
    group: str = "",
    data: str | None = None,
    axis_below: bool = True,
) -> str:
    """A plot with its axes.

    - `words`: what a reader who does not see it is told. `x`: the ends of the axis. `y_labels`: pixels and words.
    - `right`: a drawing beside it. `axis`: what x counts. `group`: plots that zoom together. `data`: where its values
      are in the document.
    """
    low, high = x
    high = high if high > low else low + 1
    lines = "".join(tag("path", class_="grid", d=f"M{_exact(low)} {place(at)}H{_exact(high)}") for at, _ in y_labels)
    plot = tag(
        "svg", tag("title", clean(words)), lines, inside, class_="plot", role="img", tabindex="0",
        viewBox=f"{_exact(low)} 0 {_exact(high - low)} {height}", preserveAspectRatio="none", height=height,
        data_low=_exact(low), data_high=_exact(high), data_group=group or None, data_from=data, data_axis=axis,
    )  # fmt: skip
    left = "".join(tag("text", clean(text), x="52", y=at + 4, text_anchor="end") for at, text in y_labels)
    left = tag("svg", left, class_="left", height=height, width="58", aria_hidden="true")
    below = axis_of_x(low, high, axis) if axis_below else ""
    sides = " wide" if right else ""
    return tag("div", left, tag("div", plot, class_="stage"), right, below, class_=f"frame{sides}")


def axis_of_x(low: float, high: float, axis: str) -> str:
    """Numbers below a plot, and what they count."""
    words = []
    for at in ticks(low, high, 6, whole=True):
        share = (at - low) / (high - low)
        anchor = "start" if share < 0.03 else "end" if share > 0.97 else "middle"
        words.append(tag("text", clean(f"{at:,.0f}"), x=f"{place(100 * share)}%", y="13", text_anchor=anchor))
    drawn = tag("svg", *words, class_="below", height="18", aria_hidden="true")
    return drawn + (tag("span", clean(axis), class_="axis") if axis else "")


def labels_beside(words: Sequence[tuple[float, str, str]], height: int = HEIGHT, width: int = 128) -> str:
    """Words at the ends of lines, in their colours, kept apart: pixels, text, class."""
    placed: list[tuple[float, str, str]] = []
    room = -LINE
    for at, text, class_ in sorted(words):
        room = max(at, room + LINE)
        placed.append((room, text, class_))
    floor = height - 4 + LINE
    kept = []
    for at, text, class_ in reversed(placed):
        floor = min(at, floor - LINE)
        kept.append(tag("text", clean(text), x="8", y=floor + 4, class_=class_))
    return tag("svg", *reversed(kept), class_="right", height=height, width=width, aria_hidden="true")


def rows_of(rows: Sequence[tuple[str, str, str]], class_: str, label: str) -> str:
    """A list of rows: words, a drawing that stretches, and a number."""
    made = [
        tag("li", tag("span", words, class_="name"), drawing, tag("span", number, class_="value"))
        for words, drawing, number in rows
    ]
    return tag("ol", *made, class_=f"rows {class_}", aria_label=label)
