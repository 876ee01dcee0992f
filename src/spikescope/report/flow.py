"""Panels of the gradient: its norm at each layer and time step, and at each layer in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .style import COLOURS, GREY, INK, PALE, note, tidy
from .views import Array, GradientFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_depth", "draw_flow"]

WRITTEN = 10  # steps up to which each cell of the map holds its number


def _logarithms(norms: Array) -> Array:
    """Powers of ten; NaN where there is no gradient, or none that is finite."""
    seen = np.isfinite(norms) & (norms > 0)
    return np.where(seen, np.log10(np.where(seen, norms, 1.0)), np.nan)


def _limits(values: Array) -> tuple[float, float]:
    """The range of the colours, at least a power of ten wide, so that small differences look small."""
    if np.isnan(values).all():
        return -1.0, 0.0
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    wider = max(0.0, 1.0 - (high - low)) / 2
    return low - wider, high + wider


def _rows(axes: Axes, flow: GradientFlow, named: bool) -> None:
    """The output above, the input below."""
    axes.set_ylim(-0.5, len(flow.layers) - 0.5)
    axes.set_yticks(range(len(flow.layers)), flow.layers if named else ())
    axes.tick_params(axis="y", length=0)


def draw_flow(axes: Axes, flow: GradientFlow) -> None:
    """A cell for each layer and step, the darker the larger the gradient; a cross where there is none."""
    from matplotlib.ticker import MaxNLocator

    values = _logarithms(flow.norms)
    layers, steps = values.shape
    low, high = _limits(values)
    edges = np.arange(steps + 1) + 0.5, np.arange(layers + 1) - 0.5
    axes.pcolormesh(*edges, values, cmap="Blues", vmin=low - 0.2, vmax=high, edgecolor="white", linewidth=1.5)
    for row, step in np.argwhere(np.isnan(values)):
        axes.text(step + 1, row, "\u00d7", ha="center", va="center", color=GREY, fontsize=9)
    if steps <= WRITTEN:
        for row, step in np.argwhere(~np.isnan(values)):
            dark = values[row, step] > (low + high) / 2
            text, colour = _number(flow.norms[row, step]), "white" if dark else INK
            axes.text(step + 1, row, text, ha="center", va="center", color=colour, fontsize=8.5)
    axes.set_xlim(0.5, steps + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.tick_params(axis="x", length=0)
    tidy(axes, "", "time step", "", grid="")
    _rows(axes, flow, named=True)
    axes.spines[:].set_visible(False)


def draw_depth(axes: Axes, flow: GradientFlow, named: bool = False) -> None:
    """A bar for each layer: the norm over all steps, on a logarithmic axis."""
    from matplotlib.ticker import NullFormatter

    norms = np.where(np.isfinite(flow.depth), flow.depth, 0.0)
    seen = norms > 0
    base = 10.0 ** (np.floor(np.log10(norms[seen].min()) - 0.05) if seen.any() else -1.0)
    top = max(4 * norms.max(), 10 * base)  # a power of ten at least, so that two of them are written
    places = np.arange(len(norms))
    axes.hlines(places, base, top, color=PALE, linewidth=0.8)
    axes.hlines(places[seen], base, norms[seen], color=COLOURS[0], linewidth=2.4)
    if seen.any():  # matplotlib cannot lay out an empty artist that is not clipped
        axes.plot(norms[seen], places[seen], linestyle="", marker="o", markersize=6, color=COLOURS[0], clip_on=False)
    for place, norm in enumerate(norms):
        colour = COLOURS[0] if norm else GREY
        settings: dict[str, Any] = {"fontweight": "bold", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
        missing = "none" if np.isfinite(flow.depth[place]) else "not finite"
        note(axes, norm or base, place, _number(norm) if norm else missing, colour, shift=(9, 0), **settings)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())  # over a short range matplotlib writes so many that they touch
    axes.set_xlim(base, top)
    tidy(axes, "", "norm of the gradient", "", grid="")
    _rows(axes, flow, named)
    axes.spines["left"].set_visible(False)


def _number(value: float) -> str:
    """Two digits.

    >>> _number(0.01234), _number(3.2e-07), _number(5.0)
    ('0.012', '3.2e-7', '5')
    """
    if 1e-2 <= value < 1e4:
        return f"{value:.2g}"
    mantissa, power = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(power)}"
