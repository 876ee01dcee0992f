"""Small line plots as SVG inside a page, in the colours of the theme: dark mode is no other picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

COLOURS = ("--c1", "--c2", "--c3")


class Line(NamedTuple):
    """A curve: its name, and its points; None breaks it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def _range(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or 0.5
    return low - room, high + room


def _tick(value: float, size: float) -> str:
    return f"{0.0 if abs(value) < size * 1e-3 else value:.3g}".replace("-", "\N{MINUS SIGN}")


def plot(
    lines: Sequence[Line],
    title: str,
    x_label: str,
    width: int = 360,
    height: int = 170,
    ticks: Sequence[float] = (),
    level: float | None = None,
) -> str:
    """A plot of lines; `ticks` are marks along the top, such as spikes, and `level` is a dashed line, a threshold."""
    left, right, top, bottom = 40, 12, 26, 30
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y] + ([level] if level is not None else [])
    (x0, x1), (y0, y1) = (min(xs), max(xs)), _range(ys)

    def px(x: float) -> str:
        return f"{left + (x - x0) / (x1 - x0 or 1) * (width - left - right):.1f}"

    def py(y: float) -> str:
        return f"{height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom):.1f}"

    made = [
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
        f'<path class="axis" d="M{left} {top}V{height - bottom}H{width - right}"/>',
    ]
    made += [
        f'<text x="{left - 5}" y="{py(y)}" dy="0.32em" text-anchor="end">{_tick(y, y1 - y0)}</text>'
        for y in sorted({min(ys), max(ys)})
    ]
    for x, anchor in ((x0, "start"), (x1, "end")):
        made.append(f'<text x="{px(x)}" y="{height - bottom + 14}" text-anchor="{anchor}">{_tick(x, x1 - x0)}</text>')
    middle = (left + width - right) / 2
    made.append(f'<text x="{middle}" y="{height - bottom + 14}" text-anchor="middle">{escape(x_label)}</text>')
    if level is not None:
        made.append(f'<path class="level" d="M{left} {py(level)}H{width - right}"/>')
    for line, colour in zip(lines, COLOURS, strict=False):
        points = " ".join(f"{px(x)},{py(y)}" for x, y in zip(line.x, line.y, strict=True))
        made.append(f'<polyline points="{points}" style="stroke:var({colour})"/>')
    for at, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        if line.name:
            made.append(
                f'<text class="name" x="{width - right - 88 * (len(lines) - 1 - at)}" y="12" text-anchor="end" '
                f'style="fill:var({colour})">{escape(line.name)}</text>'
            )
    made += [f'<path class="spike" d="M{px(x)} {top - 8}v7"/>' for x in ticks]
    return "".join(made) + "</svg>"
