"""Two recordings held against each other: the first difference, its size and growth, wherever blocks end."""

import math

import pytest
import torch
from analysis_cases import bursty

from spikescope import analysis
from spikescope.recording import in_memory
from spikescope.spikes import PackedSpikes


def parts(x, *borders):
    return [x[a:b] for a, b in zip((0, *borders), (*borders, len(x)), strict=True)]


def test_the_first_layer_step_sample_and_neuron_are_named():
    a = {"one": bursty((20, 3, 4)), "two": bursty((20, 3, 2, 2), seed=1)}
    b = {name: held.clone() for name, held in a.items()}
    assert analysis.compare(a, b).same
    b["two"][7, 1, 1, 0] = 1 - b["two"][7, 1, 1, 0]
    b["two"][9:] = 1 - b["two"][9:]
    held = analysis.compare(a, b)
    assert held.first.layer == "two"
    was = a["two"][7, 1, 1, 0].item()
    assert held.first.first == (0, 7, 1, 2, was, 1 - was)
    assert (held.first.differing, held.first.values, held.first.largest) == (1 + 11 * 12, 20 * 12, 1.0)
    assert held.first.by_step.tolist() == pytest.approx([0.0] * 7 + [1 / 12, 0.0] + [1.0] * 11)
    assert "step 7, sample 1, neuron 2" in str(held)
    assert not held.same


def test_where_blocks_end_changes_nothing():
    x = [bursty((20, 3, 4), seed) for seed in (0, 1)]
    y = [held.clone() for held in x]
    y[1][13, 2, 3] = 1 - y[1][13, 2, 3]
    whole = in_memory({"a": {"spike": x}}), in_memory({"a": {"spike": y}})
    cut = (
        in_memory({"a": {"spike": [parts(x[0], 3, 8), parts(x[1], 5)]}}),
        in_memory({"a": {"spike": [parts(y[0], 11), parts(y[1], 5, 12, 14)]}}),
    )
    for left, right in (whole, cut, (whole[0], cut[1])):
        (held,) = analysis.compare(left, right).layers
        assert held.first[:4] == (1, 13, 2, 3)
        assert (held.differing, held.values) == (1, 2 * 20 * 12)
        assert held.by_step.nonzero().tolist() == [[13]]
        assert held.by_step[13].item() == pytest.approx(1 / 24)


def test_tolerance_nan_and_infinity():
    a = torch.tensor([1.0, math.nan, math.inf, 2.0, math.nan]).view(5, 1, 1)
    b = torch.tensor([1.1, math.nan, math.inf, 2.0, 0.0]).view(5, 1, 1)
    (held,) = analysis.compare({"v": a}, {"v": b}).layers
    assert (held.differing, held.first.step) == (2, 0)
    assert held.largest == pytest.approx(0.1)
    (held,) = analysis.compare({"v": a}, {"v": b}, tolerance=0.2).layers
    assert (held.differing, held.first.step, held.largest) == (1, 4, 0.0)


def test_packed_spikes_are_compared_with_dense_ones_and_what_one_lacks_is_said():
    x = bursty((9, 2, 3))
    held = analysis.compare({"a": PackedSpikes.from_dense(x), "b": x}, {"a": x, "c": x})
    assert held.first is None
    assert not held.same
    assert (held.only_a, held.only_b) == (("b spike",), ("c spike",))
    assert str(held).splitlines()[-2:] == ["Only the first has b spike.", "Only the second has c spike."]


def test_what_does_not_go_together_is_refused_in_words():
    x = torch.zeros(3, 2, 4)
    with pytest.raises(ValueError, match="the same input"):
        analysis.compare({"a": x}, {"a": x[:2]})
    with pytest.raises(ValueError, match="no layer is in both"):
        analysis.compare({"a": x}, {"b": x})
    with pytest.raises(TypeError, match="takes recordings"):
        analysis.compare(x, x)
    with pytest.raises(ValueError, match="takes values"):
        analysis.compare({"a": 1.0}, {"a": x})
    with pytest.raises(ValueError, match="tolerance"):
        analysis.compare({"a": x}, {"a": x}, tolerance=-1)


def test_large_whole_numbers_are_compared_exactly_and_infinities_are_no_difference_of_nothing():
    large = torch.full((2, 1, 1), 1 << 53)
    held = analysis.compare({"n": large}, {"n": large + 1})
    assert held.first.differing == 2
    assert analysis.compare({"n": large}, {"n": large + 1}, tolerance=1).same
    far = torch.full((1, 1, 2), math.inf)
    assert "2 of 2 differ (100 %), none by a finite number" in str(analysis.compare({"v": far}, {"v": -far}))


def test_complex_values_are_refused_in_words():
    x = torch.ones(1, 1, 2)
    with pytest.raises(TypeError, match="but 'v' has complex ones"):
        analysis.compare({"v": x + 1j}, {"v": x + 2j})
