"""Counters of operations, memory and energy under the aliases: worked by hand, and as SpikingJelly 2.0.0 counts."""

import copy
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import spikescope

pytestmark = pytest.mark.usefixtures("aliases")

aten = torch.ops.aten


def counted(run, *counters, **options):
    """The totals of `counters` over `run`."""
    from spikingjelly.activation_based.op_counter import DispatchCounterMode

    with DispatchCounterMode(list(counters), **options):
        run()
    return [counter.get_total() for counter in counters]


def by_operation(counter, scope="Global"):
    return {func.overloadpacket.__name__: held for func, held in counter.get_counts()[scope].items() if held}


def uses(x, kernel, stride=1, padding=0, groups=1, out=1):
    """How often a spike of `x [N, C, H, W]` meets a weight, place by place."""
    height, width = ((size + 2 * padding - kernel) // stride + 1 for size in x.shape[2:])
    held = F.pad(x, (padding,) * 4)
    found = 0
    for i, j, di, dj in product(range(height), range(width), range(kernel), range(kernel)):
        found += held[:, :, i * stride + di, j * stride + dj].sum().item() * out // groups
    return found


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_spikes_are_additions_at_the_weights_that_they_reach(groups, stride, padding):
    from spikingjelly.activation_based.op_counter import ACCounter, MACCounter, SynOpCounter

    conv = nn.Conv2d(4, 6, 3, stride, padding, groups=groups)
    x = (torch.rand(2, 4, 7, 6) > 0.6).float()
    wanted = uses(x, 3, stride, padding, groups, 6)
    assert counted(lambda: conv(x), ACCounter(), MACCounter(), SynOpCounter()) == [wanted, 0, wanted]
    dense = conv(x).numel() * 4 // groups * 9
    assert counted(lambda: conv(x + 0.5), SynOpCounter(), MACCounter()) == [0, dense]


def test_a_transposed_convolution_spreads_each_spike():
    from spikingjelly.activation_based.op_counter import FlopCounter, MACCounter, SynOpCounter

    conv = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
    x = (torch.rand(2, 4, 5, 5) > 0.6).float()
    assert counted(lambda: conv(x), SynOpCounter()) == [x.sum().item() * 9 * 3]
    half, products = x + 0.5, x.numel() * 9 * 3
    wanted = [products, 2 * products + conv(half).numel()]
    assert counted(lambda: conv(half), MACCounter(), FlopCounter()) == wanted


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_products_of_matrices(added, batch):
    from spikingjelly.activation_based.op_counter import ACCounter, FlopCounter, MACCounter

    spikes, other = (torch.rand(*batch, 3, 5) > 0.5).float(), (torch.rand(*batch, 5, 4) > 0.5).float()
    weight, bias = torch.rand(*batch, 5, 4) + 0.25, torch.rand(*batch, 3, 4)
    half, number = spikes + 0.5, 2 if batch else 1

    def run(x, y, **scaled):
        if not added:
            return x @ y
        return torch.baddbmm(bias, x, y, **scaled) if batch else torch.addmm(bias, x, y, **scaled)

    assert counted(lambda: run(spikes, weight), ACCounter(), MACCounter()) == [spikes.sum().item() * 4, 0]
    assert counted(lambda: run(half, other), ACCounter(), MACCounter()) == [other.sum().item() * 3, 0]
    assert counted(lambda: run(spikes, other), ACCounter(), MACCounter()) == [(spikes @ other).sum().item(), 0]
    dense = number * 3 * 5 * 4
    assert counted(lambda: run(half, weight), ACCounter(), MACCounter()) == [0, dense]
    sums = number * 3 * 4
    assert counted(lambda: run(spikes, weight), FlopCounter()) == [2 * dense + (sums if added else 0)]
    if added:
        assert counted(lambda: run(spikes, weight, alpha=2.0, beta=0.5), FlopCounter()) == [2 * dense + 3 * sums]
        assert counted(lambda: run(spikes, weight, alpha=2.0, beta=0), FlopCounter()) == [2 * dense + sums]
        assert counted(lambda: run(spikes, weight, alpha=2.0), ACCounter()) == [0]


def network(step_mode="m"):
    from spikingjelly.activation_based import functional, layer, neuron

    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.LIFNode(),
        layer.MaxPool2d(2, 2),
        layer.Conv2d(4, 6, 3, stride=2),
        neuron.IFNode(v_reset=None),
        layer.AvgPool2d(1, 1),
        layer.Flatten(),
        layer.Linear(6, 3),
    )
    functional.set_step_mode(net, step_mode)
    with torch.no_grad():
        for held in net.parameters():
            held.copy_(torch.linspace(-0.25, 1.0, held.numel()).view_as(held))
    n = torch.arange(4 * 2 * 2 * 8 * 8)
    return net, ((n * n + n // 7) % 3 == 0).float().view(4, 2, 2, 8, 8)


FLOPS = {
    "convolution": 77232, "add_": 1, "native_batch_norm": 14376, "sub": 6240, "div": 4096, "add": 10360, "ge": 2096,
    "mul": 17172, "rsub": 4144, "max_pool2d_with_indices": 1536, "avg_pool2d": 48, "addmm": 312, "sum": 21, "mm": 576,
    "sigmoid": 8384, "neg": 3108, "convolution_backward": 80682, "native_batch_norm_backward": 20480,
}  # fmt: skip
ADDITIONS = {
    "convolution": 12190, "add_": 1, "native_batch_norm": 6152, "sub": 6240, "add": 10360, "rsub": 4144, "addmm": 114,
    "sum": 21, "mm": 258,
}  # fmt: skip
MEMORY = {
    "convolution": 15704, "add_": 16, "native_batch_norm": 16480, "full_like": 2096, "sub": 58304, "div": 32768,
    "add": 124320, "ge": 10480, "_to_copy": 10480, "mul": 174624, "rsub": 33152, "max_pool2d_with_indices": 14336,
    "avg_pool2d": 384, "addmm": 372, "sum": 108, "ones_like": 4, "mm": 720, "sigmoid": 16768, "neg": 24864,
    "convolution_backward": 18616, "native_batch_norm_backward": 16432,
    "stack": 33536,  # it stacks potentials, too: 50304
    "max_pool2d_with_indices_backward": 4 * 512 + 8 * 512 + 4 * 2048,  # it reads 4 x 2048 in place of the indices
}  # fmt: skip
GIVEN = (FLOPS, ADDITIONS, {"native_batch_norm": 2056}, MEMORY)
LEMAIRE = {
    "synop": 20232, "mac": 2048, "ac": 21283, "read_in_bytes": 2736, "write_out_bytes": 3916,
    "read_params_bytes": 111936, "read_potential_bytes": 120032, "write_potential_bytes": 120032, "acc_addr": 27912,
    "mac_addr": 1288,
}  # fmt: skip


def test_the_counts_of_a_network_in_training_are_those_of_that_package():
    """Numbers that 2.0.0 gave for this network and input, but for two of memory."""
    from spikingjelly.activation_based.op_counter import ACCounter, FlopCounter, MACCounter, MemoryAccessCounter

    net, x = network()
    counters = FlopCounter(), ACCounter(), MACCounter(), MemoryAccessCounter()
    counted(lambda: net(x).sum().backward(), *counters)
    for counter, wanted in zip(counters, GIVEN, strict=True):
        assert by_operation(counter) == wanted, type(counter).__name__
    kept = by_operation(counters[0], "Sequential.4")
    assert kept["convolution"] == 2 * 8 * 6 * 36 + 8 * 6  # 8 frames of one place, six outputs of 36 products, a bias


def test_inference_mode_changes_no_count():
    """The package itself counts nothing there."""
    from spikingjelly.activation_based.op_counter import ACCounter, FlopCounter, MACCounter

    found = []
    for mode in (torch.no_grad, torch.inference_mode):
        net, x = network()
        counters = FlopCounter(), ACCounter(), MACCounter()
        with mode():
            counted(partial(net, x), *counters)
        found.append([by_operation(counter) for counter in counters])
    products = ("mm", "addmm", "convolution")
    for here, there in zip(*found, strict=True):
        assert [there.get(name) for name in products] == [here.get(name) for name in products]
    assert found[1][0]["convolution"] > 0


def test_a_neuron_runs_in_the_open_and_as_before_afterwards():
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.op_counter import FlopCounter

    for mode, x in (("m", torch.rand(3, 2, 5)), ("s", torch.rand(2, 5))):
        node = neuron.LIFNode(step_mode=mode)
        wanted = copy.deepcopy(node)(x)
        counter, seen = FlopCounter(), []
        counted(lambda node=node, x=x, seen=seen: seen.append(node(x)), counter)
        assert by_operation(counter)["div"] == x.numel()
        assert torch.equal(seen[0], wanted)
        assert node.backend == "auto"


def test_what_a_counter_does_not_know_is_told_or_refused():
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, FlopCounter, MACCounter

    counter, stranger = FlopCounter(), MACCounter()
    with DispatchCounterMode([counter]) as mode:
        torch.ones(3).cos().cos()
    assert mode.get_unsupported(counter)["aten.cos.default"] == 2
    with pytest.raises(ValueError, match="MACCounter is none of its counters"):
        mode.get_unsupported(stranger)
    with pytest.raises(NotImplementedError, match=r"FlopCounter has no rule for aten\.cos\.default\. Give it one"):
        counted(lambda: torch.zeros(3).cos(), FlopCounter(extra_rules={aten.zeros.default: lambda *_: 0}), strict=True)
    own = FlopCounter(extra_rules={aten.cos.default: lambda args, kwargs, out: 7})
    assert counted(lambda: torch.ones(3).cos(), own) == [7]
    net, x = network()
    ignoring = MACCounter(extra_ignore_modules=[nn.BatchNorm2d])
    assert counted(lambda: net(x), ignoring) == [0]
    ignoring.reset()
    assert ignoring.get_total() == 0


def test_functions_are_counted_by_rules_of_ones_own():
    from spikingjelly.activation_based.op_counter import BaseCounter, FunctionCounterMode

    counter = BaseCounter()
    counter.rules[F.linear] = lambda args, kwargs, out: out.numel()
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with FunctionCounterMode([counter]) as mode:
        net(torch.ones(2, 3))
    assert {scope: sum(held.values()) for scope, held in counter.get_counts().items()} == {
        "Global": 8, "Sequential": 8, "Sequential.0": 8}  # fmt: skip
    assert any("relu" in name for name in mode.get_unsupported(counter))


def test_calls_of_modules_are_counted_forwards_and_backwards():
    from spikingjelly.activation_based.op_counter import ModuleCounter, ModuleCounterMode

    counter = ModuleCounter()
    counter.rules["forward", nn.Linear] = lambda module, args, kwargs, out: module.out_features
    counter.rules["backward", nn.Module] = lambda module, grad_input, kwargs, grad_output: 1
    net = nn.Sequential(nn.Linear(3, 4), spikescope.layer.Linear(4, 5))
    mode = ModuleCounterMode([counter], model=net)
    with mode:
        net(torch.ones(2, 3, requires_grad=True)).sum().backward()
        with pytest.raises(RuntimeError, match="counting already"):
            mode.__enter__()
    assert counter.get_counts()["Global"] == {("forward", nn.Linear): 9, ("backward", nn.Module): 3}
    assert counter.get_counts()["Sequential.1"] == {("forward", nn.Linear): 5, ("backward", nn.Module): 1}
    net(torch.ones(2, 3))
    assert counter.get_total() == 12  # no hook is left
    assert not counter.has_rule(("forward", nn.ReLU()))
    assert not counter.has_rule("forward")


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_energy_is_counts_at_prices(step_mode):
    from spikingjelly.activation_based.op_counter import (
        SimpleEnergyConfig,
        SimpleEnergyCostConfig,
        SimpleEnergyProfiler,
        estimate_simple_energy,
    )

    net = nn.Sequential(spikescope.layer.Conv2d(2, 4, 3, padding="same"), spikescope.neuron.IFNode())
    spikescope.functional.set_step_mode(net, step_mode)
    x = (torch.rand(3, 2, 2, 5, 5) > 0.5).float() if step_mode == "m" else (torch.rand(6, 2, 5, 5) > 0.5).float()
    reached = uses(x.flatten(0, -4), 3, padding=1, out=4)
    prices = SimpleEnergyCostConfig(2.0, 1.0, 0.5)
    report = estimate_simple_energy(net, x, config=SimpleEnergyConfig(cost_config=prices))
    steps, states = (3, 2 * 4 * 25) if step_mode == "m" else (1, 6 * 4 * 25)
    moved = {"weight_read_bytes": 4 * reached, "bias_read_bytes": 4 * 6 * 100}
    moved |= dict.fromkeys(("neuron_state_read_bytes", "neuron_state_write_bytes"), 4 * steps * states)
    assert report.counts["synop"] == reached
    assert {name: report.counts[name] for name in moved} == moved
    assert report.counts["memory_access_bytes"] == sum(moved.values())
    assert report.energy_memory_pj == 0.5 * sum(moved.values())
    assert report.energy_total_pj == 2.0 * report.counts["mac"] + report.counts["ac"] + report.energy_memory_pj
    assert report.counts["ac"] > report.counts["synop"]  # the neuron adds, too
    profiler = SimpleEnergyProfiler()
    profiler.bind_model(net)
    for _ in range(2):  # each time from nothing
        spikescope.functional.reset_net(net)
        with profiler:
            net(x)
        assert profiler.get_counts() == report.counts
    assert profiler.get_total() == profiler.get_report().energy_total_pj


def test_prices_and_networks_are_checked():
    from spikingjelly.activation_based import op_counter

    for preset, mac in (("fp32", 4.6), ("fp16", 1.5), ("int8", 0.23)):
        assert getattr(op_counter.SimpleEnergyCostConfig, preset)().e_mac_pj == mac
    with pytest.raises(ValueError, match="e_ac_pj must be finite and at least 0, but got -1"):
        op_counter.SimpleEnergyCostConfig(e_ac_pj=-1)
    with pytest.raises(ValueError, match="four pairs"):
        op_counter.LemaireEnergyCostConfig(memory_breakpoints=((0.0, 1.0), (0.0, 2.0), (1.0, 3.0), (2.0, 4.0)))
    with pytest.raises(ValueError, match="above 0, but got 0"):
        op_counter.LemaireEnergyConfig(snn_fifo_capacity_elements=0)
    for profiler in (op_counter.SimpleEnergyProfiler(), op_counter.LemaireEnergyProfiler()):
        with pytest.raises(RuntimeError, match="Call bind_model"):
            profiler.__enter__()
        profiler.bind_model(nn.Linear(2, 2))
        with profiler, pytest.raises(RuntimeError, match="while it is counting"):
            profiler.bind_model(nn.Linear(2, 2))
    nothing = op_counter.estimate_simple_energy(nn.Identity(), torch.ones(2))
    assert nothing.energy_total_pj == 0
    assert "no operation of the network has a rule" in nothing.warnings[0]
    with pytest.raises(RuntimeError, match="no operation"):
        op_counter.estimate_simple_energy(
            nn.Identity(), torch.ones(2), config=op_counter.SimpleEnergyConfig(strict=True)
        )
    with pytest.raises(ValueError, match="do not speak of Flatten"):
        op_counter.estimate_lemaire_energy(nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), torch.ones(1, 2))


def test_the_equations_of_lemaire():
    """Worked by hand: two spikes in three inputs, twice, onto four LIF neurons that never fire."""
    from spikingjelly.activation_based.op_counter import estimate_lemaire_energy

    net = nn.Sequential(spikescope.layer.Linear(3, 4), spikescope.neuron.LIFNode(v_threshold=9.0))
    spikescope.functional.set_step_mode(net, "m")
    report = estimate_lemaire_energy(net, torch.tensor([[[1.0, 0.0, 1.0]], [[1.0, 1.0, 0.0]]]))
    assert report.counts == {
        "synop": 16, "mac": 8, "ac": 16 + 8,  # a spike to each of four, a leak and a bias a neuron and step
        "read_in_bytes": 4 * 4, "write_out_bytes": 0, "read_params_bytes": 4 * (16 + 8),
        "read_potential_bytes": 4 * (16 + 8), "write_potential_bytes": 4 * (16 + 8), "acc_addr": 16, "mac_addr": 0,
    }  # fmt: skip
    assert report.buffer_sizes_bytes == {
        "inout_buffer_bytes": 4000, "params_buffer_bytes": 4 * 16, "potential_buffer_bytes": 4 * 4}  # fmt: skip
    each = 2.5 / 8192  # pJ for a byte, for each byte of a small memory
    wanted = {
        "ops_pj": 24 * 0.1 + 8 * 3.2, "addressing_pj": 1.6, "inout_pj": 16 * 4000 * each,
        "params_pj": 96 * 64 * each, "potential_pj": 2 * 96 * 16 * each,
    }  # fmt: skip
    wanted["memory_pj"] = wanted["inout_pj"] + wanted["params_pj"] + wanted["potential_pj"]
    assert report.breakdown_pj == pytest.approx(wanted)
    assert report.total_pj == pytest.approx(wanted["ops_pj"] + wanted["addressing_pj"] + wanted["memory_pj"])


def test_the_equations_of_lemaire_for_dense_layers_and_convolutions():
    """Numbers that 2.0.0 gave for these networks and inputs."""
    from spikingjelly.activation_based.op_counter import LemaireEnergyConfig, estimate_lemaire_energy

    dense = estimate_lemaire_energy(nn.Linear(3, 4), torch.full((2, 3), 0.5))
    assert (dense.counts["mac"], dense.counts["acc_addr"], dense.counts["write_out_bytes"]) == (24, 14, 32)
    spiking = nn.Sequential(nn.Linear(3, 4), spikescope.neuron.IFNode(v_threshold=9.0))
    assert estimate_lemaire_energy(spiking, torch.full((2, 3), 0.5)).counts["write_out_bytes"] == 0
    net, x = network()
    with pytest.warns(RuntimeWarning, match="do not speak of"):
        report = estimate_lemaire_energy(net.eval(), x, config=LemaireEnergyConfig(strict=False))
    assert report.counts == LEMAIRE
    assert [words.split()[7] for words in report.warnings] == ["BatchNorm2d;", "MaxPool2d;", "AvgPool2d;", "Flatten;"]
