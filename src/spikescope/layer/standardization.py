"""Layers whose weights are standardised before each use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ShapeError, check_switches, dims
from .stateless import stateless

__all__ = ["WSConv2d", "WSLinear", "standardized"]


def standardized(weight: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    r"""A weight with mean 0 and sample variance 1/fan-in over the inputs of each output.

    $$\hat W_{i} = g_i \frac{W_{i} - \mu_i}{\sqrt{n\,\sigma_i^2 + \epsilon}}$$

    with $\mu_i$ and $\sigma_i^2$ the mean and the sample variance (over $n - 1$) of the $n$ weights of output $i$.

    >>> standardized(torch.tensor([[1.0, 3.0]]), None, eps=0.0)  # mean 2, variance 2, n = 2
    tensor([[-0.5000,  0.5000]])
    """
    if weight[0].numel() < 2:
        raise ShapeError(
            f"A standardised weight needs more than one weight for each output, but got {dims(weight.shape)}: a "
            "single weight has no standard deviation."
        )
    over = tuple(range(1, weight.ndim))
    variance, mean = torch.var_mean(weight, dim=over, correction=1, keepdim=True)
    result = (weight - mean) / (variance * weight[0].numel() + eps).sqrt()
    return result if gain is None else result * gain


class _WSConv2d(nn.Conv2d):
    r"""`Conv2d` with a standardised weight, `[N, C, H, W]` or, with `step_mode='m'`, `[T, N, C, H, W]`.

    See `standardized` for the formula. The arguments are those of `torch.nn.Conv2d` and, behind `step_mode`,

    - `gain`: whether each output has a learnable factor $g_i$, 1 at the start;
    - `eps`: $\epsilon$ under the root.

    Qiao et al., *Micro-batch training with batch-channel normalization and weight standardization* (2019);
    Brock et al., *Characterizing signal propagation to close the performance gap in unnormalized ResNets* (ICLR 2021).

    >>> layer = WSConv2d(1, 2, 3, step_mode="m")
    >>> layer(torch.ones(4, 1, 1, 5, 5)).shape
    torch.Size([4, 1, 2, 3, 3])
    >>> layer.get_weight().sum((1, 2, 3)).abs().max() < 1e-6
    tensor(True)
    """

    gain: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        gain: bool = True,
        eps: float = 1e-4,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        window = (kernel_size, stride, padding, dilation)
        check_switches("WSConv2d", gain=gain)
        super().__init__(in_channels, out_channels, *window, groups, bias, padding_mode, device, dtype)
        self.gain = nn.Parameter(self.weight.new_ones(self.out_channels, 1, 1, 1)) if gain else None
        self.eps = eps

    def get_weight(self) -> Tensor:
        """The weight that the layer applies."""
        return standardized(self.weight, self.gain, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.get_weight(), self.bias)


class _WSLinear(nn.Linear):
    r"""`Linear` with a standardised weight, `[N, *, F]` or, with `step_mode='m'`, `[T, N, *, F]`.

    See `standardized` for the formula, `WSConv2d` for `gain`, `eps` and the papers.

    >>> layer = WSLinear(2, 1, bias=False, eps=0.0)
    >>> _ = layer.load_state_dict({"weight": torch.tensor([[1.0, 3.0]]), "gain": torch.tensor([[2.0]])})
    >>> layer(torch.tensor([[0.0, 1.0]])).detach()  # 2 (3 - 2) / sqrt(2 * 2)
    tensor([[1.]])
    """

    gain: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        gain: bool = True,
        eps: float = 1e-4,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_switches("WSLinear", gain=gain)
        super().__init__(in_features, out_features, bias, device, dtype)
        self.gain = nn.Parameter(self.weight.new_ones(self.out_features, 1)) if gain else None
        self.eps = eps

    def get_weight(self) -> Tensor:
        """The weight that the layer applies."""
        return standardized(self.weight, self.gain, self.eps)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.get_weight(), self.bias)


WSConv2d = stateless(_WSConv2d, "N C H W", one_sample=True, example=(4, 3, 3), module=__name__)
WSLinear = stateless(_WSLinear, "N * F", one_sample=True, example=(4, 3), module=__name__)
