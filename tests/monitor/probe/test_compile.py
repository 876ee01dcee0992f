"""Monitors in compiled code: attached late, toggled often, never in the way."""

import enum
import itertools

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from monitor_cases import sequence, spiking_net
from sample import sample
from spikescope import functional, monitor, neuron
from spikescope.dynamics.cpp import native
from spikescope.form import rebuilt
from spikescope.monitor import AttributeMonitor, GradInputMonitor, GradOutputMonitor, OutputMonitor
from spikescope.monitor.choose.signals import signal_of
from spikescope.monitor.probe.single import Probe
from spikescope.sockets import instrument

pytestmark = [  # of PyTorch's own imports, and of its look at the output of a compiled network
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(run, net):
    functional.reset_net(net)
    net.zero_grad()
    y = run(sequence())
    y.sum().backward()
    return y.detach(), [parameter.grad.clone() for parameter in net.parameters()]


@pytest.mark.parametrize("backend", sample(["aot_eager", "inductor"], "aot_eager"))
def test_a_monitor_attached_after_compiling_sees_all_and_toggles_without_recompiling(backend):
    net = spiking_net()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    before = trained(compiled, net)
    assert counter.frame_count == 1
    monitor = OutputMonitor(compiled, neuron.Neuron)
    gradients = GradOutputMonitor(compiled, neuron.Neuron)
    shares = GradInputMonitor(compiled, neuron.LIFNode)
    for toggle in range(100 if backend == "aot_eager" else 10):
        (monitor.disable if toggle % 2 else monitor.enable)()
        after = trained(compiled, net)
    assert counter.frame_count == 2
    assert torch.equal(before[0], after[0])
    assert all(map(torch.equal, before[1], after[1]))
    half = 50 if backend == "aot_eager" else 5
    assert [len(monitor[name]) for name in ("1", "3")] == [half, half]
    assert [moment.name for moment in monitor.moments[:3]] == ["_orig_mod.1", "_orig_mod.3", "_orig_mod.1"]
    assert [moment.name for moment in gradients.moments[:3]] == ["_orig_mod.3", "_orig_mod.1", "_orig_mod.3"]
    with OutputMonitor(net, neuron.Neuron) as eager, GradInputMonitor(net, neuron.LIFNode) as eager_shares:
        trained(net, net)
        assert torch.equal(eager["1"][0], monitor["1"][-1])
        assert torch.allclose(eager_shares[0], shares[0])
    for held in (monitor, gradients, shares):
        held.close()
    trained(compiled, net)
    assert counter.frame_count == 2  # the first graph again


def single_steps(run, net):
    """Two sequences, each of them one backward pass of four calls."""
    for x in (sequence(), sequence() / 2):
        functional.reset_net(net)
        net.zero_grad()
        sum((step + 1) * run(x[step]) for step in range(4)).sum().backward()
    return [parameter.grad.clone() for parameter in net.parameters()]


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("backend", sample(["aot_eager", "inductor"], "aot_eager"))
def test_a_backward_pass_of_several_calls(backend):
    net = spiking_net()
    functional.set_step_mode(net, "s")
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    bare = single_steps(compiled, net)
    assert counter.frame_count <= 2  # the state of a reset and that after it
    found = []
    for run in (compiled, net):
        with (
            monitor.record(net, "gradient norm", signal="grad_output") as norms,
            monitor.health(net) as signs,
            GradOutputMonitor(net, neuron.Neuron) as gradients,
        ):
            weights = single_steps(run, net)
        order = [moment.name for moment in gradients.moments]
        found.append((dict(norms), signs.table(), order, gradients.records, weights))
    (norms, table, order, records, weights), wanted = found
    assert order == wanted[2] == ["3", "1"] * 4 * 2
    assert norms.keys() == wanted[0].keys()
    assert all(torch.allclose(norms[name], wanted[0][name]) for name in norms)
    assert table == wanted[1]
    assert all(map(torch.allclose, records, wanted[3]))
    assert all(map(torch.equal, weights, bare))


def test_a_backward_pass_twice():
    net = spiking_net()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with GradOutputMonitor(net, neuron.Neuron) as gradients:
        loss = compiled(sequence()).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert [moment.name for moment in gradients.moments] == ["3", "1"] * 2


def test_opening_and_closing_monitors_again_and_again_uses_the_same_graphs():
    net = spiking_net()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    for _ in range(20):
        with OutputMonitor(net, neuron.Neuron) as monitor, AttributeMonitor("v", True, net, neuron.Neuron) as potential:
            trained(compiled, net)
            assert len(monitor.records) == 2
            assert potential.records == [0.0, 0.0]
    assert counter.frame_count == 1


def test_taps_and_clock_in_compiled_code():
    net = spiking_net()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    seen = []
    probes = [
        Probe(
            name, net[int(name)], signal_of(signal, net[int(name)]), lambda v, m: seen.append((m, v.clone())), root=net
        )
        for name, signal in (("1", "h"), ("1", "v"), ("0", "output"))
    ]
    with torch.no_grad():
        compiled(sequence())
        compiled(sequence())
        functional.reset_net(net)
        compiled(sequence())
    times = [(moment.name, moment.run, moment.start, moment.stop) for moment, _ in seen]
    assert sorted(times) == sorted(
        (name, *when) for name in ("0", "1", "1") for when in ((0, 0, 4), (0, 4, 8), (1, 0, 4))
    )
    assert all(value.shape == (4, 2, 7) for _, value in seen)
    for probe in probes:
        probe.close()


def test_foreign_modules_are_instrumented_first():
    class Pair(nn.Module):
        def forward(self, x):
            return {"double": 2 * x, "rest": (x + 1, None, 3)}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            out = self.pair(x)
            return out["double"] + out["rest"][0]

    net = instrument(Net())
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = torch.ones(2, requires_grad=True)
    compiled(x)
    with OutputMonitor(net, Pair) as monitor:
        compiled(x)
        assert monitor[0]["double"].tolist() == [2.0, 2.0]
        assert monitor[0]["rest"][1:] == (None, 3)
    with GradOutputMonitor(net, Pair) as gradients:
        with pytest.warns(RuntimeWarning, match="here are several"):
            compiled(x).sum().backward()
        with pytest.raises(ValueError, match="the gradient of one tensor"):
            _ = gradients.records


def test_inference_mode_and_errors_in_compiled_code():
    net = spiking_net()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with OutputMonitor(net, neuron.IFNode, lambda value: 1 / 0) as broken, OutputMonitor(net, neuron.LIFNode) as sound:
        with torch.inference_mode(), pytest.warns(RuntimeWarning, match="division by zero"):
            compiled(sequence())
        assert not sound[0].is_inference()
        with pytest.raises(ZeroDivisionError):
            _ = broken.records


def test_a_graph_cannot_be_kept_in_compiled_code():
    net = spiking_net()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with OutputMonitor(net, neuron.IFNode, keep_graph=True) as monitor:
        with pytest.warns(RuntimeWarning, match="keep_graph"):
            compiled(sequence())
        with pytest.raises(RuntimeError, match="carry no graph"):
            _ = monitor.records


def test_the_hooks_of_a_compiled_network_itself_are_no_graphs_of_their_own():
    class Net(nn.Module):
        def forward(self, x):
            return 2 * x

    net = instrument(Net())
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    with OutputMonitor(compiled) as monitor, GradOutputMonitor(compiled) as gradients:
        for _ in range(3):
            compiled(torch.ones(2, requires_grad=True)).sum().backward()
    assert (len(monitor.records), len(gradients.records), counter.frame_count) == (3, 3, 1)


LEARNED = nn.Parameter(torch.tensor([2.3, 1.7, 3.1, 2.0, 2.9, 1.9, 2.2]))


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    ("tau", "signal"),
    sample(itertools.product(("number", "learned"), ("v", "h")), ("number", "v"), ("learned", "h")),
)
def test_compiled_kernels_write_potentials_only_where_somebody_takes_them(signal, tau, monkeypatch):
    torch.compiler.reset()
    net, x = spiking_net(), sequence(4, 3)  # in two calls that take the same graphs
    net[1] = neuron.LIFNode(tau=2.0 if tau == "number" else LEARNED, step_mode="m")
    net[3].v_reset = None
    run = torch.compile(net, backend="aot_eager", fullgraph=True)
    written, forward = [], native.forward

    def watched(key, x_seq, state, values, keep_v, keep_checkpoints, taps):
        written.append(keep_v or "h" in taps)
        return forward(key, x_seq, state, values, keep_v, keep_checkpoints, taps)

    def runs(of):
        with monitor.record(net, "raw", signal=signal, every=2) as recording:
            for _ in range(3):
                of(x[:2]).sum().backward()
                functional.detach_net(net)
                of(x[2:]).sum().backward()
                functional.reset_net(net)
        return recording

    wanted = runs(net)
    monkeypatch.setattr(native, "forward", watched)
    found = runs(run)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert found["1"].shape == (4, 2 * 3, 7)  # the samples of two runs
    assert sum(written) == 2 * 2 * 2  # of two neurons, in two runs, by two calls
    assert len(written) == 2 * 3 * 2 + sum(written)


