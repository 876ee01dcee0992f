"""States that go on from sequence to sequence: by mistake, or by intent."""

import pytest
import torch
from health_cases import if_node, kinds
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.monitor import health


def test_a_forgotten_reset_is_found_though_autograd_stops_at_it():
    net, x = nn.Sequential(layer.Linear(4, 4, step_mode="m"), if_node()), torch.rand(3, 2, 4)
    with health(net) as watch:
        net(x).sum().backward()
        with pytest.raises(RuntimeError):
            net(x).sum().backward()
    first = watch.findings[0]
    assert (first.layer, first.kind, first.number) == ("1", "state carried over", 1)
    assert "functional.reset_net before each batch" in watch.table()
    assert first.line == "functional.reset_net(net)  # before each batch"


@pytest.mark.parametrize("known", [True, False], ids=["from the start", "in the middle"])
def test_state_carried_over_is_told_once_for_the_whole_network(known):
    net, x = nn.Sequential(if_node(), if_node()), torch.ones(3, 1, 2)
    if not known:
        net(x)
    with health(net, saturated=1.0) as watch, torch.no_grad():
        for _ in range(3):
            net(x)
    first = watch.findings[0]
    assert (first.layer, first.kind, first.number) == ("", "state carried over", 2 + (not known))
    net[0].reset()
    with health(net) as watch, torch.no_grad():
        net(x)
    assert ("1", "state carried over") in kinds(watch)
    assert ("0", "state carried over") not in kinds(watch)


@pytest.mark.parametrize(
    ("node", "cut", "number"),
    [
        (neuron.IFNode, None, 0),
        (neuron.IFNode, functional.reset_net, 0),
        (neuron.IFNode, functional.detach_net, 0),
        (neuron.SLTTLIFNode, functional.detach_net, 0),
    ],
)
def test_single_steps_that_go_on_by_intent(node, cut, number):
    net = nn.Sequential(node())
    with health(net, saturated=1.0) as watch:
        for _ in range(3):
            y = sum(net(torch.rand(1, 2, requires_grad=True)) for _ in range(4))
            if cut is not None:
                y.sum().backward()
                cut(net)
    assert sum(f.number for f in watch.everything if f.kind == "state carried over") == number


def carried_over(watch):
    return [(found.layer, found.number) for found in watch.everything if found.kind == "state carried over"]


def two_layers(mode, first=neuron.LIFNode):
    torch.manual_seed(0)
    kind = layer.OTTTSequential if first is neuron.OTTTLIFNode else nn.Sequential
    net = kind(layer.Linear(4, 4), first(), layer.Linear(4, 4), neuron.LIFNode())
    functional.set_step_mode(net, mode)
    return net


@pytest.mark.parametrize(
    ("first", "cut"),
    [(neuron.LIFNode, True), (neuron.LIFNode, False), (neuron.OTTTLIFNode, True), (neuron.OTTTLIFNode, False)],
    ids=["detached", "with its graph retained", "for online training", "for online training, with its graph retained"],
)
def test_online_learning_is_no_forgotten_reset(first, cut):
    """Nor is it in its first batch, before any reset was seen."""
    net, x = two_layers("s", first), torch.rand(4, 2, 4)
    with health(net) as watch:
        for _ in range(3):
            for step in x:
                net(step).sum().backward(retain_graph=not cut)
                if cut:
                    functional.detach_net(net)
            assert carried_over(watch) == []
            functional.reset_net(net)
    assert carried_over(watch) == []


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "one graph"])
def test_a_sequence_in_parts_is_no_forgotten_reset(cut, batches):
    net, x = two_layers("m"), torch.rand(4, 2, 4)
    with health(net) as watch:
        for _ in range(batches):
            loss = torch.zeros(())
            for chunk in x.split(1):
                loss = net(chunk).sum() + loss
                if cut:
                    loss.backward()
                    loss = torch.zeros(())
                    functional.detach_net(net)
            if not cut:
                loss.backward()
            functional.reset_net(net)
    assert carried_over(watch) == []


@pytest.mark.slow(keep=3)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of a state with a graph, by Dynamo
@pytest.mark.parametrize("reset", [None, 1], ids=["no reset", "one layer reset"])
@pytest.mark.parametrize("mode", ["m", "s", "compiled"])
def test_a_forgotten_reset_is_found_in_training(mode, reset):
    net, x = two_layers("s" if mode == "s" else "m"), torch.rand(4, 2, 4)
    run = torch.compile(net, backend="aot_eager") if mode == "compiled" else net
    with health(net) as watch:
        for batch in range(2):
            if reset is not None:
                net[reset].reset()
            y = sum(net(step) for step in x) if mode == "s" else run(x)
            if batch == 0:
                y.sum().backward()
    assert carried_over(watch) == [("" if reset is None else "3", 1)]


@pytest.mark.parametrize("grad", [True, False])
def test_a_stream_that_is_never_reset_is_told(grad):
    net, x = two_layers("m"), torch.rand(4, 2, 4)
    with health(net) as watch, torch.set_grad_enabled(grad):
        for _ in range(3):
            net(x)
    assert carried_over(watch) == [("", 2)]
    assert "as of a stream, nothing is wrong" in watch.table()
