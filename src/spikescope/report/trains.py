"""Panels of spikes: time to the right, a row for each neuron, a mark for each spike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..display import amount
from ..errors import ShapeError, dims
from ..spikes import PackedSpikes
from .style import COLOURS, note, room
from .views import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LOW", "ROWS", "Spikes", "draw_rasters", "draw_trains", "fired", "raster_height", "time_axis", "trains_of"]

ROWS = 40  # neurons of a layer that a raster shows
LOW = 1.0  # inches under which three lines of text are higher than a raster

Spikes = PackedSpikes | Tensor
"""`[T, N, *]`, or `[T, F]` of one sample."""


def trains_of(spikes: Spikes | Mapping[str, Spikes], sample: int | None) -> dict[str, Array]:
    """The trains `[T, F]` of one sample, by the words that stand over their panel."""
    layers = spikes if isinstance(spikes, Mapping) else {"": spikes}
    if not layers:
        raise ValueError("raster draws the spikes of at least one layer, but got none.")
    if not isinstance(sample, int | None):
        raise TypeError(f"raster draws one sample, by its number, but got {sample!r}.")
    made = {}
    for name, held in layers.items():
        if not isinstance(held, (PackedSpikes, Tensor)):
            raise TypeError(
                f"raster draws PackedSpikes or tensors, or a mapping of names to these, but got {type(held).__name__}"
                f"{f' for {name!r}' if name else ''}. monitor.record(net, 'packed') gives such a mapping."
            )
        at = sample if len(held.shape) > 2 else None
        if not len(held.shape) or not held.shape[0] or (at is not None and not 0 <= at < held.shape[1]):
            raise ShapeError(
                f"raster draws the sample {sample} of spikes [T, N, *] of at least one step, but got "
                f"{dims(held.shape, 'TN')}."
            )
        words = filter(None, (name, "" if at is None else f"sample {at}"))
        steps = [(step if at is None else step[at]).flatten() for step in held]  # unpacked one after the other
        made[", ".join(words)] = torch.stack(steps).detach().float().cpu().numpy()
    return made


def fired(spikes: Array) -> NDArray[np.bool_]:
    """Where there is a spike: a value other than 0 that is a number."""
    return np.asarray((spikes != 0) & ~np.isnan(spikes))


def raster_height(layers: int) -> float:
    """The inches that the raster of each of so many layers takes."""
    return room(layers, 1.55, 0.75)


def draw_rasters(rows: Sequence[Axes], layers: Mapping[str, Array], height: float) -> None:
    """A panel for each layer, `height` inches with its title, neurons by their numbers; time is named under the last.

    Low panels have small words.
    """
    from matplotlib.ticker import MaxNLocator

    low = height < LOW
    for index, (axes, (words, spikes)) in enumerate(zip(rows, layers.items(), strict=True)):
        count = spikes.shape[1]
        shown = np.linspace(0, count - 1, min(count, ROWS)).round().astype(int)
        chosen = amount(count, "neuron")
        if len(shown) < count:
            chosen = f"{len(shown)} of {chosen}, evenly chosen"
        axes.set_ylim(-0.03 * count - 0.5, 1.03 * max(1, count) - 0.5)
        points = 52 * height - 17  # about the height of the panel itself
        thickness = min(max(0.7, 0.025 * points, points / max(1, count)), 6.0)
        draw_trains(axes, spikes, shown, shown, COLOURS[index % len(COLOURS)], thickness, low)
        time_axis(axes, len(spikes), labelled=index == len(layers) - 1)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=2 if low else 4, integer=True, min_n_ticks=1))
        axes.tick_params(axis="y", labelsize=8 if low else 10)
        axes.set_ylabel("neuron", fontsize=8 if low else 10)
        axes.set_title(f"{words}: {chosen}" if words else chosen, fontsize=9 if low else 11, pad=3 if low else 9)


def draw_trains(
    axes: Axes,
    spikes: Array,
    shown: NDArray[Any],
    places: NDArray[Any],
    colour: str,
    thickness: float = 1.6,
    low: bool = False,
) -> None:
    """The spikes `[T, F]` of the neurons `shown`, at these heights; beside them how much the whole layer fired.

    The axis of the neurons must have its limits. In a `low` panel the words are small and in two lines.
    """
    marks = fired(spikes)
    steps, rows = np.nonzero(marks[:, shown])
    axes.hlines(places[rows], steps + 0.68, steps + 1.32, color=colour, linewidth=thickness)
    text = _in_words(int(marks.sum()), int(np.isnan(spikes).sum()), spikes.size, "wide" if low else "high")
    note(axes, len(spikes) + 0.5, sum(axes.get_ylim()) / 2, text, colour, fontsize=8 if low else 9)


def _in_words(spikes: int, odd: int, values: int, form: Literal["wide", "high"]) -> str:
    """How much a layer fired, in two lines or in one below the other.

    >>> _in_words(9, 2, 60, "wide").splitlines()
    ['9 spikes, 2 not a number,', '15.0 per neuron in 100 steps']
    """
    between = " " if form == "wide" else "\n"
    counts = [f"{spikes:,} spikes,", *([f"{odd:,} not a number,"] if odd else [])]
    return f"{between.join(counts)}\n{100 * spikes / max(1, values):.1f} per neuron{between}in 100 steps"


def time_axis(axes: Axes, steps: int, labelled: bool) -> None:
    """The steps from 1 on, with numbers if `labelled`."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, steps + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.tick_params(axis="x", labelbottom=labelled, length=3 if labelled else 0)
    if labelled:
        axes.set_xlabel("time step")