@pytest.mark.parametrize("signal", ["v", "h"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_potentials_of_a_neuron_that_is_compiled_by_itself(signal, dtype):
    node, x = neuron.LIFNode(step_mode="m"), sequence(4, 3).to(dtype)
    run, found = torch.compile(node, backend="aot_eager", fullgraph=True), []
    for of in (run, node):
        node.reset()
        with monitor.record(node, "raw", signal=signal) as recording, torch.no_grad():
            of(x)
            assert signal not in node.tapped or of is node  # what computes it would hold the input
        found.append(recording[""])
    assert torch.equal(*found)


MADE = {
    "before": lambda run: AttributeMonitor("v", True, run, neuron.LIFNode),
    "grad_input": lambda run: GradInputMonitor(run, neuron.LIFNode),
    "rate": lambda run: monitor.record(run, "rate", neuron.LIFNode),
}


@pytest.mark.parametrize(
    "order", sample(itertools.permutations(MADE), tuple(MADE), tuple(reversed(MADE))), ids="-".join
)
def test_monitors_of_one_neuron_in_any_order(order):
    net = spiking_net()
    run = torch.compile(net, backend="eager", fullgraph=True)
    trained(run, net)
    functional.reset_net(net)
    held = {name: MADE[name](run) for name in order}
    run(sequence()).sum().backward()
    assert len(held["before"].records) == len(held["grad_input"].records) == 1
    functional.reset_net(net)
    assert torch.equal(held["rate"]["3"], net(sequence()).double().mean((0, 1)))


@pytest.mark.parametrize("backend", sample(["eager", "inductor"], "eager"))
def test_a_number_that_changes_is_recorded_as_it_is(backend):
    class Scaled(nn.Linear):
        def forward(self, x):
            return {"y": super().forward(x), "gain": self.gain}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = Scaled(2, 2)
            self.inside.gain = 0.5

        def forward(self, x):
            return self.inside(x)["y"]

    net = instrument(Net())
    run = torch.compile(net, backend=backend, fullgraph=True)
    values = [0.5, 1.1, 2.3, -0.0, float("inf"), float("nan"), 7.7, 8.8, 9.9, 10.1]
    with AttributeMonitor("gain", False, net, Scaled) as gains, OutputMonitor(net, Scaled) as outputs:
        for gain in values:
            net.inside.gain = gain
            run(torch.rand(1, 2)).sum().backward()
    assert repr(gains.records) == repr(values)
    assert repr([held["gain"] for held in outputs.records]) == repr(values)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize("given", [lambda x: {Colour.RED: x}, lambda x: {Level.LOW: x}, lambda x: [Level.LOW, x]])
def test_what_no_text_can_tell_ends_the_probe_alone(given):
    class Pick(nn.Module):
        def forward(self, x):
            return given(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.pick = Pick()

        def forward(self, x):
            self.pick(x)
            return 2 * x

    net = instrument(Net())
    run = torch.compile(net, backend="eager", fullgraph=True)
    with OutputMonitor(net, Pick) as found:
        with pytest.warns(RuntimeWarning, match="cannot be recorded in compiled code"):
            assert run(torch.ones(1)).item() == 2
        with pytest.raises(ValueError, match="numbers or texts as keys"):
            _ = found.records


def test_a_form_that_cannot_be_read_is_an_error_and_not_raised():
    assert isinstance(rebuilt("<Colour.RED: 1>", []), SyntaxError)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_counts_and_bits_of_the_eager_loop_where_the_compiler_knows_no_sizes(order):
    frames = (3 * torch.rand(8, 3, 5, 7, generator=torch.Generator().manual_seed(4))).to(memory_format=order)
    seen = []
    for compiling in (False, True):
        net = nn.Sequential(neuron.LIFNode(step_mode="m", backend="torch"))
        run = torch.compile(net, backend="eager", fullgraph=True, dynamic=True) if compiling else net
        with monitor.record(net, ["count", "packed"]) as spikes:
            run(frames.unflatten(0, (4, 2)))
        seen.append([spikes["0"]["count"], spikes["0"]["packed"].dense()])
    assert seen[0][0].max() > 1
    assert all(map(torch.equal, *seen))


@pytest.mark.parametrize("between", [functional.reset_net, functional.detach_net])
def test_counts_beside_gradients_where_the_function_that_is_compiled_resets(between):
    net = nn.Sequential(neuron.LIFNode(step_mode="m"), neuron.IFNode(step_mode="m"))

    def function(x):
        between(net)
        return net(x)

    x, seen = sequence().requires_grad_(), []
    for run in (function, torch.compile(function, backend="eager", fullgraph=True)):
        functional.reset_net(net)
        with monitor.record(net, "gradient norm", signal="grad_output"), monitor.record(net, "count") as spikes:
            run(x).sum().backward()
        seen.append([spikes["0"], spikes["1"]])
    assert seen[0][1].max() > 0
    assert all(map(torch.equal, *seen))


class Twice(nn.Module):
    """A neuron that is called twice, so that the second call must not be told as the first."""

    def __init__(self):
        super().__init__()
        self.shared = neuron.LIFNode(v_threshold=0.3, step_mode="m")

    def forward(self, x):
        return self.shared(self.shared(x))


@pytest.mark.parametrize("watch", [monitor.GradOutputMonitor, monitor.GradInputMonitor])
def test_what_every_call_of_a_neuron_tells_while_gradients_are_watched(watch):
    told = []
    for compiled in (False, True):
        net, x = Twice(), torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        run = torch.compile(net, backend="eager") if compiled else net
        with (
            watch(net, neuron.LIFNode),
            monitor.record(net, ["raw", "count"], signal="spike") as spikes,
            monitor.record(net, "raw", signal="v") as potentials,
            monitor.record(net, "raw", signal="h") as charged,
        ):
            run(x).square().sum().backward()
            held = spikes["shared"]
            told.append((held["raw"], held["count"], potentials["shared"], charged["shared"]))
        assert not net.shared.tapped.keys() & {"v", "h"}
    for one, other in zip(*told, strict=True):
        assert torch.equal(one, other)
