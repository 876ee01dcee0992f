"""Initial weights."""

from __future__ import annotations

import math

from torch import nn

from ..errors import check_module

__all__ = ["kaiming_normal_conv_linear_weight"]

_WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def kaiming_normal_conv_linear_weight(net: nn.Module) -> None:
    r"""Draw the weight of every convolution and linear layer of `net` anew; biases stay.

    $$W \sim \mathcal N\left(0, \tfrac{2}{(1 + a^2)\, n_{in}}\right), \quad a = \sqrt 5$$

    He et al., *Delving deep into rectifiers* (ICCV 2015), equation 15, with the slope that PyTorch's layers use.

    >>> layer = nn.Linear(300, 200)
    >>> kaiming_normal_conv_linear_weight(layer)
    >>> bool((layer.weight.std() * 30 - 1).abs() < 0.03)  # sqrt(2 / 6 / 300) = 1/30
    True
    """
    check_module("kaiming_normal_conv_linear_weight", net)
    for module in net.modules():
        if isinstance(module, _WEIGHTED):
            nn.init.kaiming_normal_(module.weight, a=math.sqrt(5))
