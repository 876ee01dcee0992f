"""The fused layer gives what the pair gives; scaling acts on the equivalent weight and bias."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from spikescope import functional, layer
from spikescope.functional import (
    fuse_convbn,
    fuse_convbn2d,
    fuse_linearbn,
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


@pytest.mark.parametrize("modes", ["sm", "ms"])
def test_the_numbers_of_a_pair_do_not_depend_on_its_step_modes(modes):
    """As where `functional.seq_to_ann_forward` takes one of the two over time."""
    conv, bn = pair(conv=layer.Conv2d, bn=layer.BatchNorm2d)
    weight, bias = fused_conv2d_weight_of_convbn2d(conv, bn), fused_conv2d_bias_of_convbn2d(conv, bn)
    conv.step_mode, bn.step_mode = modes
    fused = fuse_convbn2d(conv, bn)
    assert torch.equal(fused.weight, weight)
    assert torch.equal(fused.bias, bias)
    assert fused.step_mode == modes[0]
    scale_fused_conv2d_weight_of_convbn2d(conv, bn, k=1.7)
    scale_fused_conv2d_bias_of_convbn2d(conv, bn, b=-0.3)
    torch.testing.assert_close(fused_conv2d_weight_of_convbn2d(conv, bn), 1.7 * weight)
    torch.testing.assert_close(fused_conv2d_bias_of_convbn2d(conv, bn), bias - 0.3)


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


SHAPES = {"Linear": (5,), "1d": (4, 7), "2d": (4, 6, 5), "3d": (4, 3, 5, 4)}  # of one sample
TABLE = [
    *((fuse_linearbn, "Linear", "BatchNorm1d", SHAPES["Linear"], (5, 6), options) for options in ({}, {"bias": False})),
    *(
        (fuse_convbn, f"{kind}{n}d", f"BatchNorm{n}d", SHAPES[f"{n}d"], (4, 6, 3), options)
        for n in (1, 2, 3)
        for kind, extra in (
            ("Conv", {"groups": 2, "dilation": 2, "padding": 2}),
            ("ConvTranspose", {"groups": 2, "stride": 2, "output_padding": 1, "padding": 1}),
        )
        for options in ({}, {"bias": False}, extra)
    ),
]


def filled(module):
    """Numbers of no special value everywhere; eval."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, held in module.state_dict().items():
            if name.endswith("running_var"):
                held.uniform_(0.3, 2.0)
            elif held.is_floating_point():
                held.normal_()
    return module.eval()


def rounding_bound(conv, bn, x):
    """How far two orders of the same sums may be apart: two rounding errors a term, of the sum of the magnitudes.

    A sum of n products is off by n eps of the sum of their magnitudes at most (Higham, *Accuracy and stability of
    numerical algorithms*, section 3.1); the normalisation, or the fused weight, adds fewer than eight roundings.
    """
    large = copy.deepcopy(conv)
    with torch.no_grad():
        for held in large.parameters():
            held.abs_()
        ones = (1,) * (x.ndim - 2)
        each = [1, -1, *ones]
        gain = (bn.weight / (bn.running_var + bn.eps).sqrt()).abs().view(each)
        sums = gain * (large(x.abs()) + bn.running_mean.abs().view(each)) + bn.bias.abs().view(each)
    terms = conv.weight.numel() + 8  # more than reach any one output
    return 2 * terms * torch.finfo(x.dtype).eps * sums


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("room", [nn, layer], ids=["torch", "ours"])
@pytest.mark.parametrize(
    ("fuse", "conv", "bn", "shape", "sizes", "options"), TABLE, ids=lambda v: getattr(v, "__name__", str(v))
)
def test_every_pair_of_the_table_becomes_one_layer(fuse, conv, bn, shape, sizes, options, room, dtype):
    conv = filled(getattr(room, conv)(*sizes, **options)).to(dtype)
    bn = filled(getattr(room, bn)(6)).to(dtype)
    x = torch.randn(3, *shape, dtype=dtype)
    before = copy.deepcopy((conv.state_dict(), bn.state_dict()))
    fused = fuse(conv, bn)
    assert type(fused) is type(conv)
    assert fused.bias is not None
    want = bn(conv(x))
    assert bool(((fused(x) - want).abs() <= rounding_bound(conv, bn, x)).all())
    assert bool(((conv(x) - want).abs() > 0.01).any())  # the normalisation does something
    for held, kept in zip((conv, bn), before, strict=True):
        assert all(torch.equal(held.state_dict()[name], kept[name]) for name in kept)
    if room is layer:
        plain = copy.deepcopy((conv, bn))
        conv.step_mode = bn.step_mode = "m"
        x_seq = torch.stack((x, x.flip(0)))
        fused = pickle.loads(pickle.dumps(fuse(conv, bn)))
        assert fused.step_mode == "m"
        limit = torch.stack((rounding_bound(*plain, x), rounding_bound(*plain, x.flip(0))))
        assert bool(((fused(x_seq) - bn(conv(x_seq))).abs() <= limit).all())


