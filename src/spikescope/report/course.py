"""Panels of a training: loss, accuracy, firing rates and silent neurons over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .style import COLOURS, INK, note, tidy
from .views import Array, Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_accuracy", "draw_loss", "draw_rates", "draw_silent"]

Series = dict[str, list[float]]

LINE = 13.0  # points between two words one above the other


def _lines(axes: Axes, epochs: Sequence[int], series: Series, form: str) -> None:
    """One line for each series, its name and last value beside its end, the names kept apart."""
    drawn = list(zip(series.items(), COLOURS * len(series), strict=False))
    for (_, values), colour in drawn:
        axes.plot(epochs, values, color=colour, marker="o", markersize=2.6 if len(epochs) > 1 else 5, clip_on=False)
    _labels(
        axes,
        epochs[-1],
        [(f"{name} {form.format(values[-1])}", values[-1], colour) for (name, values), colour in drawn],
    )


def _labels(axes: Axes, x: int, words: list[tuple[str, float, str]]) -> None:
    """Words at the ends of lines, moved up or down by a line of text where they would touch."""
    heights = axes.transData.transform([(x, value) for _, value, _ in words])[:, 1]
    points = 72 / axes.figure.dpi
    ceiling = axes.bbox.y1 * points
    placed: dict[int, float] = {}
    room = float("inf")
    for index in sorted(range(len(words)), key=lambda index: -heights[index]):
        room = placed[index] = min(heights[index] * points, room - LINE, ceiling)
    floor = axes.bbox.y0 * points - LINE
    for index in sorted(placed, key=placed.__getitem__):
        floor = placed[index] = max(placed[index], floor + LINE)
    for index, (text, value, colour) in enumerate(words):
        shift = (7, placed[index] - heights[index] * points)
        note(axes, x, value, text, colour, fontweight="bold", shift=shift)


def _epochs(axes: Axes, history: Sequence[Epoch]) -> list[int]:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    last = history[-1].epoch
    axes.set_xlim(0.5 if last == 1 else 1, last + 0.5 if last == 1 else last)
    return [epoch.epoch for epoch in history]


def draw_loss(axes: Axes, history: Sequence[Epoch]) -> None:
    """Training and test loss."""
    tidy(axes, "Loss", "epoch", "mean over samples")
    series = {"train": [e.train_loss for e in history], "test": [e.test_loss for e in history]}
    epochs = _epochs(axes, history)
    axes.set_ylim(0, 1.05 * max(map(max, series.values())))
    _lines(axes, epochs, series, "{:.2f}")


def _stretch(percent: Array) -> Array:
    return -np.log(102 - np.minimum(percent, 101.0))


def _unstretch(height: Array) -> Array:
    return 102 - np.exp(-height)


def draw_accuracy(axes: Axes, history: Sequence[Epoch], target: float = 0.0) -> None:
    """Training and test accuracy in per cent, with the line of the target where there is one.

    The axis is stretched towards 100, where the differences that matter are.
    """
    from matplotlib.ticker import FixedLocator, FormatStrFormatter

    tidy(axes, "Accuracy", "epoch", "right answers (%)")
    series = {
        "train": [100 * e.train_accuracy for e in history],
        "test": [100 * e.test_accuracy for e in history],
    }
    epochs = _epochs(axes, history)
    axes.set_yscale("function", functions=(_stretch, _unstretch))
    axes.set_ylim(max(0.0, min(map(min, series.values())) - 2), 100)
    axes.yaxis.set_major_locator(FixedLocator([0, 20, 50, 80, 90, 95, 98, 100]))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    if target:
        axes.axhline(target, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            f"target {target:g} %",
            (0.02, target),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=9,
            color=INK,
        )
    _lines(axes, epochs, series, "{:.1f}")


def _by_layer(history: Sequence[Epoch], what: str) -> Series:
    names = [layer.name for layer in history[0].layers]
    return {name: [100 * getattr(epoch.layers[i], what) for epoch in history] for i, name in enumerate(names)}


def draw_rates(axes: Axes, history: Sequence[Epoch]) -> None:
    """The firing rate of each layer on the test samples."""
    tidy(axes, "Firing rate of a neuron, by layer", "epoch", "spikes in 100 steps")
    series = _by_layer(history, "rate")
    epochs = _epochs(axes, history)
    axes.set_ylim(0, 1.12 * max(1e-9, *map(max, series.values())) or 1)
    _lines(axes, epochs, series, "{:.1f}")


def draw_silent(axes: Axes, history: Sequence[Epoch]) -> None:
    """The share of neurons of each layer that no test sample made fire."""
    tidy(axes, "Silent neurons by layer", "epoch", "neurons that never fired (%)")
    series = _by_layer(history, "silent")
    epochs = _epochs(axes, history)
    axes.set_ylim(0, max(1.0, 1.12 * max(map(max, series.values()))))
    _lines(axes, epochs, series, "{:.1f}")
