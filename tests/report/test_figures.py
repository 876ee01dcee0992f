"""The pictures: they are drawn from odd data too, show what they should, and leave the reader's settings alone."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest

from sample import sample
from spikescope.errors import MissingExtraError
from spikescope.report import (
    Epoch,
    GradientFlow,
    LayerActivity,
    LayerTrace,
    SampleView,
    firing_rates,
    gradient_flow,
    learning_curves,
    membrane_traces,
    overview,
    spike_raster,
)


def history(count, rate=0.13):
    return [
        Epoch(
            epoch=number,
            train_loss=2.1 / number,
            train_accuracy=1 - 0.7 / number,
            test_loss=2.3 / number,
            test_accuracy=1 - 0.9 / number,
            seconds=0.7,
            layers=(
                LayerActivity("neuron1", "LIFNode", 192, rate, 0.21),
                LayerActivity("neuron2", "LIFNode", 7, rate / 3, 0.0),
            ),
        )
        for number in range(1, count + 1)
    ]


def view(steps=5, trained=3, busy=0.3, threshold=0.5):
    random = np.random.default_rng(1)
    layers = tuple(
        LayerTrace(
            name,
            "LIFNode",
            (random.random((steps, size)) < busy).astype(np.float32),
            random.normal(size=(steps, size)).astype(np.float32),
            threshold,
        )
        for name, size in (("neuron1", 192), ("neuron2", 7))
    )
    return SampleView(random.random((8, 8)), 4, random.normal(size=(steps, 10)), layers, trained)


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return file.getvalue()


def laid_out(figure):
    """Drawn, and not written: what a picture says of where its parts are stands from then on."""
    figure.canvas.draw()
    return figure


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@pytest.mark.parametrize("count", [1, 13])
def test_pictures_of_a_training(count):
    for figure in (learning_curves(history(count), 98.5), firing_rates(history(count))):
        content = png(figure)
        assert content.startswith(b"\x89PNG")
        assert len(content) > 4_000
    assert f"after epoch {count}" in words(learning_curves(history(count)))
    assert "target 98.5 %" in words(learning_curves(history(count), 98.5))
    assert "target" not in words(learning_curves(history(count)))


def test_the_curves_hold_the_numbers():
    loss, accuracy = learning_curves(history(4)).axes
    assert np.allclose(loss.lines[0].get_ydata(), [2.1, 1.05, 0.7, 0.525])
    assert np.allclose(loss.lines[1].get_ydata(), [2.3, 1.15, 2.3 / 3, 0.575])
    assert np.allclose(accuracy.lines[0].get_ydata(), 100 - 70 / np.arange(1, 5))
    assert np.allclose(accuracy.lines[1].get_ydata(), [10, 55, 70, 77.5])
    assert list(loss.lines[0].get_xdata()) == [1, 2, 3, 4]
    rate, silent = firing_rates(history(4, rate=0.27)).axes
    assert np.allclose(rate.lines[1].get_ydata(), 9)
    assert np.allclose(silent.lines[0].get_ydata(), 21)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_silent_and_busy_networks(rate):
    laid_out(firing_rates(history(3, rate=rate)))
    sample = view(busy=rate)
    laid_out(spike_raster(sample))
    laid_out(membrane_traces(sample))
    laid_out(overview(history(3, rate=rate), sample))


@pytest.mark.parametrize("steps", [1, 11])
def test_pictures_of_a_sample(steps):
    sample = view(steps=steps, trained=min(3, steps))
    for figure in (spike_raster(sample), membrane_traces(sample), overview(history(2), sample, 90.0)):
        assert len(png(figure)) > 4_000
    assert ("trained with" in words(spike_raster(sample))) == (steps > 3)


def flow(steps=4):
    norms = np.geomspace(1e-5, 20.0, 3 * steps).reshape(3, steps)
    return GradientFlow(("conv1", "neuron1", "readout"), norms)


@pytest.mark.parametrize("steps", [1, 4, 23])
def test_the_gradient_flow(steps):
    figure = gradient_flow(flow(steps))
    assert len(png(figure)) > 4_000
    left, right = figure.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["conv1", "neuron1", "readout"]  # the first below
    assert np.allclose(left.collections[0].get_array().ravel(), np.log10(flow(steps).norms).ravel())
    assert np.allclose(right.lines[0].get_xdata(), flow(steps).depth)
    assert ("1.0e-5" in words(figure)) == (steps <= 10)


@pytest.mark.parametrize("norms", [[2.9e-3, 5e-3, 1e-2], [0.012], [0.0999, 0.1], [1.0], [1e-7, 13.0], [0.0]])
def test_the_axis_of_the_gradient_has_numbers_that_do_not_touch(norms):
    names = tuple(f"layer{i}" for i in range(len(norms)))
    figure = gradient_flow(GradientFlow(names, np.array(norms)[:, None]))
    laid_out(figure)
    axis = figure.axes[1].xaxis
    low, high = figure.axes[1].get_xlim()
    assert not any(tick.get_text() for tick in axis.get_ticklabels(which="minor"))
    shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high * (1 + 1e-9)]
    assert len(shown) >= 2
    boxes = [label.get_window_extent() for label in shown]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_gradient_that_does_not_arrive():
    norms = np.array([[0.0, 0.0], [np.nan, 2.0], [np.inf, 1.0], [0.25, 0.5]])
    figure = gradient_flow(GradientFlow(("a", "b", "c", "d"), norms))
    assert png(figure)
    left, right = figure.axes
    assert [text.get_text() for text in left.texts].count("\u00d7") == 4
    assert [text.get_text() for text in right.texts] == ["none", "not finite", "not finite", "0.56"]
    assert png(gradient_flow(GradientFlow(("a",), np.zeros((1, 3)))))
    with pytest.raises(ValueError, match="at least one layer, but got none"):
        gradient_flow(GradientFlow((), np.zeros((0, 3))))


def test_the_overview_with_the_gradient_flow():
    figure = overview(history(2), view(), flow=flow())
    laid_out(figure)
    assert "Gradient flow through depth" in words(figure)
    assert "Gradient flow" not in words(overview(history(2), view()))


def test_the_words_beside_a_raster_count_all_spikes():
    sample = view()
    text = words(spike_raster(sample))
    for layer in sample.layers:
        assert f"{int(layer.spikes.sum())} spikes" in text
    assert f"40 of {int(sample.layers[0].spikes.any(0).sum())} firing" in text


def test_traces_show_every_spike():
    sample = view(steps=9)
    figure = membrane_traces(sample, count=1)
    for axes, layer in zip(figure.axes, sample.layers, strict=True):
        neuron = int(axes.get_ylabel().split()[-1])
        marks = next(line for line in axes.lines if line.get_marker() == "v")
        assert list(marks.get_xdata()) == [step + 1 for step in np.flatnonzero(layer.spikes[:, neuron])]
        course = next(line for line in axes.lines if line.get_marker() == "o")
        assert np.array_equal(course.get_ydata(), layer.potential[:, neuron])


def test_a_value_that_is_not_a_number_is_no_spike():
    sample = view(steps=9)
    odd = np.full_like(sample.layers[1].spikes, np.nan)
    silent = replace(sample, layers=(sample.layers[0], replace(sample.layers[1], spikes=odd)))
    assert "0 of 0 firing" in words(spike_raster(silent))
    assert "0 spikes,\n63 not a number," in words(spike_raster(silent))
    *_, axes = membrane_traces(silent, count=1).axes
    assert not [line for line in axes.lines if line.get_marker() == "v"]


@pytest.mark.parametrize(
    ("draw", "count", "highest"),
    sample(
        [(spike_raster, 18, 25), (spike_raster, 30, 25), (membrane_traces, 30, 35)],
        (spike_raster, 30, 25),
        (membrane_traces, 30, 35),
    ),
)
def test_many_layers_take_little_height_each_and_do_not_touch(draw, count, highest):
    layers = tuple(replace(view().layers[0], name=f"neuron{i}") for i in range(count))
    figure = draw(replace(view(), layers=layers))
    laid_out(figure)
    assert figure.get_figheight() < highest
    boxes = [axes.yaxis.label.get_window_extent() for axes in figure.axes if "neuron" in axes.get_ylabel()]
    assert len(boxes) >= count
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))


def test_neurons_without_a_common_threshold():
    laid_out(membrane_traces(view(threshold=None)))


def test_a_wrong_answer_is_called_wrong():
    sample = view()
    wrong = replace(sample, label=(sample.answer + 1) % 10)
    assert f"answer {sample.answer}: wrong, it is a {wrong.label}" in words(spike_raster(wrong))
    right = replace(sample, label=sample.answer)
    assert f"answer {sample.answer}: right" in words(spike_raster(right))


def test_belief_is_the_softmax_of_the_mean_so_far():
    readout = np.log(np.array([[0.75, 0.25], [0.25, 0.75]]))
    sample = SampleView(np.zeros((2, 2)), 1, readout, (), 2)
    assert np.allclose(sample.belief, [[0.75, 0.25], [0.5, 0.5]])


def test_the_settings_of_the_reader_stay():
    before = dict(mpl.rcParams)
    learning_curves(history(2))
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"font.size": 40.0}):
        ours = learning_curves(history(2)).axes[0].title.get_fontsize()
    assert ours == learning_curves(history(2)).axes[0].title.get_fontsize()


@pytest.mark.parametrize("draw", [learning_curves, firing_rates, lambda empty: overview(empty, view())])
def test_no_epoch_no_picture(draw):
    with pytest.raises(ValueError, match="at least one finished epoch, but got none"):
        draw([])


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"Pictures need the package matplotlib.*spikescope\[report\]"):
        learning_curves(history(2))
