"""What a GPU has and a CPU has not: streams, graphs, waiting, and a compiler of the host that may be missing."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from device_cases import ODD, VECTORS
from dynamics_cases import inputs
from torch import nn

from spikescope import functional, layer, monitor, neuron

pytestmark = pytest.mark.real_gpu
SRC = Path(__file__).parents[2] / "src"


def small_net(device, backend="auto"):
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(64, 64), neuron.LIFNode(), layer.Linear(64, 32), neuron.ParametricLIFNode())
    functional.set_step_mode(net, "m")
    functional.set_backend(net, backend)
    return net.to(device)


def frames(device, seed=0):
    return (inputs(4, 8, 64, seed=seed) * 2).to(device)


def trained(net, run, x_seq):
    net.zero_grad(set_to_none=True)
    y = run(x_seq)
    (y * torch.linspace(0.1, 1, y.shape[-1], device=y.device)).sum().backward()
    return y.detach().clone(), [parameter.grad.clone() for parameter in net.parameters()]


def assert_trained_alike(got, want):
    assert torch.equal(got[0], want[0])
    for a, b in zip(got[1], want[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("learned", [False, True], ids=["numbers", "tensors"])
def test_no_call_makes_the_host_wait(device, learned):
    node = neuron.ParametricLIFNode(step_mode="m") if learned else neuron.LIFNode(step_mode="m")
    node, x_seq = node.to(device), inputs(4, 16, VECTORS).to(device).requires_grad_()
    for _ in range(2):
        node.reset()
        node(x_seq).sum().backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        node.reset()
        y = node(x_seq)
        node(x_seq)
        y.sum().backward()
        node.reset()
        with torch.device("cuda"):
            node(x_seq)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("n", [VECTORS, ODD])
def test_a_captured_graph_replays_on_new_input(device, n):
    node, x_seq = neuron.LIFNode(step_mode="m").to(device), inputs(4, 16, n).to(device).requires_grad_()
    gy = inputs(4, 16, n, seed=4).to(device)

    def step():
        node.reset()
        y = node(x_seq)
        return y.detach(), torch.autograd.grad(y, x_seq, gy)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = step()
    for seed in (11, 12):
        with torch.no_grad():
            x_seq.copy_(inputs(4, 16, n, seed=seed))
        other = neuron.LIFNode(step_mode="m", tau=2.0 + seed).to(device)
        other(x_seq)  # what it leaves in memory is none of the graph's
        graph.replay()
        reference = neuron.LIFNode(step_mode="m", backend="torch")
        y = reference(x_seq)
        assert torch.equal(got[0], y)
        torch.testing.assert_close(got[1], torch.autograd.grad(y, x_seq, gy)[0], rtol=1e-4, atol=1e-5)


def test_a_field_on_the_cpu_is_not_captured_in_silence(device):
    node = neuron.LIFNode(tau=torch.tensor(2.5), step_mode="m")
    x_seq = inputs(4, 2, VECTORS).to(device)
    node(x_seq)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="on the CPU, which a captured CUDA graph"), torch.cuda.graph(graph):
        node(x_seq)


def test_a_second_stream(device):
    node, x_seq = neuron.LIFNode(step_mode="m").to(device), inputs(8, 64, VECTORS).to(device)
    want = neuron.LIFNode(step_mode="m", backend="torch")(x_seq)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = node(x_seq)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(got, want)


@pytest.mark.parametrize("mode", [None, "reduce-overhead"], ids=["plain", "graphs"])
def test_a_compiled_network(device, mode):
    torch._dynamo.reset()
    net, reference = small_net(device), small_net(device, "torch")
    compiled = torch.compile(net, fullgraph=True, mode=mode)
    for call in range(5):
        functional.reset_net(net)
        functional.reset_net(reference)
        torch.compiler.cudagraph_mark_step_begin()
        got = trained(net, compiled, frames(device, call))
        assert_trained_alike(got, trained(reference, reference, frames(device, call)))


@pytest.mark.parametrize("mode", [None, "reduce-overhead"], ids=["plain", "graphs"])
def test_a_number_that_is_edited_reaches_compiled_code(device, mode):
    torch._dynamo.reset()
    net, reference = small_net(device), small_net(device, "torch")
    compiled = torch.compile(net, mode=mode)
    for call in range(6):
        for each in (net, reference):
            functional.reset_net(each)
            each[1].v_threshold = 0.5 + 0.25 * (call // 2)
        torch.compiler.cudagraph_mark_step_begin()
        got = trained(net, compiled, frames(device, call))
        assert_trained_alike(got, trained(reference, reference, frames(device, call)))


@pytest.mark.parametrize("mode", [None, "reduce-overhead"], ids=["plain", "graphs"])
def test_monitors_of_a_compiled_network_see_every_call(device, mode):
    torch._dynamo.reset()
    net, reference = small_net(device), small_net(device, "torch")
    compiled, tables = torch.compile(net, mode=mode), []
    for each, run in ((net, compiled), (reference, reference)):
        with monitor.OutputMonitor(each, neuron.Neuron) as seen:
            for call in range(5):
                functional.reset_net(each)
                torch.compiler.cudagraph_mark_step_begin()
                trained(each, run, frames(device, call))
            tables.append([held.float().mean().item() for name in seen.monitored_layers for held in seen[name]])
    assert len(tables[0]) == 10
    assert tables[0] == tables[1]


def test_state_that_goes_on_from_one_replay_to_the_next_is_copied_out(device):
    """As docs/guide/neurons.md says: the memory of a replay belongs to the next one."""
    torch._dynamo.reset()
    net, reference = small_net(device), small_net(device, "torch")
    compiled = torch.compile(net, mode="reduce-overhead")
    with torch.no_grad():
        for call in range(6):
            torch.compiler.cudagraph_mark_step_begin()
            got = compiled(frames(device, call))
            assert torch.equal(got, reference(frames(device, call)))
            functional.set_state(net, copy.deepcopy(functional.get_state(net)))


def test_default_device_and_records(device):
    calls = [frames(device, call) for call in range(3)]
    with torch.device("cuda"):
        net = small_net(device)
        with monitor.record(net, ["rate"]) as recording:
            for x_seq in calls:
                functional.reset_net(net)
                net(x_seq)
    assert len(list(recording)) > 0


MISSING = """
import warnings, torch
from spikescope import neuron
x = torch.rand(4, 2, 64, device="cuda")
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    node = neuron.LIFNode(step_mode="m")
    y = node(x)
    node.reset()
    node(x)
words = [str(w.message) for w in seen if "eager loop" in str(w.message)]
assert len(words) == 1 and "C compiler" in words[0], words
assert torch.equal(y, neuron.LIFNode(step_mode="m", backend="torch")(x))
assert node.implementation(x).backend == "torch"
try:
    neuron.LIFNode(step_mode="m", backend="triton")(x)
except RuntimeError as error:
    assert "C compiler" in str(error), error
else:
    raise AssertionError("no error")
"""


def test_without_a_compiler_of_c_the_eager_loop_runs(device, tmp_path):
    path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PATH": "", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    environment.pop("CC", None)
    done = subprocess.run(
        [sys.executable, "-c", MISSING], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
