"""Networks held against each other and against recordings: where the first difference is, and where it grows."""

import copy

import pytest
import torch
from torch import nn

import spikescope
from monitor_cases import sequence, spiking_net
from spikescope import analysis, ann2snn, functional, layer, monitor, neuron


def another(net, change):
    other = copy.deepcopy(net)
    with torch.no_grad():
        change(other)
    return other


def test_a_weight_that_differs_is_found_behind_it():
    net, x = spiking_net(), sequence()
    assert analysis.compare(net, copy.deepcopy(net), x).same
    other = another(net, lambda held: held[2].weight[1].add_(5.0))
    found = analysis.compare(net, other, x)
    assert [held.layer for held in found.layers] == ["1", "3", ""]
    assert found.layers[0].differing == 0
    assert (found.first.layer, found.first.signal, found.first.first.neuron) == ("3", "spike", 1)
    functional.reset_net(net)
    y, z = net(x), other(x)
    t, n, f = (y != z).nonzero()[0].tolist()
    assert found.first.first[1:4] == (t, n, f)
    assert found.layers[-1].differing == int((y != z).sum())
    assert [held.layer for held in found.growth] == ["1", "3"]
    assert "It grows most from '1' to '3'" in str(found)


def test_networks_are_left_as_they_are_and_get_the_same_random_numbers():
    net, x = nn.Sequential(layer.Dropout(0.5, step_mode="m"), *spiking_net()), sequence()
    net(x)
    held, before = functional.get_state(net), torch.random.get_rng_state()
    assert analysis.compare(net, net, x).same
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(_tensors(held), _tensors(functional.get_state(net)), strict=True))


def _tensors(state):
    return spikescope.form.tensors_of(state)


def test_potentials_tell_what_spikes_do_not_and_a_tolerance_forgives_it():
    net, x = spiking_net(), sequence()
    other = another(net, lambda held: held[0].weight.add_(1e-6))
    assert analysis.compare(net, other, x).layers[0].differing == 0
    found = analysis.compare(net, other, x, signals=("spike", "v"))
    assert (found.first.layer, found.first.signal) == ("1", "v")
    assert 0 < found.first.largest < 1e-4
    assert analysis.compare(net, other, x, signals=("spike", "v"), tolerance=1e-3).layers[1].differing == 0


def test_steps_and_sequences_are_the_same():
    steps, x = spiking_net("s"), sequence()
    found = monitor.compare(steps, copy.deepcopy(steps), list(x))
    assert found.same
    assert found.layers[0].values == 4 * 2 * 7
    recorded = analysis.compare(_recorded(spiking_net(), x), steps, list(x))
    assert recorded.same


def _recorded(net, x):
    with monitor.record(net, "packed") as recording:
        net(x)
    return recording


def test_a_recording_on_disk_against_the_network_now(tmp_path):
    net, x = spiking_net(), sequence()
    with monitor.record(net, ["spike", "v"], to=tmp_path / "run") as streamed:
        net(x)
    recording = spikescope.open_recording(streamed.path)
    assert analysis.compare(recording, net, x).same
    found = analysis.compare(another(net, lambda held: held[0].weight.mul_(0.9)), recording, x)
    assert (found.first.layer, found.first.first.run) == ("1", 0)


def test_networks_without_neurons_by_their_modules():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(5, 3)
    found = analysis.compare(net, another(net, lambda held: held[2].bias.add_(1.0)), x)
    assert [(held.layer, held.differing) for held in found.layers] == [("0", 0), ("1", 0), ("2", 10), ("", 10)]
    assert found.first.largest == pytest.approx(1.0)


def test_a_conversion_as_its_own_comparison_tells_it():
    torch.manual_seed(0)
    ann, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU()), torch.rand(5, 4)
    snn = ann2snn.Converter(x)(ann)
    told, found = ann2snn.compare(ann, snn, x, steps=16), analysis.compare(ann, snn, x, steps=16)
    assert [held.layer for held in found.layers] == list(told)
    for held in found.layers:
        gap = (told[held.layer].activation - told[held.layer].rate).abs()
        assert held.largest == pytest.approx(gap.max().item(), abs=1e-6)
        assert held.differing == int((gap > 0).sum())
    with pytest.raises(ValueError, match="give steps=, the number of them, but it is None"):
        analysis.compare(ann, snn, x)


def test_before_and_after_a_fusion():
    torch.manual_seed(0)
    net = nn.Sequential(layer.Conv2d(1, 2, 3), layer.BatchNorm2d(2), neuron.IFNode()).eval()
    net[1].running_mean.uniform_()
    fused, x = functional.fuse_network(net), torch.rand(2, 1, 6, 6)
    assert analysis.compare(net, fused, x, signals="v", tolerance=1e-5).layers[0].differing == 0
    shifted = another(fused, lambda held: held[0].bias[1].add_(0.5))
    found = analysis.compare(net, shifted, x, signals="v", tolerance=1e-5)
    assert (found.first.layer, found.first.first.neuron) == ("2", 16)


class Renamed(nn.ModuleDict):
    def forward(self, x):
        for held in self.values():
            x = held(x)
        return x


def test_other_names_are_matched_in_order():
    net, x = spiking_net(), sequence()
    other = Renamed({f"part{i}": held for i, held in enumerate(copy.deepcopy(net))})
    assert analysis.compare(net, other, x).same
    with torch.no_grad():
        other["part2"].weight.add_(5.0)
    assert analysis.compare(net, other, x).first.layer == "3"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((spiking_net(), spiking_net()), ValueError, "a network has to run; give the input x"),
        (({}, {}, sequence()), TypeError, "x is for networks"),
        ((spiking_net(), 3, sequence()), TypeError, "takes networks and recordings, but got int"),
        ((spiking_net(), {"conv": torch.zeros(4, 2, 7)}, sequence()), LookupError, "none of the modules.*conv"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(arguments, error, words):
    with pytest.raises(error, match=words):
        analysis.compare(*arguments)
