"""Where a value first went wrong, and how far that reaches."""

import math

import pytest
import torch
from health_cases import Break, advice_of, if_node, kinds
from health_networks import Apply
from torch import nn

from spikescope import functional, layer, neuron
from spikescope.monitor import health


def test_the_origin_of_what_is_not_finite():
    """The norm passes the NaN of step 2 on; that of the last layer comes in the same step, but later."""
    net = nn.Sequential(
        layer.Linear(2, 2, step_mode="m"), layer.SeqToANNContainer(nn.Identity()), if_node(), Break(2), Break(2)
    )
    with health(net) as watch:
        net(torch.ones(3, 3, 2))
    origin = watch.findings[0]
    assert (origin.layer, origin.kind) == ("3", "non-finite output")
    assert origin.evidence.place == "index (2, 0, 0)"


def test_a_step_of_a_layer_that_knows_time():
    class Step(layer.Linear):
        def forward(self, x_seq):
            return Break(1)(super().forward(x_seq))

    net = nn.Sequential(Step(2, 2, step_mode="m"), if_node())
    with health(net) as watch:
        net(torch.ones(3, 3, 2))  # as many steps as samples
    origin = watch.findings[0]
    assert (origin.layer, origin.kind, origin.number) == ("0", "non-finite output", 1)
    assert origin.evidence.place == "step 1, sample 0, neuron 0"


def test_a_gradient_that_is_not_finite():
    net = nn.Sequential(if_node(), if_node())
    x = torch.full((2, 1, 2), 0.75, requires_grad=True)
    with health(net) as watch:
        (net(x) * torch.tensor([1.0, torch.nan]).view(2, 1, 1)).sum().backward()
    assert ("1", "non-finite gradient") in kinds(watch)
    assert ("0", "non-finite gradient") not in kinds(watch)


def test_a_failed_look_for_the_origin_is_told():
    net = nn.Sequential(if_node(), Apply(lambda x: x.to("meta")), Apply(lambda x: torch.ones(3, 1, 2)))
    with health(net, silent=1.0) as watch, pytest.warns(RuntimeWarning, match="is off"):
        net(torch.ones(3, 1, 2))
    assert ("1", "not watched") in kinds(watch)


def test_a_sparse_tensor_does_not_end_the_look_for_the_origin():
    given = iter([torch.eye(2).to_sparse(), torch.full((2, 2), torch.nan)])
    net = nn.Sequential(Apply(lambda x: next(given)), Apply(lambda x: x.to_dense()), if_node())
    with health(net, silent=1.0) as watch:
        for _ in range(2):
            net(torch.ones(2, 2))
            functional.reset_net(net)
    assert kinds(watch) == [("0", "non-finite output")]


@pytest.mark.parametrize("broken", ["weight", "input"])
def test_what_is_not_finite_comes_first_and_is_no_reason_for_other_findings(broken):
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(4, 4), neuron.LIFNode(), layer.Linear(4, 4), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    x = torch.rand(10, 2, 4) * 4
    if broken == "weight":
        net[2].weight.data[0, 0] = torch.nan
    else:
        x[:] = torch.nan
    with health(net, silent=1.0) as watch:
        net(x).sum().backward()
    assert len(watch.findings) == 1
    found = [(f.layer, f.kind, f.number) for f in watch.everything]
    if broken == "weight":
        weights, *rest = found
        assert weights == ("2", "non-finite weights", 1)
        assert rest == [("2", "non-finite output", 0), ("1", "non-finite gradient", 10)]
    else:
        assert found == [("", "non-finite input", 0), ("0", "non-finite output", 0)]


def masked(x):
    return torch.where(torch.arange(4) < 2, -torch.inf, x)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_softmax_ends_spoils_nothing_after_it(compiled):
    node = neuron.LIFNode(v_threshold=100.0, step_mode="m")
    net = nn.Sequential(Apply(masked), nn.Softmax(-1), nn.Linear(4, 4), node, Apply(torch.log), if_node())
    run = torch.compile(net, backend="aot_eager") if compiled else net
    with health(net) as watch:
        run(torch.rand(2, 3, 4))
    assert kinds(watch)[0] == ("0", "non-finite output")
    assert ("3", "silent layer") in kinds(watch)
    assert "5" not in [name for name, _ in kinds(watch)]  # the logarithm of no spike is its input


def test_a_branch_in_between_does_not_hide_what_a_neuron_was_given():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side, self.node = Apply(lambda x: x / 0), nn.Identity(), if_node()
            self.after = nn.Sequential(nn.Linear(4, 4), neuron.IFNode(v_threshold=100.0, step_mode="m"))

        def forward(self, x):
            return self.after(self.node(-self.main(x) + self.side(x)))

    net = Block()
    with health(net) as watch:
        net(torch.ones(2, 3, 4))
    assert kinds(watch) == [("main", "non-finite output")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_state_that_is_not_finite_is_no_silence(value, step_mode):
    net = nn.Sequential(neuron.IFNode(step_mode=step_mode), neuron.IFNode(step_mode=step_mode))
    with health(net) as watch:
        net(torch.zeros(4, 2, 3))
        net[0].v = torch.full_like(net[0].v, value)
        net(torch.zeros(4, 2, 3))
    kinds = advice_of(watch)
    assert "non-finite state" in kinds
    assert not {"silent layer", "silent neurons", "outside the surrogate"} & kinds.keys()
    assert not any("raise the gain" in text or "Lower v_threshold" in text for text in kinds.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [300.0, -0.05], ids=["squares above 65504", "a sum below -65504"])
def test_what_half_precision_has_no_number_for_is_summed_up_all_the_same(scale, dtype):
    x = (scale * torch.linspace(0.5, 1.5, 1 << 11)).expand(4, 1 << 9, -1).to(dtype)
    found = []
    for given in (x, x.float()):
        net = nn.Sequential(neuron.LIFNode(v_threshold=1.0, step_mode="m"))
        with health(net) as watch:
            net(given)
        found.append([(held.kind, round(held.number, 2), held.line) for held in watch.everything])
    assert found[0] == found[1]
    assert found[0]
