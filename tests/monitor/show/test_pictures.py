"""The picture of a recording: what each axis shows, many layers, and spikes as rasters."""

import math
import pickle
from itertools import pairwise

import pytest
import torch
from torch import nn

from spikescope import monitor
from spikescope.monitor.reduce import registry
from spikescope.monitor.results import Results
from spikescope.monitor.show.pictures import UNITS
from spikescope.monitor.show.plain import means, words
from spikescope.neuron import IFNode, LIFNode
from spikescope.report.style import GREY


def net_of(layers):
    return nn.Sequential(*(IFNode(v_threshold=0.5 + 0.01 * i, step_mode="m") for i in range(layers)))


def recorded(reducers, layers=3, shape=(6, 2, 5)):
    torch.manual_seed(0)
    net = net_of(layers)
    signal = "grad_output" if reducers == "gradient norm" else "spike"
    with monitor.record(net, reducers, signal=signal) as recording:
        net((2 * torch.rand(shape)).requires_grad_()).sum().backward()
    return recording


def drawn(recording):
    figure = recording.plot()
    figure.canvas.draw()  # lays out, and so finds what cannot be drawn
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


@pytest.mark.parametrize("signal", ["spike", "grad_output"])
def test_of_nothing_there_is_no_picture(signal):
    with monitor.record(net_of(1), "norm", signal=signal) as recording:
        pass
    with pytest.raises(ValueError, match="Nothing was seen: run the network") as told:
        recording.plot()
    assert str(told.value) == recording.table()


def gradients(*weights):
    """A recording of the gradient norms of a single layer, which are these at its steps."""
    net = net_of(1)
    with monitor.record(net, "gradient norm", signal="grad_output") as recording:
        out = net(torch.rand(len(weights), 1, 1).requires_grad_())
        out.backward(torch.tensor(weights).view_as(out))
    return recording


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(
    ("weights", "word"),
    [((math.nan,) * 5, "no value"), ((math.inf,) * 2, "not finite"), ((math.nan, 1.0), ""), ((1.0,), "")],
)
def test_a_course_without_a_value_says_so_over_its_steps(weights, word):
    (axes,) = drawn(gradients(*weights)).axes
    assert texts(axes) == ([word] if word else [])
    assert axes.get_xlim() == (0.5, len(weights) + 0.5)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"0: {word}" if word else "0"]


def plotted(**values):
    figure = Results({name: {"mine": value} for name, value in values.items()}, single=True).plot()
    figure.canvas.draw()
    return figure


def test_one_course_of_several_without_a_value_is_marked_in_the_legend():
    results = Results({"a": {"mine": torch.ones(3)}, "b": {"mine": torch.full((3,), math.nan)}}, single=True)
    results.courses = frozenset({"mine"})
    (axes,) = drawn(results).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b: no value"]
    assert texts(axes) == []


def test_a_bar_without_a_value_is_not_that_of_0():
    (axes,) = plotted(a=0.5, b=math.nan, c=0.0, d=math.inf).axes
    assert [(note.get_text(), note.xy) for note in axes.texts] == [("no value", (0, 1)), ("not finite", (0, 3))]
    assert {note.get_color() for note in axes.texts} == {GREY}


def test_of_silent_layers_much_has_no_value():
    net = nn.Sequential(IFNode(v_threshold=0.5, step_mode="m"), IFNode(v_threshold=100.0, step_mode="m"))
    with monitor.record(net, ["rate", "fano", "synchrony"]) as recording:
        net(torch.rand(20, 2, 5, generator=torch.Generator().manual_seed(0)))
    assert [texts(axes) for axes in drawn(recording).axes] == [[], ["no value"], ["no value"]]


@pytest.mark.parametrize(("values", "inside"), [((math.nan, math.nan), "left"), ((-3.0, math.nan), "right")])
def test_the_word_of_a_bar_is_on_the_side_of_the_bars(values, inside):
    (axes,) = plotted(**dict(zip("ab", values, strict=True))).axes
    assert {note.get_horizontalalignment() for note in axes.texts} == {inside}


def test_bars_of_0_begin_at_the_left():
    (axes,) = plotted(a=0.0, b=math.nan).axes
    assert axes.get_xlim() == (0, 1)
    assert len(axes.get_xticks()) > 1
    (axes,) = plotted(a=math.nan).axes
    assert len(axes.get_xticks()) == 0


def test_many_layers_take_little_height_each_and_their_names_do_not_touch():
    reducers = ["rate", "moments", "rate over time", "packed"]
    few, some = (recorded(reducers, layers).plot() for layers in (12, 14))
    many = drawn(recorded(reducers, 30))
    assert few.get_figheight() == pytest.approx(some.get_figheight())
    assert many.get_figheight() < 36
    bars, rasters = many.axes[0], [axes for axes in many.axes if "sample" in axes.get_title("left")]
    names = [label.get_window_extent() for label in bars.get_yticklabels()]
    assert all(above.y0 > below.y1 for above, below in pairwise(names))
    assert all(label.get_fontsize() >= 8 for label in bars.get_yticklabels())
    boxes = [axes.get_tightbbox() for axes in rasters]
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert len({round(axes.get_position().x0, 4) for axes in rasters}) == 1


def test_a_log_histogram_shows_the_decades_where_values_are():
    (axes,) = drawn(recorded("log histogram")).axes
    low, high = axes.get_xlim()
    assert 0.01 < low < 1 < high < 100


def test_potentials_are_traces_with_threshold_and_spikes():
    net = nn.Sequential(IFNode(v_threshold=0.5, step_mode="m"), IFNode(step_mode="m"))
    x = torch.tensor([0.2, 0.2, 0.2, 0.0, 0.9]).view(5, 1, 1).expand(5, 2, 4)
    with monitor.record(net, {"h": monitor.reduce.Raw(), "range": "min max"}, signal="h") as recording:
        net(x)
    figure = drawn(pickle.loads(pickle.dumps(recording)))
    panels = [axes for axes in figure.axes if "no." in axes.get_ylabel()]
    assert [axes.get_ylabel() for axes in panels] == ["0\nno. 0", "0\nno. 1", "1\nno. 0", "1\nno. 1"]
    assert len(figure.axes) == 4 + 2, "no bar of the mean of a potential"
    lines = panels[0].get_lines()
    assert lines[1].get_ydata().tolist() == pytest.approx([0.2, 0.4, 0.6, 0.0, 0.9])
    assert lines[2].get_ydata() == [0.5, 0.5]
    assert lines[3].get_xdata().tolist() == [3, 5], "the steps at which it fires"
    heights = sorted(axes.get_window_extent().y0 for axes in panels)
    assert all(b - a > 20 for a, b in pairwise(heights)), "words that would collide"


def test_potentials_after_the_reset_do_not_show_spikes():
    net = nn.Sequential(LIFNode(v_threshold=torch.tensor([0.5, 1.0]), step_mode="m"))
    with monitor.record(net, "raw", signal="v") as recording:
        net(torch.full((6, 1, 2), 1.4))
    panel = drawn(recording).axes[0]
    assert len(panel.get_lines()) == 2, "the zero and the trace: no threshold that all share, and no spike"
