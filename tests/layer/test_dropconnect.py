"""Dropped connections: what is dropped, what eval expects, and the two step modes."""

import pytest
import torch
from torch.nn import functional as F

from spikescope.errors import ShapeError
from spikescope.functional import reset_net
from spikescope.layer import DropConnectLinear, PrintShapeModule


@pytest.mark.parametrize("bias", [True, False])
def test_each_sample_loses_connections_of_its_own(bias):
    layer = DropConnectLinear(50, 40, bias=bias, p=0.25, activation=None)
    torch.manual_seed(0)
    y = layer(torch.ones(6, 50))
    assert not torch.equal(y[0], y[1])
    assert layer.mask_w.shape == (6, 40, 50)
    assert layer.mask_w.float().mean().item() == pytest.approx(0.75, abs=0.02)
    kept = layer.weight * layer.mask_w[2]
    wanted = kept.sum(1) + (layer.bias * layer.mask_b[2] if bias else 0)
    torch.testing.assert_close(y[2], wanted)


def test_invariant_connections_last_until_reset():
    layer = DropConnectLinear(8, 8, invariant=True, activation=None)
    x = torch.rand(3, 8)
    y = layer(x)
    assert torch.equal(y, layer(x))
    assert torch.equal(y, DropConnectLinear.single_step_forward(layer, x))
    reset_net(layer)
    assert not torch.equal(y, layer(x))
    free = DropConnectLinear(8, 8, activation=None)
    assert not torch.equal(free(x), free(x))


def test_eval_is_the_mean_over_draws_of_the_normal_distribution():
    torch.manual_seed(0)
    layer = DropConnectLinear(64, 16, p=0.5, samples_num=20000).eval()
    x = torch.rand(4, 64)
    mean = 0.5 * F.linear(x, layer.weight, layer.bias)
    deviation = (0.25 * F.linear(x**2, layer.weight**2, layer.bias**2)).sqrt()
    standard = torch.distributions.Normal(0, 1)
    ratio = mean / deviation
    wanted = mean * standard.cdf(ratio) + deviation * standard.log_prob(ratio).exp()  # the mean of a rectified normal
    torch.testing.assert_close(layer(x), wanted, rtol=0.05, atol=0.02)


def test_a_sequence_is_its_steps():
    single, multi = DropConnectLinear(5, 4), DropConnectLinear(5, 4, step_mode="m")
    multi.load_state_dict(single.state_dict())
    x_seq = torch.rand(3, 2, 5)
    torch.manual_seed(1)
    steps = torch.stack([single(x) for x in x_seq])
    torch.manual_seed(1)
    assert torch.equal(steps, multi(x_seq))


def test_bad_arguments_are_refused_in_words():
    with pytest.raises(ValueError, match=r"p must be at least 0 and at most 1, but got 1.5"):
        DropConnectLinear(2, 2, p=1.5)
    with pytest.raises(ShapeError, match=r"takes \[N, in_features=2\].* got"):
        DropConnectLinear(2, 2)(torch.rand(3))
    with pytest.raises(ShapeError, match=r"takes \[T, N, in_features=2\].* got"):
        DropConnectLinear(2, 2, step_mode="m")(torch.rand(4, 3, 5))


def test_printing_a_shape_changes_nothing(capsys):
    x = torch.rand(2, 3)
    assert PrintShapeModule("here")(x) is x
    assert capsys.readouterr().out == "here torch.Size([2, 3])\n"


@pytest.mark.parametrize("bias", [True, False])
def test_its_parameters_are_drawn_anew_as_those_of_a_linear_layer(bias):
    module = DropConnectLinear(4, 3, bias)
    parameters = list(module.parameters())
    torch.manual_seed(5)
    module.reset_parameters()
    torch.manual_seed(5)
    for got, kept, want in zip(module.parameters(), parameters, torch.nn.Linear(4, 3, bias).parameters(), strict=True):
        assert got is kept
        assert torch.equal(got, want)
