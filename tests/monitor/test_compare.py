"""Networks held against each other and against recordings: where the first difference is, and where it grows."""

import copy
from fractions import Fraction

import pytest
import torch
from torch import nn

import spikescope
from monitor_cases import sequence, spiking_net
from spikescope import analysis, ann2snn, functional, layer, monitor, neuron
from spikescope.monitor.outcome import Course, outcomes


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
    with pytest.raises(ValueError, match=r"the number of steps for which .* It got steps=None"):
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
    "net",
    [nn.Linear(7, 2), nn.LSTM(7, 2), nn.Sequential(), neuron.NonSpikingLIFNode(step_mode="m")],
    ids=lambda net: type(net).__name__,
)
def test_a_network_that_is_one_module_is_compared_by_what_it_gives(net):
    x = torch.rand(4, 2, 7)
    assert analysis.compare(net, copy.deepcopy(net), x).same
    other = copy.deepcopy(net)
    other.register_forward_hook(lambda _module, _args, out: (out[0] + 1, *out[1:]) if type(out) is tuple else out + 1)
    found = analysis.compare(net, other, x)
    assert (found.first.layer, found.first.signal) == ("", "output[0]" if isinstance(net, nn.LSTM) else "output")


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


class Giving(nn.Module):
    """A network of which `give` says what it gives."""

    def __init__(self, give, body=None):
        super().__init__()
        self.body, self.give = body or spiking_net(), give

    def forward(self, x):
        return self.give(self.body(x))


NOT_TIMED = {
    "the mean": lambda y: y.mean(0),
    "the last": lambda y: y[-1],
    "all channels of the mean": lambda y: y.mean(0)[..., None, None],
}


@pytest.mark.parametrize("give", NOT_TIMED.values(), ids=NOT_TIMED)
def test_what_has_one_value_for_a_sample_is_not_taken_for_steps(give):
    net, x = Giving(give), sequence()
    other = another(net, lambda held: held.body[2].weight[1].add_(5.0))
    held = analysis.compare(net, other, x).layers[-1]
    y, z = net(x), other(x)
    n, f = (y != z).flatten(1).nonzero()[0].tolist()
    assert (held.layer, held.signal, held.first.step, len(held.by_step)) == ("", "output", 0, 1)
    assert (held.first.sample, held.first.neuron) == (n, f)
    assert "step" not in str(analysis.compare(net, other, x)).splitlines()[-2]


@pytest.mark.parametrize("decode", ["last-mem", "max-mem", "mean-mem"])
@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_read_out_gives_one_value_for_a_sample(decode, mode):
    torch.manual_seed(0)
    net = nn.Sequential(*spiking_net(mode), layer.Linear(3, 3), neuron.NonSpikingLIFNode(decode=decode))
    functional.set_step_mode(net, mode)
    other, x = another(net, lambda held: held[-2].bias[2].add_(1.0)), sequence()
    held = analysis.compare(net, other, list(x) if mode == "s" else x).layers[-1]
    assert (held.layer, held.first.sample, held.first.neuron) == ("", 0, 2)
    assert held.values == len(held.by_step) * x.shape[1] * 3
    assert len(held.by_step) == (len(x) if mode == "s" else 1)


def test_a_network_that_only_reads_out_is_compared_by_its_modules():
    net, x = nn.Sequential(layer.Linear(5, 3), neuron.NonSpikingLIFNode()), sequence()
    functional.set_step_mode(net, "m")
    other = copy.deepcopy(net)
    other[1].tau = 3.0
    found = analysis.compare(net, other, x)
    assert [(held.layer, held.differing > 0) for held in found.layers] == [("0", False), ("1", True), ("", True)]


def test_outputs_of_other_shapes_are_refused_in_words():
    net, x = Giving(lambda y: y.mean(0)), sequence()
    other = another(net, lambda held: setattr(held, "give", lambda y: y))
    with pytest.raises(ValueError, match="compare: the network has output of the runs"):
        analysis.compare(net, other, x)


def test_an_output_with_samples_first_has_its_steps():
    net, x = Giving(lambda y: y.transpose(0, 1)), sequence()
    other = another(net, lambda held: held.body[2].weight[1].add_(5.0))
    spikes, output = analysis.compare(net, other, x).layers[-2:]
    assert output.first == spikes.first
    assert torch.equal(output.by_step, spikes.by_step)


def test_all_of_what_a_network_gives_is_compared():
    forms = {
        "a tuple": (lambda y: (y.mean(0), y), ["output[0]", "output[1]"]),
        "a dict": (lambda y: {"rate": y.mean(0), "loss": y.mean()}, ["output['rate']", "output['loss']"]),
        "a number": (lambda y: y.mean().item(), ["output"]),
        "a loss": (lambda y: y.mean(), ["output"]),
        "a comparison": (lambda y: analysis.Place(0, 0, 0, 0, y.mean(), 1.0), ["output.a"]),
    }
    x = sequence()
    for name, (give, signals) in forms.items():
        net = Giving(give)
        found = analysis.compare(net, another(net, lambda held: held.body[2].weight[1].add_(5.0)), x)
        assert [held.signal for held in found.layers if not held.layer and held.differing] == signals, name


def test_an_output_that_cannot_be_compared_is_told():
    net = Giving(lambda y: object())
    with pytest.warns(RuntimeWarning, match="output of the network is object and is not compared"):
        assert [held.layer for held in analysis.compare(net, net, sequence()).layers] == ["body.1", "body.3"]


def test_an_axis_as_long_as_time_is_none():
    conv, line = Course(4, 2, 5), Course(4, 4, 3)
    shapes = {
        (2, 4, 8, 8): conv,  # [N, C, H, W] of four channels
        (4, 4): line,
    }
    for shape, course in shapes.items():
        ((name, held),) = outcomes(torch.ones(shape), course)
        assert (name, list(held.shape)) == ("output", [1, *shape])
    ((_, held),) = outcomes(torch.ones(2, 4, 3, 8, 8), conv)
    assert held.shape == (4, 2, 3, 8, 8)


def test_numbers_are_held_as_they_are():
    exact, near, third = Giving(lambda y: 0.1 + 0.2), Giving(lambda y: 0.3), Giving(lambda y: Fraction(1, 3))
    near.body = third.body = exact.body
    assert not analysis.compare(exact, near, sequence()).same
    assert analysis.compare(third, copy.deepcopy(third), sequence()).same
