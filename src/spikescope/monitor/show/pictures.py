"""What a recording holds, as a figure: bars for numbers, lines for courses and histograms, rasters for spikes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ...report.style import COLOURS, GREY, blank, note, room, styled, tidy
from ...report.traces import Trace, draw_traces, trace_height, traces_of
from ...report.trains import draw_rasters, raster_height, trains_of
from ...spikes import PackedSpikes
from ..reduce import Bins, LogBins
from .plain import means, scalars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..health.finding import Evidence

__all__ = ["draw_results"]

IN_A_ROW = 4
BAR = (0.24, 0.14)  # inches of a bar, and of one among many

UNITS = {
    "count": "spikes",
    "rate": "spikes per step",
    "rate over time": "spikes per neuron",
    "silent share": "share of the neurons",
    "saturated share": "share of the neurons",
    "support share": "share of the potentials",
    "inter spike interval.number": "intervals",
    "inter spike interval.mean": "steps",
    "inter spike interval.cv": "deviation / mean",
    "first spike latency.mean": "steps",
    "first spike latency.fired": "share of the samples",
    "fano": "variance / mean of the counts",
    "synchrony": "from 0 (independent) to 1 (alike)",
    "syn ops.total": "synaptic operations",
    "syn ops.per_sample": "synaptic operations",
    "gradient norm": "L2 norm",
    "norm": "L2 norm of all values",
}
"""What the axis of a reducer says, by its own name; of another it says 'value'."""

Rows = Mapping[str, Mapping[str, Any]]


@styled
def draw_evidence(title: str, evidence: Evidence) -> Figure:
    """What a finding was told by: a bar for each number, and the threshold as a line where it can be drawn."""
    count = len(evidence.values)
    figure = blank(6.4, 1.2 + 0.24 * max(count, 3))
    axes = figure.add_subplot()
    _bars(axes, dict(zip(evidence.labels, evidence.values, strict=True)), named=True)
    if evidence.limit is not None:
        axes.axvline(evidence.limit, color="black", linewidth=0.8, linestyle=":")
    tidy(axes, title, evidence.unit, "", grid="x")
    if not count:
        axes.text(0.5, 0.5, evidence.words, ha="center", va="center", transform=axes.transAxes, wrap=True)
    return figure


@styled
def draw_results(
    rows: Rows, courses: Collection[str] = (), wholes: Collection[str] = (), thresholds: Mapping[str, Any] | None = None
) -> Figure:
    """A panel for each reducer, or for each number that it gives; of packed spikes a raster of each layer, of whole
    signals the traces of some neurons.

    - `courses`: the reducers with a value for each step. `wholes`: those that give the signal `[T, N, *F]` as it was.
    - `thresholds`: of potentials, by module: the value, and whether what reaches it fires.
    """
    rows, thresholds = _titled(rows), _titled(thresholds or {})
    numbers, lines, packed, whole = _by_kind(rows, courses, wholes)
    bars = list(dict.fromkeys(key for row in numbers.values() for key in row))
    rasters = [trains_of(_of(label, rows), 0) for label in packed]
    traced = {label: _traces(_of(label, rows), thresholds) for label in whole}

    trains, traces = sum(map(len, rasters)), sum(map(len, traced.values()))
    below = [trains * raster_height(trains)] if rasters else []
    below += [0.3 + traces * trace_height(traces)] if traced else []
    heights = [*_heights(len(bars), len(lines), len(rows)), *below]
    count = len(bars) + len(lines)
    figure = blank(max(1.6 + 3.2 * min(count, IN_A_ROW), 9.5 if below else 0.0), sum(heights))
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    panels = _panels(figure, grid, count)
    for place, (axes, key) in enumerate(zip(panels, bars, strict=False)):
        named = place % IN_A_ROW == 0
        _bars(axes, {name: row.get(key, math.nan) for name, row in numbers.items()}, named)
        tidy(axes, key, _unit(key, rows), "layer" if named else "", grid="x")
    for axes, label in zip(panels[len(bars) :], lines, strict=True):
        _curves(axes, label, _of(label, rows))
    if rasters:
        _draw_trains(figure, grid[len(heights) - len(below)], rasters)
    if traced:
        _draw_traces(figure, grid[len(heights) - 1], traced, trace_height(traces))
    return figure


def _titled(rows: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with a name for the network itself."""
    return {name or "(network)": row for name, row in rows.items()}


