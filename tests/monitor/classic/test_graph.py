"""How long a record holds on to its autograd graph."""

import gc
import weakref

import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import functional, neuron
from spikescope.monitor import AttributeMonitor, BaseMonitor, Budget, InputMonitor, OutputMonitor, Subset


def penalised(make, x, weight=10.0):
    """The gradient of the first weight under a loss with a penalty on the records."""
    net = spiking_net()
    with make(net) as monitor:
        y = net(x)
        (y.sum() + weight * sum(held.mean() for held in monitor.records)).backward()
        assert not any(held.requires_grad for held in monitor.records)
    return net[0].weight.grad


@pytest.mark.parametrize(
    ("make", "want"),
    [
        (lambda net: OutputMonitor(net, neuron.IFNode), lambda net, x: net[1](net[0](x)).mean()),
        (lambda net: OutputMonitor(net, neuron.IFNode, torch.mean), lambda net, x: net[1](net[0](x)).mean()),
        (lambda net: InputMonitor(net, neuron.IFNode), lambda net, x: net[0](x).mean()),
        (
            lambda net: AttributeMonitor("v", False, net, neuron.IFNode),
            lambda net, x: (net[1](net[0](x)), net[1].v.mean())[1],
        ),
        (
            lambda net: OutputMonitor(net, neuron.IFNode, subset=Subset(time=slice(0, 1))),
            lambda net, x: net[1](net[0](x))[0:1].mean(),
        ),
    ],
    ids=["output", "function", "input", "state", "subset"],
)
def test_a_loss_on_records_has_its_gradient_and_the_records_let_go(make, want):
    net, x = spiking_net(), sequence()
    loss = net(x).sum()
    functional.reset_net(net)
    (loss + 10.0 * want(net, x)).backward()
    plain = penalised(lambda net: BaseMonitor(), x)
    got = penalised(make, x)
    assert not torch.allclose(got, plain)
    assert torch.allclose(got, net[0].weight.grad, atol=1e-6)


def test_records_of_past_iterations_hold_no_activations():
    net, alive = spiking_net(), []
    with OutputMonitor(net, neuron.Neuron) as monitor:
        net[0].register_forward_hook(lambda held, args, out: alive.append(weakref.ref(out)))
        for _ in range(3):
            functional.reset_net(net)
            net(sequence()).sum().backward()
        functional.reset_net(net)
        gc.collect()
        assert [held() for held in alive] == [None] * 3
        assert len(monitor.records) == 6
        assert not any(held.requires_grad for held in monitor.records)


def test_a_record_keeps_its_graph_until_the_backward_pass_has_gone_through_its_value():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    net = nn.Sequential(first, second)
    with OutputMonitor(net, nn.Linear) as monitor:
        out = net(torch.rand(2, 3))
        torch.autograd.grad(out.sum(), second.bias, retain_graph=True)  # goes through the output alone
        assert [held.requires_grad for held in monitor.records] == [True, False]
        out.sum().backward()
        assert not monitor[0].requires_grad


def test_a_record_of_a_parameter_leaves_no_hook_behind():
    net = nn.Linear(3, 3)
    with AttributeMonitor("weight", True, net) as monitor:
        for _ in range(3):
            net(torch.rand(2, 3)).sum().backward()
        assert not net.weight._backward_hooks
        assert not any(held.requires_grad for held in monitor.records)


def test_the_graph_is_cut_at_once_or_kept_for_ever_where_that_is_asked_for(tmp_path):
    net = spiking_net()
    made = {wanted: OutputMonitor(net, neuron.IFNode, keep_graph=wanted) for wanted in (False, True)}
    disk = OutputMonitor(net, neuron.IFNode, budget=Budget(8, "spill", tmp_path))  # a graph cannot go there
    y = net(sequence())
    assert not made[False][0].requires_grad
    y.sum().backward(retain_graph=True)
    made[True][0].mean().backward()
    assert made[True][0].requires_grad
    assert not disk[0].requires_grad


def test_without_gradients_there_is_no_graph_and_no_watched_tensor():
    net = spiking_net()
    with OutputMonitor(net, neuron.IFNode) as monitor:
        with torch.no_grad():
            net(sequence())
        functional.reset_net(net)
        y = net[1](net[0](sequence()))
        assert not y._backward_hooks  # layers that look whether a gradient is watched see nothing
    assert [held.requires_grad for held in monitor.records] == [False, True]


def test_in_compiled_code_a_record_is_detached_with_one_warning():
    torch.compiler.reset()
    net = spiking_net()
    compiled = torch.compile(net, backend="eager")
    with OutputMonitor(net, neuron.Neuron) as monitor, OutputMonitor(net, neuron.Neuron, keep_graph=False) as plain:
        with pytest.warns(RuntimeWarning, match="a record of compiled code is detached") as told:
            compiled(sequence())
        assert sum("a record of compiled code" in str(held.message) for held in told) == 1
        functional.reset_net(net)
        compiled(sequence())  # a second warning would be an error here
        functional.reset_net(net)
        assert not any(held.requires_grad for held in (*monitor.records, *plain.records))
    with OutputMonitor(net, neuron.Neuron), torch.no_grad():
        compiled(sequence())  # a warning would be an error here
