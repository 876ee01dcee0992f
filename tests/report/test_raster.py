"""Rasters of spikes of one's own: every mark is a spike, what is left out is said, what does not fit is refused."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import monitor, report
from spikescope.errors import ShapeError
from spikescope.neuron import IFNode
from spikescope.spikes import PackedSpikes


def spikes(*shape, share=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(3)) < share).float()


def marks(axes):
    """The steps and neurons of the marks in a panel."""
    (lines,) = axes.collections
    return {(round(float(ends[:, 0].mean())) - 1, int(ends[0, 1])) for ends in lines.get_segments()}


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


def drawn(figure):
    figure.canvas.draw()  # lays out, and so finds what cannot be drawn
    return figure


def where_set(x):
    return {tuple(place) for place in x.nonzero().tolist()}


@pytest.mark.parametrize("pack", [lambda x: x, PackedSpikes.from_dense, lambda x: PackedSpikes.from_dense(x, "time")])
@pytest.mark.parametrize("sample", [0, 2])
def test_every_mark_is_a_spike_of_that_sample(pack, sample):
    x_seq = spikes(7, 3, 5, 2)
    (axes,) = drawn(report.raster(pack(x_seq), sample)).axes
    assert marks(axes) == where_set(x_seq[:, sample].flatten(1))
    assert titles(axes.figure) == [f"sample {sample}: 10 neurons"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time step", "neuron")


def test_a_panel_for_each_layer_and_time_under_the_last():
    layers = {"conv": spikes(6, 2, 5), "head": spikes(6, 2, 1)}
    figure = drawn(report.raster(layers))
    assert titles(figure) == ["conv, sample 0: 5 neurons", "head, sample 0: 1 neuron"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "time step"]
    for axes, x_seq in zip(figure.axes, layers.values(), strict=True):
        assert marks(axes) == where_set(x_seq[:, 0])


def test_of_many_neurons_some_are_drawn_evenly_and_the_words_count_all():
    x_seq = torch.ones(3, 1, 1201)
    (axes,) = drawn(report.raster(x_seq)).axes
    assert titles(axes.figure) == ["sample 0: 40 of 1,201 neurons, evenly chosen"]
    rows = sorted({row for _, row in marks(axes)})
    assert len(rows) == 40
    assert (rows[0], rows[-1]) == (0, 1200)
    assert set(np.diff(rows)) <= {30, 31}
    assert [text.get_text() for text in axes.texts] == ["3,603 spikes,\n100.0 per neuron\nin 100 steps"]
    assert [len(set(marks(axes))) for axes in report.raster(x_seq[..., :40]).axes] == [120]


@pytest.mark.parametrize(
    ("x_seq", "sample", "title", "trains"),
    [
        (spikes(4, 6), 0, "6 neurons", lambda x: x),
        (spikes(4), 0, "1 neuron", lambda x: x.unsqueeze(1)),
        (spikes(4, 2, 3), None, "6 neurons", lambda x: x.flatten(1)),
        (spikes(4, 2, 3) < 0.5, 1, "sample 1: 3 neurons", lambda x: x[:, 1]),
        (-spikes(4, 2, 3).to(torch.bfloat16).requires_grad_(), 1, "sample 1: 3 neurons", lambda x: x[:, 1]),
        (spikes(3, 2, 4).transpose(0, 2), 0, "sample 0: 3 neurons", lambda x: x[:, 0]),
        (spikes(1, 1, 1, share=2.0), 0, "sample 0: 1 neuron", lambda x: x[:, 0]),
        (spikes(5, 2, 0), 0, "sample 0: 0 neurons", lambda x: x[:, 0]),
        (torch.zeros(5, 2, 3), 0, "sample 0: 3 neurons", lambda x: x[:, 0]),
    ],
)
def test_forms_of_spikes(x_seq, sample, title, trains):
    (axes,) = drawn(report.raster(x_seq, sample)).axes
    assert titles(axes.figure) == [title]
    assert marks(axes) == where_set(trains(x_seq))


def test_a_recording_of_packed_spikes():
    net = nn.Sequential(IFNode(step_mode="m"), IFNode(v_threshold=0.5, step_mode="m"))
    x_seq = torch.rand(9, 2, 5)
    with monitor.record(net, "packed") as recording:
        out = net(x_seq)
    figure = report.raster(recording, sample=1)
    assert titles(figure) == ["0, sample 1: 5 neurons", "1, sample 1: 5 neurons"]
    assert marks(figure.axes[1]) == where_set(out[:, 1])


def test_a_value_that_is_not_a_number_is_no_spike_and_is_counted_apart():
    x_seq = spikes(10, 1, 4)
    odd = x_seq.clone()
    odd[2:5, 0, 1] = torch.nan
    x_seq[2:5, 0, 1] = 0
    (axes,) = drawn(report.raster(odd)).axes
    assert marks(axes) == where_set(x_seq[:, 0])
    count = int(x_seq.sum())
    (text,) = (text.get_text() for text in axes.texts)
    assert text == f"{count} spikes,\n3 not a number,\n{100 * count / 40:.1f} per neuron\nin 100 steps"


def test_many_layers_take_little_height_each_and_do_not_touch():
    few, many = (report.raster({f"layer{i}": spikes(9, 2, 50) for i in range(n)}) for n in (12, 30))
    drawn(many)
    assert few.get_figheight() == pytest.approx(1.1 + 12 * 1.55)
    assert many.get_figheight() < 25
    boxes = [axes.get_tightbbox() for axes in many.axes]
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert all(axes.title.get_fontsize() and axes.yaxis.label.get_fontsize() >= 8 for axes in many.axes)


@pytest.mark.parametrize(
    ("given", "sample", "error", "text"),
    [
        ({}, 0, ValueError, "at least one layer, but got none"),
        ([1.0], 0, TypeError, "PackedSpikes or tensors, or a mapping of names to these, but got list. monitor.record"),
        ({"1": {"packed": 3}}, 0, TypeError, "but got dict for '1'. monitor.record(net, 'packed') gives"),
        (
            torch.zeros(4, 2, 3),
            2,
            ShapeError,
            "the sample 2 of spikes [T, N, *] of at least one step, but got [T=4, N=2",
        ),
        (torch.zeros(4, 2, 3), -1, ShapeError, "the sample -1 of spikes"),
        (torch.zeros(4, 2, 3), "first", TypeError, "one sample, by its number, but got 'first'"),
        (torch.zeros(0, 2, 3), 0, ShapeError, "at least one step, but got [T=0, N=2, 3]"),
        (torch.tensor(1.0), 0, ShapeError, "but got []"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(given, sample, error, text):
    with pytest.raises(error, match=re.escape(text)):
        report.raster(given, sample)
