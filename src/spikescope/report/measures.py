"""A picture of each analysis: the kind of its result says how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..analysis import Intervals, IsiHistogram, Lags, PeriEvent, Psth, Selectivity, Similarities, Tuning, named
from ..analysis.registry import Measure
from .style import COLOURS, GREY, INK, PALE, blank, heading, note, styled, tidy
from .views import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["picture"]

CURVES = 6  # neurons that have a curve of their own
SHORT = ("cka", "cv", "cv2", "isi", "lv", "lvr", "psth")
PANELS = 5  # neurons of a correlogram that are held against one another


@styled
def picture(what: str | Callable[..., Any], result: Any) -> Figure:
    """What an analysis resulted in, as a figure of matplotlib.

    - `what`: the analysis or its name. `result`: what it gave; or a mapping of the names of layers to what it gave.

    >>> from spikescope import analysis
    >>> spikes = (torch.arange(60).view(20, 1, 3) % 4 == 0).float()
    >>> picture(analysis.cv, {"layer1": analysis.cv(spikes)}).axes[0].get_xlabel()
    'deviation / mean'
    """
    measure = named(what)
    results = dict(result) if isinstance(result, Mapping) else {"": result}
    if not results:
        raise ValueError(f"A picture of {measure.name} needs at least one result, but got none.")
    draw, width, height, own = DRAWN[measure.gives]
    figure = blank(width, height * (len(results) if own else 1) + 0.9)
    heading(figure, _title(measure.name), f"{measure.unit}; {measure.source}".replace("`", ""))
    if not own:
        draw(figure.subplots(), measure, results)
        return figure
    for axes, (name, held) in zip(figure.subplots(len(results), 1, squeeze=False)[:, 0], results.items(), strict=True):
        draw(axes, measure, held)
        if name:
            axes.set_title(name)
    return figure


def _title(name: str) -> str:
    """A name as words.

    >>> _title("isi_histogram"), _title("peri_event")
    ('ISI histogram', 'Peri event')
    """
    words = name.split("_")
    first = words[0].upper() if words[0] in SHORT else words[0].capitalize()
    return " ".join((first, *words[1:]))


def _flat(value: Any) -> Array:
    held = value.index if isinstance(value, Selectivity) else value
    assert isinstance(held, Tensor)
    return held.double().flatten().cpu().numpy()


def _values(axes: Axes, measure: Measure, results: Mapping[str, Any]) -> None:
    """How many neurons have which value; those without are said."""
    held = {name: _flat(value) for name, value in results.items()}
    there = np.concatenate([x[np.isfinite(x)] for x in held.values()])
    low, high = (there.min(), there.max()) if len(there) else (0.0, 1.0)
    low, high = (low, high) if high - low > 1e-12 * max(1.0, abs(high)) else (low - 0.5, high + 0.5)
    edges = np.linspace(low, high, 31)
    for (name, x), colour in zip(held.items(), COLOURS * len(held), strict=False):
        finite = x[np.isfinite(x)]
        middle = f"median {np.median(finite):.3g}" if len(finite) else "no value"
        missing = f", {len(x) - len(finite):,} of {len(x):,} undefined" if len(finite) < len(x) else ""
        label = f"{name}: {middle}{missing}" if name else f"{middle}{missing}"
        axes.stairs(np.histogram(finite, edges)[0], edges, color=colour, fill=len(held) == 1, alpha=0.9, label=label)
    tidy(axes, "", measure.unit, "trains" if measure.takes[-1] == "other" else "neurons")
    _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1.2)


def _numbers(axes: Axes, measure: Measure, results: Mapping[str, Any]) -> None:
    values = [float(value) for value in results.values()]
    axes.barh(range(len(values)), [value if math.isfinite(value) else 0.0 for value in values], color=COLOURS[0])
    axes.set_yticks(range(len(values)), [name or measure.name.replace("_", " ") for name in results])
    axes.set_ylim(len(values) - 0.4, -0.6)
    for place, value in enumerate(values):
        note(
            axes, value if math.isfinite(value) else 0.0, place, f"{value:.3g}" if math.isfinite(value) else "no value"
        )
    tidy(axes, "", measure.unit, "", grid="x")


def _courses(axes: Axes, measure: Measure, results: Mapping[str, Any]) -> None:
    for (name, value), colour in zip(results.items(), COLOURS * len(results), strict=False):
        held = value.double().flatten(1).mean(1) if value.ndim > 1 else value
        axes.plot(np.arange(1, len(held) + 1), held.cpu().numpy(), color=colour, label=name or None)
    _in_steps(axes)
    tidy(axes, "", "bin of time" if measure.name == "time_histogram" else "time step", measure.unit)
    if any(results):
        _legend(axes)


def _in_steps(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _psth(axes: Axes, measure: Measure, held: Psth) -> None:
    rate = held.rate.flatten(2).mean(2) if held.rate.ndim > 2 else held.rate
    for row, (label, trials, values) in enumerate(zip(held.classes, held.trials.tolist(), rate, strict=True)):
        colour, dashes = COLOURS[row % len(COLOURS)], ["-", "--", ":"][row // len(COLOURS) % 3]
        axes.plot(held.start.numpy() + 1, values.numpy(), dashes, color=colour, label=f"{label} ({trials})")
    _in_steps(axes)
    tidy(axes, "", "time step", measure.unit)
    axes.legend(
        frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), title="class (samples)", handlelength=1.6
    )


def _histogram(axes: Axes, measure: Measure, held: IsiHistogram | Intervals) -> None:
    lengths = np.bincount(held.length.numpy())[1:] if isinstance(held, Intervals) else held.number.numpy()
    axes.bar(np.arange(1, len(lengths) + 1), lengths, width=0.9, color=COLOURS[0])
    if len(lengths):
        most = int(lengths.argmax()) + 1
        axes.set_xlim(0.4, len(lengths) + 0.6)
        mean = float((lengths * np.arange(1, len(lengths) + 1)).sum() / lengths.sum())
        _corner(axes, f"{lengths.sum():,} intervals, mean {mean:.2f} steps, most often {most}")
    else:
        _corner(axes, "no interval")
    _in_steps(axes)
    tidy(axes, "", "interval in steps", "intervals")


def _corner(axes: Axes, words: str) -> None:
    axes.annotate(words, (1, 1), xycoords="axes fraction", ha="right", va="bottom", fontsize=9, color=GREY)


def _lags(axes: Axes, measure: Measure, held: Lags | PeriEvent) -> None:
    value = held.value if isinstance(held, Lags) else held.rate
    shown = value.double().flatten(1).mean(1) if value.ndim > 1 else value.double()
    lag = held.lag.numpy()
    axes.bar(lag, shown.nan_to_num().numpy(), width=0.9 * _apart(lag), color=COLOURS[0])
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
    _in_steps(axes)
    whose = "event" if isinstance(held, PeriEvent) else "spike"
    tidy(axes, "", f"steps after the {whose}", f"{measure.unit}{', mean of neurons' if value.ndim > 1 else ''}")


def _apart(lag: Array) -> float:
    return float(lag[1] - lag[0]) if len(lag) > 1 else 1.0


def _pairs(axes: Axes, measure: Measure, held: Lags) -> None:
    """A small panel for each two neurons, those of one neuron in another colour."""
    lag, value, neurons = held.lag.numpy(), held.value[:, :PANELS, :PANELS].numpy(), held.value.shape[1]
    size = value.shape[1]
    axes.set_axis_off()
    top = float(np.nanmax(value, initial=0.0)) or 1.0
    for i in range(size):
        for j in range(size):
            panel = axes.inset_axes((j / size, 1 - (i + 1) / size, 0.9 / size, 0.74 / size))
            panel.bar(lag, np.nan_to_num(value[:, i, j]), width=_apart(lag), color=COLOURS[int(i == j)])
            panel.axvline(0, color=INK, linewidth=0.6, linestyle=(0, (2, 2)))
            panel.set_ylim(0, 1.05 * top)
            panel.set_yticks([0, top] if j == 0 else [], ["0", f"{top:.2g}"] if j == 0 else [])
            panel.set_xticks([lag[0], 0, lag[-1]] if i == size - 1 else [])
            panel.tick_params(labelsize=7, length=2)
            panel.set_title(f"{i} \u2192 {j}", fontsize=7, pad=2, loc="left", fontweight="normal", color=GREY)
    said = f"the first {size} of {neurons} neurons; " if neurons > size else ""
    axes.set_title(f"{said}steps from a spike of the row to one of the column", fontsize=9, fontweight="normal", pad=14)


def _matrix(axes: Axes, measure: Measure, held: Tensor | Similarities) -> None:
    """Signed numbers from blue to red about 0, others from light to dark; a cross hatch where there is none."""
    value = (held.value if isinstance(held, Similarities) else held).double().cpu().numpy()
    finite = value[np.isfinite(value)]
    signed = bool(len(finite) and finite.min() < 0)
    top = max(float(np.abs(finite).max()) if len(finite) else 1.0, 1e-12)
    axes.set_facecolor(PALE)
    drawn = axes.imshow(
        np.ma.masked_invalid(value), cmap="RdBu_r" if signed else "Blues", vmin=-top if signed else 0, vmax=top,
        interpolation="nearest", aspect="equal" if value.shape[0] == value.shape[1] else "auto",
    )  # fmt: skip
    axes.figure.colorbar(drawn, ax=axes, shrink=0.8, label=measure.unit)
    axes.spines[:].set_visible(False)
    if isinstance(held, Similarities):
        axes.set_xticks(range(len(held.columns)), held.columns, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(held.rows)), held.rows)
        axes.tick_params(length=0, labelsize=9)
        if value.size <= 100:
            for (i, j), number in np.ndenumerate(value):
                shade = "white" if abs(number) > 0.6 * top else INK
                axes.text(j, i, f"{number:.2f}" if math.isfinite(number) else "-", ha="center", va="center",
                          fontsize=8, color=shade)  # fmt: skip
    else:
        what = "sample" if measure.name == "similarity_matrix" else "neuron"
        tidy(axes, "", what, what, grid="")
    if len(finite) < value.size:
        _corner(axes, "grey: undefined")


def _tuning(axes: Axes, measure: Measure, held: Tuning) -> None:
    """The neurons whose rate changes most."""
    rate = held.rate.flatten(1).numpy()
    middle = (held.edges[1:] + held.edges[:-1]).numpy() / 2
    span = np.nan_to_num(np.nanmax(rate, 0, initial=-np.inf) - np.nanmin(rate, 0, initial=np.inf), neginf=0, posinf=0)
    chosen = np.sort(np.argsort(-span, kind="stable")[:CURVES])
    for neuron, colour in zip(chosen, COLOURS, strict=False):
        axes.plot(middle, rate[:, neuron], color=colour, marker="o", markersize=3.5, label=f"no. {neuron}")
    axes.set_ylim(bottom=0)
    tidy(axes, "", "feature, the middle of its bin", measure.unit)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1.2,
                title=f"{len(chosen)} of {rate.shape[1]:,} neurons,\nthose that change most" if rate.shape[1] > CURVES
                else "neuron")  # fmt: skip


DRAWN: dict[str, tuple[Callable[..., None], float, float, bool]] = {
    "values": (_values, 7.5, 3.4, False),
    "number": (_numbers, 7.5, 2.2, False),
    "course": (_courses, 7.5, 3.0, False),
    "courses": (_psth, 8.0, 3.0, True),
    "histogram": (_histogram, 7.5, 2.8, True),
    "table": (_histogram, 7.5, 2.8, True),
    "lags": (_lags, 7.5, 3.2, True),
    "pairs": (_pairs, 8.0, 5.6, True),
    "matrix": (_matrix, 6.2, 5.0, True),
    "tuning": (_tuning, 8.0, 3.2, True),
}
"""Of each kind of result: what draws it, the inches of a panel, and whether each layer has a panel of its own."""
