"""The facts about hooks that the design rests on, each as a test of ours."""

import copy
import io
import logging
import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from monitor_cases import Named, sequence, spiking_net
from spikescope import functional, layer, neuron
from spikescope.monitor import AttributeMonitor, GradInputMonitor, GradOutputMonitor, InputMonitor, OutputMonitor
from spikescope.sockets import Signal, instrument, place_sockets


def plugged(net):
    return [point for module in net.modules() for socket in place_sockets(module) for point in socket.points]


@pytest.mark.parametrize("made", [layer.Linear(1, 1), layer.BatchNorm2d(1), neuron.IFNode(), layer.Dropout()])
def test_modules_of_the_library_are_born_with_a_socket(made):
    assert "spikescope" in made._forward_hooks
    assert "spikescope" in made._forward_pre_hooks


def test_a_socket_changes_neither_state_dict_nor_repr():
    plain, given = nn.Linear(2, 3), nn.Linear(2, 3)
    instrument(given)
    assert plain.state_dict().keys() == given.state_dict().keys()
    assert repr(plain) == repr(given)


def test_instrument_keeps_the_sockets_that_are_there():
    net = nn.Sequential(nn.ReLU())
    first = place_sockets(instrument(net)[0])
    assert place_sockets(instrument(net)[0]) == first


def _saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), _saved])
def test_copies_are_unmonitored(twin):
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron) as monitor:
        other = twin(net)
        other(sequence())
        assert monitor.records == []
        assert plugged(other) == []
        with OutputMonitor(other, neuron.Neuron) as second:
            other(sequence())
        assert len(second.records) == 2
        assert monitor.records == []


def test_a_hook_put_on_an_unpickled_module_does_not_take_the_place_of_the_socket():
    other = pickle.loads(pickle.dumps(spiking_net()))
    for _ in range(3):
        other[1].register_forward_hook(lambda *args: None)
    with OutputMonitor(other, neuron.IFNode) as monitor:
        other(sequence())
    assert len(monitor.records) == 1


@pytest.mark.parametrize("reentrant", [True, False])
def test_the_recomputation_of_a_checkpoint_is_not_recorded_twice(reentrant):
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
    x = sequence().requires_grad_()
    with OutputMonitor(net, nn.Linear) as values, GradOutputMonitor(net, nn.Linear) as gradients:
        checkpoint(net, x, use_reentrant=reentrant).pow(2).sum().backward()
        assert len(values.records) == 1
        assert values.report()[0].recomputes == 1
        assert len(gradients.records) == 1


def test_our_own_checkpoint_is_not_recorded_twice():
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron) as monitor:
        functional.checkpoint(net, sequence().requires_grad_()).sum().backward()
    assert [len(monitor[name]) for name in monitor.monitored_layers] == [1, 1]


def test_a_module_that_is_used_twice_is_recorded_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared = nn.Linear(5, 5)

        def forward(self, x):
            return self.shared(self.shared(x))

    net = Twice()
    with OutputMonitor(net, nn.Linear) as monitor, GradOutputMonitor(net, nn.Linear) as gradients:
        net(sequence()).sum().backward()
        assert [moment.call for moment in monitor.moments] == [0, 1]
        assert not torch.equal(monitor[0], monitor[1])
        assert torch.equal(gradients[0], torch.ones_like(gradients[0]))  # the last call comes first
        assert len(gradients.records) == 2


def test_keyword_inputs_are_seen():
    net = Named()
    with InputMonitor(net) as monitor, GradInputMonitor(net) as gradients:
        net(x=torch.ones(2), gain=torch.full((2,), 3.0, requires_grad=True))["y"].sum().backward()
        assert [held.tolist() for held in monitor[0]] == [[1.0, 1.0], [3.0, 3.0]]
        x, gain = gradients[0]  # each in its place
        assert (x, gain.tolist()) == (None, [1.0, 1.0])


def test_dicts_and_nested_outputs_are_recorded_with_their_gradients():
    net = Named()
    with OutputMonitor(net) as monitor, GradOutputMonitor(net) as gradients:
        out = net(torch.ones(2, requires_grad=True))
        (out["y"].sum() + 5 * out["parts"][1][0].sum()).backward()
        assert monitor[0]["parts"][1][0].tolist() == [2.0, 2.0]
        assert isinstance(monitor[0]["parts"], tuple)
        y, plus, double = gradients[0]
        assert (y.tolist(), plus, double.tolist()) == ([11.0, 11.0], None, [5.0, 5.0])


def test_what_is_changed_in_place_later_does_not_change_the_record():
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU(inplace=True))
    x = sequence()
    with OutputMonitor(net, nn.Linear) as outputs, InputMonitor(net, nn.ReLU) as inputs:
        net(x)
        want = net[0](x)
        assert want.min() < 0
        assert torch.equal(outputs[0], want)
        assert torch.equal(inputs[0], want)


def test_gradients_around_modules_that_work_in_place():
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU(inplace=True))
    with GradInputMonitor(net, nn.ReLU) as inputs, GradOutputMonitor(net, nn.ReLU) as outputs:
        y = net(sequence())
        y.sum().backward()
        assert torch.equal(outputs[0], torch.ones_like(y))
        assert torch.equal(inputs[0], (y > 0).float())


