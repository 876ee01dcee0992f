"""The pictures of that package, by its names and arguments, in the look of `spikescope.report`.

They are figures of `matplotlib.pyplot`, so that `plt.show()` and `plt.savefig()` of a script find them. Arrays may be
NumPy's or tensors, on any device.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ShapeError
from ..report.style import COLOURS, GREY, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_1d_spikes",
    "plot_2d_bar_in_3d",
    "plot_2d_feature_map",
    "plot_2d_heatmap",
    "plot_2d_spiking_feature_map",
    "plot_one_neuron_v_s",
]

P = ParamSpec("P")
R = TypeVar("R")


def _dpi_by_place(function: Callable[P, R]) -> Callable[P, R]:
    """Let a number where `figsize` stands be `dpi`, as up to 0.0.0.0.12, which had no `figsize` before it."""
    known = inspect.signature(function).parameters
    place, size = list(known).index("figsize"), known["figsize"].default

    @functools.wraps(function)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        given: tuple[Any, ...] = args
        if len(args) > place and isinstance(args[place], int | float):
            given = (*args[:place], size, *args[place:])
        return function(*given, **kwargs)

    return drawn


_RATES_SHOWN = 40  # neurons up to which each rate is written into its field


def _array(owner: str, given: Any, ndim: int, shape: str) -> NDArray[Any]:
    """The values of an array, a tensor or a list of the steps; a ValueError for another number of axes or no values.

    A last axis of one neuron may be left over, as where steps of one neuron were put into a list.
    """
    if isinstance(given, list | tuple) and any(isinstance(step, torch.Tensor) for step in given):
        given = torch.stack(torch.broadcast_tensors(*(torch.as_tensor(step, device="cpu") for step in given)))
    held = given.detach().cpu().float().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    if held.ndim == ndim + 1 and held.shape[-1] == 1:
        held = held[..., 0]
    if held.ndim != ndim or not held.size:
        raise ShapeError(f"{owner} draws an array {shape} with values, but got one of the shape {list(held.shape)}.")
    return held


def _words(axes: Axes, title: str, xlabel: str, ylabel: str, whole_x: bool = True, whole_y: bool = True) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    for axis, whole in ((axes.xaxis, whole_x), (axes.yaxis, whole_y)):
        axis.set_major_locator(MaxNLocator(integer=whole))
        axis.set_minor_locator(NullLocator())


@_dpi_by_place
@styled
def plot_2d_heatmap(
    array: Any,
    title: str,
    xlabel: str,
    ylabel: str,
    int_x_ticks: bool = True,
    int_y_ticks: bool = True,
    plot_colorbar: bool = True,
    colorbar_y_label: str = "magnitude",
    x_max: float | None = None,
    figsize: tuple[float, float] = (12, 8),
    dpi: int = 200,
) -> Figure:
    """Values `[T, N]` as colours: time to the right, a row for each neuron."""
    from matplotlib import pyplot

    from .paired_figure import PairedFigure

    held = _array("plot_2d_heatmap", array, 2, "[T, N]")
    figure, axes = pyplot.subplots(FigureClass=PairedFigure, figsize=figsize, dpi=dpi)
    extent = None if x_max is None else (-0.5, x_max, held.shape[1] - 0.5, -0.5)
    image = axes.imshow(held.T, aspect="auto", extent=extent, interpolation="nearest")
    _words(axes, title, xlabel, ylabel, int_x_ticks, int_y_ticks)
    if plot_colorbar:
        figure.colorbar(image, ax=axes, label=colorbar_y_label)
    return figure


@styled
def plot_2d_bar_in_3d(
    array: Any,
    title: str,
    xlabel: str,
    ylabel: str,
    zlabel: str,
    int_x_ticks: bool = True,
    int_y_ticks: bool = True,
    int_z_ticks: bool = False,
    dpi: int = 200,
) -> Figure:
    """Values `[T, N]` as bars: neurons along x, steps along y, a row of one colour for each neuron."""
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    from .paired_figure import PairedFigure

    held = _array("plot_2d_bar_in_3d", array, 2, "[T, N]")
    figure = pyplot.figure(FigureClass=PairedFigure, dpi=dpi)
    axes: Any = figure.add_subplot(projection="3d")
    for neuron, course in enumerate(held.T):
        colour = COLOURS[neuron % len(COLOURS)]
        axes.bar(np.arange(len(course)), course, zs=neuron, zdir="x", color=colour, edgecolor=colour, alpha=0.8)
    _words(axes, title, xlabel, ylabel, int_x_ticks, int_y_ticks)
    axes.set_zlabel(zlabel)
    axes.zaxis.set_major_locator(MaxNLocator(integer=int_z_ticks))
    return figure


@_dpi_by_place
@styled
def plot_1d_spikes(
    spikes: Any,
    title: str,
    xlabel: str,
    ylabel: str,
    int_x_ticks: bool = True,
    int_y_ticks: bool = True,
    plot_firing_rate: bool = True,
    firing_rate_map_title: str = "firing rate",
    figsize: tuple[float, float] = (12, 8),
    dpi: int = 200,
) -> Figure:
    """Spikes `[T, N]` as marks: time to the right, a row for each neuron; beside it the rate of each."""
    from matplotlib import pyplot

    from .paired_figure import PairedFigure

    held = _array("plot_1d_spikes", spikes, 2, "[T, N]")
    steps, neurons = held.shape
    if plot_firing_rate:
        figure, (axes, rates) = pyplot.subplots(
            1, 2, FigureClass=PairedFigure, width_ratios=(5, 1), figsize=figsize, dpi=dpi
        )
        _draw_rates(rates, held.mean(0), firing_rate_map_title)
    else:
        figure, axes = pyplot.subplots(FigureClass=PairedFigure, figsize=figsize, dpi=dpi)
    times = [np.flatnonzero(train) for train in held.T]
    colours = [COLOURS[row % len(COLOURS)] for row in range(neurons)]
    axes.eventplot(times, lineoffsets=list(range(neurons)), linelengths=0.8, colors=colours)
    axes.set(xlim=(-0.5, steps - 0.5), ylim=(neurons - 0.5, -0.5))
    _words(axes, title, xlabel, ylabel, int_x_ticks, int_y_ticks)
    return figure


def _draw_rates(axes: Axes, rates: NDArray[Any], title: str) -> None:
    axes.imshow(rates[:, None], cmap="magma", aspect="auto", interpolation="nearest")
    dark = rates < rates.min() + 0.7 * (rates.max() - rates.min() + 1e-12)
    for row, rate in enumerate(rates if len(rates) <= _RATES_SHOWN else ()):
        axes.text(0, row, f"{rate:.2f}", ha="center", va="center", color="white" if dark[row] else "black")
    _words(axes, title, "", "")
    axes.xaxis.set_visible(False)


@_dpi_by_place
@styled
def plot_2d_feature_map(
    x3d: Any,
    nrows: int,
    ncols: int,
    space: int,
    title: str,
    figsize: tuple[float, float] = (12, 8),
    dpi: int = 200,
) -> tuple[Figure, Axes]:
    """Maps `[C, H, W]` in a grid of `nrows` times `ncols`, `space` pixels apart."""
    from matplotlib import pyplot

    held = _array("plot_2d_feature_map", x3d, 3, "[C, H, W]")
    count, height, width = held.shape
    if nrows * ncols != count:
        raise ShapeError(
            f"plot_2d_feature_map puts {count} maps into {nrows} rows of {ncols}, which hold {nrows * ncols}: "
            "nrows * ncols must be the number of maps."
        )
    grid = np.full(((height + space) * nrows, (width + space) * ncols), held.max(), dtype=float)
    for place, one in enumerate(held):
        top, left = (place // ncols) * (height + space) + space // 2, (place % ncols) * (width + space) + space // 2
        grid[top : top + height, left : left + width] = one
    figure, axes = pyplot.subplots(figsize=figsize, dpi=dpi)
    axes.imshow(grid, cmap="gray", interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()
    return figure, axes


def plot_2d_spiking_feature_map(
    spikes: Any, nrows: int, ncols: int, space: int, title: str, dpi: int = 200
) -> tuple[Figure, Axes]:
    """`plot_2d_feature_map` under its older name."""
    return plot_2d_feature_map(spikes, nrows, ncols, space, title, dpi=dpi)


@_dpi_by_place
@styled
def plot_one_neuron_v_s(
    v: Any,
    s: Any,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    title: str = "$V[t]$ and $S[t]$ of the neuron",
    figsize: tuple[float, float] = (12, 8),
    dpi: int = 200,
) -> tuple[Figure, Axes, Axes]:
    """The potential `[T]` of one neuron with its threshold and reset, and its spikes `[T]` below."""
    from matplotlib import pyplot

    v, s = _array("plot_one_neuron_v_s", v, 1, "[T]"), _array("plot_one_neuron_v_s", s, 1, "[T]")
    figure, (top, bottom) = pyplot.subplots(2, 1, sharex=True, height_ratios=(4, 1), figsize=figsize, dpi=dpi)
    top.plot(np.arange(len(v)), v, color=COLOURS[0])
    top.axhline(v_threshold, label="$V_{threshold}$", linestyle="-.", color=COLOURS[1])
    if v_reset is not None:
        top.axhline(v_reset, label="$V_{reset}$", linestyle="-.", color=GREY)
    top.legend(frameon=False)
    bottom.eventplot([np.flatnonzero(s)], lineoffsets=0, colors=COLOURS[1])
    _words(top, title, "", "voltage", whole_y=False)
    _words(bottom, "", "simulating step", "spike")
    bottom.set(xlim=(-0.5, len(s) - 0.5), yticks=[])
    return figure, top, bottom
