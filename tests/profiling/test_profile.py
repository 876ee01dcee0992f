"""Time, memory, spikes and energy of a network, each beside what tells it by another way."""

from __future__ import annotations

import json
import time

import pytest
import torch
from torch import nn

from spikescope import functional, layer, models, monitor, neuron
from spikescope.cli.main import main
from spikescope.functional.memory.segments import Stretch, put_segments
from spikescope.profiling import InSteps, profile, settle_norms
from spikescope.profiling.clock import Clock
from spikescope.profiling.peak import peak_of

NAP = 0.03


class Slow(torch.autograd.Function):
    """Sleeps forwards and twice as long backwards."""

    @staticmethod
    def forward(ctx, x):
        time.sleep(NAP)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        time.sleep(2 * NAP)
        return grad


class Sleeper(nn.Module):
    def forward(self, x):
        return Slow.apply(x)


class Branching(nn.Module):
    """Has a child, and sleeps itself, before it and after it."""

    def __init__(self):
        super().__init__()
        self.child, self.weight = Sleeper(), nn.Linear(2, 2)

    def forward(self, x):
        return Slow.apply(self.child(Slow.apply(self.weight(x))) + x)


def test_each_module_is_charged_what_it_does_itself():
    net = nn.Sequential(Branching(), nn.Linear(2, 2))
    clock = Clock(lambda: None)
    with clock.watching(net):
        loss = net(torch.rand(1, 2)).sum()
    clock.run_backward(loss)
    for times, nap in ((clock.forward, NAP), (clock.backward, 2 * NAP)):
        assert 2 * nap < times["0"] < 3 * nap
        assert nap < times["0.child"] < 2 * nap
        assert all(times.get(name, 0.0) < nap / 2 for name in ("", "0.weight", "1", "(loss)"))
    assert net[1].weight.grad is not None


def small(step_mode="m"):
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3), layer.BatchNorm2d(4), neuron.LIFNode(), layer.MaxPool2d(2), layer.Flatten(),
        layer.Linear(36, 8), neuron.ParametricLIFNode(), layer.Linear(8, 3),
    )  # fmt: skip
    functional.set_step_mode(net, step_mode)
    return net


def test_spikes_and_energy_are_of_the_norms_as_they_are():
    """The passes of the training, as many as there is time for, move the running statistics of the copy."""
    net, x = small(), 4 * torch.rand(5, 2, 2, 8, 8)
    settle_norms(net, x - 3)
    with torch.no_grad(), monitor.SpikeCounter(net.eval()) as counter:
        net(x)
    functional.reset_net(net)
    held = profile(net, x, seconds=0.0)
    assert held.spikes == counter.total.spikes / 2
    assert held.energy == monitor.energy(net, x).total


def test_what_is_counted_is_what_the_monitors_count():
    net, x = small(), 4 * torch.rand(5, 2, 2, 8, 8)
    settle_norms(net, x)  # so that the passes of the training change nothing
    held, whole, spent = profile(net, x, seconds=0.0), models.summary(net, x), monitor.energy(net, x)
    with torch.no_grad(), monitor.SpikeCounter(net.eval()) as counter:
        net(x)
    assert (held.samples, held.parameters, held.neurons, held.macs) == (2, whole.parameters, whole.neurons, whole.macs)
    assert {row.name: 2 * row.spikes for row in held.layers if row.spikes} == {
        name: count.spikes for name, count in counter.layers.items() if count.spikes
    }
    assert (held.rate, held.spikes) == (counter.total.rate, counter.total.spikes / 2)
    assert 0 < held.rate < 1
    assert held.energy == pytest.approx(spent.total) == pytest.approx(sum(row.energy for row in held.layers))
    assert held.twin_energy == pytest.approx(spent.twin)
    assert sum(kind.forward_share for kind in held.kinds) == pytest.approx(1)
    assert sum(kind.backward_share for kind in held.kinds) == pytest.approx(1)
    assert {kind.kind: kind.count for kind in held.kinds}["Linear"] == 2


