"""Panels of one sample: the image, the spikes of all layers, the belief over time, and membrane potentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .style import COLOURS, GREY, INK, PALE, note, tidy
from .trains import ROWS, draw_trains, fired, time_axis
from .views import Array, LayerTrace, SampleView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_belief", "draw_image", "draw_potential", "draw_raster", "draw_scores", "draw_trace", "lively"]


def _time_axis(axes: Axes, view: SampleView, labelled: bool) -> None:
    steps = len(view.readout)
    time_axis(axes, steps, labelled)
    if view.trained_steps < steps:
        axes.axvline(view.trained_steps + 0.5, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)


def _named(axes: Axes, words: str, colour: str, low: bool) -> None:
    """Two lines beside the panel, from top to bottom; level where they are longer than the panel is high."""
    level: dict[str, Any] = {"rotation": 0, "ha": "right", "va": "center"} if low else {}
    axes.set_ylabel(words, color=colour, fontweight="bold", fontsize=8 if low else 9, **level)


def draw_raster(axes: Axes, view: SampleView, index: int, labelled: bool = False, low: bool = False) -> None:
    """The spikes of one layer: time to the right, some of the neurons that fire from top to bottom.

    Beside a `low` panel the words are small and level.
    """
    layer, colour = view.layers[index], COLOURS[index % len(COLOURS)]
    firing = np.flatnonzero(fired(layer.spikes).any(0))
    shown = np.sort(np.random.default_rng(0).permutation(firing)[:ROWS])
    axes.set_ylim(max(1, len(shown)) - 0.2, -0.8)
    draw_trains(axes, layer.spikes, shown, np.arange(len(shown)), colour, low=low)
    axes.set_yticks([])
    words = f"{layer.name}\n{len(shown)} of {len(firing):,} firing"
    _named(axes, words, colour, low)
    _time_axis(axes, view, labelled)


def draw_belief(axes: Axes, view: SampleView, labelled: bool = True) -> None:
    """The probability of each class after each step."""
    belief = view.belief
    axes.pcolormesh(
        np.arange(len(belief) + 1) + 0.5,
        np.arange(belief.shape[1] + 1) - 0.5,
        belief.T,
        cmap="Blues",
        vmin=0,
        vmax=1,
        edgecolor="white",
        linewidth=1.0,
    )
    axes.set_yticks(range(belief.shape[1]))
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.set_ylabel("class", fontsize=9)
    _time_axis(axes, view, labelled)
    axes.spines[:].set_visible(False)
    text = f"{view.answer}: {100 * belief[-1, view.answer]:.0f} %"
    note(axes, len(belief) + 0.5, view.answer, text, COLOURS[0], fontweight="bold")


def draw_scores(axes: Axes, view: SampleView) -> None:
    """The read-out of each class, averaged over the steps that the network was trained with and over all steps."""
    classes = np.arange(view.readout.shape[1])
    windows = sorted({min(view.trained_steps, len(view.readout)), len(view.readout)})
    width = 0.76 / len(windows)
    for place, steps in enumerate(windows):
        rows = classes + (place - (len(windows) - 1) / 2) * width
        colour = COLOURS[0] if place else COLOURS[5]
        axes.barh(rows, view.readout[:steps].mean(0), width, color=colour, label=f"{steps} steps")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(classes)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    tidy(axes, "Read-out", "mean score", "class", grid="x")
    axes.legend(frameon=False, fontsize=9, loc="best", handlelength=1)


def draw_image(axes: Axes, view: SampleView) -> None:
    """The input image, with the true class and the answer of the network."""
    axes.imshow(view.image, cmap="Greys", vmin=0, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(PALE)
    tidy(axes, f"Input: a {view.label}", grid="")
    right = "right" if view.answer == view.label else f"wrong, it is a {view.label}"
    axes.set_xlabel(f"answer {view.answer}: {right}", fontsize=10, labelpad=7)


def lively(layer: LayerTrace, count: int) -> list[int]:
    """Neurons worth a look: they fire, but not at every step, and their rates differ.

    >>> spikes = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 1]], dtype=np.float32)
    >>> lively(LayerTrace("neuron1", "LIFNode", spikes, spikes), 1)
    [2]
    """
    counts = fired(layer.spikes).sum(0)
    span = np.ptp(layer.potential, 0)
    changing = np.flatnonzero((counts > 0) & (counts < len(layer.spikes)))
    order = changing[np.lexsort((-span[changing], counts[changing]))]
    if len(order) >= count:
        return [int(i) for i in order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]]
    others = np.setdiff1d(np.argsort(-span, kind="stable"), changing, assume_unique=True)
    return [int(i) for i in (*order, *others)][:count]


def draw_trace(
    axes: Axes, view: SampleView, index: int, neuron: int, labelled: bool = False, low: bool = False
) -> None:
    """The membrane potential of one neuron after each step, the threshold as a dashed line, each spike as a bar.

    Beside a `low` panel the words are small and level.
    """
    layer, colour = view.layers[index], COLOURS[index % len(COLOURS)]
    draw_potential(axes, layer.potential[:, neuron], fired(layer.spikes[:, neuron]), layer.threshold, colour)
    _named(axes, f"{layer.name}\nno. {neuron}", colour, low)
    axes.tick_params(axis="y", labelsize=8)
    _time_axis(axes, view, labelled)


def draw_potential(
    axes: Axes, potential: Array, marks: NDArray[np.bool_], threshold: float | None, colour: str
) -> None:
    """A potential after each step as a line, the threshold dashed, a bar and a triangle for each step that is marked.

    Where a value is not finite the line has a gap.
    """
    steps = np.arange(1, len(potential) + 1)
    finite = np.where(np.isfinite(potential), potential, np.nan)
    axes.axhline(0, color=PALE, linewidth=0.8, zorder=0)
    axes.plot(steps, finite, color=colour, marker="o", markersize=3.2 if len(steps) < 120 else 0, zorder=3)
    top = _headroom(axes, finite, threshold)
    if threshold is not None:
        axes.axhline(threshold, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
    if marks.any():  # matplotlib cannot lay out an empty artist that is not clipped
        axes.vlines(steps[marks], np.nan_to_num(finite[marks]), top, color=INK, linewidth=1.3, zorder=2)
        tops = np.full(marks.sum(), top)
        axes.plot(steps[marks], tops, linestyle="", marker="v", markersize=5, color=INK, clip_on=False)


def _headroom(axes: Axes, potential: Array, threshold: float | None) -> float:
    """Set the vertical range, and return the height of the spikes."""
    there = potential[np.isfinite(potential)]
    high = max(float(there.max(initial=0.0)), 0.0 if threshold is None else threshold)
    low = min(float(there.min(initial=0.0)), 0.0)
    top = high + 0.35 * max(high - low, 1e-6)
    axes.set_ylim(low - 0.12 * (top - low), top)
    return top
