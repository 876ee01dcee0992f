"""What one neuron does for the samples of each class: a raster sorted by class, and the rates over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..analysis import psth, selectivity
from ..analysis.gather import check_labels, classes_of, dense, runs
from ..analysis.source import Spikes
from ..errors import ShapeError
from .style import COLOURS, GREY, blank, heading, styled, tidy
from .trains import time_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["raster_by_class"]

ROWS = 30  # samples of a class that have a row


@styled
def raster_by_class(spikes: Spikes, labels: Any, neuron: int | None = None, bin_size: int = 1) -> Figure:
    """The spikes of one neuron in every sample, sorted by class, over its rate at each step for each class.

    - `spikes`: `[T, N, *]` in any form that `analysis` takes, runs of one length. `labels`: one for each sample.
    - `neuron`: of the flattened neurons; None takes the most selective one, see `analysis.selectivity`.
    - `bin_size`: steps of a bin of the rates.

    Of a class of more than 30 samples 30 are drawn, evenly chosen, as is said beside it; the rates are of all.

    >>> spikes = (torch.arange(8 * 6 * 4).view(8, 6, 4) % 5 == 0).float()
    >>> raster_by_class(spikes, [0, 1, 0, 1, 0, 1], neuron=2).axes[0].get_title("left")
    'neuron 2 of 4'
    """
    owner = "raster_by_class"
    held = [dense(run).flatten(2) for run in runs(owner, spikes)]
    if len({len(run) for run in held}) > 1:
        raise ShapeError(f"{owner} draws runs of one length. Give one run, or those of one length.")
    trains = torch.cat(held, 1)
    classes, place = classes_of(owner, labels)
    check_labels(owner, place, trains.shape[1])
    count = trains.shape[2]
    chosen = _most_selective(trains, labels) if neuron is None else neuron
    if not 0 <= chosen < count:
        raise ValueError(f"{owner} draws one of {count} neurons, by its number, but got {neuron!r}.")
    train = trains[:, :, chosen].numpy()
    drawn = [_some(np.flatnonzero(place == at)) for at in range(len(classes))]
    rows = sum(map(len, drawn))
    figure = blank(8.5, 2.6 + min(6.0, max(1.2, 0.075 * rows)))
    whole = ", the most selective" if neuron is None else ""
    heading(figure, "One neuron, sample by sample", "a row for each sample, sorted by class; below its rate by class")
    upper, lower = figure.subplots(2, 1, height_ratios=(min(6.0, max(1.2, 0.075 * rows)), 1.4), sharex=True)
    first = 0
    for at, samples in enumerate(drawn):
        colour = COLOURS[at % len(COLOURS)]
        step, row = np.nonzero(train[:, samples])
        upper.hlines(first + row, step + 0.62, step + 1.38, color=colour, linewidth=max(0.8, min(4.0, 150 / rows)))
        number = int((place == at).sum())
        words = f"{classes[at]} ({number})" if number == len(samples) else f"{classes[at]} ({len(samples)} of {number})"
        upper.annotate(words, (1.01, first + (len(samples) - 1) / 2), xycoords=("axes fraction", "data"), va="center",
                       fontsize=8, color=colour)  # fmt: skip
        if at:
            upper.axhline(first - 0.5, color="#D5DADF", linewidth=0.8)
        first += len(samples)
    upper.set_ylim(rows - 0.4, -0.6)
    upper.set_yticks([])
    tidy(upper, f"neuron {chosen} of {count}{whole}", "", "sample", grid="")
    rates = psth(trains[:, :, chosen : chosen + 1], place, bin_size).rate
    for at, values in enumerate(rates):
        starts = np.arange(len(values) + 1) * bin_size + 0.5
        lower.stairs(values.numpy(), starts, color=COLOURS[at % len(COLOURS)], linewidth=1.6, baseline=None)
    time_axis(lower, len(train), labelled=True)
    lower.set_ylim(bottom=0)
    tidy(lower, "", "time step", "spikes per step")
    lower.yaxis.label.set_color(GREY)
    return figure


def _some(samples: Any) -> Any:
    return samples[np.linspace(0, len(samples) - 1, min(len(samples), ROWS)).round().astype(int)]


def _most_selective(trains: Tensor, labels: Any) -> int:
    index = selectivity(trains, labels).index
    seen = trains.sum((0, 1)) >= max(1, trains.shape[1] // 4)  # a neuron of one spike is no discovery
    return int(torch.where(seen, index.nan_to_num(-1.0), -1.0).argmax()) if len(index) else 0