def test_the_network_and_the_generators_stay_as_they_are():
    net, x = small(), torch.rand(3, 2, 2, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    profile(net, x, seconds=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert net[2].v == 0.0
    assert all(parameter.grad is None for parameter in net.parameters())


def test_single_steps_give_the_spikes_of_sequences():
    x = 4 * torch.rand(3, 2, 2, 8, 8)
    one, other = profile(small(), x, seconds=0.0), profile(InSteps(small("s")), x, seconds=0.0)
    assert one.parameters == other.parameters
    assert one.samples == other.samples
    names = {row.name for row in one.layers} - {"", "(loss)"}
    assert {f"net.{name}" for name in names} <= {row.name for row in other.layers}


@pytest.mark.parametrize(
    "less",
    [functional.lean, lambda net: functional.lean(net[2]), lambda net: put_segments(net, [Stretch("0")])],
    ids=["lean", "lean in part", "in segments"],
)
def test_what_is_kept_is_no_number_where_less_is_kept(less):
    net, x = small(), torch.rand(4, 1, 2, 8, 8)
    assert profile(net, x, seconds=0.0).kept == models.summary(net, x).kept > 0
    less(net)
    held = profile(net, x, seconds=0.0)
    assert held.kept is models.summary(net, x).kept is None
    assert "kept for backward  - (lean, or in segments: " in str(held)
    assert "spikes (in eval) " in str(held)


def test_norms_know_their_input():
    net, x = small(), 4 * torch.rand(3, 2, 2, 8, 8)
    settle_norms(net, x)
    seen = net[0](x).transpose(1, 2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(net[1].running_mean, seen.mean(1).detach())
    assert net[1].momentum == 0.1
    assert net[2].v == 0.0


@pytest.mark.parametrize("net", [nn.Sequential(nn.Linear(3, 2), nn.ReLU()), nn.Linear(3, 2)])
def test_a_network_without_spikes(net):
    held = profile(net, torch.rand(6, 3), seconds=0.0)
    assert (held.samples, held.spikes, held.rate, held.neurons) == (6, 0, 0, 0)


def test_what_has_no_gradient_is_told():
    with pytest.raises(ValueError, match="no output of the network has a gradient"):
        profile(nn.Flatten(), torch.rand(2, 3), seconds=0.0)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan"), "2", None])
def test_a_time_that_never_ends_is_refused(seconds):
    with pytest.raises(ValueError, match="seconds must be a number from 0 on"):
        profile(nn.Linear(3, 2), torch.rand(2, 3), seconds=seconds)


def test_the_peak_of_a_call():
    size = 1 << 26
    peak = peak_of(lambda: torch.ones(size // 4).sum(), torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not tell how much memory a process holds")
    assert 0.9 * size < peak < 1.5 * size


SMALL = ["CIFAR10Net", "--model-arg=channels=2", "--model-arg=hidden=4"]


@pytest.mark.parametrize("more", [[], ["--step-mode", "s", "--backend", "torch"], ["--amp", "--lean"]])
@pytest.mark.slow(keep=1)
def test_the_command(more, tmp_path, capsys):
    quick = ["-T2", "-b2", "--seconds=0", "--device=cpu", "--json", str(tmp_path / "a.json")]
    assert main(["bench-model", *SMALL, *quick, *more]) == 0
    shown = capsys.readouterr().out
    for words in ("forward + backward", "kept for backward", "energy nJ", "Random weights", "one image repeated"):
        assert words in shown
    held = json.loads((tmp_path / "a.json").read_text())
    assert held["samples"] == 2
    assert {kind["kind"] for kind in held["kinds"]} >= {"Conv2d", "BatchNorm2d", "IFNode"}
    assert held["spikes"] > 0


def test_the_command_on_data_and_as_json_alone(capsys):
    own = ["spikescope.train:digits_network", "--data", "digits", "-T2", "-b3", "--seconds=0", "--device=cpu"]
    assert main(["bench-model", *own, "--json", "-"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert (held["shape"], held["samples"]) == ([2, 3, 1, 8, 8], 3)
    assert held["remarks"][0] == "The first 3 samples of the test part of digits."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sew_resnet_18"], "Did you mean sew_resnet18"),
        (["spikescope.train:digits_network"], "--image is missing"),
        (["CIFAR10Net", "--weights", "nowhere.pth", "--model-arg=channels=2"], "nowhere.pth"),
        (["CIFAR10Net", "--device", "gpu", "--model-arg=channels=2"], "There is no device 'gpu'"),
        (["CIFAR10Net", "--image", "1", "8", "8", "--model-arg=channels=2"], "expected input"),
    ],
)
def test_what_cannot_be_measured_is_told(arguments, words, capsys):
    assert main(["bench-model", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_training_step_is_one_where_gradients_are_switched_off_around_it(mode):
    net, x = small(), torch.rand(2, 3, 2, 8, 8)
    with mode():
        held = profile(net, x.clone(), seconds=0.0)  # an input of that mode too
    assert any(row.backward for row in held.layers)
    assert (held.kept, held.macs) == (profile(net, x, seconds=0.0).kept, held.macs)
