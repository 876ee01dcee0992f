"""The fused convolution gives what the pair gives; scaling acts on the equivalent weight and bias."""

import math

import pytest
import torch
from torch import nn

from spikescope import layer
from spikescope.functional import (
    fuse_convbn2d,
    fused_conv2d_bias_of_convbn2d,
    fused_conv2d_weight_of_convbn2d,
    scale_fused_conv2d_bias_of_convbn2d,
    scale_fused_conv2d_weight_of_convbn2d,
)

CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums in another order


def pair(affine=True, conv=nn.Conv2d, bn=nn.BatchNorm2d, **options):
    torch.manual_seed(0)
    conv = conv(4, 6, 3, bias=False, **options).double()
    bn = bn(6, affine=affine).double().eval()
    bn.running_mean.uniform_(-1, 1)
    bn.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.uniform_(bn.weight, -2, 2)
        nn.init.uniform_(bn.bias, -1, 1)
    return conv, bn


def test_weight_and_bias_by_hand():
    conv, bn = nn.Conv2d(1, 2, 1, bias=False).double(), nn.BatchNorm2d(2, eps=0.25).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([3.0, -1.0]).view(2, 1, 1, 1))
        bn.weight.copy_(torch.tensor([2.0, 1.0]))
        bn.bias.copy_(torch.tensor([0.5, 0.0]))
        bn.running_mean.copy_(torch.tensor([1.5, 2.0]))
        bn.running_var.copy_(torch.tensor([3.75, 0.0]))  # sqrt(3.75 + 0.25) = 2, sqrt(0.25) = 0.5
    assert fused_conv2d_weight_of_convbn2d(conv, bn).flatten().tolist() == [3.0, -2.0]  # 3*2/2, -1*1/.5
    assert fused_conv2d_bias_of_convbn2d(conv, bn).tolist() == [-1.0, -4.0]  # .5 - 1.5*2/2, 0 - 2*1/.5


OPTIONS = [{}, {"stride": 2, "padding": 1}, {"groups": 2, "dilation": 2}, {"padding": 2, "padding_mode": "reflect"}]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fused_equals_the_pair(options, affine):
    conv, bn = pair(affine, **options)
    fused = fuse_convbn2d(conv, bn)
    x = torch.randn(3, 4, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(fused(x), bn(conv(x)), **CLOSE)
    assert type(fused) is nn.Conv2d
    assert conv.bias is None
    assert fused.weight is not conv.weight
    assert [p.requires_grad and p.is_leaf for p in fused.parameters()] == [True, True]
    assert set(fused.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_fused_keeps_class_and_step_mode(step_mode):
    conv, bn = pair(conv=layer.Conv2d, bn=layer.BatchNorm2d, padding=1)
    conv.step_mode = bn.step_mode = step_mode
    fused = fuse_convbn2d(conv, bn)
    assert type(fused) is layer.Conv2d
    assert fused.step_mode == step_mode
    x = torch.randn(*([5] if step_mode == "m" else []), 3, 4, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(fused(x), bn(conv(x)), **CLOSE)


@pytest.mark.parametrize(("k", "b"), [(None, None), (1.7, None), (None, -0.3), (0.6, 0.2)])
def test_scaling_acts_on_the_equivalent_weight(k, b):
    conv, bn = pair()
    w = fused_conv2d_weight_of_convbn2d(conv, bn).detach().clone()
    bias = fused_conv2d_bias_of_convbn2d(conv, bn).detach().clone()
    weight = conv.weight
    scale_fused_conv2d_weight_of_convbn2d(conv, bn, k, b)
    want = w * (1 if k is None else k) + (0 if b is None else b)
    torch.testing.assert_close(fused_conv2d_weight_of_convbn2d(conv, bn).detach(), want, **CLOSE)
    torch.testing.assert_close(fused_conv2d_bias_of_convbn2d(conv, bn).detach(), bias, **CLOSE)
    assert conv.weight is weight
    assert weight.requires_grad


@pytest.mark.parametrize(("k", "b"), [(None, None), (1.7, None), (None, -0.3), (0.6, 0.2)])
def test_scaling_acts_on_the_equivalent_bias(k, b):
    conv, bn = pair()
    w = fused_conv2d_weight_of_convbn2d(conv, bn).detach().clone()
    bias = fused_conv2d_bias_of_convbn2d(conv, bn).detach().clone()
    scale_fused_conv2d_bias_of_convbn2d(conv, bn, k, b)
    want = bias * (1 if k is None else k) + (0 if b is None else b)
    torch.testing.assert_close(fused_conv2d_bias_of_convbn2d(conv, bn).detach(), want, **CLOSE)
    torch.testing.assert_close(fused_conv2d_weight_of_convbn2d(conv, bn).detach(), w, **CLOSE)


def test_scaling_both_scales_the_output():
    conv, bn = pair()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    y = bn(conv(x))
    scale_fused_conv2d_weight_of_convbn2d(conv, bn, 1.7)
    scale_fused_conv2d_bias_of_convbn2d(conv, bn, 1.7, 0.4)
    torch.testing.assert_close(bn(conv(x)), 1.7 * y + 0.4, **CLOSE)


def test_the_gradient_passes_through_the_fused_weight():
    conv, bn = pair()
    fused_conv2d_weight_of_convbn2d(conv, bn).sum().backward()
    want = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach().view(-1, 1, 1, 1).expand_as(conv.weight)
    torch.testing.assert_close(conv.weight.grad, want, **CLOSE)
    assert math.isclose(conv.weight.grad[0, 0, 0, 0], want[0, 0, 0, 0])


EVERY = [
    fused_conv2d_weight_of_convbn2d,
    fused_conv2d_bias_of_convbn2d,
    scale_fused_conv2d_weight_of_convbn2d,
    scale_fused_conv2d_bias_of_convbn2d,
    fuse_convbn2d,
]


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize(
    ("conv", "bn", "error", "text"),
    [
        (nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), ValueError, "bias=False: the normalisation's own bias"),
        (nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(3), ValueError, "2 output channels, but got one of 3"),
        (
            nn.Conv2d(1, 2, 1, bias=False),
            nn.BatchNorm2d(2, track_running_stats=False),
            ValueError,
            "running statistics",
        ),
        (nn.Conv1d(1, 2, 1, bias=False), nn.BatchNorm2d(2), TypeError, "but got Conv1d and BatchNorm2d"),
        (nn.Conv2d(1, 2, 1, bias=False), nn.GroupNorm(1, 2), TypeError, "but got Conv2d and GroupNorm"),
        (layer.WSConv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), ValueError, "WSConv2d computes it anew"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1, bias=False)), nn.BatchNorm2d(2), ValueError, "anew"),
        (None, nn.BatchNorm2d(2), TypeError, r"an nn\.Module, but got NoneType"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_cannot_be_fused_is_refused_in_words(function, conv, bn, error, text):
    with pytest.raises(error, match=text):
        function(conv, bn)


def test_what_cannot_be_scaled_is_refused_in_words():
    conv, bn = pair()
    nn.init.zeros_(bn.weight)
    weight = conv.weight.detach().clone()
    with pytest.raises(ValueError, match="multiplies a channel by zero"):
        scale_fused_conv2d_weight_of_convbn2d(conv, bn, 2.0, 0.1)
    assert torch.equal(conv.weight, weight)
    scale_fused_conv2d_weight_of_convbn2d(conv, bn, 2.0)
    with pytest.raises(ValueError, match="affine=False"):
        scale_fused_conv2d_bias_of_convbn2d(*pair(affine=False), 2.0)
