import contextlib
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import functional, layer, neuron
from spikescope.monitor import (
    OutputMonitor,
    Subset,
    by_glob,
    by_name,
    by_regex,
    by_role,
    by_type,
    dry_run,
    every,
    first,
    random_choice,
    record,
    where,
)
from spikescope.monitor.choose.modules import named, select
from spikescope.monitor.choose.signals import threshold_of


def chosen(which):
    return list(select(spiking_net(), which))


@pytest.mark.parametrize(
    ("which", "names"),
    [
        (neuron.Neuron, ["1", "3"]),
        ((nn.Linear, neuron.IFNode), ["0", "1", "2"]),
        ("2", ["2"]),
        ("[13]", ["1", "3"]),
        (re.compile("^[01]$"), ["0", "1"]),
        (by_regex("^[23]$"), ["2", "3"]),
        (by_glob("?") & ~by_type(nn.Linear), ["1", "3"]),
        (by_name("0") | neuron.LIFNode, ["0", "3"]),
        (by_role("synapse"), ["0", "2"]),
        (by_role("neuron") & where(lambda name, module: name > "1"), ["3"]),
    ],
)
def test_selectors(which, names):
    assert chosen(which) == names


NAMES = ["a", "a.conv1", "a.b.conv1", "conv1", "conv2", "conv.1", "conv1.surrogate_function", "x^y", "back\\slash"]


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("conv*", ["conv1", "conv2"]),
        ("conv?", ["conv1", "conv2"]),
        ("conv**", ["conv1", "conv2", "conv.1", "conv1.surrogate_function"]),
        ("**.conv1", ["a.conv1", "a.b.conv1", "conv1"]),
        ("a.**", ["a.conv1", "a.b.conv1"]),
        ("a.**.conv1", ["a.conv1", "a.b.conv1"]),
        ("a.*", ["a.conv1"]),
        ("*.*.conv1", ["a.b.conv1"]),
        ("conv[2-9]", ["conv2"]),
        ("conv[!2-9]", ["conv1"]),
        ("conv[!2]1", []),  # a dot is no character of a name
        ("x[^]y", ["x^y"]),
        ("b*[\\]slash", ["back\\slash"]),
        ("*", ["a", "conv1", "conv2", "x^y", "back\\slash"]),
        ("**", NAMES),
        ("a[", []),
    ],
)
def test_globs_are_those_of_paths(pattern, fitting):
    glob = by_glob(pattern)
    assert [name for name in NAMES if glob.matches(name, nn.Identity())] == fitting
    assert not glob.matches("", nn.Identity())


def test_a_glob_that_finds_nothing_tells_how_to_go_deeper():
    net = nn.Sequential(nn.Sequential(neuron.IFNode()))
    with pytest.raises(LookupError, match=r"no module with glob '\*surrogate\*'\. In a glob \* stays within one part"):
        select(net, "*surrogate*")
    assert list(select(net, "**surrogate*")) == ["0.0.surrogate_function"]


def test_a_glob_takes_neurons_without_what_is_inside_of_them():
    net = nn.Sequential()
    net.neuron1, net.neuron2 = neuron.IFNode(), neuron.LIFNode()
    assert list(select(net, "neuron*")) == ["neuron1", "neuron2"]
    assert len(select(net, "neuron**")) == 4
    assert list(select(net, "**.surrogate_function")) == ["neuron1.surrogate_function", "neuron2.surrogate_function"]


def test_roles_know_the_norms_of_the_library():
    net = nn.Sequential(layer.BatchNorm2d(2), nn.GroupNorm(1, 2), layer.NeuNorm(2, 1, 1), nn.ReLU())
    assert {"0", "1", "2"} <= set(select(net, by_role("norm")))
    assert "3" not in select(net, by_role("norm"))


def test_errors_in_words():
    with pytest.raises(
        LookupError, match=r"no module with name 'x'\. The network has Sequential: ''; Linear: '0', '2'"
    ):
        chosen("x")
    with pytest.raises(TypeError, match=r"A predicate goes into where"):
        chosen(lambda name, module: True)
    with pytest.raises(ValueError, match="role must be one of 'neuron', 'synapse', 'norm'"):
        by_role("head")
    with pytest.raises(TypeError, match="by_type takes classes"):
        by_type("Linear")


def test_names_are_those_of_the_network_itself():
    net = spiking_net()
    assert list(named(torch.compile(net, backend="eager"))) == list(named(net))
    assert list(named(nn.DataParallel(net))) == list(named(net))
    assert list(named(torch.optim.swa_utils.AveragedModel(net))) == list(named(net))

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self._checkpoint_wrapped_module = net

    assert list(named(nn.Sequential(Wrapped()))) == ["", *(f"0.{name}".rstrip(".") for name in named(net))]


def test_a_child_that_is_called_module_keeps_its_name():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.ReLU()

    assert list(named(Mine())) == ["", "module"]
    assert list(named(nn.Sequential(OrderedDict(module=nn.ReLU())))) == ["", "module"]
    assert list(named(nn.ModuleDict({"module": nn.ReLU()}))) == ["", "module"]


def test_subsets_of_neurons_and_samples():
    x = torch.arange(24.0).view(2, 3, 2, 2)  # T, N, *
    assert Subset(neurons=first(1)).take(x, range(2)).flatten().tolist() == [0, 4, 8, 12, 16, 20]
    assert Subset(neurons=torch.tensor([[True, False], [False, True]])).take(x, range(2)).shape == (2, 3, 2)
    assert Subset(samples=(2, -3)).take(x, range(2))[0, :, 0, 0].tolist() == [8, 0]
    assert Subset(samples=lambda n: torch.tensor([n - 1])).take(x[0], None).shape == (1, 2, 2)
    assert Subset(time=lambda t: t == 5).take(x, range(4, 6)).shape == (1, 3, 2, 2)
    assert Subset(time=first(3)).take(x, range(4, 6)) is None
    assert Subset(neurons=first(1)).take(torch.ones(3, 4), range(3)).shape == (3, 4, 1)


