"""Where the energy of a sample goes, layer by layer, beside that of the network without spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..analysis import Energy
from .style import COLOURS, INK, PALE, blank, heading, note, room, styled, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["energy_bars"]

PARTS = (("operations", "products and additions"), ("updates", "updates of neurons"), ("accesses", "memory"))


@styled
def energy_bars(energy: Energy) -> Figure:
    """A bar for each layer: what its operations, updates and memory take, over the pale bar of the twin without spikes.

    >>> from spikescope import analysis
    >>> held = analysis.energy([analysis.Work("fc", "Linear", dense=1000, acs=400, outputs=10)])
    >>> energy_bars(held).axes[0].get_xlabel()
    'nJ a sample'
    """
    if not energy.layers:
        raise ValueError("A picture of the energy needs at least one layer, but got none.")
    count = len(energy.layers)
    figure = blank(9.5, 1.7 + count * room(count, 0.36, 0.2))
    heading(
        figure,
        f"Energy of one sample: {joules(energy.total)} with spikes, {joules(energy.twin)} without",
        f"twin / network {energy.honest:.2f} with updates and memory, {energy.usual:.2f} by operations alone; "
        f"{energy.model}",
    )
    axes = figure.subplots()
    rows = np.arange(count)
    twin = [np.nan_to_num(layer.twin) / 1000 for layer in energy.layers]
    axes.barh(rows, twin, 0.86, color=PALE, label="the twin without spikes, memory included")
    left = np.zeros(count)
    for (part, words), colour in zip(PARTS, (COLOURS[0], COLOURS[2], COLOURS[4]), strict=True):
        width = np.array([np.nan_to_num(getattr(layer, part)) / 1000 for layer in energy.layers])
        axes.barh(rows, width, 0.5, left=left, color=colour, label=words)
        left += width
    size = min(9, 0.75 * 72 * room(count, 0.36, 0.2))
    for row, layer in enumerate(energy.layers):
        note(axes, max(left[row], twin[row]), row, joules(layer.total), INK, fontsize=size)
    axes.set_yticks(rows, [f"{layer.work.name or '(itself)'}  {layer.work.kind}" for layer in energy.layers])
    axes.tick_params(axis="y", labelsize=size, length=0)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, 1.12 * max(1e-12, float(left.max()), *twin))
    tidy(axes, "", "nJ a sample", "", grid="x")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1.2)
    return figure


def joules(pico: float) -> str:
    """A number of picojoules in words.

    >>> joules(1234.0), joules(2.5e6), joules(float("nan"))
    ('1.23 nJ', '2.5 \u00b5J', 'no price')
    """
    if np.isnan(pico):
        return "no price"
    for unit in ("pJ", "nJ", "\u00b5J", "mJ"):
        if abs(pico) < 1000 or unit == "mJ":
            return f"{pico:.3g} {unit}"
        pico /= 1000
    raise AssertionError("unreachable")
