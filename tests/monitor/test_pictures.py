"""The picture of a recording: what each axis shows, many layers, and spikes as rasters."""

import io

import pytest
import torch
from torch import nn

from spikescope import monitor
from spikescope.monitor.pictures import UNITS
from spikescope.monitor.plain import means, words
from spikescope.monitor.reduce import registry
from spikescope.neuron import IFNode


def net_of(layers):
    return nn.Sequential(*(IFNode(v_threshold=0.5 + 0.01 * i, step_mode="m") for i in range(layers)))


def recorded(reducers, layers=3, shape=(6, 2, 5)):
    torch.manual_seed(0)
    net = net_of(layers)
    with monitor.record(net, reducers) as recording:
        net(2 * torch.rand(shape))
    return recording


def drawn(recording):
    figure = recording.plot()
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


@pytest.mark.parametrize(
    ("reducer", "x", "y"),
    [
        ("rate", "spikes per step, mean of all", "layer"),
        ("silent share", "share of the neurons", "layer"),
        ("rate over time", "time step", "spikes per neuron"),
        ("gradient norm", "time step", "L2 norm"),
        ("log histogram", "magnitude", "values in the bin"),
        (monitor.reduce.Histogram((0.0, 0.5, 1.0)), "value", "values in the bin"),
        ({"mine": "rate"}, "value, mean of all", "layer"),
    ],
)
def test_each_axis_says_what_it_shows(reducer, x, y):
    (axes,) = drawn(recorded(reducer)).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == (x, y)


def test_every_panel_has_both_axes_named():
    figure = drawn(recorded(["moments", "min max", "inter spike interval", "rate over time", "packed"]))
    for place, axes in enumerate(figure.axes):
        assert axes.get_xlabel() or place in (10, 11), axes.get_title("left")  # time stands under the last raster
        assert axes.get_ylabel() or place % 4, axes.get_title("left")  # layers stand at the first of a row


def test_the_names_of_the_units_are_those_of_results():
    made = {words(name): cls for name, cls in registry.items()}
    assert {key.partition(".")[0] for key in UNITS} <= made.keys()
    ready = ["count", "inter spike interval", "first spike latency", "fano", "synchrony", "norm", "saturated share"]
    row = recorded(ready)["0"]
    assert {key for key in UNITS if key.partition(".")[0] in ready} == means(row).keys()


@pytest.mark.parametrize("layers", [1, 3, 24])
def test_the_bars_fill_their_panel(layers):
    recording = recorded(["rate", "silent share"], layers)
    figure = drawn(recording)
    for axes in figure.axes:
        assert axes.get_ylim() == (layers - 0.4, -0.6)
        assert len(axes.patches) == layers
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == list(recording)
    assert not any(tick.get_text() for tick in figure.axes[1].get_yticklabels())


def test_of_many_lines_the_first_and_the_last_are_named():
    for layers, named in ((6, [str(i) for i in range(6)]), (24, ["0", "23"])):
        (axes,) = drawn(recorded("rate over time", layers)).axes
        assert len({line.get_color() for line in axes.lines}) == layers
        assert [text.get_text() for text in axes.get_legend().get_texts()] == named


def test_packed_spikes_are_drawn_as_rasters():
    recording = recorded("packed")
    figure = drawn(recording)
    assert titles(figure) == [f"{name}, sample 0: 5 neurons" for name in recording]
    for axes, name in zip(figure.axes, recording, strict=True):
        (lines,) = axes.collections
        assert len(lines.get_segments()) == recording[name].dense()[:, 0].count_nonzero()


def test_packed_spikes_beside_other_results():
    figure = drawn(recorded(["rate", "packed", "rate over time"], layers=2))
    assert titles(figure) == ["rate", "rate over time", "0, sample 0: 5 neurons", "1, sample 0: 5 neurons"]
    assert len(figure.axes[0].patches) == 2


def test_a_recording_of_nothing_is_an_empty_picture():
    net = net_of(1)
    with monitor.record(net, "packed") as recording:
        pass
    assert not drawn(recording).axes


def test_a_log_histogram_shows_the_decades_where_values_are():
    (axes,) = drawn(recorded("log histogram")).axes
    low, high = axes.get_xlim()
    assert 0.01 < low < 1 < high < 100