@pytest.mark.parametrize("nothing", [[], (), torch.zeros(0), torch.zeros(4, dtype=torch.bool), lambda size: []])
def test_a_choice_of_no_neuron_is_empty(nothing):
    assert Subset(neurons=nothing).take(torch.zeros(2, 3, 4), range(2)).shape == (2, 3, 0)


def test_a_random_choice_is_the_same_again_and_leaves_the_seed_alone():
    before = torch.random.get_rng_state()
    assert torch.equal(random_choice(5, 1)(100), random_choice(5, 1)(100))
    assert not torch.equal(random_choice(5, 1)(100), random_choice(5, 2)(100))
    assert torch.equal(before, torch.random.get_rng_state())


def test_subsets_that_do_not_fit_are_refused():
    x = torch.zeros(2, 3, 4)
    with pytest.raises(IndexError, match="index 4 is not in an axis of 4"):
        Subset(neurons=(4,)).take(x, range(2))
    with pytest.raises(IndexError, match="index -5 is not in an axis of 4"):
        Subset(neurons=(-5, 3)).take(x, range(2))
    with pytest.raises(TypeError, match=r"indices are whole numbers, but got \[0\.5\]"):
        Subset(neurons=(0.5,)).take(x, range(2))
    with pytest.raises(ValueError, match="a mask of 0 elements does not fit an axis of 4"):
        Subset(neurons=torch.zeros(0, dtype=torch.bool)).take(x, range(2))
    with pytest.raises(ValueError, match="a mask of 2 elements does not fit an axis of 3"):
        Subset(samples=torch.tensor([True, False])).take(x, range(2))
    with pytest.raises(TypeError, match="time must be a slice"):
        Subset(time=3)
    with pytest.raises(ValueError, match="counts forwards"):
        Subset(time=slice(-2, None))
    with pytest.raises(ValueError, match="the step of time must be at least 1"):
        Subset(time=slice(0, 4, 0))
    for wrong in (lambda: every(0), lambda: first(0), lambda: random_choice(0)):
        with pytest.raises(ValueError, match="at least 1"):
            wrong()


def test_a_dry_run_tells_shapes_and_bytes_and_changes_nothing():
    net = spiking_net()
    net.append(nn.BatchNorm1d(2))
    before = {name: held.clone() for name, held in net.state_dict().items()}
    found = dry_run(net, sequence(), (neuron.Neuron, nn.BatchNorm1d))
    assert [(m.name, m.kind, m.shapes, m.steps, m.bytes_per_step) for m in found[:2]] == [
        ("1", "IFNode", ((4, 2, 7),), 4, 56.0),
        ("3", "LIFNode", ((4, 2, 3),), 4, 24.0),
    ]
    assert "IFNode" in str(found)
    assert net[1].v == 0.0
    assert all(torch.equal(held, before[name]) for name, held in net.state_dict().items())
    part = dry_run(net, sequence(), neuron.IFNode, "h", Subset(neurons=first(3)))
    assert part[0].shapes == ((4, 2, 3),)


def test_a_module_that_does_not_run_is_shown_by_the_dry_run():
    class Idle(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    found = dry_run(Idle(nn.ReLU(), nn.Tanh()), torch.ones(1), (nn.ReLU, nn.Tanh))
    assert "never fired" in str(found)


def test_a_dry_run_takes_several_arguments():
    found = dry_run(nn.Bilinear(2, 3, 4), (torch.ones(5, 2), torch.ones(5, 3)), nn.Bilinear)
    assert found[0].shapes == ((5, 4),)
    found = dry_run(nn.Bilinear(2, 3, 4), torch.ones(5, 2), nn.Bilinear, keywords={"input2": torch.ones(5, 3)})
    assert found[0].shapes == ((5, 4),)


def test_a_dry_run_knows_no_gradients_and_says_so():
    for signal in ("input", "output"):
        with pytest.raises(
            ValueError, match=f"no backward pass and cannot tell of 'grad_{signal}'.*ask for '{signal}'"
        ):
            dry_run(spiking_net(), sequence(), neuron.Neuron, f"grad_{signal}")


def test_monitors_take_selectors():
    net = spiking_net()
    with OutputMonitor(net, by_role("neuron") & ~by_name("3")) as monitor:
        net(sequence())
    assert monitor.monitored_layers == ["1"]


@pytest.mark.parametrize("name", sorted(neuron.registry))
def test_the_threshold_that_is_told_is_the_potential_from_which_on_a_neuron_fires(name):
    node = neuron.registry[name](**neuron.registry[name].example).eval()
    if (threshold := threshold_of(node)) is None or name in ("ILIFNode", "LIAFNode"):  # which round, or give values
        return
    with contextlib.suppress(ValueError):  # single steps alone
        functional.set_step_mode(node, "m")
    torch.manual_seed(0)
    x = 2 * torch.randn(4, 2, 2000)
    with record(node, "raw", "", "h") as charged, record(node, "raw", "", "output") as fired, torch.no_grad():
        node(x if node.step_mode == "m" else x[0])
    h, spikes = charged[""].float(), fired[""]
    assert h[spikes > 0].min().item() == pytest.approx(threshold, abs=0.02)
    assert h[spikes == 0].max().item() == pytest.approx(threshold, abs=0.02)
