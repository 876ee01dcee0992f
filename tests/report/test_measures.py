"""Pictures of analyses: each is drawn, of one result and of several layers, and where nothing is defined."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
from analysis_cases import TRAINS, bursty, given_to

from sample import sample
from spikescope import analysis, report

MEASURES = sorted(analysis.registry)


def measured(name, x):
    measure = analysis.registry[name]
    args, options = given_to(measure, x, x.flip(0), x.shape[1], len(x))
    return measure.function(*args, **options)


def words(figure):
    figure.canvas.draw()  # lays out, and so finds what cannot be drawn
    axes = figure.axes + [panel for held in figure.axes for panel in held.child_axes]
    return [text.get_text() for held in axes for text in held.findobj(match=lambda artist: hasattr(artist, "get_text"))]


OF_A_KIND = {analysis.registry[name].gives: name for name in MEASURES}
"""Of each kind of result, which has its way to be drawn, one analysis."""


@pytest.mark.parametrize("name", sample(MEASURES, *OF_A_KIND.values()))
def test_each_analysis_has_a_picture(name):
    x = bursty((30, 6, 5), seed=1)
    figure = report.picture(name, measured(name, x))
    assert analysis.registry[name].unit.split(",")[0].split(";")[0] in " ".join(
        [*words(figure), *(text.get_text() for text in figure.texts)]
    )
    both = report.picture(name, {"conv1": measured(name, x), "conv2": measured(name, bursty((30, 6, 5), seed=2))})
    assert any("conv2" in text for text in words(both))


@pytest.mark.parametrize("trains", ["empty", "one step"])
@pytest.mark.parametrize("kind", OF_A_KIND)
def test_what_is_undefined_is_drawn_without_a_warning(kind, trains):
    words(report.picture(OF_A_KIND[kind], measured(OF_A_KIND[kind], TRAINS[trains])))


def test_what_is_undefined_is_said():
    value = torch.tensor([0.5, float("nan"), 1.5], dtype=torch.float64)
    assert "median 1, 1 of 3 undefined" in words(report.picture("cv", value))
    assert "no value" in words(report.picture("cka", float("nan")))
    with pytest.raises(ValueError, match="at least one result"):
        report.picture("cv", {})
    with pytest.raises(ValueError, match="no analysis 'zz'"):
        report.picture("zz", value)


def test_a_raster_by_class_shows_each_spike_and_says_what_it_leaves_out():
    x = torch.zeros(8, 70, 3)
    labels = np.arange(70) % 2
    x[2, labels == 1, 1] = 1
    figure = report.raster_by_class(x, labels)
    text = words(figure)
    assert "neuron 1 of 3, the most selective" in text
    assert "1 (30 of 35)" in text
    marks = sum(len(held.get_segments()) for held in figure.axes[0].collections)
    assert marks == 30
    heights = [patch.get_data().values.max() for patch in figure.axes[1].patches]
    assert heights == [0.0, 1.0]
    assert "0 (2)" in words(report.raster_by_class(x[:, :4], labels[:4], neuron=2))
    with pytest.raises(ValueError, match="one of 3 neurons"):
        report.raster_by_class(x, labels, neuron=3)


def test_bars_of_energy_show_every_layer_and_both_ratios():
    work = [analysis.Work("fc", "Linear", dense=1000, acs=400, outputs=10), analysis.Work("n", "LIFNode", updates=9)]
    held = analysis.energy(work)
    figure = report.energy_bars(held)
    text = [*words(figure), *(held.get_text() for held in figure.texts)]
    assert any(f"{held.honest:.2f}" in line and f"{held.usual:.2f}" in line for line in text)
    assert {"fc  Linear", "n  LIFNode"} <= set(text)
    words(report.energy_bars(analysis.energy(work, "loihi")))
    with pytest.raises(ValueError, match="at least one layer"):
        report.energy_bars(analysis.energy([]))
