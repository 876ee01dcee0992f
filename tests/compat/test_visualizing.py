"""The pictures by the names of SpikingJelly: which axis is which, what is taken, what is given."""

import pickle
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

from spikescope.compat import visualizing
from spikescope.errors import ShapeError

matplotlib.use("Agg")
STEPS, NEURONS = 8, 5
VALUES = (np.arange(STEPS * NEURONS).reshape(STEPS, NEURONS) % 3 == 0).astype(float)
WORDS = {"title": "of it", "xlabel": "along", "ylabel": "up"}
PLOTS = {
    "heatmap": lambda held: visualizing.plot_2d_heatmap(held, **WORDS),
    "bars": lambda held: visualizing.plot_2d_bar_in_3d(held, **WORDS, zlabel="value"),
    "spikes": lambda held: visualizing.plot_1d_spikes(held, **WORDS),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_is_also_the_pair_that_version_2_gives(name):
    given = PLOTS[name](VALUES)
    assert isinstance(given, Figure)
    figure, axes = given
    assert (len(given), bool(given)) == (2, True)
    assert figure is given is given[0] is pyplot.gcf()
    assert axes is given[1] is figure.axes[0]
    assert "along" in (axes.get_xlabel(), axes.get_ylabel())
    again, drawn = pickle.loads(pickle.dumps(given))
    assert drawn is again.axes[0]


def place(limits):
    """How many whole numbers lie between two limits: the neurons or steps along an axis."""
    low, high = sorted(limits)
    return int(np.floor(high) - np.ceil(low)) + 1


@pytest.mark.parametrize(("name", "along", "up"), [("heatmap", STEPS, NEURONS), ("spikes", STEPS, NEURONS)])
def test_time_runs_to_the_right(name, along, up):
    axes = PLOTS[name](VALUES).axes[0]
    assert (place(axes.get_xlim()), place(axes.get_ylim())) == (along, up)


def test_the_bars_of_a_neuron_stand_in_a_row_along_the_steps():
    axes = PLOTS["bars"](VALUES).axes[0]
    assert (place(axes.get_xlim()), place(axes.get_ylim())) == (NEURONS, STEPS)
    assert len(axes.patches) == STEPS * NEURONS
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert [len(set(colours[n * STEPS : (n + 1) * STEPS])) for n in range(NEURONS)] == [1] * NEURONS
    assert len(set(colours)) == NEURONS
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_zlabel()) == ("along", "up", "value")


@pytest.mark.parametrize("name", PLOTS)
def test_it_takes_arrays_tensors_and_lists_of_steps(name):
    figures = [
        PLOTS[name](held)
        for held in (
            VALUES,
            torch.tensor(VALUES, requires_grad=True),
            [torch.tensor(step, requires_grad=True) for step in VALUES],
            VALUES.tolist(),
        )
    ]
    assert all(isinstance(figure, Figure) for figure in figures)
    limits = [(figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) for figure in figures]
    assert limits == limits[:1] * 4


@pytest.mark.parametrize("name", PLOTS)
def test_a_default_device_of_the_user_takes_no_values(name):
    steps = [torch.tensor(step) for step in VALUES]
    wanted = PLOTS[name](steps)
    with torch.device("meta"):
        given = PLOTS[name](steps)
    pictures = []
    for figure in (wanted, given):
        figure.canvas.draw()
        pictures.append(np.asarray(figure.canvas.buffer_rgba()))
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("page", ["moving.md", "moving.zh.md"])
def test_the_guide_names_the_pictures_that_are_pairs(page):
    text = (Path(__file__).parents[2] / "docs" / "guide" / page).read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| `visualizing`")]
    pairs = {name for name in visualizing.__all__ if getattr(visualizing, name).__annotations__["return"] == "Figure"}
    assert set(re.findall(r"plot_\w+", row)) == pairs
    assert len(pairs) == len(PLOTS)


@pytest.mark.parametrize("name", PLOTS)
def test_another_number_of_axes_is_refused_in_words(name):
    with pytest.raises(ShapeError, match=r"plot_\w+ draws an array \[T, N\] with values, but got one of the shape"):
        PLOTS[name](VALUES[0])


def test_one_neuron_is_taken_in_the_forms_of_all_ages():
    v, s = VALUES[:, 0] / 2, VALUES[:, 0]
    steps_v, steps_s = [0.0, *(torch.tensor([x]) for x in v[1:])], [torch.tensor([x], requires_grad=True) for x in s]
    for given in ((v, s), (torch.tensor(v), torch.tensor(s)), (v[:, None], s[:, None]), (steps_v, steps_s)):
        figure, top, bottom = visualizing.plot_one_neuron_v_s(*given, v_threshold=1.0, v_reset=None)
        assert type(figure) is Figure
        assert top.lines[0].get_ydata().tolist()[1:] == v.tolist()[1:]
        assert bottom.collections[0].get_positions() == np.flatnonzero(s).tolist()
        assert bottom.get_xlabel() == "simulating step"


def test_maps_fill_a_grid():
    figure, axes = visualizing.plot_2d_feature_map(np.ones((6, 4, 3)), 2, 3, 1, "maps")
    assert type(figure) is Figure
    assert axes.images[0].get_array().shape == (2 * 5, 3 * 4)
    with pytest.raises(ValueError, match="puts 6 maps into 2 rows of 2, which hold 4"):
        visualizing.plot_2d_feature_map(np.ones((6, 4, 3)), 2, 2, 1, "maps")


DRAWN = {
    "plot_2d_heatmap": ((np.eye(3), "", "", "", True, True, True, "", None), 9),
    "plot_1d_spikes": ((np.eye(3), "", "", "", True, True, True, ""), 8),
    "plot_2d_feature_map": ((np.ones((4, 2, 2)), 2, 2, 1, ""), 5),
    "plot_one_neuron_v_s": (([0.0, 1.0], [0.0, 1.0], 1.0, 0.0, ""), 5),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_number_in_the_place_of_a_size_is_the_resolution(name):
    args, place = DRAWN[name]
    assert len(args) == place
    for more, wanted in (((80,), 80), (((3, 2), 90), 90), ((), 200)):
        made = getattr(visualizing, name)(*args, *more)
        figure = made[0] if isinstance(made, tuple) else made
        assert figure.dpi == wanted
