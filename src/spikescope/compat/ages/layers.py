"""Layers that only the clock-driven interface had, and its names for those that take whole sequences."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ... import functional
from ...layer import (
    Dropout,
    Dropout2d,
    MultiDimensionalAttention,
    SynapseFilter,
    TemporalWiseAttention,
    ThresholdDependentBatchNorm1d,
    ThresholdDependentBatchNorm2d,
    ThresholdDependentBatchNorm3d,
)

__all__ = [
    "AXAT",
    "DCT",
    "ChannelsPool",
    "ConvBatchNorm2d",
    "LowPassSynapse",
    "MultiStepDropout",
    "MultiStepDropout2d",
    "MultiStepMultiDimensionalAttention",
    "MultiStepTemporalWiseAttention",
    "MultiStepThresholdDependentBatchNorm1d",
    "MultiStepThresholdDependentBatchNorm2d",
    "MultiStepThresholdDependentBatchNorm3d",
]

LowPassSynapse = SynapseFilter
MultiStepTemporalWiseAttention = TemporalWiseAttention
MultiStepMultiDimensionalAttention = MultiDimensionalAttention
MultiStepThresholdDependentBatchNorm1d = ThresholdDependentBatchNorm1d
MultiStepThresholdDependentBatchNorm2d = ThresholdDependentBatchNorm2d
MultiStepThresholdDependentBatchNorm3d = ThresholdDependentBatchNorm3d


class MultiStepDropout(Dropout):
    """`layer.Dropout` for sequences: `step_mode='m'` from the start."""

    same_as = Dropout

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class MultiStepDropout2d(Dropout2d):
    """`layer.Dropout2d` for sequences: `step_mode='m'` from the start."""

    same_as = Dropout2d

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p, step_mode="m")


class ChannelsPool(nn.Module):
    """Pooling of `[N, C, H, W]` over channels, by `nn.MaxPool1d` or `nn.AvgPool1d`.

    >>> ChannelsPool(nn.MaxPool1d(2, 2))(torch.rand(2, 8, 4, 4)).shape
    torch.Size([2, 4, 4, 4])
    """

    def __init__(self, pool: nn.MaxPool1d | nn.AvgPool1d) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """The pooled channels of each pixel."""
        pooled: Tensor = self.pool(x.flatten(2).transpose(1, 2))
        return pooled.transpose(1, 2).unflatten(2, x.shape[2:])


class AXAT(nn.Module):
    r"""$A X A^\top$ of the last two axes, `[*, in_features, in_features]`, with a learnable `A`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """`[*, out_features, out_features]`."""
        return self.A @ x @ self.A.T


class DCT(nn.Module):
    """The discrete cosine transform of blocks of `kernel_size` x `kernel_size` pixels of `[*, W, H]`."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        step = torch.arange(kernel_size, dtype=torch.float64, device="cpu")
        kernel = torch.cos((step + 0.5) * math.pi * step.unsqueeze(1) / kernel_size) * math.sqrt(2 / kernel_size)
        kernel[0] = math.sqrt(1 / kernel_size)
        self.kernel = kernel.float()  # no buffer: there is none in files of that age

    def forward(self, x: Tensor) -> Tensor:
        """The coefficients, in the places of their blocks."""
        size, kernel = len(self.kernel), self.kernel.to(x)
        blocks = x.unflatten(-1, (-1, size)).unflatten(-3, (-1, size))  # [*, W / size, size, H / size, size]
        return torch.einsum("ij,...ajbk,lk->...aibl", kernel, blocks, kernel).flatten(-2).flatten(-3, -2)


class ConvBatchNorm2d(nn.Module):
    """A convolution without bias and its normalisation, `conv` and `bn`, with their fusion as methods."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: Any = "zeros",
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        shape = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.conv = nn.Conv2d(*shape, bias=False, padding_mode=padding_mode)
        self.bn = nn.BatchNorm2d(out_channels, eps, momentum, affine, track_running_stats)

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, then normalisation."""
        y: Tensor = self.bn(self.conv(x))
        return y

    def get_fused_weight(self) -> Tensor:
        """The weight of one convolution that equals the pair in eval."""
        return functional.fused_conv2d_weight_of_convbn2d(self.conv, self.bn)

    def get_fused_bias(self) -> Tensor:
        """Its bias."""
        return functional.fused_conv2d_bias_of_convbn2d(self.conv, self.bn)

    def scale_fused_weight(self, k: float | None = None, b: float | None = None) -> None:
        """Let that weight become `k * weight + b`."""
        functional.scale_fused_conv2d_weight_of_convbn2d(self.conv, self.bn, k, b)

    def scale_fused_bias(self, k: float | None = None, b: float | None = None) -> None:
        """Let that bias become `k * bias + b`."""
        functional.scale_fused_conv2d_bias_of_convbn2d(self.conv, self.bn, k, b)

    def get_fused_conv(self) -> nn.Conv2d:
        """That convolution."""
        return functional.fuse_convbn2d(self.conv, self.bn)
