"""Potentials as lines over time, with the thresholds and the spikes, a panel for each of some neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError, dims
from ..recording import StoredRecording
from ..spikes import PackedSpikes
from .sample import draw_potential
from .style import COLOURS, blank, heading, room, styled
from .trains import LOW, fired, time_axis
from .views import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Trace", "draw_traces", "trace_height", "traces", "traces_of"]

NEURONS = 2  # of a layer that are drawn


class Trace(NamedTuple):
    """One neuron: its words, potential and spikes at each step, threshold, and the colour of its layer."""

    words: str
    potential: Array
    marks: NDArray[np.bool_]
    threshold: float | None
    colour: str


@styled
def traces(
    potentials: Tensor | Mapping[str, Tensor] | StoredRecording,
    spikes: Mapping[str, Tensor | PackedSpikes] | None = None,
    thresholds: Mapping[str, float] | None = None,
    sample: int = 0,
    neurons: int | Sequence[int] = NEURONS,
) -> Figure:
    """The potentials of some neurons of each layer over time, thresholds as dashed lines, spikes as triangles.

    - `potentials`: `[T, N, *]`, or a mapping of the names of layers to these; or a recording on disk with the signal
      `'h'` or `'v'`, whose spikes and thresholds come along.
    - `spikes`, `thresholds`: by layer, where there are. `sample`: which one.
    - `neurons`: how many of each layer, those that move most; or which, by their numbers.

    >>> h = torch.tensor([0.5, 1.2, 0.4]).view(3, 1, 1)
    >>> [text.get_text() for text in traces({"lif": h}, thresholds={"lif": 1.0}).axes[0].texts]
    []
    """
    layers: Mapping[str, Tensor]
    if isinstance(potentials, StoredRecording):
        layers, spikes, thresholds = _stored(potentials)
    elif isinstance(potentials, Tensor):
        layers = {"": potentials}
    else:
        layers = potentials
    marked = {name: held.dense() if isinstance(held, PackedSpikes) else held for name, held in (spikes or {}).items()}
    drawn = traces_of(layers, marked, thresholds or {}, sample, neurons)
    height = trace_height(len(drawn))
    figure = blank(10, 0.9 + height * len(drawn))
    heading(figure, "Potentials, step by step", f"sample {sample}; dashed the threshold, triangles are spikes")
    draw_traces(list(figure.subplots(len(drawn), 1, squeeze=False)[:, 0]), drawn, height)
    return figure


def _stored(recording: StoredRecording) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float]]:
    """Of the first run the potentials, spikes and thresholds that there are."""
    potentials: dict[str, Tensor] = {}
    spikes: dict[str, Tensor] = {}
    thresholds: dict[str, float] = {}
    for name, layer in recording.items():
        signal = next((held for held in ("h", "v") if held in layer), None)
        if signal is not None:
            potentials[name] = layer[signal].read(layer[signal].runs[0].index)
            threshold = layer.fields.get("v_threshold")
            thresholds |= {name: float(threshold)} if isinstance(threshold, (int, float)) else {}
            spikes |= {name: layer["spike"].read(layer["spike"].runs[0].index)} if "spike" in layer else {}
    return potentials, spikes, thresholds


def traces_of(
    layers: Mapping[str, Tensor],
    spikes: Mapping[str, Tensor],
    thresholds: Mapping[str, float],
    sample: int = 0,
    neurons: int | Sequence[int] = NEURONS,
) -> list[Trace]:
    """What is drawn of potentials `[T, N, *]`, or `[T, F]` of one sample."""
    made = []
    for place, (name, held) in enumerate(layers.items()):
        x = _of_sample(held, sample)
        marks = fired(_of_sample(spikes[name], sample)) if name in spikes else np.zeros(x.shape, dtype=np.bool_)
        if marks.shape != x.shape:
            raise ShapeError(f"traces: the spikes of {name!r} are {dims(marks.shape)}, its potentials {dims(x.shape)}.")
        for neuron in _lively(x, int(neurons)) if isinstance(neurons, (int, Integral)) else neurons:
            if not 0 <= neuron < x.shape[1]:
                raise IndexError(f"traces: {name!r} has no neuron {neuron}; there are {x.shape[1]}.")
            words, colour = f"{name}\nno. {neuron}".strip(), COLOURS[place % len(COLOURS)]
            made.append(Trace(words, x[:, neuron], marks[:, neuron], thresholds.get(name), colour))
    if not made:
        raise ValueError("traces draws the potentials of at least one neuron, but got none.")
    return made


def _of_sample(held: Any, sample: int) -> Array:
    if not isinstance(held, Tensor) or held.ndim < 2 or not len(held):
        what = dims(held.shape, "TN") if isinstance(held, Tensor) else type(held).__name__
        raise ShapeError(f"traces draws potentials [T, N, *] of at least one step, but got {what}.")
    if held.ndim > 2 and not 0 <= sample < held.shape[1]:
        raise IndexError(f"traces: there is no sample {sample}; there are {held.shape[1]}.")
    part = held[:, sample] if held.ndim > 2 else held
    return np.asarray(part.detach().double().flatten(1).cpu().numpy())


def _lively(x: Array, count: int) -> list[int]:
    """The neurons that move most."""
    span = np.ptp(np.nan_to_num(x, posinf=0.0, neginf=0.0), 0)
    return sorted(int(i) for i in np.argsort(-span, kind="stable")[:count])


def trace_height(rows: int) -> float:
    """The inches that each of so many potentials takes."""
    return room(rows, 1.25, 0.55)


def draw_traces(rows: Sequence[Axes], drawn: Sequence[Trace], height: float) -> None:
    """A panel for each neuron, its words level beside it where they are longer than the panel is high."""
    low = height < LOW
    for axes, trace in zip(rows, drawn, strict=True):
        draw_potential(axes, trace.potential, trace.marks, trace.threshold, trace.colour)
        level: dict[str, Any] = {"rotation": 0, "ha": "right", "va": "center"}
        axes.set_ylabel(trace.words, color=trace.colour, fontweight="bold", fontsize=8 if low else 9, **level)
        axes.tick_params(axis="y", labelsize=7 if low else 8)
        axes.yaxis.set_major_locator(_few())
        time_axis(axes, len(trace.potential), labelled=axes is rows[-1])


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3)
