"""The rules of learning as functions are those of the learners, step by step."""

import inspect

import pytest
import torch
from torch import nn

from spikescope import learning
from spikescope.compat import learned_steps
from spikescope.neuron import IFNode

TAUS = {"tau_pre": 2.0, "tau_post": 3.0}
SYNAPSES = {
    "linear": (lambda: nn.Linear(4, 3, bias=False), (2, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, stride=2, bias=False), (2, 2, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 3, (2, 3), stride=(1, 2), bias=False), (2, 2, 4, 7)),
    "padded conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular", bias=False), (2, 2, 5)),
    "padded conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), bias=False), (2, 2, 4, 5)),
}
FUNCTIONS = {"f_pre": lambda w: 0.5 * w, "f_post": lambda w: 1 - w}


def seen(kind, steps=4):
    """A synapse, a neuron behind it, and what both have seen at some steps."""
    torch.manual_seed(2)
    make, shape = SYNAPSES[kind]
    synapse, sn = make(), IFNode(v_threshold=0.25)
    with torch.no_grad():
        synapse.weight.abs_()
    return synapse, sn, [(torch.rand(shape) < 0.5).float() for _ in range(steps)]


@pytest.mark.parametrize("kind", SYNAPSES)
def test_a_step_of_a_layer_is_that_of_the_learner(kind):
    synapse, sn, inputs = seen(kind)
    learner = learning.STDPLearner("s", synapse, sn, **TAUS, **FUNCTIONS)
    of_layer = getattr(learned_steps, f"stdp_{kind.split()[-1]}_single_step")
    of_weight = getattr(learned_steps, f"stdp_{kind.split()[-1]}_step")
    pre, post, summed, outputs = None, None, 0.0, []
    for x in inputs:
        with torch.no_grad():
            y = sn(synapse(x))
        outputs.append(y)
        wanted = learner.step(on_grad=False)
        before = pre, post
        pre, post, change = of_layer(synapse, x, y, pre, post, *TAUS.values(), **FUNCTIONS)
        torch.testing.assert_close(change, wanted)
        torch.testing.assert_close(post, learner.trace_post)
        assert not change.requires_grad
        summed = summed + change
        if "padded" not in kind:
            torch.testing.assert_close(pre, learner.trace_pre)
            trace = tuple(torch.zeros_like(s) if t is None else t for t, s in zip(before, (x, y), strict=True))
            stride = {} if kind == "linear" else {"stride": synapse.stride}
            told = of_weight(x, y, trace, synapse.weight, **stride, **TAUS, **FUNCTIONS)
            assert torch.equal(told[0], change)
            assert torch.equal(told[1][0], pre)
            assert torch.equal(told[1][1], post)
    assert torch.stack(outputs).mean().item() not in (0.0, 1.0)
    told = learned_steps.stdp_multi_step(
        synapse, torch.stack(inputs), torch.stack(outputs), None, None, *TAUS.values(), **FUNCTIONS
    )
    torch.testing.assert_close(told, (pre, post, summed))


def test_a_reward_weighs_what_each_sample_waits_with():
    synapse, sn, inputs = seen("linear")
    learner = learning.MSTDPLearner("s", 2, synapse, sn, **TAUS, **FUNCTIONS)
    trace, old = (torch.zeros(2, 4), torch.zeros(2, 3)), (None, None)
    for x in inputs:
        with torch.no_grad():
            y = sn(synapse(x))
        reward = torch.rand(2)
        wanted = learner.step(reward, on_grad=False)
        waiting, trace = learned_steps.mstdp_linear_step(x, y, trace, synapse.weight, **TAUS, **FUNCTIONS)
        torch.testing.assert_close(torch.einsum("n,noi->oi", reward, waiting), wanted)
        torch.testing.assert_close(trace, (learner.trace_pre, learner.trace_post))
        *old, again = learned_steps.mstdp_linear_single_step(synapse, x, y, *old, *TAUS.values(), **FUNCTIONS)
        assert torch.equal(again, waiting)


def test_a_later_reward_finds_the_trace_of_eligibility():
    synapse, sn, inputs = seen("linear")
    learner = learning.MSTDPETLearner("s", synapse, sn, **TAUS, tau_trace=5.0, **FUNCTIONS)
    trace, old, trace_e = (torch.zeros(4), torch.zeros(3)), (None, None), torch.zeros(3, 4)
    for x in inputs:
        with torch.no_grad():
            y = sn(synapse(x[:1]))
        wanted = learner.step(0.5, on_grad=False)
        waiting, trace = learned_steps.mstdpet_linear_step(x[0], y[0], trace, synapse.weight, **TAUS, **FUNCTIONS)
        change, trace_e = learned_steps.mstdpet_reward_step(0.5, waiting, trace_e, tau_trace=5.0)
        torch.testing.assert_close(change, wanted)
        torch.testing.assert_close(trace_e, learner.trace_e)
        *old, again = learned_steps.mstdpet_linear_single_step(
            synapse, x[0], y[0], *old, *TAUS.values(), 5.0, **FUNCTIONS
        )
        assert torch.equal(again, waiting)


