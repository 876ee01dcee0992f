"""What a recording holds, as a figure: bars for numbers, lines for courses over time, steps for histograms."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import missing_extra
from .plain import means
from .reduce import Bins, LogBins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_results"]

BLUE = "#0072B2"
IN_A_ROW = 4
COLOURS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

Rows = Mapping[str, Mapping[str, Any]]


def draw_results(rows: Rows, courses: Collection[str] = ()) -> Figure:
    """A panel for each reducer, or for each number that it gives; `courses` are those with a value for each step."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "report", "Pictures") from None
    rows = {name or "(network)": row for name, row in rows.items()}
    drawn = {label: value for row in rows.values() for label, value in row.items()}
    lines = [label for label, value in drawn.items() if label in courses or isinstance(value, (Bins, LogBins))]
    numbers = {name: means({k: v for k, v in row.items() if k not in lines}) for name, row in rows.items()}
    bars = list(dict.fromkeys(key for row in numbers.values() for key in row))
    count = max(1, len(bars) + len(lines))
    across, down = min(count, IN_A_ROW), -(-count // IN_A_ROW)
    height = max(1.2 + 0.32 * max(1, len(rows)), 2.6 if lines else 0.0)
    figure = Figure(figsize=(1.5 + 3.2 * across, height * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(down, across, place + 1) for place in range(count)]
    for place, (axes, key) in enumerate(zip(panels, bars, strict=False)):
        _bars(axes, {name: row.get(key, math.nan) for name, row in numbers.items()}, named=place % IN_A_ROW == 0)
    for axes, label in zip(panels[len(bars) :], lines, strict=False):
        _curves(axes, {name: row[label] for name, row in rows.items() if label in row})
    for axes, title in zip(panels, (*bars, *lines), strict=False):
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bars(axes: Axes, values: Mapping[str, float], named: bool) -> None:
    axes.barh(range(len(values)), list(values.values()), color=BLUE)
    axes.set_yticks(range(len(values)), list(values) if named else [""] * len(values))
    axes.invert_yaxis()  # the first layer at the top, as in the table


def _curves(axes: Axes, values: Mapping[str, Any]) -> None:
    """A line for each layer: over the steps, or the counts of bins."""
    for index, (name, value) in enumerate(values.items()):
        style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "label": name}
        if isinstance(value, (Bins, LogBins)):
            edges = value.edges.double().cpu().numpy()
            axes.stairs(value.counts.double().cpu().numpy(), edges, **style)
            if edges[0] > 0 and edges[-1] > 100 * edges[0]:
                axes.set_xscale("log")
        else:
            axes.plot(range(1, len(value) + 1), value.double().cpu().numpy(), marker=".", **style)
    bins = any(isinstance(value, (Bins, LogBins)) for value in values.values())
    axes.set_xlabel("value" if bins else "step")
    axes.set_ylabel("values in the bin" if bins else "")
    axes.legend(frameon=False, fontsize=8)