def _of(label: str, rows: Rows) -> dict[str, Any]:
    """What one reducer gives, by layer."""
    return {name: row[label] for name, row in rows.items() if label in row}


class _Kinds(NamedTuple):
    """What is drawn as bars, as numbers by layer; and the reducers that are drawn as lines, rasters and traces."""

    numbers: dict[str, dict[str, float]]
    lines: list[str]
    packed: list[str]
    whole: list[str]


def _by_kind(rows: Rows, courses: Collection[str], wholes: Collection[str]) -> _Kinds:
    drawn = {label: value for row in rows.values() for label, value in row.items()}
    lines = [label for label, value in drawn.items() if label in courses or isinstance(value, (Bins, LogBins))]
    packed = [label for label, value in drawn.items() if isinstance(value, PackedSpikes)]
    signals = [label for label, value in drawn.items() if label in wholes and isinstance(value, Tensor)]
    whole = [label for label in signals if drawn[label].ndim > 2]
    apart = {*lines, *packed, *whole}
    numbers = {name: means({k: v for k, v in row.items() if k not in apart}) for name, row in rows.items()}
    return _Kinds(numbers, lines, packed, whole)


def _panels(figure: Figure, grid: Any, count: int) -> list[Axes]:
    """So many panels in the first rows of the grid."""
    rows = [grid[row].subgridspec(1, min(count, IN_A_ROW)) for row in range(-(-count // IN_A_ROW))]
    return [figure.add_subplot(rows[place // IN_A_ROW][place % IN_A_ROW]) for place in range(count)]


def _draw_trains(figure: Figure, place: Any, rasters: Sequence[Mapping[str, Any]]) -> None:
    """The spikes of all layers in one grid, so that a step is at one place in all."""
    count = sum(map(len, rasters))
    held = place.subgridspec(count, 1)
    panels = iter([figure.add_subplot(held[row]) for row in range(count)])
    for layers in rasters:
        draw_rasters([next(panels) for _ in layers], layers, raster_height(count))


def _traces(values: Mapping[str, Tensor], thresholds: Mapping[str, Any]) -> list[Trace]:
    """Of each layer two neurons of the first sample; of a potential from before the reset with its spikes."""
    at = {name: held.value for name, held in thresholds.items() if name in values}
    marks = {name: values[name] >= at[name] for name in at if thresholds[name].before}
    return traces_of(values, marks, at)


def _draw_traces(figure: Figure, place: Any, traced: Mapping[str, list[Trace]], height: float) -> None:
    held = place.subgridspec(sum(map(len, traced.values())), 1)
    rows = iter([figure.add_subplot(held[row]) for row in range(held.nrows)])
    for label, drawn in traced.items():
        panels = [next(rows) for _ in drawn]
        draw_traces(panels, drawn, height)
        dashed = ", dashed the threshold" if any(trace.threshold is not None for trace in drawn) else ""
        marked = ", triangles are spikes" if any(trace.marks.any() for trace in drawn) else ""
        panels[0].set_title(f"{label}: the neurons of each layer that move most, sample 0{dashed}{marked}", fontsize=10)


def _heights(bars: int, lines: int, layers: int) -> list[float]:
    """The inches of each row of panels, of which the first hold bars and the last lines."""
    barred = 1.3 + layers * room(layers, *BAR)
    starts = range(0, bars + lines, IN_A_ROW)
    return [
        max(barred if start < bars else 0.0, 2.8 if bars < min(start + IN_A_ROW, bars + lines) else 0.0)
        for start in starts
    ]


def _unit(key: str, rows: Rows) -> str:
    """What a bar measures; of a tensor it shows the mean."""
    names = {name for row in rows.values() for label, value in row.items() for name in scalars(value, label)}
    mean = ", mean of all" if {f"{key}.mean", f"{key}.min"} <= names else ""
    return f"{UNITS.get(key, 'value')}{mean}"


def _bars(axes: Axes, values: Mapping[str, float], named: bool) -> None:
    drawn = [value if math.isfinite(value) else 0.0 for value in values.values()]
    axes.barh(range(len(values)), drawn, color=COLOURS[0])
    axes.set_yticks(range(len(values)), list(values) if named else [""] * len(values))
    axes.set_ylim(len(values) - 0.4, -0.6)  # the first layer at the top, as in the table
    points = 0.8 * 72 * room(len(values), *BAR)  # what a word may be high
    axes.tick_params(axis="y", labelsize=min(10, points))
    if not any(drawn):
        axes.set_xlim(0, 1)  # matplotlib would have it from -0.05 to 0.05
    if _missing(values.values()):
        axes.set_xticks([])
    left = sum(axes.get_xlim()) < 0  # most bars go to the left, and the words with them
    side: dict[str, Any] = {"shift": (-4, 0), "ha": "right"} if left else {"shift": (4, 0)}
    for place, value in enumerate(values.values()):
        if word := _missing([value]):
            note(axes, 0, place, word, fontsize=min(9, points), **side)


def _missing(values: Iterable[float]) -> str:
    """The word that stands where none of these can be drawn, or ''.

    >>> _missing([math.nan, 1.0]), _missing([math.nan]), _missing([math.nan, math.inf])
    ('', 'no value', 'not finite')
    """
    held = list(values)
    if any(map(math.isfinite, held)):
        return ""
    return "no value" if all(map(math.isnan, held)) else "not finite"


def _shades(count: int) -> list[Any]:
    """A colour for each layer; of more than the palette has, from dark to light with depth."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps

    return [colormaps["viridis"](0.95 * index / (count - 1)) for index in range(count)]


def _curves(axes: Axes, label: str, values: Mapping[str, Any]) -> None:
    """A line for each layer: over the steps, or the counts of bins. Of many layers the first and the last are named."""
    outer = {next(iter(values)), next(reversed(list(values)))}
    for (name, value), colour in zip(values.items(), _shades(len(values)), strict=True):
        named = len(values) <= len(COLOURS) or name in outer
        style: dict[str, Any] = {"color": colour, "label": name if named else None}
        if isinstance(value, (Bins, LogBins)):
            edges = value.edges.double().cpu().numpy()
            axes.stairs(value.counts.double().cpu().numpy(), edges, **style)
            if edges[0] > 0 and edges[-1] > 100 * edges[0]:
                axes.set_xscale("log")
        else:
            if named and (word := _missing(value.tolist())):
                style["label"] = f"{name}: {word}"
            axes.plot(range(1, len(value) + 1), value.double().cpu().numpy(), marker=".", **style)
    kinds = {type(value) for value in values.values()}
    if LogBins in kinds and (ends := [end for value in values.values() for end in _filled(value)]):
        axes.set_xlim(min(ends) / 10, max(ends) * 10)  # its bins go far beyond most signals
    if kinds & {Bins, LogBins}:
        tidy(axes, label, "magnitude" if LogBins in kinds else "value", "values in the bin")
    else:
        tidy(axes, label, "time step", UNITS.get(label, "value"))
        _steps(axes, list(values.values()))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1)


def _steps(axes: Axes, courses: list[Any]) -> None:
    """All steps on the axis of time, in whole numbers, and a word where no course has a point."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, max(1, *map(len, courses)) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if word := _missing(value for course in courses for value in course.tolist()):
        axes.set_yticks([])
        axes.text(0.5, 0.5, word, transform=axes.transAxes, ha="center", va="center", color=GREY)


def _filled(held: LogBins) -> list[float]:
    """The ends of the bins that hold anything."""
    filled = held.counts.nonzero().flatten().tolist()
    return [float(held.edges[filled[0]]), float(held.edges[filled[-1] + 1])] if filled else []
