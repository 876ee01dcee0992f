"""What a conversion is made of: the law of the scaled neuron, exact sums of the gate, measures, folding."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from spikescope import functional, monitor
from spikescope.ann2snn import Folded, ScaledNeuron, SpikingMaxPool, VoltageHook, VoltageScaler
from spikescope.errors import ShapeError
from spikescope.neuron import IFNode


def rate_by_the_law(x, scale, T):
    """The clip-floor law in whole numbers."""
    spikes = min(max(math.floor(Fraction(x) * T / Fraction(scale) + Fraction(1, 2)), 0), T)
    return float(spikes * Fraction(scale) / T)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("scale", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("T", [1, 7, 16])
def test_the_mean_of_a_constant_input_is_rounded_and_clipped(T, scale, step_mode):
    x = torch.arange(-37, 75).float().view(2, 56) / 32  # dyadic: every sum below is exact
    node = ScaledNeuron(scale, step_mode=step_mode)
    out = node(x.expand(T, 2, 56)) if step_mode == "m" else torch.stack([node(x) for _ in range(T)])
    want = torch.tensor([rate_by_the_law(value, scale, T) for value in x.flatten().tolist()], dtype=torch.float64)
    assert set(out.unique().tolist()) <= {0.0, scale}
    assert torch.equal(out.double().sum(0).flatten(), want * T)


def test_one_neuron_by_hand():
    node = ScaledNeuron(4.0)
    seen = [(node(torch.tensor([x])).item(), node.neuron.v.item()) for x in (1.0, 1.0, 3.0, -1.0, 8.0)]
    # H = .5 + .25, .75 + .25 (fires), 0 + .75, .75 - .25, .5 + 2 (fires once)
    assert seen == [(0.0, 0.75), (4.0, 0.0), (0.0, 0.75), (0.0, 0.5), (4.0, 1.5)]
    node.reset()
    assert node(torch.tensor([2.0])).item() == 4.0  # half a threshold again: .5 + .5


def test_the_inner_neuron_and_reset_net():
    net = nn.Sequential(nn.Flatten(), ScaledNeuron(3.0))
    assert type(net[1].neuron) is IFNode
    assert net[1].neuron.v_reset is None
    assert net[1].neuron.v == 0.0
    net(torch.zeros(1, 1))
    assert net[1].neuron.v.item() == 0.5
    functional.reset_net(net)
    assert net[1].neuron.v == 0.0
    with pytest.raises(ShapeError, match="reset_net"):
        net(torch.zeros(1, 1)), net(torch.zeros(2, 1))


def test_the_step_mode_is_that_of_the_neuron():
    node = ScaledNeuron(step_mode="m")
    assert (node.step_mode, node.neuron.step_mode) == ("m", "m")
    functional.set_step_mode(node, "s")
    assert (node.step_mode, node.neuron.step_mode) == ("s", "s")
    with pytest.raises(ValueError, match="step_mode"):
        node.step_mode = "x"


@pytest.mark.parametrize("shape", [(5, 3, 4), (1, 1, 1), (3, 0, 2)])
def test_steps_and_sequences_are_the_same_bits(shape):
    torch.manual_seed(0)
    x = torch.randn(*shape[::-1]).permute(2, 1, 0)  # not contiguous
    node = ScaledNeuron(0.7)
    steps = torch.stack([node(step) for step in x])
    left = node.neuron.v
    node.reset()
    node.step_mode = "m"
    assert torch.equal(node(x), steps)
    assert torch.equal(node.neuron.v, left)


def test_a_scale_for_each_channel():
    scale = torch.tensor([1.0, 2.0]).view(2, 1, 1)
    out = ScaledNeuron(scale, step_mode="m")(torch.ones(4, 1, 2, 1, 1)).mean(0).flatten()
    assert out.tolist() == [1.0, 1.0]
    assert repr(ScaledNeuron(scale)).startswith("ScaledNeuron(\n  (neuron): IFNode(")


def test_half_precision_keeps_a_float_state():
    node = ScaledNeuron(2.0, step_mode="m").half()
    out = node(torch.full((3, 1), 1.0, dtype=torch.float16))
    assert out.dtype == torch.float16
    assert node.neuron.v.dtype == torch.float32
    assert out.flatten().tolist() == [2.0, 0.0, 2.0]


def test_copies_pickles_and_state_dict():
    node = ScaledNeuron(2.5)
    node(torch.tensor([0.3]))
    for other in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert torch.equal(other.neuron.v, node.neuron.v)
        assert other.scale == 2.5
    fresh = ScaledNeuron()
    fresh.load_state_dict(node.state_dict())
    assert fresh.scale == 2.5


def test_gradients_reach_the_input_and_compiled_code_is_the_same():
    x = torch.rand(4, 2, 3, requires_grad=True)
    node = ScaledNeuron(0.5, step_mode="m")
    out = node(x)
    out.sum().backward()
    assert x.grad.abs().min() > 0
    node.reset()
    compiled = torch.compile(node, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), out)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan, torch.tensor([1.0, 0.0]), torch.ones(0)], ids=str)
@pytest.mark.parametrize("cls", [ScaledNeuron, VoltageScaler])
def test_a_scale_is_above_zero(cls, scale):
    with pytest.raises(ValueError, match=f"{cls.__name__}: scale must be finite and above 0, but got"):
        cls(scale)


def test_an_input_of_whole_numbers_is_refused():
    with pytest.raises(TypeError, match=r"ScaledNeuron integrates real numbers.*torch.int64"):
        ScaledNeuron()(torch.ones(2, dtype=torch.int64))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_counting_gives_spikes_not_heights(step_mode):
    net = nn.Sequential(ScaledNeuron(0.3, step_mode=step_mode), nn.Identity(), ScaledNeuron(2.7, step_mode=step_mode))
    inner = []
    for node in (net[0], net[2]):
        node.neuron.register_forward_hook(lambda module, args, out: inner.append(out.sum().item()))
    torch.manual_seed(0)
    x = torch.rand(9, 2, 5)
    with monitor.SpikeCounter(net, keep_train=True) as counter:
        out = net(x) if step_mode == "m" else torch.stack([net(step) for step in x])
    assert counter.total.spikes == pytest.approx(sum(inner), rel=1e-6)
    assert counter.total.neuron_steps == 2 * 9 * 2 * 5
    assert 0 < counter["2"].spikes < counter["0"].spikes
    assert torch.equal(counter.train("2"), out)


def test_voltage_scaler():
    assert VoltageScaler(torch.tensor([0.5, 4.0]))(torch.ones(3, 2)).tolist() == [[0.5, 4.0]] * 3
    assert repr(VoltageScaler(0.25)) == "VoltageScaler(0.25)"


POOLS = {
    "overlapping": (nn.MaxPool2d(3, 2, padding=1), (2, 3, 7, 5)),
    "ceil": (nn.MaxPool2d(2, ceil_mode=True), (1, 1, 5, 5)),
    "dilated": (nn.MaxPool1d(2, 1, dilation=2), (2, 1, 6)),
    "volume": (nn.MaxPool3d(2), (1, 2, 3, 4, 5)),
    "adaptive": (nn.AdaptiveMaxPool2d(1), (2, 2, 3, 3)),
    "no samples": (nn.MaxPool2d(2), (0, 2, 4, 4)),
}


@pytest.mark.parametrize("T", [1, 6])
@pytest.mark.parametrize("name", POOLS)
def test_the_sum_of_the_gate_is_the_maximum_of_the_sums(name, T):
    pool, shape = POOLS[name]
    torch.manual_seed(1)
    x = (torch.rand(T, *shape) < 0.4).float() * 0.75
    gate = SpikingMaxPool(pool)
    steps = torch.stack([gate(step) for step in x])
    assert set(steps.unique().tolist()) <= {0.0, 0.75}
    for t in range(T):  # at every moment, not at the end alone
        assert torch.equal(steps[: t + 1].sum(0), pool(x[: t + 1].sum(0)))
    gate.reset()
    gate.step_mode = "m"
    assert torch.equal(torch.cat((gate(x[:2]), gate(x[2:]))), steps)  # the state goes on; of no steps there are none


def test_the_gate_takes_currents_of_any_sign():
    torch.manual_seed(2)
    x = torch.randn(5, 2, 1, 6, dtype=torch.float64)
    gate = SpikingMaxPool(nn.MaxPool1d(3), step_mode="m")
    torch.testing.assert_close(gate(x).sum(0), nn.MaxPool1d(3)(x.sum(0)), rtol=1e-12, atol=1e-12)


def test_the_maximum_of_each_step_would_be_wrong():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 2)  # rates 1/2 and 1/2
    assert nn.MaxPool1d(2)(x.flatten(0, 1)).mean() == 1.0
    assert SpikingMaxPool(nn.MaxPool1d(2), step_mode="m")(x).mean() == 0.5


def test_the_gate_refuses_in_words_and_keeps_half_precision():
    gate = SpikingMaxPool(nn.MaxPool1d(2))
    assert gate(torch.ones(1, 1, 2, dtype=torch.float16)).dtype == torch.float16
    assert gate.total.dtype == torch.float32
    with pytest.raises(ShapeError, match="reset_net"):
        gate(torch.ones(2, 1, 2))
    with pytest.raises(TypeError, match=r"SpikingMaxPool takes an nn\.Module, but got int"):
        SpikingMaxPool(2)


@pytest.mark.parametrize(
    ("mode", "want"),
    [("Max", 9.0), ("max", 9.0), (0.7, 0.7 * 9), (1, 9.0), ("100%", 9.0), ("0%", 0.5), ("37.5%", None)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_measures_of_one_batch(mode, want, dtype):
    x = torch.tensor([[4.0, 0.5], [9.0, 1.25], [2.0, 7.5]], dtype=dtype)
    hook = VoltageHook(mode=mode)
    assert hook(x) is x
    want = np.percentile(x.double().numpy(), 37.5) if want is None else want
    assert hook.scale.item() == pytest.approx(want, rel=1e-6)


def test_measures_over_batches():
    first, second, third = torch.tensor([2.0]), torch.tensor([6.0]), torch.tensor([1.0])
    mean, largest = VoltageHook(), VoltageHook(momentum=None)
    for x in (first, torch.ones(0), second, third):
        mean(x), largest(x)
    assert mean.scale.item() == pytest.approx(0.9 * (0.9 * 2 + 0.1 * 6) + 0.1 * 1)
    assert largest.scale.item() == 6.0
    assert largest.num_batches_tracked == 3


@pytest.mark.parametrize("mode", ["median", "", "-1%", "101%", "x%", 0, 1.5, True, None])
def test_measures_that_there_are_not(mode):
    with pytest.raises(ValueError, match=r"must be 'Max', a percentile such as '99\.9%', or the share"):
        VoltageHook(mode=mode)


def test_hooks_refuse_in_words():
    with pytest.raises(ValueError, match="momentum must be from 0 to 1, or None, but got 2"):
        VoltageHook(momentum=2)
    with pytest.raises(ValueError, match="measured an activation of nan"):
        VoltageHook()(torch.tensor([1.0, math.nan]))


def test_folding_keeps_constants_out():
    linear = Folded(nn.functional.linear, ((True, False), {"bias": False}))
    linear.step_mode = "m"
    x, weight, bias = torch.rand(3, 2, 4), torch.rand(5, 4), torch.rand(5)
    torch.testing.assert_close(linear(x, weight, bias=bias), x @ weight.T + bias)
    folded = Folded(torch.flatten, ((True,), {}))
    folded.step_mode = "m"
    with pytest.raises(ShapeError, match=r"flatten, step_mode=m was called on T\*N = 6 samples and gave \[24\]"):
        folded(x)
