"""Runs of what grows with every run: merged seldom, and refused as soon as they do not fit."""

import pytest
import torch

from spikescope import monitor, neuron
from spikescope.monitor import track
from spikescope.monitor.reduce import Packed, Raw


@pytest.mark.parametrize("kind", [Packed, Raw])
def test_runs_of_what_grows_are_copied_seldom(kind, monkeypatch):
    copied, beside = [], kind.beside

    def seen(self, a, b):
        copied.append(track.nbytes(a) + track.nbytes(b))
        return beside(self, a, b)

    monkeypatch.setattr(kind, "beside", seen)
    node, runs = neuron.IFNode(step_mode="m"), 64
    inputs = torch.rand(runs, 3, 2, 8)
    with monitor.record(node, kind()) as recording:
        outputs = []
        for x_seq in inputs:
            outputs.append(node(x_seq))
            node.reset()
        total = next(iter(recording._tracks[""].totals.values()))
        assert sum(copied) <= 7 * total.nbytes  # half a run at a time would be 32
        assert total.nbytes == track.nbytes(total.whole())
    held = recording[""]
    whole = held.dense() if kind is Packed else held
    assert torch.equal(whole, torch.cat(outputs, 1))


@pytest.mark.parametrize("kind", [Packed, Raw])
@pytest.mark.parametrize("other", [(3, 2, 6), (2, 2, 8)])
def test_a_run_that_does_not_fit_is_refused_when_it_comes(kind, other):
    node = neuron.IFNode(step_mode="m")
    with monitor.record(node, kind()) as recording:
        for shape in ((3, 9, 8), other):
            node(torch.rand(*shape))
            node.reset()
        with pytest.warns(RuntimeWarning, match=r"must agree|the same steps"):
            node(torch.rand(3, 9, 8))
        with pytest.raises(ValueError, match=r"must agree|the same steps"):
            recording.rows()