def test_the_gradient_of_an_input_is_the_share_of_the_module():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.ReLU()

        def forward(self, x):
            x = x * 1.0
            return x + 3 * self.branch(x)

    net = Residual()
    with GradInputMonitor(net, nn.ReLU) as monitor:
        net(torch.ones(2, requires_grad=True)).sum().backward()
        assert monitor[0].tolist() == [3.0, 3.0]  # 4 with the skip connection


def test_every_step_of_an_expanded_sequence_has_its_gradient():
    net = layer.Linear(5, 2, step_mode="m")
    x = torch.rand(1, 3, 5, requires_grad=True).expand(4, 3, 5)
    weight = torch.arange(4.0).view(4, 1, 1)
    with GradInputMonitor(net) as monitor:
        (net(x) * weight).sum().backward()
        want = (weight * torch.ones(4, 3, 2)) @ net.weight
        assert torch.allclose(monitor[0], want)


def test_records_made_in_inference_mode_are_ordinary_tensors():
    net = spiking_net()
    with OutputMonitor(net, neuron.Neuron) as monitor:
        with torch.inference_mode():
            net(sequence())
        assert not monitor[0].is_inference()
        monitor[0].requires_grad_().sum().backward()


def test_torch_func_is_skipped_and_counted():
    net = nn.Linear(5, 2)
    with OutputMonitor(net) as monitor:
        torch.func.vmap(net)(sequence())
        torch.func.grad(lambda w: torch.func.functional_call(net, {"weight": w}, sequence()).sum())(net.weight)
        assert monitor.records == []
        assert monitor.report()[0].transforms == 2
        torch.func.functional_call(net, {"weight": net.weight * 2}, sequence())
        assert len(monitor.records) == 1


def test_a_direct_call_of_forward_is_told_as_never_fired(caplog):
    net = spiking_net()
    with caplog.at_level(logging.WARNING, "spikescope"), OutputMonitor(net, neuron.Neuron) as monitor:
        net[3](net[2](net[1].forward(net[0](sequence()))))
        assert monitor.never_fired() == ["1"]
    assert "saw nothing of '1'" in caplog.text


def test_an_input_that_needs_no_gradient_is_told_as_the_reason(caplog):
    net = spiking_net()
    with caplog.at_level(logging.WARNING, "spikescope"), GradInputMonitor(net, nn.Linear) as gradients:
        net(sequence().detach()).sum().backward()
    assert [moment.name for moment in gradients.moments] == ["2"]
    assert "saw nothing of '0': no backward pass came by, what it takes needs no gradient (x.req" in caplog.text


def test_a_monitor_that_saw_nothing_at_all_says_so_if_the_network_ran(caplog):
    net = spiking_net()
    with caplog.at_level(logging.WARNING, "spikescope"):
        with OutputMonitor(net, neuron.Neuron):
            pass
        assert not caplog.records
        with OutputMonitor(net, neuron.IFNode):
            net[3](net[2](net[1].forward(net[0](sequence()))))
        assert "saw nothing of '1'" in caplog.text


def test_an_exception_in_a_function_ends_that_probe_alone():
    net = spiking_net()

    def fragile(value):
        if value.shape[-1] == 7:
            raise ZeroDivisionError("mine")
        return value

    with OutputMonitor(net, neuron.Neuron, fragile) as monitor:
        with pytest.warns(RuntimeWarning, match=r"'1' is off: ZeroDivisionError: mine.*network runs on"):
            net(sequence()).sum().backward()
        for _ in range(2):  # a second warning would be an error here
            functional.reset_net(net)
            net(sequence()).sum().backward()
        assert len(monitor["3"]) == 3
        for read in (lambda: monitor.records, lambda: monitor["1"], lambda: monitor[0]):
            with pytest.raises(ZeroDivisionError, match="mine"):
                read()
        assert len(monitor.incomplete_records()) == 3
        monitor.clear_recorded_data()
        assert monitor["1"] == []


def test_it_does_not_kill_the_step_where_warnings_are_errors(caplog):
    net = spiking_net()
    with OutputMonitor(net, neuron.IFNode, lambda value: 1 / 0), warnings.catch_warnings():
        warnings.simplefilter("error")
        net(sequence())
    assert "division by zero" in caplog.text


def test_dropping_the_last_reference_stops_a_monitor():
    net = spiking_net()
    called = []
    monitor = OutputMonitor(net, neuron.Neuron, called.append)
    net(sequence())
    assert len(called) == 2
    gone = weakref.ref(monitor)
    del monitor
    assert gone() is None
    assert plugged(net) == []
    net(sequence())
    assert len(called) == 2


def test_a_disabled_monitor_asks_for_nothing():
    net = spiking_net()
    x = sequence().requires_grad_()
    with AttributeMonitor("v", False, net, neuron.Neuron) as monitor, GradInputMonitor(net, neuron.Neuron) as gradients:
        monitor.disable()
        gradients.disable()
        net(x).sum().backward()
        assert monitor.records == gradients.records == []
        assert not monitor.is_enable()
        assert all(not point.live for point in plugged(net))


def test_an_unused_socket_gives_nothing_to_the_forward():
    entry, leave = place_sockets(nn.ReLU())
    assert entry(None, (), {}) is None
    assert leave(None, (), {}, None) is None
    assert Signal("output") == ("output", "", ())
