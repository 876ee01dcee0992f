"""Neurons are saturated by what they can give at most, whatever the height and the number of their spikes in a step."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import monitor, neuron, surrogate
from spikescope.monitor import health
from spikescope.monitor.choose.kinds import most_spikes
from spikescope.monitor.reduce import SaturatedShare


class Graded(nn.Module):
    """Gives its input: spikes as somebody else makes them."""

    def forward(self, x):
        return x.clone()


monitor.adopt(Graded, binary=False)


def layer_of_sinabs(spike_fn, name):
    cls = type("StatefulLayer", (nn.Module,), {"forward": lambda self, x: x.clone(), "does_spike": True})
    cls.__module__ = "sinabs.layers.stateful_layer"
    made = cls()
    made.spike_threshold, made.record_states = torch.tensor(1.0), False
    made.spike_fn = type(spike_fn, (), {} if name is None else {"max_num_spikes_per_bin": name})
    made.spike_fn = made.spike_fn() if spike_fn == "MaxSpike" else made.spike_fn
    return made


class Counting(neuron.ILIFNode):
    """Gives its input as the spikes of a neuron that gives up to four in a step."""

    def single_step_forward(self, x):
        return x.clone()

    def multi_step_forward(self, x_seq):
        return x_seq.clone()


def scaled(height):
    """A neuron of 0 and 1 whose output a hook of somebody makes higher."""
    node = neuron.IFNode(v_threshold=0.5, v_reset=0.0, step_mode="m")
    node.register_forward_hook(lambda module, args, out: out * height)
    return node


HEIGHTS = {"graded": 1.0, "higher": 5.0, "lower": 0.3, "negative": -2.0, "half": 0.125}
T = 20


def drawn(share, of=0.4):
    """Of 200 neurons so many that fire in every step; the others in a quarter of them."""
    x = (torch.rand(T, 2, 200, generator=torch.Generator().manual_seed(0)) < of / 2).float()
    x[..., : round(200 * share)] = 1
    return x


def found(net, x, sequence=True, **options):
    with health(net, **options) as watch:
        if sequence:
            net(x)
        else:
            for step in x:
                net(step)
    rows = [held for held in watch.everything if held.kind == "saturated neurons"]
    return rows[0].number if rows else None


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("height", HEIGHTS.values(), ids=HEIGHTS)
def test_the_height_of_spikes_is_no_number_of_them(height, share):
    x = drawn(share)
    wanted = share or None
    assert found(nn.Sequential(Graded()), x * height, sequence=False) == wanted
    assert found(nn.Sequential(scaled(height)), x) == wanted


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_spikes_of_both_signs_are_spikes(share):
    signs = torch.randint(0, 2, (T, 2, 200), generator=torch.Generator().manual_seed(1)) * 2.0 - 1
    assert found(nn.Sequential(Graded()), drawn(share) * signs, sequence=False) == (share or None)
    x = drawn(share)[:, :, :50] * signs[:, :, :50] * 3
    node = neuron.TernaryIFNode(v_threshold=1.0, v_reset=0.0, step_mode="m")
    assert found(nn.Sequential(node), x) == (share * 4 if 0 < share * 200 < 50 else 1.0 if share else None)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("given", [1, 2, 3, 4])
def test_several_spikes_are_held_against_how_many_there_can_be(given, share):
    node = Counting(surrogate_function=surrogate.MultiLevelSpikeCount(4), step_mode="m")
    x = drawn(share) * given
    rates = x.numpy().sum((0, 1)) / (T * 2)  # of what there can be, four
    wanted = float(np.mean(rates >= 0.95 * 4)) or None
    assert wanted == ((share or None) if given == 4 else None)
    assert found(nn.Sequential(node), x) == wanted


@pytest.mark.parametrize(
    ("spike_fn", "limit", "most"),
    [("SingleSpike", None, 1), ("MultiSpike", None, 1 << 31), ("MaxSpike", 3, 3), ("MaxSpike", None, 1 << 31)],
)
def test_what_sinabs_says_of_how_many_there_can_be_counts(spike_fn, limit, most):
    made = layer_of_sinabs(spike_fn, limit)
    assert most_spikes(made) == most
    x = drawn(0.5).transpose(0, 1)  # [N, T, *]
    assert found(nn.Sequential(made), x) == (0.5 if most == 1 else None)
    assert found(nn.Sequential(layer_of_sinabs(spike_fn, limit)), 3 * x) == (0.5 if most in (1, 3) else None)


def test_a_reducer_says_what_it_takes():
    x = drawn(0.5)
    share = SaturatedShare(most=1)
    assert share.result(share.measure(5 * x)) == share.result(share.measure(0.3 * x)) == 0.5
    assert share.result(share.measure(torch.where(drawn(0.0) > 0, 8.0, 0.0))) == 0.0  # high, and seldom
    several = SaturatedShare(3.8, most=4)
    assert several.result(several.measure(4 * x)) == 0.5
    assert several.result(several.measure(3 * x)) == 0.0
    with pytest.raises(ValueError, match="Give most= of neurons that give several"):
        SaturatedShare(3.8, most=2)
    plain = SaturatedShare()
    with pytest.raises(ValueError, match="counts spikes, which are whole numbers, but 200 of 200 neurons gave other"):
        plain.result(plain.measure(0.3 * x))


def series(*values):
    return torch.tensor(values).view(-1, 1, 1)


@pytest.mark.parametrize("odd", [0.5, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16])
def test_each_value_is_to_be_a_whole_number_not_their_sum(odd, kind):
    share, x = SaturatedShare(), series(odd, odd, 1.0).to(kind)
    with pytest.raises(ValueError, match="whole numbers, but 1 of 1 neurons gave other values"):
        share.result(share.measure(x))


def test_plain_spikes_are_counted_as_they_come():
    share, x = SaturatedShare(), series(2.0, 0.0, -2.0, 0.0)
    assert share.result(share.measure(x)) == 1.0
    assert SaturatedShare(1.01).result(share.measure(x)) == 0.0
    assert SaturatedShare(2.0).result(share.measure(2 * x)) == 1.0
    for kind in (torch.uint8, torch.int8, torch.int64, torch.bool):
        assert share.result(share.measure(series(1, 1, 0).to(kind))) == 0.0
        assert share.result(share.measure(series(1, 1, 1).to(kind))) == 1.0


VALUES = (0.0, 1.0, 4.0, -4.0, 0.25, 1.25, 5.0, 8.0, math.inf, math.nan)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_chunks_and_neighbours_change_nothing(most):
    """Of every two values, beside each other in time or in the layer, in one chunk or in two."""
    share = SaturatedShare(0.95 * most, most=most)

    def given(x):
        return share.measure(x).spikes.flatten().tolist()

    for one, other in itertools.product(VALUES, VALUES):
        alone = given(series(one))[0], given(series(other))[0]
        assert given(series(one, other)) == [sum(alone)]
        assert given(torch.tensor([[[one, other]]])) == [*alone]
        assert all(0 <= held <= most for held in alone)


@pytest.mark.parametrize("level", [1, 2, 4])
@pytest.mark.parametrize("divisor", [1, 2, 4, 3, 5, 0.5, 0.25])
def test_several_spikes_of_unknown_height_are_never_found_wrongly(level, divisor):
    node = Counting(surrogate_function=surrogate.MultiLevelSpikeCount(4), step_mode="m")
    net, x = nn.Sequential(node), torch.full((T, 2, 50), float(level))
    assert found(net, x) == (1.0 if level == 4 else None)
    node.register_forward_hook(lambda module, args, out: out / divisor)
    with health(net) as watch:
        net(x)
    assert not [held for held in watch.everything if held.kind == "saturated neurons"]
    assert "whether '0' is saturated: a step holds several spikes, and a hook may change" in str(watch)
