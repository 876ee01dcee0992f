"""Hooks of the user: what they make of a value is what every monitor sees, whenever they were put on."""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn

from monitor_cases import sequence, spiking_net
from spikescope import functional, layer, neuron
from spikescope.hooks import may_change_output
from spikescope.monitor import (
    AttributeMonitor,
    GradInputMonitor,
    GradOutputMonitor,
    InputMonitor,
    Monitor,
    OutputMonitor,
    SpikeCounter,
    health,
    instrument,
    record,
)

ones = torch.ones_like


def forward_hook(module):
    return module.register_forward_hook(lambda held, args, out: ones(out))


def forward_hook_with_keywords(module):
    return module.register_forward_hook(lambda held, args, kwargs, out: ones(out), with_kwargs=True, always_call=True)


def first_forward_hook(module):
    return module.register_forward_hook(lambda held, args, out: ones(out), prepend=True)


def hook_on_all_modules(module):
    changes = lambda held, args, out: ones(out) if held is module else None  # noqa: E731
    return nn.modules.module.register_module_forward_hook(changes)


def unbound(module):
    return nn.Module.register_forward_hook(module, lambda held, args, out: ones(out))


CHANGES = [forward_hook, forward_hook_with_keywords, first_forward_hook, hook_on_all_modules, unbound]


