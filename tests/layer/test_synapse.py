"""Synapses: values worked by hand, both step modes, cutting anywhere."""

import copy
import pickle

import pytest
import torch

from spikescope import layer
from spikescope.errors import ShapeError


def test_filter_by_hand():
    module = layer.SynapseFilter(tau=5.0, step_mode="m")
    spikes = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    want = [[1.0, 0.0], [0.8, 0.0], [1.8, 1.0], [1.44, 0.8]]
    torch.testing.assert_close(module(spikes), torch.tensor(want))
    torch.testing.assert_close(module(spikes[1:2]), torch.tensor([[1.152, 0.64]]))
    module.reset()
    assert module.out_i == 0.0
    half = module(torch.tensor([[0.5, 0.5]]))  # a graded spike: I = 0.5
    torch.testing.assert_close(module(half), torch.tensor([[0.95, 0.95]]))  # 0.5 - 0.2 * 0.5 * 0.5 + 0.5


def test_filter_learns_its_time_constant():
    module = layer.SynapseFilter(tau=4.0, learnable=True, step_mode="m").double()
    assert list(dict(module.named_parameters())) == ["w"]
    assert abs(module.tau - 4) < 1e-6
    x = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64, requires_grad=True)
    module(x)[2].sum().backward()  # I_2 = (1 - r)^2 with r = s(w) = 1/4: dI/dw = -2 (1 - r) r (1 - r)
    torch.testing.assert_close(
        module.w.grad, torch.tensor(-2 * 0.75 * 0.75 * 0.25, dtype=torch.float64), rtol=1e-6, atol=0
    )

    def run(x, w):
        module.reset()
        return torch.func.functional_call(module, {"w": w}, (x,))

    assert torch.autograd.gradcheck(run, (x, module.w))
    assert torch.autograd.gradgradcheck(run, (x, module.w))
    assert repr(module) == "SynapseFilter(tau=4.0, learnable=True, step_mode=m)"


@pytest.mark.parametrize("learnable", [False, True])
def test_the_time_constant_may_be_edited(learnable):
    module, made = layer.SynapseFilter(5.0, learnable), layer.SynapseFilter(2.0, learnable)
    assert module.learnable is learnable
    weight = module.w
    module.tau = 2.0
    assert module.w is weight  # an optimizer that has it goes on
    x = (torch.rand(6, 2) > 0.5).float()
    for step in x:
        assert torch.equal(module(step), made(step))
    with pytest.raises(ValueError, match=r"SynapseFilter: tau must be above 1 and finite, but got 1\.0"):
        module.tau = 1.0
    assert abs(module.tau - 2.0) < 1e-6


@pytest.mark.parametrize("build", [lambda: layer.SynapseFilter(3.0), lambda: layer.Delay(2), lambda: layer.Delay(0)])
def test_step_modes_agree_and_a_sequence_may_be_cut_anywhere(build):
    x = (torch.rand(7, 3, 2) > 0.4).float().requires_grad_()
    singles = build()
    want = torch.stack([singles(step) for step in x])
    weights = torch.randn_like(want)
    (gradient,) = torch.autograd.grad((want * weights).sum(), x)
    for cut in range(1, 7):
        module = build()
        module.step_mode = "m"
        got = torch.cat([module(x[:cut]), module(x[cut:])])
        assert torch.equal(got, want)
        torch.testing.assert_close(torch.autograd.grad((got * weights).sum(), x)[0], gradient)
    other = pickle.loads(pickle.dumps(copy.deepcopy(singles)))
    assert torch.equal(other(x[0]), singles(x[0]))


def test_filter_keeps_single_precision():
    module = layer.SynapseFilter(50.0, step_mode="m")
    y = module(torch.ones(4, 2, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert module.out_i.dtype == torch.float32
    compiled = torch.compile(layer.SynapseFilter(3.0, step_mode="m"), fullgraph=True, backend="eager")
    x = torch.rand(4, 2)
    torch.testing.assert_close(compiled(x), layer.SynapseFilter(3.0, step_mode="m")(x))


def test_delay_by_hand():
    module = layer.Delay(3)
    assert module.delay_steps == 3
    got = [module(torch.tensor([float(t)])).item() for t in range(1, 8)]
    assert got == [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    module.reset()
    assert module.queue == []
    long = layer.Delay(9, step_mode="m")
    assert not long(torch.ones(4, 2)).any()
    assert long(torch.zeros(6, 2)).flatten().tolist() == [0.0] * 10 + [1.0, 1.0]
    module(torch.ones(1, requires_grad=True) * 2)
    module.detach()
    assert not module.queue[0].requires_grad
    assert "delay_steps=3" in repr(module)


def test_voting_by_hand():
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
    want = torch.tensor([[1 / 3, 1.0], [1 / 3, 2 / 3]])
    torch.testing.assert_close(layer.VotingLayer(3)(x), want)
    torch.testing.assert_close(
        layer.VotingLayer(3, step_mode="m")(torch.stack([x, 2 * x])), torch.stack([want, 2 * want])
    )
    assert layer.VotingLayer().voting_size == 10


def test_errors():
    for tau in (1.0, 0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="SynapseFilter: tau must be above 1 and finite"):
            layer.SynapseFilter(tau)
    for steps in (-1, 1.0, True):
        with pytest.raises(ValueError, match="Delay: delay_steps must be a whole number of at least 0"):
            layer.Delay(steps)
    for module in (layer.SynapseFilter(), layer.Delay(2)):
        module(torch.zeros(3, 4))
        with pytest.raises(ShapeError, match="cannot go on from its stored state"):
            module(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="dtype"):
        layer.SynapseFilter()(torch.ones(2, dtype=torch.bool))
