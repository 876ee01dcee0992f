"""Health: networks with a known illness, and healthy ones."""

import pytest
import torch
from torch import nn

from spikescope import functional, layer, neuron, surrogate
from spikescope.monitor import health


def kinds(watch):
    return [(found.layer, found.kind) for found in watch.findings]


def if_node(**options):
    return neuron.IFNode(step_mode="m", v_reset=None, **options)


def test_silent_and_saturated_neurons():
    net = nn.Sequential(if_node())
    x = torch.tensor([2.0, 0.9, 0.0, 0.0]).repeat(3, 2, 1)  # fires always; in the steps 2 and 3; never; never
    with health(net, saturated=0.25) as watch:
        net(x)
    silent, saturated = watch.findings
    assert (silent.layer, silent.kind, silent.number, silent.threshold) == ("0", "silent neurons", 0.5, 0.5)
    assert (saturated.kind, saturated.number, saturated.threshold) == ("saturated neurons", 0.25, 0.25)
    functional.reset_net(net)
    with health(net, silent=0.51, saturated=0.26) as watch:
        net(x)
    assert kinds(watch) == []
    assert watch.table() == "No findings."


def test_a_silent_layer_far_from_its_surrogate():
    net = nn.Sequential(if_node(surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0)))
    with health(net) as watch:
        net(torch.full((2, 1, 3), -1.0))
    assert kinds(watch) == [("0", "silent layer"), ("0", "outside the surrogate")]
    assert watch.findings[1].number == 0
    head, first, second, *advice = watch.table().splitlines()
    assert head.split() == ["layer", "finding", "number", "threshold"]
    assert first.split() == ["0", "silent", "layer", "1", "0.5"]
    assert second.split()[-2:] == ["0", "0.01"]
    assert advice[1].startswith("silent layer: Lower v_threshold")


class Gain(nn.Module):
    """Passes its input on and multiplies the gradient."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        return x.detach() + self.gain * (x - x.detach())


@pytest.mark.parametrize(("gain", "kind"), [(1e-5, "vanishing"), (1e5, "exploding"), (1.0, None)])
def test_gradients_through_depth(gain, kind):
    net = nn.Sequential(if_node(), Gain(gain), if_node())
    x = torch.full((1, 1, 2), 1.0, requires_grad=True)
    with health(net, saturated=1.0) as watch:
        net(x).sum().backward()
    found = [f for f in watch.findings if "gradient" in f.kind]
    assert [(f.layer, f.kind) for f in found] == ([("0", f"{kind} gradient in depth")] if kind else [])
    if kind:  # the gradient at v = v_threshold of ATan(alpha=2) is 1
        assert found[0].number == pytest.approx(gain)


@pytest.mark.parametrize(("weight", "kind"), [(1e-4, "vanishing"), (1e4, "exploding"), (1.0, None)])
def test_gradients_through_time(weight, kind):
    net = nn.Sequential(if_node())
    x = torch.full((2, 1, 2), 0.75, requires_grad=True)
    with health(net) as watch:
        (net(x) * torch.tensor([weight, 1.0]).view(2, 1, 1)).sum().backward()
    found = [f for f in watch.findings if "gradient" in f.kind]
    assert [(f.layer, f.kind) for f in found] == ([("0", f"{kind} gradient in time")] if kind else [])
    if kind:
        assert found[0].number == pytest.approx(weight)


class Break(nn.Module):
    """Gives a NaN in one step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x_seq):
        bad = torch.zeros_like(x_seq)
        bad[self.step] = torch.nan
        return x_seq + bad


def test_the_origin_of_what_is_not_finite():
    """The norm passes the NaN of step 2 on; that of the last layer comes in the same step, but later."""
    net = nn.Sequential(
        layer.Linear(2, 2, step_mode="m"), layer.SeqToANNContainer(nn.Identity()), if_node(), Break(2), Break(2)
    )
    with health(net) as watch:
        net(torch.ones(3, 3, 2))
    origin = watch.findings[-1]
    assert (origin.layer, origin.kind) == ("3", "non-finite output")


def test_a_step_of_a_layer_that_knows_time():
    class Step(layer.Linear):
        def forward(self, x_seq):
            return Break(1)(super().forward(x_seq))

    net = nn.Sequential(Step(2, 2, step_mode="m"), if_node())
    with health(net) as watch:
        net(torch.ones(3, 3, 2))  # as many steps as samples
    origin = watch.findings[-1]
    assert (origin.layer, origin.kind, origin.number) == ("0", "non-finite output", 1)


def test_a_gradient_that_is_not_finite():
    net = nn.Sequential(if_node(), if_node())
    x = torch.full((2, 1, 2), 0.75, requires_grad=True)
    with health(net) as watch:
        (net(x) * torch.tensor([1.0, torch.nan]).view(2, 1, 1)).sum().backward()
    assert ("1", "non-finite gradient") in kinds(watch)
    assert ("0", "non-finite gradient") not in kinds(watch)


def test_it_leaves_the_network_as_it_was():
    net = nn.Sequential(if_node())
    watch = health(net)
    watch.close()
    net(torch.full((2, 1, 3), 0.1))
    assert watch.findings == []


@pytest.mark.parametrize(
    ("options", "text"), [({"silent": 0.0}, "silent is a share"), ({"vanishing": 2.0}, "vanishing must be below 1")]
)
def test_thresholds_that_make_no_sense(options, text):
    with pytest.raises(ValueError, match=text):
        health(nn.Sequential(if_node()), **options)


def test_compiled_code_has_the_same_findings():
    found = []
    for compiled in (False, True):
        net = nn.Sequential(if_node(), Gain(1e-5), if_node(), Break(1))
        with health(net) as watch:
            run = torch.compile(net, backend="aot_eager") if compiled else net
            run(torch.full((2, 1, 2), 0.75, requires_grad=True)).nansum().backward()
        found.append(watch.findings)
    assert found[0] == found[1]
    assert [f.kind for f in found[0]] == ["vanishing gradient in depth", "non-finite output"]