@pytest.mark.parametrize("change", CHANGES, ids=lambda held: held.__name__)
@pytest.mark.parametrize("late", [False, True], ids=["before the monitor", "after it"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_every_statistic_sees_what_a_forward_hook_makes_of_the_spikes(change, late, step_mode):
    net = nn.Sequential(neuron.IFNode(step_mode=step_mode))
    handle = None if late else change(net[0])
    kept = OutputMonitor(net, neuron.IFNode)
    sums = record(net, ["rate", "silent share", "packed", "rate over time"])
    counter, clock = SpikeCounter(net), Monitor(net, backend="torch")
    clock.enable()
    handle = change(net[0]) if late else handle
    x = torch.zeros(4, 2, 3)  # no spike of its own
    y = net(x) if step_mode == "m" else torch.stack([net(step) for step in x])
    handle.remove()
    assert torch.equal(y, ones(x))
    assert sums["0"]["rate"].tolist() == [1.0] * 3
    assert sums["0"]["silent share"] == 0
    assert sums["0"]["packed"].rate() == 1
    assert sums["0"]["rate over time"].tolist() == [1.0] * 4
    assert counter["0"].rate == clock.get_avg_firing_rate() == 1
    assert all(torch.equal(held, ones(held)) for held in kept.records)
    functional.reset_net(net)
    net(x) if step_mode == "m" else [net(step) for step in x]
    assert kept[-1].sum() == 0  # the hook is gone


@pytest.mark.parametrize("late", [False, True], ids=["before the monitor", "after it"])
@pytest.mark.parametrize("keywords", [False, True])
@pytest.mark.parametrize("make", [neuron.IFNode, lambda: layer.Linear(3, 3), lambda: nn.Linear(3, 3)])
def test_a_monitor_of_inputs_sees_what_a_pre_hook_makes_of_them(make, keywords, late):
    module = make()

    def change():
        if keywords:
            return module.register_forward_pre_hook(lambda held, args, kw: ((args[0] + 2,), kw), with_kwargs=True)
        return module.register_forward_pre_hook(lambda held, args: (args[0] + 2,))

    handle = None if late else change()
    with InputMonitor(module) as inputs, AttributeMonitor("noted", True, module) as noted:
        handle = change() if late else handle
        module.register_forward_pre_hook(lambda held, args: setattr(held, "noted", 5))
        module(torch.zeros(2, 3))
        handle.remove()
        module(torch.zeros(2, 3))
    assert [held.unique().tolist() for held in inputs.records] == [[2.0], [0.0]]
    assert noted.records == [5, 5]


def test_gradients_are_those_that_backward_hooks_leave():
    net = nn.Sequential(nn.Linear(5, 5), neuron.IFNode(step_mode="m"))
    into, out = GradInputMonitor(net, neuron.IFNode), GradOutputMonitor(net, neuron.IFNode)
    net[1].register_full_backward_hook(lambda held, grads, of_output: (torch.full_like(grads[0], 7.0),))
    net[1].register_full_backward_pre_hook(lambda held, grads: (torch.full_like(grads[0], 3.0),))
    net(sequence()).sum().backward()
    assert (into[0].unique().tolist(), out[0].unique().tolist()) == ([7.0], [3.0])


def test_handles_of_hooks_that_were_there_still_remove_them():
    module = nn.Linear(3, 3)
    handles = [forward_hook(module), module.register_forward_pre_hook(lambda held, args: (args[0] * 0,))]
    with OutputMonitor(module) as outputs, InputMonitor(module) as inputs:
        module(torch.ones(1, 3))
        for handle in handles:
            handle.remove()
        y = module(torch.ones(1, 3))
    assert (outputs[0].sum(), inputs[0].sum()) == (3, 0)
    assert torch.equal(outputs[1], y)
    assert torch.equal(inputs[1], torch.ones(1, 3))
    assert hooks_of(module) == []


def test_handles_remove_their_hooks_also_where_the_collector_knows_of_nothing():
    module = nn.Linear(3, 3)
    handle = forward_hook(module)
    gc.freeze()  # as before a fork
    with OutputMonitor(module):
        handle.remove()
        assert [key for key in module._forward_hooks if not isinstance(key, str)] == []
    assert hooks_of(module) == []


def doubled(module, args, out):
    return 2 * out


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("first", ["handle", "hooks"])
def test_the_handle_in_a_copy_removes_the_hook_of_the_copy(twin, first):
    module = nn.Linear(3, 3)
    module.handle = module.register_forward_hook(doubled)
    if first == "handle":
        module.__dict__ = {"handle": module.__dict__.pop("handle"), **module.__dict__}  # and so it is copied first
    with OutputMonitor(module):
        other = twin(module)
    x = torch.ones(1, 3)
    plain = nn.functional.linear(x, module.weight, module.bias)
    assert torch.equal(other(x), 2 * plain)
    other.handle.remove()
    assert torch.equal(other(x), plain)
    assert torch.equal(module(x), 2 * plain)
    module.handle.remove()
    assert torch.equal(module(x), plain)


def test_a_kernel_counts_only_what_no_hook_may_change():
    node = neuron.IFNode(step_mode="m")
    assert not may_change_output(node)
    with record(node, ["rate"]):
        assert not may_change_output(node)  # its own socket does not
    handle = forward_hook(node)
    assert may_change_output(node)
    handle.remove()
    handle = hook_on_all_modules(node)
    assert may_change_output(node)
    handle.remove()


def hooks_of(net):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    kinds += ("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return [(name, kind, key) for name, held in net.named_modules() for kind in kinds for key in getattr(held, kind)]


MONITORS = {
    "output": lambda net: OutputMonitor(net, nn.Linear),
    "input": lambda net: InputMonitor(net, nn.Linear),
    "attribute": lambda net: AttributeMonitor("weight", True, net, nn.Linear),
    "gradient of the input": lambda net: GradInputMonitor(net, nn.Linear),
    "gradient of the output": lambda net: GradOutputMonitor(net, nn.Linear),
    "record": lambda net: record(net, "norm", nn.Linear, "output"),
    "gradient norm": lambda net: record(net, "gradient norm", nn.Linear, "grad_output"),
}


@pytest.mark.parametrize("name", MONITORS)
def test_no_hook_is_left_on_modules_of_torch(name):
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    monitor, second = MONITORS[name](net), OutputMonitor(net, nn.Linear)
    net(torch.rand(1, 8, requires_grad=True)).sum().backward()
    monitor.close()
    assert hooks_of(net)  # the second still listens
    second.remove_hooks()
    assert hooks_of(net) == []
    torch.jit.script(net)(torch.rand(1, 8))
    exported = torch.export.export(net, (torch.rand(1, 8),)).module()
    assert torch.equal(exported(torch.ones(1, 8)), net(torch.ones(1, 8)))


def test_no_hook_is_left_by_a_monitor_that_is_dropped_or_of_a_whole_network():
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
    monitor = OutputMonitor(net, nn.Linear)
    del monitor
    gc.collect()
    assert hooks_of(net) == []
    watched = spiking_net()
    before = hooks_of(watched)
    with health(watched) as watch, Monitor(watched) as clock:
        clock.enable()
        watched(sequence()).sum().backward()
        assert hooks_of(watched) != before or watch.findings is not None
    assert hooks_of(watched) == before  # those that the layers of the library are born with


def test_sockets_that_were_asked_for_stay():
    net = instrument(nn.Sequential(nn.Linear(5, 5)))
    before = hooks_of(net)
    assert before
    with OutputMonitor(net, nn.Linear):
        pass
    assert hooks_of(net) == before


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_monitored_network_is_without_passing_hooks(twin):
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    with OutputMonitor(net, nn.Linear) as monitor:
        other = twin(net)
        other(torch.rand(1, 8))
        assert monitor.records == []
        torch.jit.script(other)
        kept = twin(instrument(nn.Sequential(nn.Linear(8, 4))))
        assert hooks_of(kept)


def test_a_network_compiled_before_is_seen_and_seen_again():
    torch.compiler.reset()
    net = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for _ in range(3):
        compiled(sequence())
        with OutputMonitor(net, nn.Linear, keep_graph=False) as monitor:
            y = compiled(sequence())
            assert len(monitor.records) == 2
            assert torch.equal(monitor["1"][0], y)
        compiled(sequence())
        assert len(monitor.records) == 2


def test_the_dict_beneath_the_hooks_has_their_order():
    """The guards of compiled code of PyTorch 2.11 count in it, where they mean the hooks in their order."""
    node = neuron.IFNode()
    forward_hook(node)
    first_forward_hook(node)
    handle = forward_hook(node)
    for _ in range(2):
        assert list(dict.keys(node._forward_hooks)) == list(node._forward_hooks)
        assert [isinstance(key, str) for key in node._forward_hooks][-1]
        handle.remove()


def test_hooks_of_the_user_in_compiled_code():
    torch.compiler.reset()
    net = nn.Sequential(neuron.IFNode(step_mode="m"), layer.Linear(3, 3, step_mode="m"))
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    compiled(torch.zeros(4, 2, 3))
    functional.reset_net(net)
    with (
        OutputMonitor(net, neuron.IFNode, keep_graph=False) as outputs,
        InputMonitor(net, neuron.IFNode, keep_graph=False) as inputs,
        record(net, "rate") as rates,
    ):
        forward_hook(net[0])
        net[0].register_forward_pre_hook(lambda held, args: (args[0] + 0.25,))
        compiled(torch.zeros(4, 2, 3))
    assert (outputs[0].unique().tolist(), inputs[0].unique().tolist()) == ([1.0], [0.25])
    assert rates["0"].tolist() == [1.0] * 3


def test_the_hooks_of_a_compiled_wrapper_are_its_own():
    net = nn.Sequential(nn.Linear(5, 5))
    handle = forward_hook(net)
    compiled = torch.compile(net, backend="eager")
    with OutputMonitor(compiled) as wrapper, OutputMonitor(net) as inside:
        y = compiled(sequence())
    assert (wrapper.monitored_layers, inside.monitored_layers) == ([""], [""])
    assert torch.equal(wrapper[0], y)
    assert hooks_of(compiled) == [("_orig_mod", "_forward_hooks", handle.id)]


def halves(held, args, out):
    held.v = held.v * 0.5


def halves_in_place(held, args, out):
    held.v.mul_(0.5)


def levels(held, args, out):
    held.v = 0.25


@pytest.mark.parametrize("change", [halves, halves_in_place, levels], ids=lambda held: held.__name__)
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_potential_is_the_one_that_a_hook_has_left(change, backend, step_mode):
    node = neuron.LIFNode(step_mode=step_mode, backend=backend, v_threshold=2.0)
    node.register_forward_hook(change)
    x = torch.rand(1 if change is levels else 4, 2, 3)
    with record(node, "raw", signal="v") as recording:
        for part in x if step_mode == "s" else [x]:
            node(part)
    assert torch.equal(recording[""][-1], node.v if isinstance(node.v, torch.Tensor) else torch.full((2, 3), node.v))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_the_potential_is_the_one_that_a_hook_in_compiled_code_has_left(step_mode):
    net = nn.Sequential(neuron.LIFNode(step_mode=step_mode, v_threshold=2.0))
    net[0].register_forward_hook(halves)
    torch._dynamo.reset()
    with record(net, "raw", signal="v") as recording:
        torch.compile(net, backend="aot_eager")(torch.rand(4, 2, 3))
    assert torch.equal(recording["0"].reshape(-1, 2, 3)[-1], net[0].v.reshape(-1, 2, 3)[-1])