def test_a_transposed_convolution_has_its_outputs_on_the_second_axis_group_by_group():
    conv, bn = nn.ConvTranspose1d(2, 4, 1, groups=2, bias=False), nn.BatchNorm1d(4, eps=0.0).eval()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 5.0]]).unsqueeze(2))  # input 0 to 0, 1; input 1 to 2, 3
        bn.running_var.copy_(torch.tensor([1.0, 4.0, 16.0, 0.25]))
    assert fuse_convbn(conv, bn).weight.squeeze(2).tolist() == [[1.0, 1.0], [0.75, 10.0]]


def test_a_bias_of_the_convolution_is_folded_in_by_hand():
    conv, bn = nn.Conv3d(1, 1, 1), nn.BatchNorm3d(1, eps=0.25).eval()
    for held, number in (
        (conv.weight, 3.0), (conv.bias, 2.5), (bn.weight, 2.0), (bn.bias, 0.5), (bn.running_mean, 1.5),
        (bn.running_var, 3.75),
    ):  # fmt: skip
        nn.init.constant_(held, number)
    fused = fuse_convbn(conv, bn)
    assert (fused.weight.item(), fused.bias.item()) == (3.0, 1.5)  # 3*2/2, .5 + (2.5 - 1.5)*2/2


def test_fusing_twice_is_fusing_the_two_normalisations_one_after_the_other():
    conv, first, second = (filled(m) for m in (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), layer.BatchNorm2d(6)))
    nn.init.constant_(second.running_var, 3.3)
    conv, first, second = conv.double(), first.double(), second.double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    twice = fuse_convbn(fuse_convbn(conv, first), second)
    torch.testing.assert_close(twice(x), second(first(conv(x))), **CLOSE)


@pytest.mark.parametrize("error", [ValueError, AssertionError])
@pytest.mark.parametrize(
    "name",
    [
        *(f"{kind}_of_convbn2d" for kind in ("fused_conv2d_weight", "fused_conv2d_bias")),
        *(f"scale_{kind}_of_convbn2d" for kind in ("fused_conv2d_weight", "fused_conv2d_bias")),
        "fuse_convbn2d",
    ],
)
def test_a_convolution_with_a_bias_is_the_error_of_both(name, error):
    with pytest.raises(error, match="takes a Conv2d with bias=False"):
        getattr(functional, name)(layer.Conv2d(1, 2, 3), layer.BatchNorm2d(2))


def test_tdbn_and_synchronised_ones_are_plain_in_eval_and_tebn_is_not():
    conv = layer.Conv2d(4, 6, 3, step_mode="m")
    x_seq = torch.randn(3, 2, 4, 5, 5)
    bn = filled(layer.ThresholdDependentBatchNorm2d(0.7, 1.3, 6))
    torch.testing.assert_close(fuse_convbn(conv, bn)(x_seq), bn(conv(x_seq)), rtol=1e-4, atol=1e-5)
    bn = filled(nn.SyncBatchNorm.convert_sync_batchnorm(layer.BatchNorm2d(6, step_mode="m")))
    plain = filled(layer.BatchNorm2d(6, step_mode="m"))
    assert isinstance(bn, layer.SyncBatchNorm)
    assert torch.equal(fuse_convbn(conv, bn)(x_seq), fuse_convbn(conv, plain)(x_seq))
    with pytest.raises(ValueError, match="TemporalEffectiveBatchNorm2d does more than that"):
        fuse_convbn(conv, layer.TemporalEffectiveBatchNorm2d(3, 6))


def test_half_precision_is_computed_in_float32_and_rounded_once():
    conv, bn = filled(nn.Conv2d(4, 6, 3)), filled(nn.BatchNorm2d(6))
    want = fuse_convbn(conv.half().float(), bn.half().float())
    fused = fuse_convbn(conv.half(), bn.half())
    assert torch.equal(fused.weight, want.weight.half())
    assert torch.equal(fused.bias, want.bias.half())
    assert fuse_convbn(conv.half(), bn.float()).weight.dtype == torch.float16


def test_frozen_weights_stay_frozen():
    conv = nn.Conv2d(4, 6, 3).requires_grad_(False)
    assert not any(held.requires_grad for held in fuse_convbn(conv, nn.BatchNorm2d(6)).parameters())