def test_what_does_not_fit_is_refused_in_words():
    x, y, w = torch.ones(2, 4), torch.ones(2, 3), torch.ones(3, 4)
    step = learned_steps.stdp_linear_step
    for given in ((x, y[:1], (x, y[:1]), w), (x, y, (x[:1], y), w), (x[:, :3], y, (x[:, :3], y), w)):
        with pytest.raises(ValueError, match=r"stdp_linear_step takes spikes \[N, \*\] before and behind a weight"):
            step(*given, **TAUS)
    with pytest.raises(ValueError, match="takes a weight with 2 axes"):
        step(x, y, (x, y), w[None], **TAUS)
    with pytest.raises(ValueError, match="tau_pre must be"):
        step(x, y, (x, y), w, tau_pre=0.5, tau_post=2.0)
    learned_steps.mstdp_linear_step(x, y, (x, y), w, tau_pre=0.5, tau_post=2.0)  # decays exactly
    conv = nn.Conv1d(2, 3, 3, dilation=2)
    with pytest.raises(NotImplementedError, match="no dilation and no groups"):
        learned_steps.stdp_conv1d_single_step(conv, torch.ones(1, 2, 9), torch.ones(1, 3, 5), None, None, 2.0, 2.0)
    with pytest.raises(ValueError, match="as many steps on both sides"):
        learned_steps.stdp_multi_step(nn.Linear(4, 3), x[None], y[None].repeat(2, 1, 1), None, None, 2.0, 2.0)


@pytest.mark.usefixtures("aliases")
def test_each_stands_at_its_path():
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based import learning as old

    for name in learned_steps.__all__:
        place = old if name.endswith(("single_step", "multi_step")) else functional
        assert getattr(place, name) is getattr(learned_steps, name)
    assert [*inspect.signature(old.stdp_linear_single_step).parameters][:3] == ["fc", "in_spike", "out_spike"]


ZEROS = {"in_spike": torch.zeros(1, 2), "out_spike": torch.zeros(1, 3), "weight": torch.ones(3, 2)}
ZEROS["trace"] = ZEROS["in_spike"], ZEROS["out_spike"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"in_spike": None}, "in_spike must be a torch.Tensor, but got NoneType"),
        ({"trace": None}, r"the traces as \(trace_pre, trace_post\), but got None"),
        ({"trace": (None, torch.zeros(1, 3))}, "trace_pre must be a torch.Tensor"),
        ({"weight": [[1.0]]}, "the weight must be a torch.Tensor, but got list"),
    ],
)
@pytest.mark.parametrize("name", ["stdp_linear_step", "mstdp_linear_step"])
def test_what_is_no_tensor_is_told(name, given, words):
    with pytest.raises(TypeError, match=f"{name}.*{words}"):
        getattr(learned_steps, name)(**{**ZEROS, **given}, **TAUS)


def test_layers_and_strides_of_other_kinds_are_told():
    with pytest.raises(TypeError, match="stdp_linear_single_step takes a Linear, but got ReLU"):
        learned_steps.stdp_linear_single_step(torch.nn.ReLU(), None, None, None, None, 2.0, 2.0)
    with pytest.raises(TypeError, match=r"stdp_multi_step takes a Linear .* but got Conv3d"):
        learned_steps.stdp_multi_step(torch.nn.Conv3d(1, 1, 1), None, None, None, None, 2.0, 2.0)
    x, y, weight = torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), torch.ones(1, 1, 3)
    with pytest.raises(ValueError, match="stride must be a whole number of at least 1, but got 0"):
        learned_steps.stdp_conv1d_step(x, y, (x, y), weight, stride=(0,), **TAUS)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8], ids=str)
def test_spikes_that_are_no_floating_point_numbers_are_their_values(dtype):
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    wanted = learned_steps.stdp_linear_step(x, y, (x, y), ZEROS["weight"], **TAUS)
    change, traces = learned_steps.stdp_linear_step(x.to(dtype), y.to(dtype), (x, y), ZEROS["weight"], **TAUS)
    assert torch.equal(change, wanted[0])
    assert all(map(torch.equal, traces, wanted[1]))


def test_no_sample_has_no_change():
    x, y = torch.zeros(0, 2), torch.zeros(0, 3)
    change, _ = learned_steps.mstdp_linear_step(x, y, (x, y), ZEROS["weight"], **TAUS)
    assert change.shape == (0, 3, 2)
