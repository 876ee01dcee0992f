"""Traces of potentials: from tensors, from a recording, with gaps where a value is not finite."""

import math

import pytest
import torch

from spikescope import recording, report
from spikescope.spikes import PackedSpikes


def drawn(figure):
    figure.canvas.draw()
    return figure.axes


def test_the_neurons_that_move_most_are_drawn_in_their_order():
    x = torch.zeros(6, 2, 5)
    x[:, 1, 4] = torch.arange(6.0)
    x[:, 1, 2] = 2 * torch.arange(6.0)
    assert [axes.get_ylabel() for axes in drawn(report.traces(x, sample=1))] == ["no. 2", "no. 4"]
    assert [axes.get_ylabel() for axes in drawn(report.traces(x, neurons=[3]))] == ["no. 3"]


def test_a_recording_brings_spikes_and_thresholds_along():
    spikes = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    held = recording.in_memory({"lif": {"v": [torch.tensor([0.5, 0.0, 0.2]).view(3, 1, 1)], "spike": [spikes]}})
    held["lif"].fields["v_threshold"] = 0.75
    (axes,) = drawn(report.traces(held))
    zero, trace, threshold, marks = axes.get_lines()
    assert trace.get_ydata().tolist() == pytest.approx([0.5, 0.0, 0.2])
    assert (threshold.get_ydata(), marks.get_xdata().tolist(), zero.get_ydata()) == ([0.75, 0.75], [2], [0, 0])
    packed = PackedSpikes.from_dense(spikes)
    (axes,) = drawn(report.traces({"lif": held["lif"]["v"].read()}, {"lif": packed}, {"lif": 0.75}))
    assert axes.get_lines()[3].get_xdata().tolist() == [2]


def test_what_is_not_finite_is_a_gap():
    x = torch.tensor([0.5, math.nan, math.inf, 0.25]).view(4, 1, 1)
    (axes,) = drawn(report.traces(x))
    line = axes.get_lines()[1].get_ydata()
    assert [math.isnan(value) for value in line] == [False, True, True, False]
    drawn(report.traces(torch.full((3, 1, 1), math.nan)))


def test_what_cannot_be_drawn_is_refused_in_words():
    x = torch.zeros(3, 2, 4)
    with pytest.raises(IndexError, match="no sample 2"):
        report.traces(x, sample=2)
    with pytest.raises(IndexError, match="no neuron 9"):
        report.traces(x, neurons=[9])
    with pytest.raises(ValueError, match="at least one step"):
        report.traces(x[:0])
    with pytest.raises(ValueError, match="at least one neuron"):
        report.traces({})
    with pytest.raises(ValueError, match="potentials"):
        report.traces({"a": x}, {"a": x[:2]})
