"""A convolution without bias and the batch normalisation after it, as one convolution."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..errors import check_module, dims
from ..layer.norm import BatchNorm
from ..layer.standardization import WSConv2d

__all__ = [
    "fuse_convbn2d",
    "fused_conv2d_bias_of_convbn2d",
    "fused_conv2d_weight_of_convbn2d",
    "scale_fused_conv2d_bias_of_convbn2d",
    "scale_fused_conv2d_weight_of_convbn2d",
]

Norm = nn.BatchNorm2d | BatchNorm
Scale = float | Tensor


def fused_conv2d_weight_of_convbn2d(conv2d: nn.Conv2d, bn2d: Norm) -> Tensor:
    r"""The weight of the one convolution: $W \gamma / \sqrt{\mathrm{var} + \epsilon}$ per output channel.

    Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only inference*
    (CVPR 2018), equation 14.

    >>> conv, bn = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)
    >>> conv.weight.data.fill_(3.0), bn.running_var.fill_(4.0), bn.running_mean.fill_(2.0)
    (tensor([[[[3.]]]]), tensor([4.]), tensor([2.]))
    >>> fused_conv2d_weight_of_convbn2d(conv, bn).item(), fused_conv2d_bias_of_convbn2d(conv, bn).item()
    (1.5, -1.0)
    """
    _check_pair(conv2d, bn2d)
    return conv2d.weight * _gain(bn2d)


def fused_conv2d_bias_of_convbn2d(conv2d: nn.Conv2d, bn2d: Norm) -> Tensor:
    r"""The bias of the one convolution: $\beta - \mathrm{mean}\, \gamma / \sqrt{\mathrm{var} + \epsilon}$."""
    _check_pair(conv2d, bn2d)
    shift = -_mean(bn2d) * _gain(bn2d).flatten()
    return shift if bn2d.bias is None else bn2d.bias + shift


@torch.no_grad()
def scale_fused_conv2d_weight_of_convbn2d(
    conv2d: nn.Conv2d, bn2d: Norm, k: Scale | None = None, b: Scale | None = None
) -> None:
    r"""Change the weight of `conv2d` so that the weight of the pair, $w$, becomes $k w + b$.

    With $g = \gamma / \sqrt{\mathrm{var} + \epsilon}$ the convolution gets $k W + b / g$. ValueError if $b$ is given
    and $g$ is zero in a channel, which no weight can shift.
    """
    _check_pair(conv2d, bn2d)
    gain = _gain(bn2d)
    if b is not None and bool((gain == 0).any()):
        raise ValueError(
            "scale_fused_conv2d_weight_of_convbn2d: the batch normalisation multiplies a channel by zero, so that b "
            "cannot be added to its weight. Give k alone."
        )
    conv2d.weight.copy_(conv2d.weight * (1 if k is None else k) + (0 if b is None else b / gain))


@torch.no_grad()
def scale_fused_conv2d_bias_of_convbn2d(
    conv2d: nn.Conv2d, bn2d: Norm, k: Scale | None = None, b: Scale | None = None
) -> None:
    r"""Change `bn2d` so that the bias of the pair, $b_0$, becomes $k b_0 + b$.

    $\beta$ and the running mean are multiplied by k, then b is added to $\beta$.
    """
    _check_pair(conv2d, bn2d)
    if bn2d.bias is None:
        raise ValueError("scale_fused_conv2d_bias_of_convbn2d needs a BatchNorm2d with a bias; it has affine=False.")
    if k is not None:
        bn2d.bias.mul_(k)
        _mean(bn2d).mul_(k)
    if b is not None:
        bn2d.bias.add_(b)


@torch.no_grad()
def fuse_convbn2d(conv2d: nn.Conv2d, bn2d: Norm) -> nn.Conv2d:
    """A new convolution that gives what the pair gives in eval; of the class and the step mode of `conv2d`.

    ValueError if the convolution has a bias of its own or the normalisation keeps no running statistics.

    >>> conv, bn = nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3).eval()
    >>> x = torch.rand(1, 2, 5, 5)
    >>> torch.allclose(fuse_convbn2d(conv, bn)(x), bn(conv(x)), atol=1e-6)
    True
    """
    weight = fused_conv2d_weight_of_convbn2d(conv2d, bn2d)
    bias = fused_conv2d_bias_of_convbn2d(conv2d, bn2d)
    fused = copy.deepcopy(conv2d)
    fused.weight = nn.Parameter(weight)
    fused.bias = nn.Parameter(bias)
    return fused


def _gain(bn2d: Norm) -> Tensor:
    """What a channel is multiplied by, `[C, 1, 1, 1]`."""
    assert bn2d.running_var is not None
    gain = torch.rsqrt(bn2d.running_var + bn2d.eps)
    return (gain if bn2d.weight is None else bn2d.weight * gain).view(-1, 1, 1, 1)


def _mean(bn2d: Norm) -> Tensor:
    assert bn2d.running_mean is not None
    return bn2d.running_mean


def _check_pair(conv2d: nn.Conv2d, bn2d: Norm) -> None:
    check_module("the fusion", conv2d)
    check_module("the fusion", bn2d)
    if not isinstance(conv2d, nn.Conv2d) or not isinstance(bn2d, (nn.modules.batchnorm._BatchNorm, BatchNorm)):
        raise TypeError(
            "The fusion takes a Conv2d and the BatchNorm2d after it, "
            f"but got {type(conv2d).__name__} and {type(bn2d).__name__}."
        )
    if isinstance(conv2d, WSConv2d) or is_parametrized(conv2d):
        raise ValueError(
            f"The fusion takes a convolution that applies its weight as it is, but {type(conv2d).__name__} computes it "
            "anew at each call (standardised or parametrized)."
        )
    if conv2d.bias is not None:
        raise ValueError("The fusion takes a Conv2d with bias=False: the normalisation's own bias takes its place.")
    if bn2d.running_var is None:
        raise ValueError("The fusion takes a BatchNorm2d with running statistics; it has track_running_stats=False.")
    if bn2d.num_features != conv2d.out_channels:
        raise ValueError(
            f"The fusion takes a BatchNorm2d of the convolution's {conv2d.out_channels} output channels, "
            f"but got one of {bn2d.num_features}; the weight has the shape {dims(conv2d.weight.shape)}."
        )
