"""Panels of spikes: time to the right, a row for each neuron, a mark for each spike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError, dims
from ..spikes import PackedSpikes
from .style import COLOURS, note
from .views import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ROWS", "Spikes", "draw_rasters", "draw_trains", "time_axis", "trains_of"]

ROWS = 40  # neurons of a layer that a raster shows

Spikes = PackedSpikes | Tensor
"""`[T, N, *]`, or `[T, F]` of one sample."""


def trains_of(spikes: Spikes | Mapping[str, Spikes], sample: int | None) -> dict[str, Array]:
    """The trains `[T, F]` of one sample, by the words that stand over their panel."""
    layers = spikes if isinstance(spikes, Mapping) else {"": spikes}
    if not layers:
        raise ValueError("raster draws the spikes of at least one layer, but got none.")
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


def draw_rasters(rows: Sequence[Axes], layers: Mapping[str, Array]) -> None:
    """A panel for each layer, with neurons by their numbers; time is named under the last."""
    from matplotlib.ticker import MaxNLocator

    for index, (axes, (words, spikes)) in enumerate(zip(rows, layers.items(), strict=True)):
        count = spikes.shape[1]
        shown = np.linspace(0, count - 1, min(count, ROWS)).round().astype(int)
        chosen = f"{count:,} neuron{'' if count == 1 else 's'}"
        if len(shown) < count:
            chosen = f"{len(shown)} of {chosen}, evenly chosen"
        axes.set_ylim(-0.03 * count - 0.5, 1.03 * max(1, count) - 0.5)
        thickness = min(max(1.6, 64 / max(1, count)), 6.0)  # of a panel that is about 64 points high
        draw_trains(axes, spikes, shown, shown, COLOURS[index % len(COLOURS)], thickness)
        time_axis(axes, len(spikes), labelled=index == len(layers) - 1)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
        axes.set_ylabel("neuron")
        axes.set_title(f"{words}: {chosen}" if words else chosen)


def draw_trains(
    axes: Axes, spikes: Array, shown: NDArray[Any], places: NDArray[Any], colour: str, thickness: float = 1.6
) -> None:
    """The spikes `[T, F]` of the neurons `shown`, at these heights; beside them how much the whole layer fired.

    The axis of the neurons must have its limits.
    """
    steps, rows = np.nonzero(spikes[:, shown])
    axes.hlines(places[rows], steps + 0.68, steps + 1.32, color=colour, linewidth=thickness)
    fired = np.count_nonzero(spikes)
    text = f"{fired:,} spikes,\n{100 * fired / max(1, spikes.size):.1f} per neuron\nin 100 steps"
    note(axes, len(spikes) + 0.5, sum(axes.get_ylim()) / 2, text, colour)


def time_axis(axes: Axes, steps: int, labelled: bool) -> None:
    """The steps from 1 on, with numbers if `labelled`."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, steps + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.tick_params(axis="x", labelbottom=labelled, length=3 if labelled else 0)
    if labelled:
        axes.set_xlabel("time step")