def test_what_a_monitor_has_plugged_in_stays_with_the_original():
    from spikescope.monitor import OutputMonitor

    conv, bn = layer.Conv2d(4, 6, 3), filled(layer.BatchNorm2d(6))
    with OutputMonitor(conv, layer.Conv2d) as monitor:
        fused = fuse_convbn(conv, bn)
        fused(torch.zeros(1, 4, 3, 3))
        assert len(monitor) == 0
    with OutputMonitor(fused, layer.Conv2d) as monitor:
        fused(torch.zeros(1, 4, 3, 3))
        assert len(monitor) == 1


class Own(nn.Conv1d):
    def forward(self, x):
        return super().forward(x) * 2


def hooked(module):
    module.register_forward_hook(lambda *_: None)
    return module


def other_mode(module):
    module.step_mode = "m"
    return module


@pytest.mark.parametrize(
    ("fuse", "conv", "bn", "error", "text"),
    [
        (fuse_convbn, nn.Linear(1, 2), nn.BatchNorm1d(2), TypeError, r"fuse_linearbn\(linear, bn\) fuses that"),
        (fuse_linearbn, nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2), TypeError, "takes a Linear, but got Conv1d"),
        (fuse_linearbn, nn.Linear(1, 2), nn.BatchNorm2d(2), TypeError, "a Linear and the BatchNorm1d after it, but"),
        (fuse_convbn, nn.Conv3d(1, 2, 1), nn.BatchNorm2d(2), TypeError, "a Conv3d and the BatchNorm3d after it, but"),
        (fuse_convbn, nn.ReLU(), nn.BatchNorm2d(2), TypeError, "a convolution and the normalisation after it, but got"),
        (fuse_convbn, nn.Conv1d(1, 2, 1), nn.InstanceNorm1d(2), TypeError, "but got Conv1d and InstanceNorm1d"),
        (
            fuse_convbn,
            nn.ConvTranspose1d(2, 4, 1),
            nn.BatchNorm1d(2),
            ValueError,
            "4 output channels, but got one of 2",
        ),
        (fuse_linearbn, nn.Linear(2, 3), nn.BatchNorm1d(2), ValueError, "3 output channels, but got one of 2"),
        (fuse_convbn, Own(1, 2, 1), nn.BatchNorm1d(2), ValueError, "but Own computes it anew .* forward of its own"),
        (fuse_linearbn, layer.WSLinear(2, 2), nn.BatchNorm1d(2), ValueError, "WSLinear computes it anew"),
        (fuse_convbn, hooked(nn.Conv1d(1, 2, 1)), nn.BatchNorm1d(2), ValueError, "Conv1d has hooks"),
        (fuse_convbn, nn.Conv1d(1, 2, 1), hooked(layer.BatchNorm1d(2)), ValueError, "BatchNorm1d has hooks"),
        (
            fuse_convbn,
            layer.Conv1d(1, 2, 1),
            other_mode(layer.BatchNorm1d(2)),
            ValueError,
            "Conv1d works with 's' and BatchNorm1d with 'm'",
        ),
        (
            fuse_convbn,
            nn.Conv1d(1, 2, 1),
            layer.BatchNorm1d(2, track_running_stats=False),
            ValueError,
            "track_running_stats=False",
        ),
    ],
    ids=lambda v: getattr(v, "__name__", type(v).__name__),
)
def test_what_the_general_fusion_refuses(fuse, conv, bn, error, text):
    with pytest.raises(error, match=text):
        fuse(conv, bn)


def test_a_linear_layer_of_pytorch_before_a_normalisation_of_sequences():
    linear, bn = nn.Linear(5, 6), filled(layer.BatchNorm1d(6, step_mode="m"))
    x_seq = torch.randn(3, 2, 5)
    torch.testing.assert_close(fuse_linearbn(linear, bn)(x_seq), bn(linear(x_seq)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("given", [math.nan, math.inf, 1j, "2", torch.tensor(math.nan), torch.tensor(1j)])
@pytest.mark.parametrize("name", ["k", "b"])
@pytest.mark.parametrize("what", ["weight", "bias"])
def test_a_scale_that_is_no_number_is_refused_before_anything_is_changed(what, name, given):
    pair = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3).eval()
    before = copy.deepcopy([held.state_dict() for held in pair])
    scale = getattr(functional, f"scale_fused_conv2d_{what}_of_convbn2d")
    with pytest.raises((TypeError, ValueError), match=rf"^scale_fused_conv2d_{what}_of_convbn2d\W"):
        scale(*pair, **{"k": 2.0, "b": 1.0} | {name: given})
    for held, was in zip(pair, before, strict=True):
        assert all(torch.equal(value, was[key]) for key, value in held.state_dict().items())
