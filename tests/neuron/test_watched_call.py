"""A call that a monitor watches is as short as any other: the same kernel, which counts besides, and no waiting."""

import pytest
import torch
from neuron_cases import POINTWISE, make, sequence
from torch import nn
from torch.profiler import ProfilerActivity, profile

from spikescope import monitor, neuron
from spikescope.dynamics.triton import launch
from spikescope.neuron.spiking import gives_spikes
from spikescope.sockets import Signal, subscribe

COUNTED = [cls for cls in POINTWISE if gives_spikes(make(cls))]
REDUCERS = ["count", "silent share", "packed"]


def run(node, x, learn):
    x = x.clone().requires_grad_(learn)
    y = node(x)
    node.reset()
    return [y.detach(), *torch.autograd.grad(y.sum(), x)] if learn else [y]


def prepared(node):
    """The runs on the short way that tell a monitor something."""
    return [run for run in node._short.runs.values() if run is not None and run.taps]


@pytest.mark.slow(keep=4)
@pytest.mark.parametrize("backend", ["cpp", "triton"])
@pytest.mark.parametrize("cls", COUNTED, ids=lambda cls: cls.__name__)
def test_watched_run_is_as_prepared_as_any_and_tells_what_came_out(cls, backend):
    if backend == "triton" and not launch.interpreted():
        pytest.skip("TRITON_INTERPRET is 0")
    node, plain = (make(cls, step_mode="m", backend=backend) for _ in range(2))
    x, given = sequence(cls)[:3], []
    x = x if x.ndim > 2 else x.unsqueeze(1)
    with monitor.record(node, REDUCERS) as found:
        for learn in (False, True) * 3:
            for got, want in zip(run(node, x, learn), run(plain, x, learn), strict=True):
                assert torch.equal(got, want)
            given.append(run(node, x, False)[0].detach())
    assert len(prepared(node)) == len([held for held in plain._short.runs.values() if held is not None])
    assert prepared(node) or cls is not neuron.LIFNode
    spikes, row = torch.cat(given, 1), found[""]
    assert torch.equal(row["count"], 2 * spikes.sum((0, 1)).long())
    assert row["silent share"] == (spikes.sum((0, 1)) == 0).double().mean()
    assert torch.equal(row["packed"].dense().sum((0, 1)), 2 * spikes.sum((0, 1)))


def test_counting_adds_no_operation_but_memory_for_the_counts():
    node, x = neuron.LIFNode(step_mode="m"), torch.rand(4, 2, 30).requires_grad_()

    def operations():
        for _ in range(3):
            run(node, x, True)
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:  # 2.11 warns without
            run(node, x, True)
        return [event.name for event in seen.events() if event.name.startswith("aten::")]

    plain = operations()
    with monitor.record(node, ["rate", "silent share"]) as recording:
        watched = operations()
    for name in plain:
        watched.remove(name)
    assert recording.cost().calls == 4
    assert set(watched) == {"aten::empty_like", "aten::empty_strided"}, watched
    assert len(watched) == 2, watched


def test_what_listens_only_now_and_then_is_asked_for_only_then():
    node, x = neuron.LIFNode(step_mode="m"), torch.rand(4, 2, 30)
    with monitor.record(node, "count", every=2) as some, monitor.OutputMonitor(node, neuron.LIFNode) as every:
        for _ in range(8):
            run(node, x, False)
    assert len(every.records) == 8
    assert torch.equal(some[""], sum(every.records[::2]).sum((0, 1)).long())
    assert not node._live_taps or len(prepared(node)) == 1


def test_gradient_of_the_input_comes_from_the_short_way_too():
    node, twin = neuron.LIFNode(step_mode="m"), neuron.LIFNode(step_mode="m", backend="torch")
    x, found = torch.rand(4, 2, 30), []
    for each in (node, twin):
        with monitor.GradInputMonitor(each, neuron.LIFNode) as gradients:
            for _ in range(4):
                run(each, x, True)
        found.append(gradients.records)
    assert len(found[0]) == len(found[1]) == 4
    torch.testing.assert_close(*map(torch.stack, found))


def test_field_that_a_listener_edits_in_the_middle_of_a_call_counts_in_that_call():
    node = neuron.IFNode(step_mode="m")
    x = torch.full((1, 1, 3), 0.75)
    for _ in range(4):
        run(node, x, False)

    class Edits:
        enabled = True

        def receive(self, value, compiled, cut, call=None):
            node.v_threshold = 0.5

    subscribe(node, Signal("input"), Edits())
    assert run(node, x, False)[0].tolist() == [[[1.0] * 3]]


def test_hook_of_somebody_else_still_changes_what_a_monitor_sees():
    net = nn.Sequential(neuron.IFNode(step_mode="m"))
    x = torch.full((1, 1, 3), 2.0)
    with monitor.OutputMonitor(net, neuron.IFNode) as seen:
        for _ in range(3):
            run(net[0], x, False)
        handle = net[0].register_forward_hook(lambda module, args, out: out + 4)
        run(net[0], x, False)
        handle.remove()
    assert [held.max().item() for held in seen.records] == [1.0, 1.0, 1.0, 5.0]
