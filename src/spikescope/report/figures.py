"""The pictures of a run, each a function from plain values to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .course import draw_accuracy, draw_loss, draw_rates, draw_silent
from .flow import draw_depth, draw_flow
from .sample import draw_belief, draw_image, draw_raster, draw_scores, draw_trace, lively
from .style import blank, heading, room, styled
from .trains import LOW, Spikes, draw_rasters, raster_height, trains_of
from .views import Epoch, GradientFlow, SampleView

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["firing_rates", "gradient_flow", "learning_curves", "membrane_traces", "overview", "raster", "spike_raster"]


@styled
def learning_curves(history: Sequence[Epoch], target: float = 0.0) -> Figure:
    """Loss and accuracy over the epochs; `target` is an accuracy in per cent to draw a line at, or 0."""
    _check_history(history)
    figure = blank(10, 4.2)
    last = history[-1]
    heading(
        figure,
        f"Learning: {100 * last.test_accuracy:.2f} % of the test samples right after epoch {last.epoch}",
        f"{sum(epoch.seconds for epoch in history):.1f} s of training",
    )
    left, right = figure.subplots(1, 2)
    draw_loss(left, history)
    draw_accuracy(right, history, target)
    return figure


@styled
def firing_rates(history: Sequence[Epoch]) -> Figure:
    """Firing rate and share of silent neurons of each layer over the epochs."""
    _check_history(history)
    figure = blank(10, 4.2)
    heading(figure, "How busy the layers are", "measured on the test samples after each epoch")
    left, right = figure.subplots(1, 2)
    draw_rates(left, history)
    draw_silent(right, history)
    return figure


@styled
def spike_raster(view: SampleView) -> Figure:
    """The spikes of all layers for one sample, with its image and the belief of the network over time."""
    depth = len(view.layers)
    height = room(depth, 1.7, 0.65)
    figure = blank(10.5, 2.6 + height * depth)
    heading(figure, f"One {view.label} through the network, spike by spike", _held(view))
    columns = figure.add_gridspec(1, 2, width_ratios=(1, 2.7))
    left, right = columns[0, 0].subgridspec(2, 1), columns[0, 1].subgridspec(depth + 1, 1)
    draw_image(figure.add_subplot(left[0]), view)
    draw_scores(figure.add_subplot(left[1]), view)
    _rasters(figure, [right[index] for index in range(depth)], view, low=height < 1.5 * LOW)  # its names are long
    belief = figure.add_subplot(right[depth])
    draw_belief(belief, view)
    belief.set_title("Belief: the probability of each class, from all steps so far")
    return figure


@styled
def raster(spikes: Spikes | Mapping[str, Spikes], sample: int | None = 0) -> Figure:
    """The spikes of one layer, or of several by name, as a figure of matplotlib: a panel for each layer.

    - `spikes`: packed or a tensor, `[T, N, *]`, or `[T, F]` of one sample; or a mapping of names to these, such as the
      recording `monitor.record(net, "packed")`. What is neither 0 nor NaN is a spike.
    - `sample`: which of the N samples is drawn; None where there is no axis N, `[T, *]`.

    Of a layer of more than 40 neurons 40 are drawn, evenly chosen, as its title says; the words beside it are about
    all.

    >>> from spikescope.spikes import PackedSpikes
    >>> train = PackedSpikes.from_dense((torch.arange(2 * 3 * 80).view(2, 3, 80) % 7 == 0).float())
    >>> [axes.get_title("left") for axes in raster({"layer1": train, "layer2": torch.ones(2, 5)}).axes]
    ['layer1, sample 0: 40 of 80 neurons, evenly chosen', 'layer2: 5 neurons']
    """
    layers = trains_of(spikes, sample)
    height = raster_height(len(layers))
    figure = blank(9.5, 1.1 + height * len(layers))
    heading(figure, "Spikes, step by step", "a row for each neuron, a mark for each spike")
    draw_rasters(list(figure.subplots(len(layers), 1, squeeze=False)[:, 0]), layers, height)
    return figure


@styled
def membrane_traces(view: SampleView, count: int = 2) -> Figure:
    """Membrane potentials of `count` neurons of each layer for one sample."""
    picked = [(index, neuron) for index, layer in enumerate(view.layers) for neuron in lively(layer, count)]
    height = room(len(picked), 1.25, 0.55)
    figure = blank(10, 0.9 + height * len(picked))
    heading(figure, f"Membrane potentials while the network looks at a {view.label}", _held(view))
    rows = figure.subplots(len(picked), 1, squeeze=False)[:, 0]
    for axes, (index, neuron) in zip(rows, picked, strict=True):
        draw_trace(axes, view, index, neuron, labelled=axes is rows[-1], low=height < LOW)
    rows[0].set_title("Potential after each step (line), threshold (dashed), spikes (triangles)")
    return figure


@styled
def gradient_flow(flow: GradientFlow) -> Figure:
    """How far the gradient reaches back: at each layer and time step, and at each layer in all."""
    if not flow.layers:
        raise ValueError("A picture of the gradient needs at least one layer, but got none.")
    figure = blank(10, 2.2 + 0.42 * len(flow.layers))
    heading(
        figure,
        "Gradient flow through depth and time",
        "L2 norm of dL/dY over all samples and neurons of a batch; it comes in at the top and goes down",
    )
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    draw_flow(left, flow)
    left.set_title("At each time step")
    draw_depth(right, flow)
    right.set_title("Over all steps")
    return figure


@styled
def overview(
    history: Sequence[Epoch], view: SampleView, target: float = 0.0, flow: GradientFlow | None = None
) -> Figure:
    """One picture of a run: a sample, its spikes, the learning curve, the firing rates and the gradient flow."""
    _check_history(history)
    figure = blank(13.5, 6.4 if flow is None else 7.6)
    last = history[-1]
    heading(
        figure,
        f"A spiking network reads digits: {100 * last.test_accuracy:.2f} % right "
        f"after {sum(epoch.seconds for epoch in history):.0f} s of training",
        _held(view),
    )
    columns = figure.add_gridspec(1, 3, width_ratios=(1, 1.5, 1.35))
    rows = (2, len(view.layers), 2 if flow is None else 3)
    left, middle, right = (columns[0, i].subgridspec(n, 1) for i, n in enumerate(rows))
    draw_image(figure.add_subplot(left[0]), view)
    belief = figure.add_subplot(left[1])
    draw_belief(belief, view)
    belief.set_title("Belief over time")
    _rasters(figure, [middle[index] for index in range(len(view.layers))], view, labelled=True)
    draw_accuracy(figure.add_subplot(right[0]), history, target)
    draw_rates(figure.add_subplot(right[1]), history)
    if flow is not None:
        depth = figure.add_subplot(right[2])
        draw_depth(depth, flow, named=True)
        depth.set_title("Gradient flow through depth")
    return figure


def _rasters(
    figure: Figure, places: Sequence[Any], view: SampleView, labelled: bool = False, low: bool = False
) -> None:
    for index, place in enumerate(places):
        axes = figure.add_subplot(place)
        draw_raster(axes, view, index, labelled=labelled and index == len(places) - 1, low=low)
        if not index:
            axes.set_title("Spikes")


def _held(view: SampleView) -> str:
    steps = len(view.readout)
    text = f"the image is held for {steps} time steps"
    return (
        f"{text}; the network was trained with {view.trained_steps} (dotted line)"
        if view.trained_steps < steps
        else text
    )


def _check_history(history: Sequence[Epoch]) -> None:
    if not history:
        raise ValueError("A picture of a training needs at least one finished epoch, but got none.")
